from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from batchnorm.config import RunConfig, resolve
from batchnorm.logs import logger
from batchnorm.machine import advice_on_threads, describe_commit, seconds_waited, warn_if_bf16_is_slow
from tests import command
from tests.conftest import arguments_of
from tests.test_training import assert_same_run

TRAIN = """\
import sys
from batchnorm import assembly, machine
from batchnorm.command import main

def plain():
    return False

def kept():
    assert machine.keep_freed_memory() or not sys.platform.startswith("linux")

assembly.keep_freed_memory = {way}
sys.exit(main(sys.argv[1:]))
"""


def test_keeping_freed_memory_changes_no_bit(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    """In processes of their own, since what is kept stays kept."""
    configs = []
    for way in ("plain", "kept"):
        config = configure(problem="mnist_2c2d_bn", max_steps=4, output_dir=f"{configure().output_dir}/{way}")
        code, printed = command.python(["-c", TRAIN.format(way=way), *arguments_of(config)], tmp_path / "printed")
        assert code == 0, printed
        configs.append(config)
    assert_same_run(configs[0].directory, configs[1].directory)


@pytest.mark.parametrize(
    ("precision", "device", "cpuinfo", "warnings"),
    [
        ("bf16", "cpu", "flags\t\t: fpu avx512f avx512bw\nflags\t\t: fpu avx512f avx512bw\n", 1),
        ("bf16", "cpu", "flags\t\t: fpu avx512f avx512_bf16\n", 0),
        ("bf16", "cpu", "Features\t: fp asimd bf16\n", 0),
        ("bf16", "cpu", "Features\t: fp asimd\n", 1),
        ("bf16", "cpu", "hart\t: 0\n", 0),
        ("bf16", "cpu", None, 0),
        ("bf16", "cuda", "flags\t\t: fpu\n", 0),
        ("fp32", "cpu", "flags\t\t: fpu\n", 0),
    ],
)
def test_bf16_without_instructions_for_it_is_one_warning(
    precision: str, device: str, cpuinfo: str | None, warnings: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    config = resolve({"problem": "digits_2c2d_bn", "random_seed": 1, "precision": precision})
    with caplog.at_level("WARNING", logger=logger.name):
        warn_if_bf16_is_slow(config, torch.device(device), cpuinfo=tmp_path / "cpuinfo")
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["PRECISION=bf16"] * warnings


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody"]
    return subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_a_commit_is_recorded_only_where_the_package_is_tracked(tmp_path: Path) -> None:
    """As in an environment that lies inside another project's repository."""
    package = tmp_path / ".venv" / "batchnorm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    nothing = {"git_commit": None, "git_dirty": None}
    assert describe_commit(package) == nothing
    git(tmp_path, "init")
    (tmp_path / "other.py").write_text("")
    git(tmp_path, "add", "other.py")
    git(tmp_path, "commit", "-m", "other")
    assert describe_commit(package) == nothing
    git(tmp_path, "add", ".venv")
    git(tmp_path, "commit", "-m", "package")
    clean = {"git_commit": git(tmp_path, "rev-parse", "HEAD"), "git_dirty": False}
    assert describe_commit(package) == clean
    (tmp_path / "other.py").write_text("x = 1\n")
    assert describe_commit(package) == clean
    (package / "__init__.py").write_text("x = 1\n")
    assert describe_commit(package) == {**clean, "git_dirty": True}


def test_threads_that_wait_for_cores_are_told() -> None:
    told = advice_on_threads(4, waited=8.0, seconds=10.0)
    assert "4 threads of this run wait 20% of their time" in told and "THREADS=1" in told
    assert advice_on_threads(4, waited=3.0, seconds=10.0) == ""
    assert advice_on_threads(1, waited=9.0, seconds=10.0) == ""


def test_waiting_for_a_core_is_read_from_each_thread(tmp_path: Path) -> None:
    for thread, line in (("1", "7 2500000000 9\n"), ("2", "7 500000000 9\n"), ("3", "")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(line)
    assert seconds_waited(tmp_path) == 3.0
    assert seconds_waited(tmp_path / "nowhere") == 0.0
