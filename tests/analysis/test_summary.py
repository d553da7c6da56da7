from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import stats

from batchnorm.analysis.summary import paired_difference, summary
from batchnorm.errors import RunError
from batchnorm.store import Run, Status
from tests.analysis.conftest import MODES, cut_off, record


def final(path: Path) -> float:
    return float(Run(path).epochs["test_acc"][-1])


def test_one_row_per_variant_with_mean_and_deviation(output: Path, at: Callable[..., Path]) -> None:
    table = summary(output)
    assert len(table) == 10
    row = table[(table["mask"] == "0,0,1") & (table["mode"] == "fixed_beta")].iloc[0]
    values = [final(at("0,0,1", "fixed_beta", seed)) for seed in (1, 2)]
    assert row["variant"] == Run(at("0,0,1", "fixed_beta", 1)).variant == "0,0,1 fixed_beta"
    assert (row["seeds"], row["diverged"], row["unfinished"]) == (2, 0, 0)
    assert row["test_acc_final_mean"] == pytest.approx(np.mean(values))
    assert row["test_acc_final_std"] == pytest.approx(np.std(values, ddof=1))
    assert row["seconds_mean"] == pytest.approx(4 * 9 + 5)


def test_best_and_last_ten_epochs(tmp_path: Path) -> None:
    path = record(tmp_path, epochs=25)
    accuracy, validation = Run(path).epochs["test_acc"], Run(path).epochs["valid_acc"]
    row = summary(path).iloc[0]
    best = max(range(1, 26), key=lambda epoch: validation[epoch])
    assert row["test_acc_best_mean"] == accuracy[best]
    assert row["valid_acc_best_mean"] == validation[best]
    assert row["valid_acc_final_mean"] == validation[-1]
    assert row["test_acc_last10_mean"] == pytest.approx(accuracy[-10:].mean())
    assert row["train_loss_final_mean"] == Run(path).epochs["train_loss"][-1]
    assert np.isnan(row["test_acc_final_std"])


def test_best_goes_by_validation_and_never_by_the_test_set(tmp_path: Path) -> None:
    path = record(tmp_path, epochs=4)
    with h5py.File(path / "run.h5", "r+") as file:
        file["epochs/valid_acc"][:] = [0.99, 0.5, 0.8, 0.8, 0.7]
        file["epochs/test_acc"][:] = [0.1, 0.9, 0.6, 0.7, 0.65]
    row = summary(path).iloc[0]
    assert (row["test_acc_best_mean"], row["valid_acc_best_mean"], row["valid_acc_final_mean"]) == (0.6, 0.8, 0.7)


def test_the_time_before_training_is_no_epoch(tmp_path: Path) -> None:
    path = record(tmp_path, epochs=3)
    assert summary(path).iloc[0]["test_acc_last10_mean"] == pytest.approx(Run(path).epochs["test_acc"][1:].mean())
    longer = record(tmp_path, epochs=10)
    assert summary(longer).iloc[0]["test_acc_last10_mean"] == pytest.approx(Run(longer).epochs["test_acc"][1:].mean())


def test_unfinished_runs_are_counted_but_not_averaged(tmp_path: Path) -> None:
    whole = record(tmp_path, random_seed=1)
    cut_off(tmp_path, random_seed=2)
    record(tmp_path, random_seed=3, recorded_epochs=3, status=Status.DIVERGED, last_loss=np.nan)
    record(tmp_path, position="none", recorded_epochs=-1, status=Status.CUT_OFF)
    table = summary(tmp_path)
    row = table[table["mode"] == "trained_bn"].iloc[0]
    assert (row["seeds"], row["diverged"], row["unfinished"]) == (1, 1, 1)
    assert row["test_acc_final_mean"] == final(whole)
    vanilla = table[table["mode"] == "vanilla"].iloc[0]
    assert vanilla["seeds"] == 0 and np.isnan(vanilla["test_acc_final_mean"])


def test_settings_beyond_rate_and_epochs_make_rows_of_their_own(tmp_path: Path) -> None:
    for folder, size in (("a", 32), ("b", 64)):
        record(tmp_path / folder, batch_size=size)
    table = summary(tmp_path)
    assert table["batch_size"].tolist() == [32, 64] or table["batch_size"].tolist() == [64, 32]
    assert "l2_reg" not in table.columns


def test_a_key_at_its_default_stands_in_the_table_with_its_default(tmp_path: Path) -> None:
    record(tmp_path), record(tmp_path, l2_reg=0.5)
    assert sorted(summary(tmp_path)["l2_reg"]) == [0.0, 0.5]


def test_the_length_of_a_run_is_that_of_its_record(tmp_path: Path) -> None:
    record(tmp_path, epochs=3, max_steps=15)
    assert summary(tmp_path)["epochs"].tolist() == [1]


def test_pairs_share_seeds_and_the_interval_is_students(tmp_path: Path) -> None:
    for seed in (1, 2, 3, 4):
        record(tmp_path, position="0,0,1", random_seed=seed)
        if seed > 1:
            record(tmp_path, position="0,0,1", ablation="fixed_bn", random_seed=seed)
    record(tmp_path, position="0,0,1", ablation="fixed_beta", random_seed=4)
    record(tmp_path, position="0,0,1", ablation="fixed_gamma", random_seed=5)
    table = paired_difference(tmp_path).set_index("mode")
    by_path = {
        (run.config.ablation, run.config.random_seed): final(run.directory) for run in map(Run, tmp_path.rglob("run.h5"))
    }
    differences = [by_path["fixed_bn", seed] - by_path["trained_bn", seed] for seed in (2, 3, 4)]
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert table.loc["fixed_bn", "n"] == 3
    assert table.loc["fixed_bn", "difference"] == pytest.approx(np.mean(differences))
    assert table.loc["fixed_bn", "low"] == pytest.approx(low)
    assert table.loc["fixed_bn", "high"] == pytest.approx(high)
    assert table.loc["fixed_beta", "n"] == 1
    assert table.loc["fixed_beta", "note"] == "one seed: no interval"
    assert table["low"].isna()["fixed_beta"]
    assert table.loc["fixed_gamma", "note"] == "no seed in common"


def test_a_variant_is_paired_with_its_own_mask_and_vanilla_with_all(output: Path) -> None:
    table = paired_difference(output)
    partners = {(row["mask"], row["reference_mask"]) for _, row in table.iterrows()}
    assert partners == {("0,0,0", mask) for mask in ("0,0,1", "1,0,0", "1,1,1")} | {(m, m) for m in ("0,0,1", "1,0,0")}
    assert len(table) == 3 + 2 * 3
    assert len(paired_difference(output, "vanilla")) == 9


def test_what_cannot_be_compared(output: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="did you mean fixed_bn"):
        paired_difference(output, "fixed-bn")
    with pytest.raises(RunError, match="measure=accuracy"):
        paired_difference(output, measure="accuracy")
    record(tmp_path, ablation="fixed_bn")
    with pytest.raises(RunError, match=f"{tmp_path}: holds no run of the reference trained_bn"):
        paired_difference(tmp_path)
    with pytest.raises(RunError, match="empty"):
        summary([])


def test_all_modes_have_a_name(output: Path) -> None:
    assert set(summary(output)["mode"]) == {*MODES, "vanilla"}
