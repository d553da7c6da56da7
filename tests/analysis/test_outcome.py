"""Which number of a run counts."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from batchnorm.analysis.outcome import Outcome
from batchnorm.errors import RunError, UserError
from batchnorm.store import Run, Status
from tests.analysis.conftest import record


def result(path: Path, **outcome: object) -> tuple[float, bool, bool]:
    run = Run(path)
    wanted = Outcome(**outcome)  # type: ignore[arg-type]
    found = wanted.of_chance(run) if run.status == Status.DIVERGED else wanted.of(run)
    return found.value, found.diverged, found.capped


@pytest.mark.parametrize("metric", ["test_acc", "valid_acc", "test_loss", "valid_loss", "train_acc"])
def test_the_final_epoch_or_the_mean_of_the_last(tmp_path: Path, metric: str) -> None:
    path = record(tmp_path, epochs=6)
    values = Run(path).epochs[metric]
    assert result(path, metric=metric) == (values[6], False, False)
    assert result(path, metric=metric, last=3)[0] == pytest.approx((values[4] + values[5] + values[6]) / 3)


def test_epochs_that_were_not_evaluated_do_not_count_nor_does_epoch_0(tmp_path: Path) -> None:
    path = record(tmp_path, epochs=4)
    with h5py.File(path / "run.h5", "r+") as file:
        for name in ("train_loss", "valid_loss", "test_loss", "train_acc", "valid_acc", "test_acc"):
            file[f"epochs/{name}"][:] = [0.9, np.nan, 0.5, np.nan, 0.6]
    assert result(path, last=2)[0] == pytest.approx(0.55)
    with pytest.raises(RunError, match="has 2 of the 3 values of test_acc that last=3 asks for"):
        result(path, last=3)
    assert result(path, epochs_to=0.55) == (4, False, False)
    assert result(path, epochs_to=0.7) == (4, False, True)


def test_a_run_that_diverged_counts_as_chance(tmp_path: Path) -> None:
    path = record(tmp_path, recorded_epochs=3, status=Status.DIVERGED, last_loss=np.nan)
    assert result(path) == (0.1, True, False)
    assert result(path, metric="valid_acc", last=2) == (0.1, True, False)
    assert result(path, metric="test_loss") == (np.log(10), True, False)
    assert result(path, epochs_to=0.2) == (4, True, True)
    assert Outcome("probe_acc_batch").has_chance and not Outcome("sharpness").has_chance
    with h5py.File(path / "run.h5", "r+") as file:
        values = {**json.loads(file.attrs["config"]), "PROBLEM": "unheard_of"}
        file.attrs["config"] = np.bytes_(json.dumps(values).encode())
    with pytest.raises(RunError, match="diverged, and its number of classes is not known: PROBLEM=unheard_of"):
        result(path)


def test_the_last_measurement(tmp_path: Path) -> None:
    path = record(tmp_path, epochs=3)
    with h5py.File(path / "run.h5", "r+") as file:
        file["probes/epoch"], file["probes/step"] = [0, 1, 3], [0, 20, 60]
        file["probes/batch_sharpness"] = [9.0, 2.0, 4.0]
    assert result(path, metric="batch_sharpness") == (4.0, False, False)
    assert result(path, metric="batch_sharpness", last=2)[0] == 3.0
    with pytest.raises(RunError, match="has no sharpness"):
        result(path, metric="sharpness")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metric": "tset_acc"}, "metric=tset_acc: no such metric; did you mean test_acc"),
        ({"last": 0}, "last=0: must be 1 or more"),
        ({"epochs_to": 90.0}, "epochs_to=90: must be a share of 1, as 0.9 for 90 %"),
        ({"epochs_to": 0.9, "metric": "test_loss"}, "metric=test_loss is no accuracy; give train_acc, valid_acc, test_acc"),
        ({"epochs_to": 0.9, "last": 2}, "last=2: does not go with epochs_to"),
    ],
)
def test_messages(keys: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Outcome(**keys)  # type: ignore[arg-type]


def test_words() -> None:
    assert Outcome().label == "final test accuracy (points)"
    assert Outcome("valid_loss", 3).label == "validation loss (mean of the last 3 evaluations) (nats)"
    assert Outcome("valid_acc", epochs_to=0.9).label == "epochs to 90 % validation accuracy"
    assert (Outcome().scale, Outcome("test_loss").scale, Outcome(epochs_to=0.9).scale) == (100, 1, 1)
