from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm import training
from batchnorm.analysis.__main__ import main
from batchnorm.analysis.runs import find_runs
from batchnorm.config import RunConfig
from batchnorm.errors import RunError
from batchnorm.store import Run, RunDirectory, Status
from tests.analysis.conftest import cut_off, record
from tests.analysis.test_usage import fill

Prune = Callable[..., tuple[int, str, str]]
ALL = {"final_model.pth": 3_000, "weights/epoch_0001.pth": 500, "checkpoint.pt": 7_000, "run.h5.new": 90}


@pytest.fixture
def prune(capsys: pytest.CaptureFixture[str]) -> Prune:
    """Return a function that runs the command, and gives back exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["prune", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def left(folder: Path) -> set[str]:
    """Return the files that may be pruned and are there."""
    names = ("final_model.pth", "checkpoint.pt", "epoch_0001.pth", "run.h5.new")
    return {path.name for path in folder.rglob("*") if path.name in names}


def test_what_would_go_is_shown_and_goes_with_yes(prune: Prune, tmp_path: Path) -> None:
    finished, diverged = record(tmp_path, random_seed=1), record(tmp_path, random_seed=2, status=Status.DIVERGED)
    fill(finished, {**ALL, "notes.new": 4, "weights/mine.pth": 5})
    fill(diverged, {"checkpoint.pt": 7_000})
    code, out, err = prune(tmp_path)
    assert (code, err) == (0, "")
    assert [row.split()[0] for row in out.splitlines()[:-1]] == ["run", str(finished), str(diverged), "total"]
    assert out.splitlines()[-1] == "would free 17.6 kB in 5 files of 2 runs; --yes deletes them"
    assert left(finished) == {"final_model.pth", "checkpoint.pt", "epoch_0001.pth", "run.h5.new"}
    code, out, err = prune(tmp_path, "--yes")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "freed 17.6 kB in 5 files of 2 runs"
    assert left(tmp_path) == set()
    kept = {"run.h5", "config.yaml", "notes.new", "mine.pth", ".lock"}
    assert {path.name for path in finished.rglob("*") if path.is_file()} == kept
    assert [Run(run).status for run in (finished, diverged)] == [Status.FINISHED, Status.DIVERGED]
    assert prune(tmp_path, "--yes") == (0, "nothing to free\n", "")


def test_what_goes_can_be_chosen(prune: Prune, tmp_path: Path) -> None:
    for seed in (1, 2):
        fill(record(tmp_path, random_seed=seed), ALL)
    prune(tmp_path, "--what", "final", "leftovers", "--seed", 2, "--yes")
    one, other = (next(tmp_path.glob(f"{seed}__*")) for seed in (1, 2))
    assert left(one) == {"final_model.pth", "checkpoint.pt", "epoch_0001.pth", "run.h5.new"}
    assert left(other) == {"checkpoint.pt", "epoch_0001.pth"}
    code, out, err = prune(tmp_path, "--what", "finl")
    assert (code, out) == (2, "")
    assert err == "error: --what finl: cannot be pruned; did you mean final? Valid: final, kept, checkpoints, leftovers\n"


def test_an_unfinished_run_keeps_all_that_it_needs(prune: Prune, tmp_path: Path) -> None:
    run = cut_off(tmp_path)
    fill(run, {name: size for name, size in ALL.items() if name != "run.h5.new"})
    assert prune(tmp_path, "--yes") == (0, "nothing to free\n", "")
    fill(run, {"run.h5.new": 90})
    assert prune(tmp_path, "--yes")[1].splitlines()[-1] == "freed 90 B in 1 file of 1 run"
    assert left(run) == {"final_model.pth", "checkpoint.pt", "epoch_0001.pth"}


def test_a_run_that_a_process_is_at_is_left_alone(prune: Prune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = record(tmp_path, random_seed=1), record(tmp_path, random_seed=2)
    for each in (run, other):
        fill(each, ALL)
    with RunDirectory(run).claim():
        code, out, err = prune(tmp_path, "--yes")
        assert err.splitlines() == [f"{run}: a process is at this run", "1 left out, named above"]
        assert out.splitlines()[-1].endswith("in 4 files of 1 run")
        assert len(left(run)) == 4
        with monkeypatch.context() as patch:  # it has begun since we looked
            patch.setattr(RunDirectory, "is_claimed", lambda _: False)
            code, _, err = prune(tmp_path, "--yes")
        assert code == 1
        assert err.startswith(f"{run}: another process is running it (process ")
        assert len(left(run)) == 4
    RunDirectory(run).lock.write_text("1\nelsewhere\n1\ncontent\n")  # of another host, where there is no flock
    code, out, err = prune(tmp_path, "--yes")
    assert (code, out) == (0, "nothing to free\n")
    assert err.splitlines()[0] == f"{run}: a process may be at this run"
    assert len(left(run)) == 4


def test_links_are_left_alone(prune: Prune, tmp_path: Path) -> None:
    elsewhere = record(tmp_path / "archive")
    fill(elsewhere, ALL)
    run = record(tmp_path / "output", random_seed=2)
    (run / "final_model.pth").symlink_to(elsewhere / "final_model.pth")
    (tmp_path / "output" / "old").symlink_to(tmp_path / "archive")
    code, out, err = prune(tmp_path / "output", "--yes")
    assert (code, out) == (0, "nothing to free\n")
    behind = tmp_path / "output" / "old" / elsewhere.relative_to(tmp_path / "archive")
    assert err.splitlines() == [
        f"{run / 'final_model.pth'}: is a link",
        f"{behind}: is reached by a link only; give its own path: {elsewhere}",
        "2 left out, named above",
    ]
    assert len(left(elsewhere)) == 4
    code, out, _ = prune(f"{tmp_path}/output/o*d", "--what", "final", "--yes")  # a pattern finds links, it does not name them
    assert len(left(elsewhere)) == 4
    prune(tmp_path / "output" / "old", "--yes")
    assert left(elsewhere) == set()


def test_a_file_that_cannot_be_deleted_is_named(prune: Prune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(record(tmp_path), ALL)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "checkpoint.pt":
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    code, out, err = prune(tmp_path, "--yes")
    assert (code, out.splitlines()[-1]) == (1, "freed 3.6 kB in 3 files of 1 run")
    assert err.splitlines()[0].endswith("checkpoint.pt: cannot be deleted (Operation not permitted)")


def test_a_pruned_run_is_found_finished_and_says_what_it_lacks(
    prune: Prune, configure: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(position="011", save_epochs="1")
    training.train(config)
    run = Run(config.directory)
    record_before = (config.directory / "run.h5").read_bytes()
    assert len(run.network().state_dict()) == len(run.network(1).state_dict())
    prune(config.directory, "--what", "final", "--yes")
    told = f"{config.directory}: final_model.pth is not there, it was deleted; kept: 1 (SAVE_EPOCHS)"
    with pytest.raises(RunError) as lacking:
        run.network()
    assert str(lacking.value) == told
    assert run.network(1)
    prune(config.directory, "--yes")
    assert training.train(config) == Status.FINISHED
    assert not list(config.directory.rglob("*.pth"))
    assert (config.directory / "run.h5").read_bytes() == record_before
    told = told.replace("kept: 1", "kept: none")
    with pytest.raises(RunError) as lacking:
        run.network()
    assert str(lacking.value) == told
    capsys.readouterr()
    assert main(["measure", str(config.directory), "--what", "landscape"]) == 2
    assert capsys.readouterr().err == f"error: {told}\n"
    for command in (["summary"], ["runs"], ["performance", "--save-dir", str(config.directory.parent / "plots")]):
        assert main([command[0], str(config.directory), *command[1:]]) == 0
    shutil.rmtree(config.directory.parent / "plots")


def test_measuring_goes_on_without_a_run_that_lacks_its_weights(
    prune: Prune, configure: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    pruned, whole = (configure(position="011", max_steps=3, random_seed=seed) for seed in (1, 2))
    for config in (pruned, whole):
        training.train(config)
    prune(pruned.directory, "--yes")
    assert main(["measure", str(pruned.output_dir), "--what", "landscape"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{whole.directory / 'measured.h5'}\n"
    assert err.splitlines()[0].startswith(f"{pruned.directory}: final_model.pth is not there")


def test_a_studys_runs_go_like_those_of_its_folder(prune: Prune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = record(Path("output"))
    fill(run, ALL)
    study = tmp_path / "studies" / "one.yaml"
    study.parent.mkdir()
    study.write_text("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nNUM_EPOCHS: 4\n")
    assert find_runs(study) == [run]
    assert prune(study, "--what", "final", "--yes")[0] == 0
    assert "final_model.pth" not in left(run)


def test_a_study_does_not_name_what_a_link_leads_to(prune: Prune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = record(Path("archive"))
    fill(run, ALL)
    Path("output").mkdir()
    (Path("output") / run.parts[1]).symlink_to(tmp_path / run.parts[0] / run.parts[1])
    study = tmp_path / "one.yaml"
    study.write_text("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nNUM_EPOCHS: 4\n")
    _, _, err = prune(study, "--yes")
    assert "is reached by a link only" in err and left(run) >= {"final_model.pth"}
