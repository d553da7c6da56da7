"""Tuning: what is picked from records, and the whole command in a process of its own."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import h5py
import pytest

from batchnorm.errors import ExitCode
from batchnorm.store import RunDirectory, Status
from batchnorm.study.__main__ import main
from batchnorm.study.grid import read_study
from batchnorm.study.status import standings
from tests.recorded import record_run
from tests.study.commands import Started, run
from tests.study.own_problem import write_own_problem

THEN = "--then=RANDOM_SEED=11,12"
VARIANTS = [("none", "trained_bn"), ("all", "trained_bn"), ("all", "fixed_beta")]
NAMES = ["vanilla", "1,1,1 trained_bn", "1,1,1 fixed_beta"]


def write_grid(folder: Path, *, rates: str = "[0.01, 0.1, 1.0]", seeds: str = "1-2") -> Path:
    path = folder / "grid.yaml"
    path.write_text(
        f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: {seeds}\nPOSITION: [none, all]\nABLATION: [trained_bn, fixed_beta]\n"
        f"LR: {rates}\nNUM_EPOCHS: 2\nOUTPUT_DIR: {folder / 'output'}\n"
    )
    return path


def record(folder: Path, position: str, mode: str, *, lr: float, seed: int, loss: float | None, accurate: bool = True) -> None:
    """Record a run whose last losses are these and whose last accuracy follows; None: it diverged."""
    run_keys: dict[str, Any] = {
        "problem": "digits_2c2d_bn",
        "position": position,
        "ablation": mode,
        "lr": lr,
        "random_seed": seed,
    }
    status = Status.FINISHED if loss is not None else Status.DIVERGED
    config = record_run(folder / "output", epochs=2, status=status, last_loss=loss, **run_keys)
    with h5py.File(RunDirectory(config.directory).record, "r+") as file:
        file["epochs/test_acc"][...] = 2.0  # nothing may look at it
        file["epochs/test_loss"][...] = -1.0
        if not accurate:  # the accuracy falls with the loss
            file["epochs/valid_acc"][-1] = 1 - file["epochs/valid_acc"][-1]


def record_second(folder: Path, picks: dict[tuple[str, str], float]) -> None:
    for (position, mode), lr in picks.items():
        for seed in (11, 12):
            record(folder, position, mode, lr=lr, seed=seed, loss=1.0)


LOSSES: dict[tuple[str, str], dict[float, tuple[float | None, float | None]]] = {
    ("none", "trained_bn"): {0.01: (0.5, 0.6), 0.1: (0.7, 0.8), 1.0: (None, None)},
    ("all", "trained_bn"): {0.01: (0.9, 0.9), 0.1: (0.6, 0.8), 1.0: (0.2, None)},
    ("all", "fixed_beta"): {0.01: (0.9, 0.9), 0.1: (0.5, 0.9), 1.0: (0.3, 0.4)},
}
"""Final losses with the seeds 1 and 2."""


def record_grid(folder: Path, *, accurate: bool = True) -> None:
    for (position, mode), by_rate in LOSSES.items():
        for lr, losses in by_rate.items():
            for seed, loss in zip((1, 2), losses, strict=True):
                record(folder, position, mode, lr=lr, seed=seed, loss=loss, accurate=accurate)


def naive_picks(by: str, *, accurate: bool = True) -> dict[tuple[str, str], float]:
    picks = {}
    for variant, by_rate in LOSSES.items():
        whole = {first + second: lr for lr, (first, second) in by_rate.items() if first is not None and second is not None}
        picks[variant] = whole[min(whole) if by == "valid_loss" or accurate else max(whole)]
    return picks


@pytest.mark.parametrize("by", ["valid_acc", "valid_loss"])
@pytest.mark.parametrize("accurate", [True, False])
def test_picks_go_by_validation_over_seeds(by: str, accurate: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = write_grid(tmp_path)
    record_grid(tmp_path, accurate=accurate)
    picks = naive_picks(by, accurate=accurate)
    record_second(tmp_path, picks)
    assert main(["tune", str(grid), f"--by={by}", THEN]) == ExitCode.FINISHED
    shown = capsys.readouterr()
    out = tmp_path / "grid-tuned.yaml"
    assert f"written: {out}" in shown.out
    assert shown.out.endswith("grid-tuned: nothing to do, 6/6 runs\n")
    second = read_study(out, {})
    assert [(run.config.random_seed, run.config.position, run.config.ablation, run.config.lr) for run in second.runs] == [
        (seed, "0,0,0" if position == "none" else "1,1,1", mode, lr)
        for seed in (11, 12)
        for (position, mode), lr in picks.items()
    ]
    header = [line for line in out.read_text().splitlines() if line.startswith("#")]
    assert str(grid) in header[2]
    assert f"final {by}, mean over RANDOM_SEED=1,2" in header[2]
    edges = [
        f"{name}: LR={lr} is the {'smallest' if lr == 0.01 else 'largest'} tried"
        for name, lr in zip(NAMES, picks.values(), strict=True)
        if lr != 0.1
    ]
    assert shown.err.splitlines() == [f"at the edge of the grid: {edge}" for edge in edges]
    for name, lr, line in zip(NAMES, picks.values(), header[3:], strict=True):
        assert line.startswith(f"# {name}: LR={lr}, {by} ")
        assert ("at the edge of the grid" in line) == (lr != 0.1)


def test_a_changed_grid_picks_again_and_an_unchanged_one_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid, out = write_grid(tmp_path), tmp_path / "elsewhere" / "second.yaml"
    record_grid(tmp_path)
    record_second(tmp_path, naive_picks("valid_acc"))
    command = ["tune", str(grid), THEN, f"--out={out}"]
    assert main(command) == ExitCode.FINISHED
    before, text = out.stat(), out.read_text()
    assert main(command) == ExitCode.FINISHED
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_grid(tmp_path, rates="[0.01, 0.1, 0.3, 1.0]")
    for position, mode in VARIANTS:
        for seed in (1, 2, 11, 12):
            record(tmp_path, position, mode, lr=0.3, seed=seed, loss=0.01)
    assert main([*command, "--dry-run"]) == ExitCode.FINISHED
    shown = capsys.readouterr().out
    assert "  1,1,1 trained_bn: LR=0.3, valid_acc " in shown
    assert out.read_text() == text
    assert main(command) == ExitCode.FINISHED
    assert {run.config.lr for run in read_study(out, {}).runs} == {0.3}
    assert capsys.readouterr().err == ""  # no winner at an edge
    assert list(out.parent.iterdir()) == [out]


def test_a_dry_run_shows_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = write_grid(tmp_path)
    record_grid(tmp_path)
    assert main(["tune", str(grid), THEN, "--dry-run", "RANDOM_SEED=1-3"]) == ExitCode.FINISHED
    lines = capsys.readouterr().out.splitlines()
    rule = "picks LR by the largest final valid_acc, mean over RANDOM_SEED=1,2,3"
    assert lines[0] == f"grid: 27 runs, 9 to do; 3 variants; {rule}"
    assert all("missing" in line and "RANDOM_SEED=3" in line for line in lines[1:10])
    assert lines[10].startswith("grid-tuned: 6 runs, each variant's pick with RANDOM_SEED=11,12; to be written: ")
    assert main(["tune", str(grid), THEN, "--dry-run"]) == ExitCode.FINISHED
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("  1,1,1 trained_bn: LR=0.1, valid_acc ")
    assert lines[4].startswith("grid-tuned: 6 runs, 6 to do; RANDOM_SEED=11,12; to be written: ")
    assert len(lines) == 11
    assert {path.name for path in tmp_path.iterdir()} == {"grid.yaml", "output"}


def test_a_variant_that_always_diverged_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = write_grid(tmp_path, rates="[0.1, 1.0]", seeds="1")
    for position, mode in VARIANTS:
        for lr in (0.1, 1.0):
            record(tmp_path, position, mode, lr=lr, seed=1, loss=None if position == "none" else lr)
    record_second(tmp_path, dict.fromkeys(VARIANTS[1:], 0.1))
    assert main(["tune", str(grid), THEN]) == ExitCode.FINISHED
    assert "left out: vanilla: all of its runs diverged\n" in capsys.readouterr().err
    out = tmp_path / "grid-tuned.yaml"
    assert "# left out, all of its runs diverged: vanilla\n" in out.read_text()
    assert len(read_study(out, {}).runs) == 4
    assert main(["tune", str(grid), THEN, "POSITION=none"]) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err.endswith("every run diverged, nothing can be picked; try other values of LR\n")


def test_several_keys_and_other_varying_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = write_grid(tmp_path, rates="[0.1, 1.0]", seeds="1")
    more = ["OPTIMIZER=Momentum", "POSITION=all", "ABLATION=fixed_bn"]
    text = grid.read_text() + "OPT_HPARS.momentum: [0.5, 0.9]\nBATCH_SIZE: [32, 64]\n"
    grid.write_text(text)
    study = read_study(grid, {"optimizer": "Momentum", "position": "all", "ablation": "fixed_bn"})
    for run_ in study.runs:
        config = run_.config
        # With the batch size 32 the best is the first choice, with 64 the last one.
        better = (config.lr == 0.1, config.opt_hpars["momentum"] == 0.5) == ((config.batch_size == 32),) * 2
        keys: dict[str, Any] = {
            name: getattr(config, name) for name in ("problem", "optimizer", "position", "ablation", "lr", "batch_size")
        }
        momentum: dict[str, Any] = {"opt_hpars.momentum": config.opt_hpars["momentum"]}
        record_run(tmp_path / "output", epochs=2, last_loss=0.1 if better else 1.0, **keys, **momentum)
    command = ["tune", str(grid), "--over=lr,opt_hpars.momentum", THEN, "--dry-run", *more]
    assert main(command) == ExitCode.FINISHED
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("  1,1,1 fixed_bn BATCH_SIZE=32: LR=0.1 OPT_HPARS.momentum=0.5, valid_acc")
    assert lines[2].startswith("  1,1,1 fixed_bn BATCH_SIZE=64: LR=1.0 OPT_HPARS.momentum=0.9, valid_acc")
    assert lines[2].endswith(
        "of 4 tried; at the edge of the grid: LR=1.0 is the largest tried; "
        "at the edge of the grid: OPT_HPARS.momentum=0.9 is the largest tried"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--then is missing"),
        (["--then=RANDOM_SEED=2-3"], "tuning uses RANDOM_SEED=2 itself; give seeds that it has not seen"),
        (["--then=RANDOM_SEED=x"], "must be seeds, as RANDOM_SEED=11,12,13"),
        (["--then=LR=1"], "must be seeds, as RANDOM_SEED=11,12,13"),
        (["--then=11"], "11: not KEY=value"),
        ([THEN, "--by=test_acc"], "--by test_acc: the validation set alone picks"),
        ([THEN, "--over=LRR"], "LRR: unknown key"),
        ([THEN, "--over=RANDOM_SEED"], "RANDOM_SEED is not for tuning to choose"),
        ([THEN, "--over=LR,ABLATION"], "ABLATION is not for tuning to choose"),
        ([THEN, "--over=BATCH_SIZE"], "--over BATCH_SIZE: grid has one value of it for each variant; give a list of values"),
        ([THEN, "OVERWRITE=true"], "OVERWRITE=true: tune continues what is there"),
        ([THEN, "--workers=0"], "--workers"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_starts(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = write_grid(tmp_path)
    assert main(["tune", str(grid), *arguments]) == ExitCode.BAD_INPUT
    shown = capsys.readouterr()
    assert message in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == [grid]


def test_a_file_of_the_users_own_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = write_grid(tmp_path)
    assert main(["tune", str(grid), THEN, f"--out={grid}"]) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err == f"error: {grid}: was not written by tune; give --out another file\n"
    assert main(["tune", str(grid), THEN, f"--out={tmp_path}"]) == ExitCode.BAD_INPUT
    assert "cannot be read: Is a directory" in capsys.readouterr().err


def test_rates_that_were_tried_on_unlike_seeds_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = tmp_path / "grid.yaml"
    block = "- {{PROBLEM: digits_2c2d_bn, RANDOM_SEED: {}, LR: {}}}\n"
    grid.write_text(block.format("1-2", 0.1) + block.format("1", 0.2))
    assert main(["tune", str(grid), THEN]) == ExitCode.BAD_INPUT
    assert "LR=0.2 has the seeds [1], not [1, 2] of LR=0.1; give all the same" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_command_is_stopped_in_both_parts_and_goes_on(tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    keys = f"RANDOM_SEED: 1\nPOSITION: [none, all]\nOUTPUT_DIR: {tmp_path / 'output'}\nNUM_EPOCHS: 40\nMEASURE: none\n"
    grid.write_text(write_own_problem(tmp_path) + keys + "LR: [1.0e+30, 0.05]\n")
    command = ["tune", str(grid), "--then", "RANDOM_SEED=11-12", "--workers=1"]
    first, out = read_study(grid, {}), tmp_path / "grid-tuned.yaml"

    def stopped(text: str) -> str:
        started = Started(*command, output=tmp_path / "printed")
        started.wait_until(lambda: text in started.text)
        assert started.stop(signal.SIGINT) == ExitCode.INTERRUPTED, started.text
        return started.text

    assert "grid: nothing is picked before all of its runs have ended\n" in stopped("started 1: ")
    assert not out.exists()
    assert "nothing is picked" not in stopped("started 0: vanilla LR=0.05 RANDOM_SEED=11")
    assert [each.status for each in standings(first)] == [
        Status.DIVERGED if run.config.lr == 1e30 else Status.FINISHED for run in first.runs
    ]
    second = read_study(out, {})
    assert any(each.status == Status.MISSING for each in standings(second))
    done = run(*command)
    assert done.returncode == ExitCode.FINISHED, done.stdout + done.stderr
    assert done.stdout.startswith("grid: nothing to do, 4/4 runs\n")
    assert done.stderr.count("LR=0.05 is the smallest tried") == 2
    assert [(run.config.random_seed, run.config.position, run.config.lr) for run in second.runs] == [
        (11, "0,0", 0.05),
        (11, "1,1", 0.05),
        (12, "0,0", 0.05),
        (12, "1,1", 0.05),
    ]
    assert {each.status for each in standings(second)} == {Status.FINISHED}
