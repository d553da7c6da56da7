"""From runs on disk to effects: what stands in the table of runs, what is left out, what is refused; and the commands."""

from __future__ import annotations

import csv
import io
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from batchnorm.analysis.__main__ import main
from batchnorm.analysis.effects import effects, of_runs, plan, table_of
from batchnorm.analysis.figures.effects import effects_forest
from batchnorm.analysis.figures.interactions import slot_interactions
from batchnorm.errors import RunError
from batchnorm.store import Run, Status
from tests.analysis.conftest import cut_off, record
from tests.analysis.effects.designs import by_name

Shell = Callable[..., tuple[int, str, str]]
MASKS = ["0,0,0", "1,0,0", "0,1,0", "1,1,0"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return runs of two slots' masks, two modes, three seeds."""
    folder = tmp_path_factory.mktemp("effects") / "output"
    for seed, mask, mode in itertools.product((1, 2, 3), MASKS, ("trained_bn", "fixed_gamma")):
        if mask != "0,0,0" or mode == "trained_bn":
            record(folder, position=mask, ablation=mode, random_seed=seed)
    return folder


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str]) -> Shell:
    """Return a function that runs a command, and gives back exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run


def test_one_row_for_each_run(study: Path) -> None:
    table = table_of(study)
    assert len(table) == 3 * 7
    row = table[(table["seed"] == 2) & (table["mask"] == "1,0,0") & (table["mode"] == "fixed_gamma")].iloc[0]
    assert row["value"] == Run(row["run"]).epochs["test_acc"][-1]
    assert list(table[table["mask"] == "0,0,0"]["mode"]) == ["vanilla"] * 3
    pd.testing.assert_frame_equal(table_of([Run(path) for path in table["run"]]), table)
    pd.testing.assert_frame_equal(table_of(list(table["run"])), table)


def test_effects_of_runs_by_hand(study: Path) -> None:
    table = of_runs(study, metric="valid_acc", last=2)
    assert list(table["name"][:3]) == ["conv1", "conv2", "dense1"]
    by_seed = []
    for seed in (1, 2, 3):
        values = {
            (run.mask[:2], run.mode): run.epochs["valid_acc"][-2:].mean()
            for run in map(Run, study.rglob("run.h5"))
            if run.config.random_seed == seed
        }
        vanilla = values[(0, 0), "vanilla"]
        by_seed.append(
            np.mean(
                [
                    (values[(1, 0), mode] - vanilla + values[(1, 1), mode] - values[(0, 1), mode]) / 2
                    for mode in ("trained_bn", "fixed_gamma")
                ]
            )
        )
    conv1 = by_name(table, "conv1")
    assert conv1["estimate"] == pytest.approx(np.mean(by_seed))
    assert conv1["std"] == pytest.approx(np.std(by_seed, ddof=1))
    assert (conv1["n_pairs"], conv1["n_seeds"]) == (4, 3)
    assert by_name(table, "dense1")["note"].startswith("not estimable")


def test_one_that_diverged_counts_and_one_that_goes_on_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in (1, 2):
        record(tmp_path, position="0,0,0", random_seed=seed)
    record(tmp_path, position="0,0,1", random_seed=1)
    record(tmp_path, position="0,0,1", random_seed=2, recorded_epochs=2, status=Status.DIVERGED, last_loss=np.nan)
    cut = cut_off(tmp_path, position="0,1,0", random_seed=1)
    with caplog.at_level(logging.WARNING):
        table = table_of(tmp_path)
    assert len(table) == 4 and table["diverged"].sum() == 1
    assert list(table[table["diverged"]]["value"]) == [0.1]
    assert [entry.message for entry in caplog.records] == [f"{cut}: interrupted, epoch 2 of 4"]
    found = effects(table)
    assert by_name(found, "slot 3")["diverged"] == 1


def test_runs_that_ended_at_chance_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They finished, but one of them outweighs all other differences."""
    for mask in ("0,0,0", "0,0,1", "1,0,0", "1,0,1"):
        for mode in ("trained_bn",) if mask == "0,0,0" else ("trained_bn", "fixed_beta"):
            path = record(tmp_path, position=mask, ablation=mode)
            reached = {"1,0,0": 0.1, "1,0,1": 0.1 + 1e-2}.get(mask, 0.12) if mode == "fixed_beta" else 0.9
            with h5py.File(path / "run.h5", "r+") as file:
                file["epochs/test_acc"][-1] = reached
    table = table_of(tmp_path)
    assert {(row.mask, row.mode) for row in table.itertuples() if row.at_chance} == {
        ("1,0,0", "fixed_beta"),
        ("1,0,1", "fixed_beta"),
    }
    assert not table_of(tmp_path, metric="test_loss")["at_chance"].any()
    assert main(["effects", str(tmp_path)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "7 runs, 2 ended at chance (1,0,0 fixed_beta; 1,0,1 fixed_beta), seed 1." in told


def test_a_measurement_of_a_run_that_diverged_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed, status in ((1, Status.FINISHED), (2, Status.DIVERGED)):
        path = record(tmp_path, random_seed=seed, status=status)
        with h5py.File(path / "run.h5", "r+") as file:
            file["probes/epoch"], file["probes/step"], file["probes/sharpness"] = [0, 4], [0, 80], [9.0, 2.0]
    with caplog.at_level(logging.WARNING):
        table = table_of(tmp_path, metric="sharpness")
    assert list(table["value"]) == [2.0] and "diverged" in caplog.records[0].message


def test_settings_and_problems_are_not_mixed(tmp_path: Path) -> None:
    first = record(tmp_path, lr=0.1)
    record(tmp_path, lr=0.2, position="0,0,1")
    with pytest.raises(RunError, match=r"differs from .* in LR \(0\.\d there, 0\.\d here\); effects are of runs"):
        table_of(tmp_path)
    record(tmp_path / "other", problem="fmnist_2c2d_bn", lr=0.1)
    with pytest.raises(RunError, match="give runs of one problem"):
        table_of([first, tmp_path / "other"])
    with pytest.raises(RunError, match="the list of paths is empty"):
        table_of([])
    cut = cut_off(tmp_path / "cut")
    with pytest.raises(RunError, match="none of them has finished"):
        table_of(cut)


def test_the_command_prints_families_in_100_columns(shell: Shell, study: Path) -> None:
    code, out, err = shell("effects", study, "--margin", "5")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Effects on final test accuracy, in points. digits_2c2d_bn, 21 runs, seeds 1, 2, 3."
    assert max(map(len, lines)) <= 100
    row = next(line for line in lines if line.startswith("conv1 "))
    assert float(row.split()[1]) == pytest.approx(100 * by_name(of_runs(study), "conv1")["estimate"], abs=0.5)
    assert any(line.startswith("dense1") and "not estimable" in line for line in lines)
    wide = shell("effects", study, "--wide")[1]
    assert "leave one out" in wide and "may disagree with p (Holm)" in wide
    one_seed = shell("effects", study, "--seed", "1")[1].splitlines()
    assert one_seed[0].endswith("7 runs, seed 1.") and any("one seed: no interval" in line for line in one_seed)


def test_epochs_to_an_accuracy_with_caps_counted(shell: Shell, study: Path) -> None:
    table = table_of(study, epochs_to=0.5)
    for row in table.itertuples():
        epochs = Run(str(row.run)).epochs
        reached = [
            epoch for epoch, accuracy in zip(epochs["epoch"], epochs["test_acc"], strict=True) if epoch and accuracy >= 0.5
        ]
        assert (row.value, row.capped) == ((reached[0], False) if reached else (4, True))
    assert 0 < table_of(study, epochs_to=0.8)["capped"].sum() <= 21
    out = shell("effects", study, "--epochs-to", "0.99")[1]
    assert "epochs to 99 % test accuracy" in out and "21 did not get there" in out and "capped" in out


def test_the_command_writes_all_digits(shell: Shell, study: Path, tmp_path: Path) -> None:
    target = tmp_path / "effects.csv"
    assert shell("effects", study, "--margin", "5", "--out", target)[:2] == (0, f"{target}\n")
    written = pd.read_csv(target, dtype=str)  # pandas before 3 rounds the last digit of a number that it reads
    expected = of_runs(study, margin=0.05)
    for name in ("estimate", "low", "p_holm", "margin", "equivalence_p"):
        np.testing.assert_array_equal(written[name].astype(float), expected[name])
    _, out, _ = shell("effects", study, "--family", "slots", "--format", "csv")
    assert [row["name"] for row in csv.DictReader(io.StringIO(out))] == ["conv1", "conv2", "dense1"]
    shell("effects", study, "--out", tmp_path / "effects.md"), shell("effects", study, "--out", tmp_path / "effects.tex")
    assert (tmp_path / "effects.md").read_text().startswith("| family | effect | estimate | 95 % interval |")
    assert r"fixed\_gamma - trained\_bn" in (tmp_path / "effects.tex").read_text()


def test_the_plan(shell: Shell, study: Path) -> None:
    code, out, _ = shell("effects", study, "--plan", "--difference", "2", "--family", "slots", "modes")
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("What seeds can show with 80 % power: final test accuracy, in points.")
    assert any(line.split()[-2:] == ["to", "find"] for line in lines) and max(map(len, lines)) <= 100
    _, out, _ = shell("effects", study, "--plan", "--planned-seeds", "7", "--comparisons", "5", "--format", "csv")
    expected = plan(of_runs(study), planned_seeds=7, comparisons=5)
    written = pd.read_csv(io.StringIO(out), dtype=str)["shows"]  # as text: pandas before 3 rounds the last digit
    np.testing.assert_array_equal(written.map(float), expected["shows"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--difference", "1"), "--difference goes with --plan"),
        (("--planned-seeds", "5"), "--planned-seeds goes with --plan"),
        (("--plan", "--planned-seeds", "1"), "--planned-seeds 1: must be between 2 and 10000"),
        (("--family", "slot"), "family slot: not in the table of effects; did you mean slots"),
        (("--metric", "sharpnes"), "--metric sharpnes: no such metric; did you mean sharpness"),
        (("--margin", "-1"), "margin"),
    ],
)
def test_bad_input_is_one_line(shell: Shell, study: Path, options: tuple[str, ...], message: str) -> None:
    code, out, err = shell("effects", study, *options)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_figures_of_runs(shell: Shell, study: Path, tmp_path: Path) -> None:
    for command, options in (("forest", ("--margin", "5")), ("interactions", ("--last", "2"))):
        code, out, err = shell(command, study, "--save-dir", tmp_path / command, *options)
        assert (code, err) == (0, "")
        assert sorted(out.splitlines()) == sorted(str(path) for path in (tmp_path / command).iterdir())
        assert {Path(line).suffix for line in out.splitlines()} == {".png", ".pdf"}
    assert (
        effects_forest(study, save=False, families=["slots"]).axes[0].get_xlabel()
        == "difference in final test accuracy (points)"
    )
    title = slot_interactions(study, save=False).findobj(Text)
    assert any("21 runs" in text.get_text() for text in title if isinstance(text, Text))


def test_a_run_without_a_finite_number_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed, value in ((1, np.nan), (2, 2.0)):
        path = record(tmp_path, random_seed=seed)
        with h5py.File(path / "run.h5", "r+") as file:
            file["probes/epoch"], file["probes/step"], file["probes/sharpness"] = [0, 4], [0, 80], [9.0, value]
    with caplog.at_level(logging.WARNING):
        assert list(table_of(tmp_path, metric="sharpness")["value"]) == [2.0]
    (left_out,) = [record.message for record in caplog.records]
    assert left_out.endswith("its final sharpness is not a finite number")
    (only,) = tmp_path.glob("1__*/*/*/*")
    with pytest.raises(RunError, match="none has a finite final sharpness"):
        table_of(only, metric="sharpness")
