"""Runs what the README says: every command in it is either run here, shortened, or named as one that another test runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchnorm.modes import MODES
from batchnorm.study.grid import read_study
from tests import images
from tests.recorded import record_run

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}  # a script's own folder comes before it
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("  #")[0].split("   #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def copy_of_the_repository(folder: Path) -> Path:
    """Copy what a run needs, to change it."""
    for name in ("batchnorm", "configs", "sbatch"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "run_trainingLoop.py", folder)
    return folder


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = command.replace("python ", f"{shlex.quote(sys.executable)} ", 1)
    return subprocess.run(["bash", "-c", command], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_every_command_is_known_to_a_test() -> None:
    run_here = ("python run_trainingLoop.py ", "python -m batchnorm.analysis ", "python -m batchnorm.study ", "mkdir ", "for ")
    run_elsewhere = ("make check", "make test", "make quickstart", "apt-get install ")  # by .ci/run
    on_a_cluster = ("sbatch sbatch/",)  # by tests/slurm
    known = run_here + run_elsewhere + on_a_cluster
    assert [command for command in commands() if not command.startswith(known)] == []


def test_make_has_the_targets_that_are_named() -> None:
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), target


RUNS = [command for command in commands() if command.startswith("python run_trainingLoop.py")]


@pytest.mark.parametrize("command", RUNS)
def test_runs(command: str, tmp_path: Path, small_images: Path) -> None:
    folder = copy_of_the_repository(tmp_path / "copy")
    if "--help" not in command:
        # Small images in place of CIFAR's, and two steps in place of its epochs.
        patch = "import pathlib, torchvision.datasets.cifar as c; c.check_integrity = lambda p, *_: pathlib.Path(p).is_file()"
        script = folder / "run_trainingLoop.py"
        script.write_text(script.read_text().replace("import sys\n", f"import sys\n{patch}\n", 1))
        command += f" MAX_STEPS=2 BATCH_SIZE=20 THREADS=1 OBS_DATASETS={shlex.quote(str(small_images))}"
    done = shell(command, folder)
    assert done.returncode == 0, done.stderr


def test_reading_a_run(tmp_path: Path) -> None:
    folder = copy_of_the_repository(tmp_path / "copy")
    done = shell(f"{RUNS[0]} MAX_STEPS=30 THREADS=1", folder)
    assert done.returncode == 0, done.stderr
    code = next(block for block in blocks("python") if "import Run" in block)
    code = code.replace("/fixed_gamma", "/fixed_gamma__MAX_STEPS=30")  # a run that is cut short lies beside the whole one
    read = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert read.stdout.splitlines()[0] == "fixed_gamma (0, 1, 1) ('conv1', 'conv2', 'dense1') FINISHED"
    assert read.stdout.splitlines()[2] == "(7,) (7, 64) (7, 32)"


def test_figures_and_tables_from_the_shell(tmp_path: Path) -> None:
    for seed in (1, 2):
        for position, mode in (("none", "trained_bn"), *(("all", mode) for mode in MODES)):
            record_run(tmp_path / "output", problem="fmnist_2c2d_bn", random_seed=seed, position=position, ablation=mode)
    for command in commands():
        if command.startswith("python -m batchnorm.analysis"):
            done = shell(command, tmp_path)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout


def test_figures_in_python(tmp_path: Path) -> None:
    seed: dict[str, Any] = {"random_seed": 4842821, "lr": 0.16579130972807002, "epochs": 350, "recorded_epochs": 3}
    for position, mode in (("none", "trained_bn"), *(("00111", mode) for mode in MODES)):
        record_run(tmp_path / "output", problem="cifar100_3c3d_bn", position=position, ablation=mode, **seed)
    for mode in ("trained_bn", "fixed_gamma"):
        record_run(tmp_path / "output", problem="cifar100_allcnnc_bn", position="100000000", ablation=mode, **seed)
    code = next(block for block in blocks("python") if "model_paths" in block)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "output" / "plots").glob("*.png"))) == 3


def test_studies(tmp_path: Path) -> None:
    folder = copy_of_the_repository(tmp_path / "copy")
    shown = next(block for block in blocks("yaml") if "quickstart_digits" in block)
    (folder / "study.yaml").write_text(shown)
    assert read_study(folder / "study.yaml", {}).runs == read_study(Path("configs/studies/quickstart_digits.yaml"), {}).runs
    for command in commands():
        if command.startswith("python -m batchnorm.study") and ("submit" not in command or "--dry-run" in command):
            # Two steps of a small network in place of three epochs.
            shorter = " PROBLEM=digits_2c2d_bn MAX_STEPS=2" if " run " in command else ""
            done = shell(command + shorter, folder)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout


def test_a_problem_of_your_own(tmp_path: Path) -> None:
    folder = copy_of_the_repository(tmp_path / "copy")
    tuning = folder / "configs" / "basic_config.yaml"
    function = next(block for block in blocks("python") if "@register_problem" in block)
    (folder / "mine.py").write_text(function)
    tuning.write_text(f"{tuning.read_text()}\n{next(block for block in blocks('yaml') if 'digits_small_bn' in block)}")
    done = shell("python run_trainingLoop.py PROBLEM=mine.py:digits_small_bn RANDOM_SEED=1 POSITION=01 THREADS=1", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "output" / "1__digits_small_bn__0,1" / "Lr_0.1" / "Ep_3" / "trained_bn" / "final_model.pth").exists()


def test_fashion_mnist_from_debians_package(tmp_path: Path, fashion_mnist: Path) -> None:
    for command in commands():
        if command.startswith(("mkdir", "for file")):
            assert shell(command, tmp_path).returncode == 0
    for name in images.IDX_FILES:
        there = (tmp_path / "data" / "FashionMNIST" / "raw" / name).read_bytes()
        assert there == (fashion_mnist / "FashionMNIST" / "raw" / name).read_bytes()
