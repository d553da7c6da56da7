from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from batchnorm.analysis import frame
from batchnorm.analysis.__main__ import main
from batchnorm.analysis.export import export
from batchnorm.analysis.runs import LEFT_OUT
from batchnorm.errors import RunError
from batchnorm.quantities import METRICS, QUANTITIES
from batchnorm.store import Run, Status
from batchnorm.store.measured import write_measured
from tests.analysis.conftest import cut_off, record

Shell = Callable[..., int]


def test_each_row_is_one_epoch_of_one_run(output: Path) -> None:
    table = frame(output)
    assert len(table) == 20 * 5
    assert not table[["run", "epoch"]].duplicated().any()
    for directory, rows in table.groupby("run"):
        run = Run(str(directory))
        for name in ("epoch", "step", *METRICS, "train_seconds", "eval_seconds"):
            np.testing.assert_array_equal(rows[name], run.epochs[name])
        np.testing.assert_array_equal(rows["scheduled_lr"], run.epochs["lr"])
        facts = rows.iloc[0]
        assert (facts["problem"], facts["mode"], facts["seed"]) == ("digits_2c2d_bn", run.mode, run.config.random_seed)
        assert (facts["mask"], facts["lr"], facts["status"]) == (run.config.position, run.config.lr, "finished")


def test_every_deciding_key_has_a_column(tmp_path: Path) -> None:
    record(tmp_path, max_steps=30)
    adam = {"optimizer": "Adam", "lr": 0.001, "problem": "fmnist_2c2d_bn"}
    record(tmp_path, **adam, lr_schedule={"name": "multistep", "milestones": [1.0, 2.0], "gamma": 0.1})
    table = frame(tmp_path)
    keys = {key.lower() for key in Run(table["run"][0]).config.deciding_keys()}
    elsewhere = {"random_seed": "seed", "position": "mask", "ablation": "mode"}
    for key in keys - {"opt_hpars"}:
        assert elsewhere.get(key, key) in table
    first, last = table.iloc[0], table.iloc[-1]
    assert (first["optimizer"], first["max_steps"]) == ("SGD", 30)
    assert pd.isna(first["opt_hpars.beta2"]) and pd.isna(first["lr_schedule"])
    assert (last["opt_hpars.beta2"], last["lr_schedule"]) == (0.999, "multistep")
    assert (last["lr_schedule.milestones"], last["lr_schedule.gamma"]) == ("1.0,2.0", 0.1)
    names = list(table)
    assert names.index("opt_hpars.beta1") < names.index("lr_schedule") < names.index("lr_schedule.gamma") < names.index("epoch")


def test_vanilla_has_its_own_mode_and_unfinished_runs_their_status(tmp_path: Path) -> None:
    record(tmp_path, position="none")
    cut_off(tmp_path, random_seed=2)
    record(tmp_path, random_seed=3, status=Status.DIVERGED, last_loss=np.inf)
    table = frame(tmp_path)
    assert table.groupby("status", sort=False)["epoch"].max().to_dict() == {"finished": 4, "interrupted": 2, "diverged": 4}
    assert set(table["mode"]) == {"vanilla", "trained_bn"}
    assert np.isinf(table["train_loss"]).sum() == 1


def test_measurements_with_one_number_an_epoch_stand_beside(tmp_path: Path) -> None:
    record(tmp_path, measured=True, measure="batch_sharpness,representations")
    later = record(tmp_path, random_seed=2)
    sharpness = QUANTITIES["sharpness"]
    write_measured(later / "measured.h5", "sharpness", [sharpness], Run(later).slots, {
        "epoch": [0, 3], "step": [0, 60], "sharpness": [5.0, 7.0],
    })  # fmt: skip
    table = frame(tmp_path)
    assert "input_mean" not in table and "dead_channels" not in table
    assert list(table)[-2:] == ["batch_sharpness", "sharpness"]
    assert table.loc[table["seed"] == 1, "batch_sharpness"].tolist() == [1.0] * 5
    assert table.loc[table["seed"] == 1, "sharpness"].isna().all()
    np.testing.assert_array_equal(table.loc[table["seed"] == 2, "sharpness"], [5, np.nan, np.nan, 7, np.nan])


def test_trajectories_have_a_row_for_each_channel(output: Path, at: Callable[..., Path]) -> None:
    run = Run(at("1,0,0"))
    table = frame([run.directory, at("0,0,0")], "gamma")
    assert list(table)[-4:] == ["step", "slot", "channel", "gamma"]
    assert set(table["run"]) == {str(run.directory)} and set(table["slot"]) == {"conv1"}
    wide = table.pivot(index="step", columns="channel", values="gamma")
    np.testing.assert_array_equal(wide.to_numpy(), run.gamma("conv1"))
    assert wide.index.tolist() == run.snapshot_steps.tolist()


@pytest.mark.parametrize(
    ("quantity", "places"),
    [
        ("running_mean", ["epoch", "step", "slot", "channel"]),
        ("affine_norm", ["step", "slot"]),
        ("threshold", ["step", "slot", "channel"]),
        ("batch_loss", ["step"]),
        ("test_acc", ["epoch", "step"]),
    ],
)
def test_any_quantity_has_trajectories(at: Callable[..., Path], quantity: str, places: list[str]) -> None:
    run = Run(at("1,1,1"))
    table = frame(run.directory, quantity)
    assert list(table)[list(table).index("status") + 1 :] == [*places, quantity]
    slots = ["conv1", "conv2", "dense1"] if "slot" in places else [None]
    values = np.concatenate([run.read(quantity, slot).ravel() for slot in slots])
    np.testing.assert_array_equal(table[quantity], values)


def test_a_key_and_a_quantity_of_one_name_are_two_columns(at: Callable[..., Path]) -> None:
    table = frame(at("1,1,1"), "lr")
    assert table["lr"].nunique() == 1 and table["scheduled_lr"].tolist() == Run(at("1,1,1")).read("lr").tolist()


def test_slots_and_moments_can_be_chosen(at: Callable[..., Path]) -> None:
    run = Run(at("1,1,1"))
    table = frame(run.directory, "beta", slots=["dense1", "conv2"], every=3)
    assert table["slot"].unique().tolist() == ["conv2", "dense1"]
    assert table["step"].unique().tolist() == run.snapshot_steps[::3].tolist()
    assert frame(run.directory, every=2)["epoch"].tolist() == [0, 2, 4]


def test_of_two_records_of_one_run_the_longer_counts(tmp_path: Path) -> None:
    shutil.copytree(cut_off(tmp_path / "a"), tmp_path / "c" / "earlier")
    whole = record(tmp_path / "b")
    assert set(frame(tmp_path)["run"]) == {str(whole)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantity": "gama"}, "quantity=gama: no such quantity; did you mean gamma?"),
        ({"quantity": "sharpness"}, "has no sharpness, nor has any other run"),
        ({"quantity": "gamma", "slots": ["conv9"]}, "slots=conv9: no run has gamma of it; did you mean conv2?"),
        ({"slots": ["conv1"]}, "slots=conv1: metrics: one number for all slots"),
        ({"quantity": "batch_loss", "slots": ["conv1"]}, "slots=conv1: batch_loss: one number for all slots"),
        ({"every": 0}, "every=0: must be 1 or more"),
    ],
)
def test_what_cannot_be_told_is_one_line(at: Callable[..., Path], arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RunError) as refused:
        frame(at("1,1,1"), **arguments)  # type: ignore[arg-type]
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_run_without_an_epoch_gives_a_table_without_rows(tmp_path: Path) -> None:
    record(tmp_path, recorded_epochs=-1, status=Status.CUT_OFF)
    table = frame(tmp_path)
    assert len(table) == 0 and list(table)[:5] == ["run", "problem", "mask", "mode", "seed"]
    for name in ("a.csv", "a.json"):
        export(tmp_path, tmp_path / name)
    assert (tmp_path / "a.csv").read_text() == ",".join(map(str, table)) + "\n"
    assert json.loads((tmp_path / "a.json").read_text()) == []


def test_damage_in_a_trajectory_costs_what_it_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LEFT_OUT, "propagate", True)
    whole, damaged = (record(tmp_path, random_seed=seed) for seed in (1, 2))
    with h5py.File(damaged / "run.h5", "r") as file:
        header = h5py.h5o.get_info(file["snapshots/gamma/conv2"].id).addr
    with (damaged / "run.h5").open("r+b") as file:
        file.seek(header + 10)
        file.write(b"\xff" * 64)
    table = frame(tmp_path, "gamma")
    assert str(damaged) in caplog.text
    assert set(table.loc[table["run"] == str(whole), "slot"]) == {"conv1", "conv2", "dense1"}
    assert len(frame(tmp_path)) == 10


def exact(value: object) -> object:
    return None if value is None or value != value else value


@pytest.mark.parametrize("quantity", [None, "gamma", "affine_norm"])
def test_files_hold_all_digits(output: Path, tmp_path: Path, quantity: str | None) -> None:
    runs = f"{output}/*__1,0,0/*/*/*"
    table = frame(runs, quantity)
    for name in ("a.csv", "a.csv.gz", "a.json"):
        export(runs, tmp_path / name, quantity)
    text = (tmp_path / "a.csv").read_text()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).decode() == text
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == list(table) and len(rows) == len(table)
    loaded = json.loads((tmp_path / "a.json").read_text())
    assert [list(row) for row in loaded[:1]] == [list(table)] and len(loaded) == len(table)
    for name in map(str, table):
        values = table[name].to_numpy()
        if values.dtype.kind == "f":
            in_csv = np.array([float(row[name] or "nan") for row in rows]).astype(values.dtype)
            in_json = np.array([np.nan if row[name] is None else row[name] for row in loaded]).astype(values.dtype)
            np.testing.assert_array_equal(in_csv, values)
            np.testing.assert_array_equal(in_json, values)
        else:
            assert [row[name] for row in rows] == ["" if exact(value) is None else str(value) for value in values]
            assert [row[name] for row in loaded] == [exact(value) for value in values.tolist()]


def test_infinity_and_what_is_no_number_are_told_apart(tmp_path: Path) -> None:
    record(tmp_path, status=Status.DIVERGED, last_loss=np.inf)
    export(tmp_path, tmp_path / "a.json", columns=["test_loss", "max_steps"])
    text = (tmp_path / "a.json").read_text()
    assert text.endswith('{"test_loss": 1e999, "max_steps": null}\n]\n') and "Infinity" not in text
    assert json.loads(text)[-1] == {"test_loss": np.inf, "max_steps": None}
    export(tmp_path, tmp_path / "a.csv", columns=["test_loss", "max_steps"])
    assert (tmp_path / "a.csv").read_text().endswith("\ninf,\n")


def test_equal_runs_give_equal_bytes(output: Path, tmp_path: Path) -> None:
    for name in ("first.csv.gz", "second.csv.gz"):
        export(f"{output}/1__*", tmp_path / name)
    first = (tmp_path / "first.csv.gz").read_bytes()
    assert first == (tmp_path / "second.csv.gz").read_bytes()
    assert first[4:8] == b"\0\0\0\0" and b"csv" not in first[:30]  # neither time nor name


def test_a_table_longer_than_a_piece_is_whole(at: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rows in (7, 50_000):
        monkeypatch.setattr("batchnorm.analysis.export._ROWS_AT_A_TIME", rows)
        export(at("1,1,1"), tmp_path / f"{rows}.csv", "gamma", slots=["conv1"])
    assert (tmp_path / "7.csv").read_bytes() == (tmp_path / "50000.csv").read_bytes()


def test_names_that_are_no_text_keep_their_bytes(tmp_path: Path) -> None:
    strange = Path(str(tmp_path) + "/caf\udce9")
    shutil.copytree(record(tmp_path / "output"), strange)
    export(strange, tmp_path / "a.csv", columns=["run", "epoch"])
    assert (tmp_path / "a.csv").read_bytes().splitlines()[1].endswith(b"/caf\xe9,0")


def test_from_the_shell(output: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def shell(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main(["export", *map(str, arguments)])
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capfd.readouterr()

    out = tmp_path / "new" / "runs.csv"
    chosen = ("--mask", "001", "--mode", "fixed_bn", "--seed", 1)
    assert shell(output, *chosen, "--out", out, "--columns", "seed", "epoch", "test_acc") == (0, f"{out}\n", "")
    assert [line.split(",")[:2] for line in out.read_text().splitlines()[1:3]] == [["1", "0"], ["1", "1"]]
    assert shell(output, *chosen, "--out", out, "--quantity", "beta", "--every", 4)[0] == 0
    before = out.read_bytes()
    for wrong, message in (
        ((output,), "--out"),
        ((output, "--out", tmp_path / "a.xlsx"), "a table of runs is written as .csv, .csv.gz, .json, by its suffix"),
        ((output, "--out", out, "--columns", "sed"), "--columns sed: no such column; did you mean seed?"),
        ((output, "--out", out, "--seed", 7), "no run there has --seed 7"),
        ((output, "--out", output), "a table of runs is written as"),
    ):
        code, printed, error = shell(*wrong)
        assert (code, printed, error.count("\n")) == (2, "", 1) and message in error
    assert out.read_bytes() == before and [path.name for path in out.parent.iterdir()] == ["runs.csv"]
