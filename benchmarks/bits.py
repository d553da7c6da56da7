"""Whether this checkout records the same bits as an earlier commit: short runs with both, and what differs."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from batchnorm.errors import ExitCode
from benchmarks.images import find_fashion_mnist
from benchmarks.measuring import table
from tests.images import write_cifar, write_mnist, write_svhn

ROOT = Path(__file__).parents[1]
AT_ONCE = 2
SECONDS_TO_SIGNAL = 0.5
UNCHECKED = """
import runpy
from pathlib import Path

import torchvision.datasets.cifar, torchvision.datasets.svhn

for module in (torchvision.datasets.cifar, torchvision.datasets.svhn):
    module.check_integrity = lambda path, *_: Path(path).is_file()
runpy.run_path("run_trainingLoop.py", run_name="__main__")
"""
"""Runs the command with image sets whose checksums are not the real ones."""


@dataclass(frozen=True)
class Configuration:
    """A short run.

    Attributes:
        name: for the table.
        keys: of the command line, as `KEY=value KEY=value`.
        real_images: train on the real Fashion-MNIST; else on invented images, or the digits.
        stopped: send SIGTERM soon behind the first checkpoint, in the middle of an epoch, then run the command again.
    """

    name: str
    keys: str
    real_images: bool = False
    stopped: bool = False

    def arguments(self) -> list[str]:
        """Return the command's arguments, but for folders."""
        return ["RANDOM_SEED=7", "THREADS=1", *self.keys.split()]

    def identity(self) -> str:
        """Name what is trained, and how: a folder of this name can be kept."""
        text = " ".join([*self.arguments(), *(["stopped"] if self.stopped else []), *(["real"] if self.real_images else [])])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


DIGITS = "PROBLEM=digits_2c2d_bn NUM_EPOCHS=2"
CIFAR10 = "PROBLEM=cifar10_3c3d_bn BATCH_SIZE=32 NUM_EPOCHS=1"
ALLCNNC = "PROBLEM=cifar100_allcnnc_bn BATCH_SIZE=16 NUM_EPOCHS=1"
SVHN = "PROBLEM=svhn_wrn164_bn BATCH_SIZE=16 NUM_EPOCHS=1 MAX_STEPS=12"
MOMENTUM = "OPTIMIZER=Momentum"
CONFIGURATIONS = (  # the longest first: two are trained at a time
    Configuration(
        "2c2d, Fashion-MNIST", f"PROBLEM=fmnist_2c2d_bn {MOMENTUM} L2_REG=0.001 MAX_STEPS=40 POSITION=110", real_images=True
    ),
    Configuration(
        "All-CNN-C, dropout, multistep, stopped",
        f"{ALLCNNC} {MOMENTUM} LR_SCHEDULE=multistep LR_SCHEDULE.milestones=[0.25,0.5] LR_SCHEDULE.gamma=0.1 "
        "POSITION=110110110 MAX_STEPS=25",
        stopped=True,
    ),
    Configuration("All-CNN-C, bf16, Adam", f"{ALLCNNC} OPTIMIZER=Adam PRECISION=bf16 ABLATION=fixed_beta MAX_STEPS=12"),
    Configuration("wide ResNet, partial", f"{SVHN} {MOMENTUM} POSITION=1011010110111 ABLATION=fixed_gamma LOG_EVERY_STEPS=1"),
    Configuration("wide ResNet, none", f"{SVHN} POSITION=none"),
    Configuration("3c3d, all", f"{CIFAR10} LR=0.05"),
    Configuration("3c3d, partial, bf16, L2", f"{CIFAR10} POSITION=00111 ABLATION=fixed_gamma PRECISION=bf16 L2_REG=0.002"),
    Configuration("3c3d, none, BIAS_INIT", f"{CIFAR10} POSITION=none BIAS_INIT=0 LOG_EVERY_STEPS=1"),
    Configuration("MLP, Adam, stopped", "PROBLEM=fmnist_mlp_bn OPTIMIZER=Adam BATCH_SIZE=8 NUM_EPOCHS=20", stopped=True),
    Configuration(
        "2c2d, Adam, warm restarts, stopped",
        f"{DIGITS} NUM_EPOCHS=4 OPTIMIZER=Adam LR_SCHEDULE=cosine_warm_restarts LR_SCHEDULE.T_0=0.75 POSITION=011",
        stopped=True,
    ),
    Configuration("2c2d, LOG_EVERY_STEPS=1", f"{DIGITS} LOG_EVERY_STEPS=1"),
    Configuration("2c2d, none, fixed_bn, L2", f"{DIGITS} POSITION=none ABLATION=fixed_bn L2_REG=0.01 BIAS_INIT=0.1"),
    Configuration(
        "2c2d, Momentum, cosine with warm-up",
        f"{DIGITS} {MOMENTUM} POSITION=101 ABLATION=fixed_gamma LR_SCHEDULE=cosine LR_SCHEDULE.warmup_epochs=0.5",
    ),
    Configuration(
        "2c2d, NAG, step",
        f"{DIGITS} OPTIMIZER=NAG ABLATION=fixed_beta LR_SCHEDULE=step LR_SCHEDULE.step_size=0.5 LR_SCHEDULE.gamma=0.3",
    ),
    Configuration(
        "2c2d, fixed_bn, trapezoidal",
        f"{DIGITS} ABLATION=fixed_bn LOG_EVERY_STEPS=0 LR_SCHEDULE=trapezoidal "
        "LR_SCHEDULE.warmup_epochs=0.5 LR_SCHEDULE.cooldown_epochs=1",
    ),
    Configuration("2c2d, AdamW, bf16", f"{DIGITS} OPTIMIZER=AdamW PRECISION=bf16 POSITION=010"),
    Configuration("2c2d, RMSprop, contiguous", f"{DIGITS} OPTIMIZER=RMSprop MEMORY_FORMAT=contiguous POSITION=100 L2_REG=0.01"),
    Configuration("2c2d, two threads", f"{DIGITS} THREADS=2 MAX_STEPS=30"),
    Configuration("2c2d, diverges", f"{DIGITS} LR=1e30 POSITION=none"),
)


@dataclass
class Comparison:
    """How two runs compare: what was held against each other, and what differs or is missing."""

    compared: int = 0
    only_new: int = 0
    tensors: int = 0
    differing: list[str] = field(default_factory=list)

    def verdict(self) -> str:
        """Say what differs, for a table: the first three names, and how many more."""
        more = [f"and {len(self.differing) - 3} more"] if len(self.differing) > 3 else []
        return ", ".join([*self.differing[:3], *more]) or "equal"


def main(arguments: Sequence[str]) -> int:
    """Compare this checkout with a commit, print the table, and return the exit code: 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks bits", description=__doc__)
    parser.add_argument("commit", metavar="COMMIT", help="whose records are the old ones")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the old records here, and take those that are here")
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="has the real Fashion-MNIST (data, or Debian's, if not given)"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            commit = _git("rev-parse", "--verify", "--quiet", f"{options.commit}^{{commit}}")
            real = (options.images or find_fashion_mnist(folder)).resolve(strict=True)
        except subprocess.CalledProcessError:
            print(f"error: {options.commit}: no such commit", file=sys.stderr)
            return ExitCode.BAD_INPUT
        except FileNotFoundError as error:
            print(f"error: {error}", file=sys.stderr)
            return ExitCode.BAD_INPUT
        invented = make_images(folder / "images")
        kept = (options.keep or folder / "old").resolve() / f"{commit}-torch-{version('torch')}"
        kept.mkdir(parents=True, exist_ok=True)
        with worktree(commit, folder / f"bits-{commit[:12]}") as old_checkout:

            def compare(each: Configuration) -> Comparison:
                images = real if each.real_images else invented
                old, new = kept / each.identity(), folder / "new" / each.identity()
                if not old.exists():
                    unfinished = Path(tempfile.mkdtemp(dir=kept))
                    train(each, old_checkout, unfinished, images)
                    with contextlib.suppress(OSError):  # somebody else made it meanwhile
                        unfinished.rename(old)
                new.mkdir(parents=True)
                try:
                    train(each, ROOT, new, images)
                except RunFailed as failure:
                    print(failure, file=sys.stderr)
                    return Comparison(differing=["the run fails"])
                finally:
                    print(f"  {each.name}", flush=True)
                return compare_runs(old, new)

            with ThreadPoolExecutor(AT_ONCE) as pool:
                results = list(pool.map(compare, CONFIGURATIONS))
    header = ("configuration", "datasets", "only new", "tensors", f"this checkout against {commit[:12]}")
    rows = [
        (each.name, str(result.compared), str(result.only_new), str(result.tensors), result.verdict())
        for each, result in zip(CONFIGURATIONS, results, strict=True)
    ]
    print(f"\n{table(header, rows)}")
    return ExitCode.FAILED if any(result.differing for result in results) else ExitCode.FINISHED


class RunFailed(Exception):
    """A run ended in another way than it should; its text has the end of what it printed."""


def train(configuration: Configuration, checkout: Path, folder: Path, images: Path) -> None:
    """Train a run with a checkout's own code, hyperparameters and command; what it prints goes to a file beside its output.

    Raises:
        RunFailed: it ended neither finished nor diverged, or before it could be stopped.
    """
    output, printed = folder / "output", folder / "printed.txt"
    program = ["run_trainingLoop.py"] if configuration.real_images else ["-c", UNCHECKED]
    folders = [f"OBS_DATASETS={images}", f"OUTPUT_DIR={output}"]
    command = [sys.executable, *program, *configuration.arguments(), *folders]
    ways_to_end = [(ExitCode.INTERRUPTED,)] if configuration.stopped else []
    for expected in [*ways_to_end, (ExitCode.FINISHED, ExitCode.DIVERGED)]:
        with printed.open("ab") as file:
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=file, stderr=subprocess.STDOUT)
        if expected == (ExitCode.INTERRUPTED,):
            while process.poll() is None and not any(output.rglob("checkpoint.pt")):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_TO_SIGNAL)
            process.send_signal(signal.SIGTERM)
        if process.wait() not in expected:
            end = printed.read_text(errors="replace")[-2000:]
            raise RunFailed(f"{configuration.name}: exit code {process.returncode} in {checkout}:\n{end}")


def compare_runs(old: Path, new: Path) -> Comparison:
    """Compare the record and the final weights of the one run below each folder, bit for bit; seconds may differ."""
    result = Comparison()
    old_record, new_record = (next(folder.rglob("run.h5")) for folder in (old, new))
    old_data, new_data = read_datasets(old_record), read_datasets(new_record)
    result.compared, result.only_new = len(old_data), len(new_data.keys() - old_data.keys())
    result.differing += differences(old_data, new_data)
    weights = [read_weights(record.with_name("final_model.pth")) for record in (old_record, new_record)]
    result.tensors = len(weights[0])
    result.differing += differences(weights[0], weights[1])
    if list(weights[0]) != list(weights[1]):
        result.differing.append("final_model.pth's names")
    return result


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name what is missing from the new side, and what has another type, shape or other bytes there."""
    missing = [f"{name} (missing)" for name in old if name not in new]
    return missing + [name for name, value in old.items() if name in new and value != new[name]]


Content = tuple[str, tuple[int, ...], bytes]
"""An array's type, shape and bytes: unlike numbers, these tell -0 from 0, and NaN from another NaN."""


def read_datasets(record: Path) -> dict[str, Content]:
    """Read all datasets of a record, but seconds."""
    import h5py

    datasets: dict[str, Content] = {}

    def read(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.endswith("_seconds"):
            datasets[name] = (item.dtype.str, item.shape, item[()].tobytes())

    with h5py.File(record, "r", locking=False) as file:
        file.visititems(read)
    return datasets


def read_weights(path: Path) -> dict[str, Content]:
    """Read the tensors of a finished run; one that diverged has none."""
    import torch

    if not path.exists():
        return {}
    tensors: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return {
        f"final_model.pth: {name}": (str(tensor.dtype), tuple(tensor.shape), tensor.numpy().tobytes())
        for name, tensor in tensors.items()
    }


def make_images(root: Path) -> Path:
    """Write small image sets in the real formats, and return them as an OBS_DATASETS."""
    for name in ("cifar10", "cifar100"):
        write_cifar(root, name, train=600, test=120)
    write_svhn(root, train=400, test=80)
    write_mnist(root, "FashionMNIST", train=1000, test=200)
    return root


@contextmanager
def worktree(commit: str, path: Path) -> Iterator[Path]:
    """Check a commit out in a folder of its own, and remove it behind the block."""
    _git("worktree", "add", "--detach", str(path), commit)
    try:
        yield path
    finally:
        _git("worktree", "remove", "--force", str(path))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
