"""Runs whose folders are moved, copied and merged, as users do with mv, cp and rsync."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchnorm import training
from batchnorm.analysis.runs import find_runs
from batchnorm.analysis.summary import summary
from batchnorm.config import RunConfig
from batchnorm.store import Run, RunDirectory, Status, stand
from tests.test_training import assert_same_run, interrupted_at

Configure = Callable[..., RunConfig]


@pytest.fixture
def make(configure: Configure, tmp_path: Path) -> Configure:
    """Return a function that makes configurations of short runs below a root of the test's folder."""

    def run(root: str, **keys: object) -> RunConfig:
        return configure(**{"position": "011", "log_every_steps": 3, "output_dir": str(tmp_path / root), **keys})

    return run


def needs_rsync() -> None:
    """Skip where there is none; on CI it must be there."""
    if shutil.which("rsync") is None:
        assert not os.environ.get("CI"), "needs rsync"
        pytest.skip("needs rsync")


def rsync(source: Path, target: Path, *options: str) -> None:
    """Merge one root into another."""
    needs_rsync()
    subprocess.run(["rsync", "-a", *options, f"{source}/", f"{target}/"], check=True)


def move(source: Path, target: Path) -> None:
    subprocess.run(["mv", source, target], check=True)


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", source, target], check=True)


@pytest.mark.parametrize("carry", [move, copy, rsync])
def test_a_run_opens_resumes_and_is_found_finished_where_it_was_carried_to(
    carry: Callable[[Path, Path], None], make: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken, here, there = make("unbroken"), make("here"), make("there")
    training.train(unbroken)
    interrupted_at(here, signal.SIGTERM, 13, monkeypatch)
    carry(tmp_path / "here", tmp_path / "there")
    assert Run(there.directory).status == Status.CUT_OFF
    assert training.train(there) == Status.FINISHED
    assert_same_run(there.directory, unbroken.directory)
    carry(tmp_path / "there", tmp_path / "at last")
    config = make("at last")
    before = (config.directory / "run.h5").read_bytes()
    assert stand(config.directory, config.fingerprint()).status == Status.FINISHED
    assert training.train(config) == Status.FINISHED
    assert (config.directory / "run.h5").read_bytes() == before
    assert Run(config.directory).network()


def test_a_run_is_found_by_any_name_of_its_folder(make: Configure, tmp_path: Path) -> None:
    """What a run is, its record says; only the command that trains it looks under its own name."""
    config = make("here", max_steps=3)
    training.train(config)
    config.directory.rename(tmp_path / "renamed")
    assert Run(tmp_path / "renamed").config == config
    assert summary(tmp_path)["seeds"].tolist() == [1]


def test_a_copy_of_a_run_that_goes_on_is_claimed_by_nobody(make: Configure, tmp_path: Path) -> None:
    config = make("here")
    with RunDirectory(config.directory).claim():
        copy(tmp_path / "here", tmp_path / "there")
        assert RunDirectory(config.directory).is_claimed()
        assert not RunDirectory(make("there").directory).is_claimed()


@pytest.mark.parametrize("options", [(), ("--ignore-existing",)])
def test_merged_roots_are_read_together(options: tuple[str, ...], make: Configure, tmp_path: Path) -> None:
    for root, seeds in (("one", (1, 2)), ("other", (2, 3))):
        for seed in seeds:
            training.train(make(root, random_seed=seed, max_steps=3))
    rsync(tmp_path / "other", tmp_path / "one", *options)
    assert [Run(path).config.random_seed for path in find_runs(tmp_path / "one")] == [1, 2, 3]
    assert summary(tmp_path / "one")["seeds"].tolist() == [3]
    for seed in (1, 2, 3):
        assert training.train(make("one", random_seed=seed, max_steps=3)) == Status.FINISHED


@pytest.mark.parametrize("finished_first", [True, False])
def test_a_run_that_is_unfinished_in_one_root_stays_what_it_is_in_the_one_merged_into(
    finished_first: bool, make: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished, unfinished = make("finished"), make("unfinished")
    training.train(finished)
    interrupted_at(unfinished, signal.SIGTERM, 13, monkeypatch)
    into, source = (finished, unfinished) if finished_first else (unfinished, finished)
    unbroken = shutil.copytree(finished.output_dir, tmp_path / "unbroken")
    rsync(Path(source.output_dir), Path(into.output_dir), "--ignore-existing")
    assert Run(into.directory).status == (Status.FINISHED if finished_first else Status.CUT_OFF)
    assert training.train(into) == Status.FINISHED
    assert_same_run(into.directory, replace(into, output_dir=str(unbroken)).directory)
