"""The table of effects: by hand, against statsmodels, what it leaves out, and what may not change it."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from batchnorm.analysis.effects import effects, readable
from batchnorm.analysis.effects.contrasts import GAMMA_BETA
from batchnorm.errors import UserError
from batchnorm.modes import MODES as TABLE
from tests.analysis.effects.designs import (
    ALL_MASKS,
    INTERACTION,
    MODE_EFFECTS,
    MODES,
    PREFIXES,
    SLOT_EFFECTS,
    SLOTS,
    by_name,
    drop,
    runs,
)


def one_mode(values: dict[str, list[float]], mode: str = "trained_bn") -> pd.DataFrame:
    """Make a table of one mode from each mask's values over the seeds."""
    rows = [(seed, mask, mode, value) for mask, over in values.items() for seed, value in enumerate(over)]
    return pd.DataFrame(rows, columns=["seed", "mask", "mode", "value"])


class TestByHand:
    def test_two_slots_two_seeds(self) -> None:
        table = effects(one_mode({"0,0": [1, 2], "1,0": [4, 4], "0,1": [2, 2], "1,1": [9, 7]}))
        first = by_name(table, "slot 1")  # within the seeds: (3 + 7) / 2 and (2 + 5) / 2
        assert (first["estimate"], first["n_pairs"], first["n_seeds"]) == (4.25, 2, 2)
        assert first["std"] == pytest.approx(0.75 * np.sqrt(2))
        assert first["high"] - first["estimate"] == pytest.approx(12.7062 * 0.75, rel=1e-5)
        assert (first["leave_one_out_low"], first["leave_one_out_high"]) == (3.5, 5.0)
        assert by_name(table, "slot 1 x slot 2")["estimate"] == pytest.approx((4 + 3) / 2)

    def test_vanilla_stands_in_each_mode_and_modes_weigh_the_same(self) -> None:
        vanilla = one_mode({"0,0": [1, 1.5]}, "vanilla")
        full = one_mode({"1,0": [2, 3], "0,1": [5, 6], "1,1": [9, 9]})
        single = one_mode({"1,0": [4, 4]}, "fixed_bn")
        first = by_name(effects(pd.concat([vanilla, full, single])), "slot 1")
        # trained_bn: the mean of 1,0 - 0,0 and 1,1 - 0,1; fixed_bn: its one pair counts as much as these two.
        assert first["estimate"] == pytest.approx(np.mean([((1 + 4) / 2 + 3) / 2, ((1.5 + 3) / 2 + 2.5) / 2]))
        assert first["n_pairs"] == 3
        assert by_name(effects(pd.concat([vanilla, full, single])), "slot 2")["note"] == "no pair in fixed_bn"

    def test_vanilla_may_stand_in_the_table_once_for_each_mode(self) -> None:
        table = runs(noise=1)
        copies = [table[table["mode"] == "vanilla"].assign(mode=mode) for mode in MODES]
        pd.testing.assert_frame_equal(effects(pd.concat([table[table["mode"] != "vanilla"], *copies])), effects(table))

    def test_known_effects_without_noise(self) -> None:
        table = effects(runs(), slots=SLOTS)
        for number, slot in enumerate(SLOTS):
            # One of the four pairs in each mode starts at vanilla, which has no mode's effect.
            expected = SLOT_EFFECTS[number] + np.mean(list(MODE_EFFECTS.values())) / 4 + (number < 2) * INTERACTION / 2
            assert by_name(table, slot)["estimate"] == pytest.approx(expected)
            assert by_name(table, slot)["n_pairs"] == 16
        for mode in MODES[1:]:
            row = by_name(table, f"{mode} - trained_bn")
            assert (row["estimate"], row["n_pairs"]) == (pytest.approx(MODE_EFFECTS[mode]), 7)
            at = by_name(table, f"{mode} - trained_bn at 1,0,1")
            assert (at["estimate"], at["n_pairs"]) == (pytest.approx(MODE_EFFECTS[mode]), 1)
        both, beta_fixed, gamma_fixed, none = 0.0, -0.4, 0.05, -0.5
        assert by_name(table, "gamma")["estimate"] == pytest.approx(((both - gamma_fixed) + (beta_fixed - none)) / 2)
        assert by_name(table, "beta")["estimate"] == pytest.approx(((both - beta_fixed) + (gamma_fixed - none)) / 2)
        assert by_name(table, "gamma x beta")["estimate"] == pytest.approx(both - beta_fixed - gamma_fixed + none)
        assert list(table["family"].value_counts(sort=False)) == [3, 3, 3, 21, 3]

    def test_the_modes_train_what_the_factorial_says(self) -> None:
        treatments = [TABLE[mode].treatment for mode in GAMMA_BETA]
        trained = [tuple(affine is not None and affine.trained for affine in (each.gamma, each.beta)) for each in treatments]
        assert trained == [(True, True), (True, False), (False, True), (False, False)]


@given(st.sets(st.sampled_from(ALL_MASKS), min_size=1), st.sets(st.integers(0, 40), max_size=6))
@settings(max_examples=40, deadline=None)
def test_additive_effects_are_found_in_any_incomplete_design(masks: set[tuple[int, ...]], gone: set[int]) -> None:
    table = runs(masks=sorted(masks), seeds=[1, 2])
    masks_of = np.array([mask.split(",") for mask in table["mask"]], dtype=float)
    table["value"] = 10.0 * table["seed"] + masks_of @ SLOT_EFFECTS
    table = table.drop(index=[row for row in gone if row in table.index and len(table) > len(gone)])
    found = effects(table, slots=SLOTS)
    estimable = ~found["note"].str.startswith("not estimable")
    np.testing.assert_array_equal(estimable, found["n_pairs"] > 0)
    expected = found["name"].map(dict(zip(SLOTS, SLOT_EFFECTS, strict=True))).fillna(0.0)
    np.testing.assert_allclose(found.loc[estimable, "estimate"], expected[estimable], atol=1e-9)
    assert found.loc[~estimable, "estimate"].isna().all()


class TestStatsmodels:
    """A complete design, in which vanilla is written down once for each mode."""

    @pytest.fixture
    def table(self) -> pd.DataFrame:
        return runs(noise=0.3)

    @pytest.fixture
    def full(self, table: pd.DataFrame) -> pd.DataFrame:
        vanilla = table[table["mode"] == "vanilla"]
        full = pd.concat([table[table["mode"] != "vanilla"], *(vanilla.assign(mode=mode) for mode in MODES)])
        for number, slot in enumerate(SLOTS):
            full[slot] = full["mask"].str.split(",").str[number].astype(int)
        return full

    def test_slot_effects_are_those_of_least_squares(self, table: pd.DataFrame, full: pd.DataFrame) -> None:
        fit = smf.ols("value ~ conv1 + conv2 + dense1 + C(mode) + C(seed)", full).fit()
        for slot in SLOTS:
            assert by_name(effects(table, slots=SLOTS), slot)["estimate"] == pytest.approx(fit.params[slot])

    def test_interactions_are_those_of_least_squares(self, table: pd.DataFrame, full: pd.DataFrame) -> None:
        fit = smf.ols("value ~ (conv1 + conv2 + dense1) ** 2 + C(mode) + C(seed)", full).fit()
        for one, other in itertools.combinations(SLOTS, 2):
            estimate = by_name(effects(table, slots=SLOTS), f"{one} x {other}")["estimate"]
            assert estimate == pytest.approx(fit.params[f"{one}:{other}"])

    def test_gamma_and_beta_are_those_of_least_squares(self, table: pd.DataFrame) -> None:
        normalised = table[table["mode"] != "vanilla"].copy()
        normalised["gamma"] = normalised["mode"].isin(["trained_bn", "fixed_beta"]) - 0.5
        normalised["beta"] = normalised["mode"].isin(["trained_bn", "fixed_gamma"]) - 0.5
        fit = smf.ols("value ~ gamma * beta + C(mask) + C(seed)", normalised).fit()
        for name in ("gamma", "beta", "gamma x beta"):
            estimate = by_name(effects(table), name)["estimate"]
            assert estimate == pytest.approx(fit.params[name.replace(" x ", ":")])

    def test_intervals_and_p_values_are_those_of_one_number_per_seed(self, table: pd.DataFrame, full: pd.DataFrame) -> None:
        found = effects(table, slots=SLOTS)
        for slot in SLOTS:
            means = full.groupby(["seed", slot])["value"].mean().unstack()
            fit = smf.ols("difference ~ 1", pd.DataFrame({"difference": means[1] - means[0]})).fit()
            row = by_name(found, slot)
            np.testing.assert_allclose([row["low"], row["high"]], fit.conf_int(0.05).loc["Intercept"])
            np.testing.assert_allclose(
                [row["low_simultaneous"], row["high_simultaneous"]], fit.conf_int(0.05 / 3).loc["Intercept"]
            )
            assert row["p"] == pytest.approx(fit.pvalues["Intercept"])

    def test_holm_goes_over_each_family(self, table: pd.DataFrame) -> None:
        for _, family in effects(table).groupby("family"):
            np.testing.assert_allclose(family["p_holm"], multipletests(family["p"], method="holm")[1])


class TestWhatIsLeftOut:
    def test_a_pair_that_one_seed_lacks_is_left_out_in_all(self) -> None:
        table = runs(noise=1)
        without = effects(drop(table, mask="0,0,1", mode="fixed_bn", seed=3), slots=SLOTS)
        never = effects(drop(table, mask="0,0,1", mode="fixed_bn"), slots=SLOTS)
        shared = without["name"].isin(never["name"])
        pd.testing.assert_frame_equal(
            without[shared].drop(columns="note").reset_index(drop=True), never.drop(columns="note"), check_exact=True
        )
        assert by_name(without, "conv1")["note"] == "1 of 16 pairs left out: a run is missing in some seed"
        assert by_name(without, "gamma")["note"] == "1 of 7 quadruples left out: a run is missing in some seed"
        gone = by_name(without, "fixed_bn - trained_bn at 0,0,1")
        assert np.isnan([gone["estimate"], gone["p_holm"]]).all()
        assert gone["note"] == "not estimable: a run is missing in some seed"

    def test_a_run_without_a_value_is_a_run_that_is_missing(self) -> None:
        table = runs(noise=1)
        empty = table.assign(value=table["value"].where(table.index != 7))
        pd.testing.assert_frame_equal(effects(empty), effects(table.drop(index=7)))

    def test_no_pair(self) -> None:
        table = effects(runs(masks=[(0, 0, 0), (1, 0, 0), (1, 0, 1)]), slots=SLOTS)
        row = by_name(table, "conv2")
        assert np.isnan(row[["estimate", "low", "p", "p_holm", "sign_flip_p", "leave_one_out_low"]].astype(float)).all()
        assert (row["n_pairs"], row["note"]) == (0, "not estimable: no pair of masks that differ in conv2 alone")
        note = by_name(table, "conv1 x dense1")["note"]
        assert note == "not estimable: no four masks that differ in conv1 and dense1 alone"
        assert not by_name(table, "conv1")["note"].startswith("not")

    def test_what_cannot_be_estimated_is_in_no_family(self) -> None:
        table = effects(runs(masks=[(0, 0, 0), (1, 0, 0), (1, 0, 1)], noise=1), slots=SLOTS)
        slots = table[table["family"] == "slots"]
        p = slots["p"].dropna()
        np.testing.assert_allclose(slots["p_holm"].dropna(), multipletests(p, method="holm")[1])

    def test_prefixes_give_slots_but_no_interactions(self) -> None:
        table = effects(runs(masks=PREFIXES), slots=SLOTS)
        assert (table.loc[table["family"] == "slots", "n_pairs"] == 4).all()
        assert (table.loc[table["family"] == "interactions", "n_pairs"] == 0).all()

    def test_no_reference_mode(self) -> None:
        table = effects(runs(modes=("fixed_bn", "fixed_gamma"), noise=1))
        assert by_name(table, "fixed_bn - trained_bn")["note"] == "not estimable: no mask with both fixed_bn and trained_bn"
        at = by_name(table, "fixed_bn - trained_bn at 0,1,1")
        assert at["note"] == "not estimable: no trained_bn to compare with at 0,1,1"
        assert by_name(table, "gamma")["note"] == "not estimable: no mask with all four modes of gamma and beta"

    def test_no_variant_that_all_seeds_have(self) -> None:
        table = one_mode({"0": [1], "1": [2]})
        other = one_mode({"1": [3]}, "fixed_bn").assign(seed=9)
        found = effects(pd.concat([table, other]))
        assert found["estimate"].isna().all()
        assert by_name(found, "slot 1")["note"].startswith("not estimable: a run is missing in some seed")

    def test_one_seed(self) -> None:
        table = effects(runs(seeds=[4]), margin=0.1)
        assert by_name(table, "slot 1")["note"] == "one seed: no interval"
        assert table["estimate"].notna().all()
        numbers = ["std", "low", "high", "low_simultaneous", "p", "p_holm", "sign_flip_p", "sign_flip_p_min"]
        assert table[[*numbers, "leave_one_out_low", "equivalence_p", "equivalence_low"]].isna().all(axis=None)
        assert set(table["equivalent"]) == {""}

    def test_equal_seeds_are_said_so(self) -> None:
        table = effects(runs(seeds=[4, 5]))
        assert (table["std"] == 0).all()
        assert by_name(table, "slot 1")["note"] == "all seeds give the same number: the t test says nothing"


def test_diverged_and_capped_runs_are_counted_beside() -> None:
    table = runs(noise=1)
    table["diverged"] = (table["mask"] == "0,0,0") | ((table["mask"] == "1,0,0") & (table["mode"] == "trained_bn"))
    table["capped"] = table["seed"] == 1
    found = effects(table)
    assert by_name(found, "slot 1")["diverged"] == 10  # vanilla and one variant, in five seeds
    assert by_name(found, "fixed_bn - trained_bn")["diverged"] == 5
    assert by_name(found, "fixed_bn - trained_bn at 0,1,1")["diverged"] == 0
    assert by_name(found, "fixed_bn - trained_bn at 0,1,1")["capped"] == 2


def test_a_flag_that_some_runs_lack_is_not_set() -> None:
    table = pd.concat([runs(seeds=[1], noise=1).assign(diverged=True), runs(seeds=[2], noise=1)])
    assert by_name(effects(table), "fixed_bn - trained_bn at 0,1,1")["diverged"] == 2


def test_one_side() -> None:
    table = runs(noise=0.5)
    both, greater, less = (by_name(effects(table, one_sided=side), "slot 1") for side in (None, "greater", "less"))
    assert greater["p"] == pytest.approx(both["p"] / 2)
    assert less["p"] == pytest.approx(1 - greater["p"])
    assert (both["sign_flip_p_min"], greater["sign_flip_p_min"]) == (0.0625, 0.03125)
    assert both["low"] == greater["low"]


def test_equivalence_is_decided_by_the_shorter_interval() -> None:
    table = effects(runs(noise=0.3), margin=0.2)
    low, high = table["equivalence_low"], table["equivalence_high"]
    assert set(table["equivalent"]) == {"yes", "not shown"}
    np.testing.assert_array_equal(table["equivalent"] == "yes", (low > -0.2) & (high < 0.2))
    np.testing.assert_array_equal(table["equivalent"] == "yes", table["equivalence_p"] < 0.05)
    assert (high - low < table["high"] - table["low"]).all()


NUMBERS = ["estimate", "std", "low", "high", "p", "p_holm", "sign_flip_p", "n_pairs", "leave_one_out_low"]


class TestWhatChangesNothing:
    @given(st.lists(st.floats(-100, 100), min_size=5, max_size=5))
    @settings(max_examples=25, deadline=None)
    def test_a_constant_for_each_seed(self, shifts: list[float]) -> None:
        table = runs(masks=PREFIXES, noise=0.3)
        shifted = table.assign(value=table["value"] + table["seed"].map(dict(zip(range(1, 6), shifts, strict=True))))
        pd.testing.assert_frame_equal(effects(shifted)[NUMBERS], effects(table)[NUMBERS], rtol=1e-6, atol=1e-8)

    @given(st.permutations(range(3)), st.sets(st.sampled_from(ALL_MASKS[1:])))
    @settings(max_examples=25, deadline=None)
    def test_the_order_of_the_slots(self, order: list[int], masks: set[tuple[int, ...]]) -> None:
        table = runs(masks=[(0, 0, 0), *masks], noise=0.3)
        moved = table.assign(mask=[",".join(mask.split(",")[slot] for slot in order) for mask in table["mask"]])
        found = effects(table, slots=SLOTS).set_index("name")
        again = effects(moved, slots=[SLOTS[slot] for slot in order]).set_index("name")
        for one, other in [*((slot, None) for slot in SLOTS), *itertools.combinations(SLOTS, 2)]:
            first, second = (f"{one} x {other}", f"{other} x {one}") if other else (one, one)
            there = first if first in again.index else second
            np.testing.assert_allclose(again.loc[there, NUMBERS].astype(float), found.loc[first, NUMBERS].astype(float))

    @given(st.randoms(use_true_random=False))
    @settings(max_examples=10, deadline=None)
    def test_the_order_of_the_rows(self, chance: object) -> None:
        table = runs(masks=PREFIXES, noise=0.3)
        order = list(table.index)
        chance.shuffle(order)  # type: ignore[attr-defined]
        pd.testing.assert_frame_equal(effects(table.loc[order]), effects(table))

    def test_the_table_itself(self) -> None:
        table = runs(noise=0.3)
        before = table.copy()
        effects(table)
        pd.testing.assert_frame_equal(table, before)


class TestMessages:
    def test_no_such_column(self) -> None:
        with pytest.raises(UserError, match="no column mode; it needs seed, mask, mode, value"):
            effects(runs().drop(columns="mode"))

    def test_two_runs_of_one_variant(self) -> None:
        table = runs()
        twice = pd.concat([table, table.iloc[[3]].assign(value=7.0)])
        with pytest.raises(UserError, match="seed 1 has two runs of mask 0,0,1 in fixed_gamma with different values"):
            effects(twice)

    def test_masks(self) -> None:
        with pytest.raises(UserError, match="mask 0,2,1: not a mask"):
            effects(runs().replace("0,0,1", "0,2,1"))
        with pytest.raises(UserError, match="masks of 2 and 3 digits do not go with 3 slots"):
            effects(runs().replace("0,0,1", "0,1"))
        with pytest.raises(UserError, match="masks of 3 digits do not go with 2 slots"):
            effects(runs(), slots=["a", "b"])

    def test_values(self) -> None:
        with pytest.raises(UserError, match="its value is inf; a run that diverged counts with the value of chance"):
            effects(runs().assign(value=np.inf))
        with pytest.raises(UserError, match="its value is nan; a run that diverged"):
            effects(runs().assign(value=np.nan, diverged=True))
        with pytest.raises(UserError, match="no run with a value"):
            effects(runs().assign(value=np.nan))

    def test_levels(self) -> None:
        with pytest.raises(UserError, match="alpha=0.5: must be between 0 and 0.5"):
            effects(runs(), alpha=0.5)
        with pytest.raises(UserError, match="margin=0: must be above 0"):
            effects(runs(), margin=0)


class TestReadable:
    def test_numbers_go_by_the_intervals(self) -> None:
        table = effects(runs(noise=0.3), slots=SLOTS, margin=0.2)
        text = readable(table, scale=100)
        row, shown = by_name(table, "conv1"), text[text["effect"] == "conv1"].iloc[0]
        assert shown["estimate"] == f"{100 * row['estimate']:.0f}"
        assert shown["95 % interval"] == f"{100 * row['low']:.0f} to {100 * row['high']:.0f}"
        assert (shown["margin"], shown["pairs"], shown["seeds"]) == ("20", "16", "5")
        assert "note" not in text
        assert "capped" not in text
        assert text.map(lambda cell: isinstance(cell, str)).all(axis=None)

    def test_decimals_are_equal_down_a_column(self) -> None:
        text = readable(effects(runs(noise=0.003)))
        assert {len(number.partition(".")[2]) for number in text["estimate"]} == {4}
        assert "90 % interval" not in text

    def test_what_is_absent_is_a_dash(self) -> None:
        text = readable(effects(runs(masks=[(0, 0, 0), (1, 0, 0)], seeds=[1])))
        assert list(text["95 % interval"].unique()) == ["-"]
        assert "-" in set(text["estimate"])
        assert text["note"].str.startswith("one seed").any()
