"""Whether a study survives what ends processes: signals at random to it and its workers, and started again each time."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchnorm.errors import ExitCode
from batchnorm.store import RunDirectory, Status
from batchnorm.study.grid import Study, read_study
from batchnorm.study.status import standings
from benchmarks.bits import compare_runs
from tests.images import write_mnist

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SHARE_TO_THE_PARENT = 0.3
SECONDS_TO_END = 60
NO_WORKER = "no worker starts: its process died by SIG"
STUDY = """\
PROBLEM: mnist_mlp_bn
RANDOM_SEED: [{seeds}]
POSITION: ['011', all]
ABLATION: [trained_bn, fixed_gamma]
NUM_EPOCHS: {epochs}
BATCH_SIZE: 32
LOG_EVERY_STEPS: 1
OBS_DATASETS: {images}
"""
_RUNS_PER_SEED = 4


@dataclass
class Soak:
    """What was done, and what is wrong in the end.

    Attributes:
        signals: how many were sent, by name and to whom.
        starts: how often the command was started.
        rounds: how often all runs came to their end.
        equal: runs that have the bits of their unbroken twin.
        wrong: what must not be, a line each.
    """

    signals: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    rounds: int = 0
    equal: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Say it in a few lines."""
        sent = ", ".join(f"{count} {name}" for name, count in sorted(self.signals.items()))
        lines = [
            f"{sum(self.signals.values())} signals sent ({sent})",
            f"{self.starts} starts of the command, {self.rounds} times all runs to their end",
            f"{self.equal} runs equal to their unbroken twins, bit for bit; {len(self.wrong)} faults",
        ]
        return "\n".join([*lines, *self.wrong])


def main(arguments: Sequence[str]) -> int:
    """Soak, print what came of it, and return the exit code: 1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="how long signals are sent [20]")
    parser.add_argument("--runs", type=int, default=60, help="of the study, a multiple of 4 [60]")
    parser.add_argument("--epochs", type=int, default=20, help="of each run [20]")
    parser.add_argument("--pause", type=float, default=8, help="mean seconds between two signals [8]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments, signals and victims [0]")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = soak(
            Path(folder),
            runs=options.runs,
            epochs=options.epochs,
            seconds=60 * options.minutes,
            pause=options.pause,
            chance=random.Random(options.seed),
        )
    print(result)
    return ExitCode.FAILED if result.wrong else ExitCode.FINISHED


def soak(folder: Path, *, runs: int, epochs: int, seconds: float, pause: float, chance: random.Random) -> Soak:
    """Train a study undisturbed, then again and again under signals until the time is up, and compare each run with its twin.

    Args:
        folder: an empty one.
        runs: how many, a multiple of 4.
        epochs: of each run.
        seconds: how long signals are sent; a study that is under way then goes on to its end.
        pause: mean seconds between two signals.
        chance: decides moments, signals and victims.
    """
    (folder / "images").mkdir()
    write_mnist(folder / "images", "MNIST", train=400, test=60)
    path = folder / "soak.yaml"
    seeds = ", ".join(map(str, range(-(-runs // _RUNS_PER_SEED))))
    path.write_text(STUDY.format(seeds=seeds, epochs=epochs, images=folder / "images"), encoding="utf-8")
    unbroken = read_study(path, {"output_dir": str(folder / "unbroken")})
    result = Soak()
    with start(path, unbroken, folder / "unbroken.txt") as process:
        process.wait()
    if process.returncode != ExitCode.FINISHED:
        result.wrong.append(f"undisturbed: exit code {process.returncode}: {_end(folder / 'unbroken.txt')}")
        return result
    until = time.monotonic() + seconds
    while time.monotonic() < until and not result.wrong:
        study = read_study(path, {"output_dir": str(folder / f"round_{result.rounds}")})
        pids = to_the_end(path, study, folder / "printed.txt", result, until=until, pause=pause, chance=chance)
        hold_against(study, unbroken, pids, result)
        result.rounds += 1
    return result


def start(path: Path, study: Study, printed: Path) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own; what it prints goes behind what is there."""
    command = [sys.executable, "-m", "batchnorm.study", "run", str(path), "--workers=2"]
    with printed.open("ab") as output:
        return subprocess.Popen(
            [*command, f"OUTPUT_DIR={study.runs[0].config.output_dir}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def to_the_end(
    path: Path, study: Study, printed: Path, result: Soak, *, until: float, pause: float, chance: random.Random
) -> set[int]:
    """Start the command until all is done, with signals at random meanwhile; return all processes that were seen.

    Starts without an end are a fault too, once the signals have stopped.
    """
    pids: set[int] = set()
    undisturbed = 0
    while undisturbed < 4 and not result.wrong:
        undisturbed += time.monotonic() > until
        result.starts += 1
        process = start(path, study, printed)
        pids.add(process.pid)
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.expovariate(1 / pause))
            workers = children(process.pid)
            pids |= set(workers)
            if process.poll() is None and time.monotonic() < until:
                to_parent = not workers or chance.random() < SHARE_TO_THE_PARENT
                number = chance.choice(SIGNALS)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid if to_parent else chance.choice(workers), number)
                    result.signals[f"{number.name} to {'the study' if to_parent else 'a worker'}"] += 1
        if process.returncode == ExitCode.FINISHED:
            return pids
        killed_at_start = NO_WORKER in _end(printed).splitlines()[-1]
        expected = (ExitCode.FAILED, ExitCode.INTERRUPTED, *(-number for number in SIGNALS))
        if process.returncode not in expected and not killed_at_start:
            result.wrong.append(f"exit code {process.returncode}: {_end(printed)}")
    if not result.wrong:
        result.wrong.append(f"does not come to its end: {_end(printed)}")
    return pids


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, as far as they are there."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def hold_against(study: Study, unbroken: Study, pids: set[int], result: Soak) -> None:
    """Compare each run with its twin, and look for processes and locks that were left."""
    end = time.monotonic() + SECONDS_TO_END
    while (left := {pid for pid in pids if _is_ours(pid)}) and time.monotonic() < end:
        time.sleep(0.1)
    if left:
        result.wrong.append(f"processes were left: {sorted(left)}")
    for each, twin in zip(standings(study), unbroken.runs, strict=True):
        directory = each.run.config.directory
        if each.status != Status.FINISHED:
            result.wrong.append(f"{each.run}: {each.status.value} {each.reason}")
        elif RunDirectory(directory).is_claimed():
            result.wrong.append(f"{each.run}: its lock was left")
        elif differing := compare_runs(twin.config.directory, directory).differing:
            result.wrong.append(f"{each.run}: differs: {', '.join(differing[:3])}")
        else:
            result.equal += 1


def _is_ours(pid: int) -> bool:
    """Say whether a process is there and one of a study: its number may have gone to another."""
    try:
        return b"batchnorm.study" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _end(printed: Path) -> str:
    return printed.read_text(encoding="utf-8", errors="replace")[-1500:] or "nothing was printed"
