"""What a stranger gets: a source distribution, a wheel made of it, and the program in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from batchnorm.store import Run

ROOT = Path(__file__).parent.parent
NOT_COPIED = (".git", ".venv*", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist", "data", "output", "plots")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


def call(*command: object, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@dataclass(frozen=True)
class Built:
    """A source distribution, what is in it, and the wheel made of that."""

    sdist: Path
    unpacked: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build both without a network, from a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("built")
    copy = folder / "copy"
    at_top = shutil.ignore_patterns(*NOT_COPIED)
    shutil.copytree(ROOT, copy, ignore=lambda path, names: at_top(path, names) if Path(path) == ROOT else {"__pycache__"})
    (copy / "output" / "slurm").mkdir(parents=True)
    (copy / "output" / "slurm" / ".gitkeep").touch()
    call(sys.executable, "-c", BUILD, folder, cwd=copy)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, unpacked, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return Built(sdist, unpacked, wheel)


def pip(*arguments: object, cwd: Path, python: Path = Path(sys.executable)) -> None:
    call(sys.executable, "-m", "pip", "--python", python, *arguments, "--quiet", "--no-index", cwd=cwd)


def environment(folder: Path, *what: object) -> Path:
    """Make an environment that has something installed and shares the packages of this one; return its programs' folder."""
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "shared.pth").write_text("\n".join(shared))
    alone = ("--no-deps", "--no-build-isolation", "--ignore-installed")
    pip("install", *alone, *what, cwd=folder, python=programs / "python")
    return programs


def test_the_source_distribution_holds_every_file_of_the_repository(built: Built) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    absent = [name for name in tracked if (ROOT / name).exists() and not (built.unpacked / name).exists()]
    assert absent == []


def test_the_wheel_holds_the_package_and_the_shipped_files_alone(built: Built) -> None:
    held = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "batchnorm").rglob("*.py")}
    files = [path for folder in ("configs", "sbatch") for path in (ROOT / folder).rglob("*") if path.is_file()]
    shipped = {f"batchnorm/{path.relative_to(ROOT).as_posix()}" for path in files}
    page = [path for path in (ROOT / "batchnorm" / "analysis" / "report").rglob("*") if path.suffix not in (".py", ".pyc")]
    parts = {path.relative_to(ROOT).as_posix() for path in page if path.is_file()}
    assert held == {"batchnorm/py.typed", *package, *shipped, *parts}


def test_the_source_distribution_runs_its_own_tests(built: Built) -> None:
    files = ("tests/test_modes.py", "tests/test_packaging.py", "tests/test_logs.py", "tests/store/test_layout.py")
    assert " passed" in call(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, cwd=built.unpacked)


@pytest.fixture(scope="module")
def programs(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment with the wheel; it lies in a repository of another project."""
    folder = tmp_path_factory.mktemp("project")
    call("git", "init", cwd=folder)
    call("git", "-c", "user.name=nobody", "-c", "user.email=nobody", "commit", "--allow-empty", "-m", "other", cwd=folder)
    return environment(folder / ".venv", built.wheel)


def test_quickstart_from_the_wheel_in_an_empty_folder(programs: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    code = "import batchnorm, sys; print(batchnorm.__file__, [path for path in sys.path if 'batchnorm' in path.lower()])"
    where, others = call(programs / "python", "-c", code, cwd=empty).split(" ", 1)
    assert Path(where).is_relative_to(programs.parent)
    assert others == "[]\n"

    def command(arguments: str) -> str:
        return call(programs / "dissect-batchnorm", *arguments.split(), cwd=empty)

    decoy = empty / "batchnorm"  # another package of that name here is not taken for ours, in workers neither
    decoy.mkdir()
    (decoy / "__init__.py").write_text("raise AssertionError")
    assert "5/5 runs have ended" in command("study run quickstart_digits --workers 2")
    shutil.rmtree(decoy)
    assert "finished        5" in command("study status quickstart_digits")
    assert "nothing to do" in call(programs / "python", "-m", "batchnorm.study", "run", "quickstart_digits", cwd=empty)
    table = command("analysis summary output")
    assert all(variant in table for variant in ("vanilla", "trained_bn", "fixed_bn", "fixed_gamma", "fixed_beta"))
    command("analysis performance output")
    command("analysis surface output --mask all --mode trained_bn")
    assert len(list((empty / "output" / "plots").glob("*.png"))) == 2
    assert command("analysis report output") == "output/report.html\n"
    record = next((empty / "output").rglob("run.h5"))
    assert Run(record.parent).versions["git_commit"] is None
    assert "configs/basic_config.yaml: the shipped file " in (record.parent / "run.log").read_text()
    for script in ("study.sbatch", "until_finished.sh"):
        assert Path(command(f"shipped {script}").strip()).is_file()


USER_SCRIPT = """\
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchnorm.analysis.bn_plot_functions import performance_across_ablations
from batchnorm.analysis.runs import find_runs
from batchnorm.analysis.summary import summary
from batchnorm.analysis.tables import export
from batchnorm.config import RunConfig, read_command_line
from batchnorm.problems import register_problem
from batchnorm.store import Run, Status

config: RunConfig = read_command_line(["PROBLEM=digits_2c2d_bn", "RANDOM_SEED=1"])
run = Run(config.directory)
if run.status is Status.FINISHED:
    last: float = run.epochs["test_acc"][-1].item()
    gamma: NDArray[np.float32] = run.gamma(run.layers[0])
    print(last, gamma.shape, run.config.lr + 1, register_problem)
performance_across_ablations(find_runs("output"), save=False).savefig("figure.png")
export(summary("output"), "table.tex")
run.gamm("conv1")  # type: ignore[attr-defined]
"""
"""The last line is wrong, so that mypy would call its comment unused where it knew nothing of the package."""


def test_mypy_knows_the_installed_package(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(USER_SCRIPT)
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*]\nfollow_imports = skip\n")  # most of the time goes there
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", programs / "python", "--cache-dir", tmp_path)
    assert call(*mypy, "script.py", cwd=tmp_path).startswith("Success: ")


def test_an_editable_installation_uses_the_files_of_its_checkout(built: Built, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(built.unpacked, copy)
    programs = environment(tmp_path / "environment", "--editable", copy)
    where = call(programs / "dissect-batchnorm", "shipped", "quickstart_digits", cwd=tmp_path).strip()
    assert Path(where) == copy / "configs" / "studies" / "quickstart_digits.yaml"
