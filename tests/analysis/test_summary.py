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


def reached(path: Path, value: float) -> Path:
    """Give a run another final test accuracy."""
    with h5py.File(path / "run.h5", "r+") as file:
        file["epochs/test_acc"][-1] = value
    return path


def tuned(folder: Path, *, seeds: int = 3) -> Path:
    """Invent vanilla at rate 0.1 and two modes at 0.03, as tuning picks them."""
    for seed in range(seeds):
        reached(record(folder, position="none", lr=0.1, random_seed=seed), 0.8 + 0.01 * seed)
        reached(record(folder, ablation="trained_bn", lr=0.03, random_seed=seed), 0.9 + 0.01 * seed)
        reached(record(folder, ablation="fixed_bn", lr=0.03, random_seed=seed), 0.85)
    return folder


def test_variants_with_a_tuned_rate_each_are_paired_and_the_references_rate_is_told(tmp_path: Path) -> None:
    table = paired_difference(tuned(tmp_path), "vanilla").set_index("mode")
    assert table["n"].tolist() == [3, 3]
    assert table["lr"].tolist() == [0.03, 0.03] and table["reference_lr"].tolist() == [0.1, 0.1]
    assert table["difference"]["trained_bn"] == pytest.approx(0.1)
    assert "reference_lr" not in paired_difference(tmp_path, "trained_bn", match=["LR"]).columns


def test_what_differs_from_the_reference_is_tested_and_corrected(tmp_path: Path) -> None:
    gains = {
        "trained_bn": (0.1, 0.11, 0.09),
        "fixed_bn": (0.05, 0.0, 0.01),
        "fixed_beta": (0.2, 0.2, 0.2),
        "fixed_gamma": (0.3,),
    }
    for seed in range(3):
        reached(record(tmp_path, position="none", random_seed=seed), 0.5)
    for mode, each in gains.items():
        for seed, gain in enumerate(each):
            reached(record(tmp_path, ablation=mode, random_seed=seed), 0.5 + gain)
    table = paired_difference(tmp_path, "vanilla", mark_different=True).set_index("mode")
    raw = [stats.ttest_1samp(gains[mode], 0).pvalue for mode in ("trained_bn", "fixed_bn")]
    assert table["p_holm"]["trained_bn"] == pytest.approx(2 * raw[0]) and table["p_holm"]["fixed_bn"] == pytest.approx(raw[1])
    assert table["vs_reference"].to_dict() == {
        "trained_bn": "differs",
        "fixed_bn": "not different",
        "fixed_beta": "not tested",
        "fixed_gamma": "not tested",
    }
    assert "p_holm" not in paired_difference(tmp_path, "vanilla")


def test_rows_stand_by_optimizer_and_after_tuning_by_mode(tmp_path: Path) -> None:
    picked = {"SGD": (0.1, 0.5, 0.03), "Adam": (0.001, 0.0003, 0.003)}
    for optimizer, (vanilla, plain, full) in picked.items():
        record(tmp_path, optimizer=optimizer, position="none", lr=vanilla)
        record(tmp_path, optimizer=optimizer, ablation="fixed_bn", lr=plain)
        record(tmp_path, optimizer=optimizer, ablation="trained_bn", lr=full)
    rows = [(name, mode) for name in ("Adam", "SGD") for mode in ("vanilla", "fixed_bn", "trained_bn")]
    assert list(map(tuple, summary(tmp_path)[["optimizer", "mode"]].to_numpy())) == rows
    record(tmp_path, ablation="fixed_bn", lr=0.01)
    sgd = summary(tmp_path).query("optimizer == 'SGD'")
    assert list(sgd["lr"]) == [0.1, 0.01, 0.03, 0.5]


def test_where_a_side_has_several_rates_they_must_agree(tmp_path: Path) -> None:
    record(tuned(tmp_path), position="none", lr=0.03, random_seed=1)
    table = paired_difference(tmp_path, "vanilla")
    assert set(table["n"]) == {1} and "reference_lr" not in table
    record(tmp_path, ablation="fixed_beta", lr=0.3, random_seed=1)
    row = paired_difference(tmp_path, "vanilla").set_index("mode").loc["fixed_beta"]
    assert (row["n"], row["note"]) == (0, "differs from the reference in LR (0.3 here, 0.03, 0.1 there)")


def test_seeds_alone_pair_what_differs_in_other_keys(tmp_path: Path) -> None:
    for seed in (1, 2):
        record(tmp_path, position="none", random_seed=seed, batch_size=128)
        record(tmp_path, ablation="fixed_bn", random_seed=seed, batch_size=64)
        record(tmp_path, ablation="fixed_beta", random_seed=seed, batch_size=128)
    table = paired_difference(tmp_path, "vanilla").set_index("mode")
    assert table["n"].to_dict() == {"fixed_bn": 0, "fixed_beta": 2}
    assert table["note"]["fixed_bn"] == "differs from the reference in BATCH_SIZE (64 here, 128 there)"
    for match in (["none"], ["lr", "Epochs"], ["OPTIMIZER"]):
        table = paired_difference(tmp_path, "vanilla", match=match).set_index("mode")
        assert table["n"].to_dict() == {"fixed_bn": 2, "fixed_beta": 2}
        assert (table["batch_size"]["fixed_bn"], table["reference_batch_size"]["fixed_bn"]) == (64, 128)
    with pytest.raises(RunError, match="match=batchsize: no key that decides a result; did you mean BATCH_SIZE"):
        paired_difference(tmp_path, "vanilla", match=["batchsize"])


@pytest.mark.parametrize("reference", ["111 trained_bn", "1,1,1 trained_bn", "all trained_bn", "[1, 1, 1] trained_bn"])
def test_any_variant_may_be_the_reference(output: Path, reference: str) -> None:
    table = paired_difference(output, reference)
    assert len(table) == 9 and set(table["reference_mask"]) == {"1,1,1"} and set(table["n"]) == {2}
    assert "1,1,1 trained_bn" not in set(table["variant"])
    assert len(paired_difference(output, "000 fixed_bn")) == len(paired_difference(output, "vanilla"))


def test_a_mask_without_the_reference_is_a_row_with_the_reason(tmp_path: Path) -> None:
    record(tmp_path), record(tmp_path, ablation="fixed_bn"), record(tmp_path, position="001", ablation="fixed_bn")
    table = paired_difference(tmp_path).set_index("mask")
    assert table["n"].to_dict() == {"0,0,1": 0, "1,1,1": 1}
    assert table["note"]["0,0,1"] == "no run of the reference has this mask"
    assert table["reference_mask"]["0,0,1"] == "0,0,1"


def test_nothing_to_pair_is_an_error_with_the_reason(tmp_path: Path) -> None:
    record(tmp_path, position="none", batch_size=128, random_seed=1)
    with pytest.raises(RunError, match="holds runs of the reference vanilla alone"):
        paired_difference(tmp_path, "vanilla")
    record(tmp_path, ablation="fixed_bn", batch_size=64, random_seed=1)
    with pytest.raises(RunError, match=r"fixed_bn: differs from the reference in BATCH_SIZE \(64 here, 128 there\); --match"):
        paired_difference(tmp_path, "vanilla")
    record(tmp_path / "other", position="none", random_seed=1), record(tmp_path / "other", random_seed=2)
    with pytest.raises(RunError, match="other: nothing can be paired with vanilla; no seed in common"):
        paired_difference(tmp_path / "other", "vanilla")
    with pytest.raises(RunError, match="reference 11 trained_bn: has 2 digits"):
        paired_difference(tmp_path, "11 trained_bn")
    with pytest.raises(RunError, match="holds no run of the reference 110 trained_bn; it has vanilla, 1,1,1 fixed_"):
        paired_difference(tmp_path, "110 trained_bn")


def test_measures_are_chosen(tmp_path: Path) -> None:
    record(tmp_path)
    table = summary(tmp_path, measures=["valid_acc_best", "seconds"])
    assert list(table.columns)[-4:] == ["valid_acc_best_mean", "valid_acc_best_std", "seconds_mean", "seconds_std"]
    with pytest.raises(RunError, match="measure=test_acc: no such measure"):
        summary(tmp_path, measures=["test_acc"])


def test_the_best_of_each_problem_is_marked(tmp_path: Path) -> None:
    record(tuned(tmp_path), problem="fmnist_2c2d_bn", position="none")
    table = summary(tmp_path, mark_best=True).set_index(["problem", "mode"])
    marks = table["test_acc_final_vs_best"].to_dict()
    assert marks["digits_2c2d_bn", "trained_bn"] == marks["fmnist_2c2d_bn", "vanilla"] == "best"
    differences = [0.05, 0.06, 0.07], [0.1, 0.1, 0.1]
    assert stats.ttest_1samp(differences[0], 0).pvalue < 0.05  # the other one has no deviation at all
    assert (marks["digits_2c2d_bn", "fixed_bn"], marks["digits_2c2d_bn", "vanilla"]) == ("different", "not tested")
    assert "seconds_vs_best" not in table
    digits = table.loc["digits_2c2d_bn"]
    assert digits["train_loss_final_vs_best"][str(digits["train_loss_final_mean"].idxmin())] == "best"
