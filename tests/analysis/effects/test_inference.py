"""Tests and intervals, against statsmodels, scipy and enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from batchnorm.analysis.effects.inference import (
    Estimates,
    Side,
    holm,
    leave_one_out,
    sign_flip_p,
    smallest_sign_flip_p,
)

DRAWN = np.random.default_rng(3).normal(0.4, 1, size=(6, 5))
SIDES: tuple[Side, ...] = ("two-sided", "greater", "less")
STATSMODELS_SIDES = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}


@pytest.mark.parametrize("side", SIDES)
def test_t_tests_equal_statsmodels(side: Side) -> None:
    expected = [DescrStatsW(row).ttest_mean(0.1, alternative=STATSMODELS_SIDES[side])[1] for row in DRAWN]
    np.testing.assert_allclose(Estimates.over_seeds(DRAWN).p(side, null=0.1), expected, rtol=1e-10)


def test_intervals_equal_statsmodels() -> None:
    low, high = Estimates.over_seeds(DRAWN).interval(0.05)
    for row, ends in zip(DRAWN, zip(low, high, strict=True), strict=True):
        np.testing.assert_allclose(ends, DescrStatsW(row).tconfint_mean(0.05), rtol=1e-10)


def test_equivalence_equals_statsmodels_and_its_interval() -> None:
    found = Estimates.over_seeds(DRAWN)
    p = found.equivalence_p(1.2)
    np.testing.assert_allclose(p, [DescrStatsW(row).ttost_mean(-1.2, 1.2)[0] for row in DRAWN], rtol=1e-10)
    low, high = found.interval(2 * 0.05)
    assert set(p < 0.05) == {True, False}
    np.testing.assert_array_equal(p < 0.05, (low > -1.2) & (high < 1.2))


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_holm_equals_statsmodels(size: int) -> None:
    p = np.random.default_rng(size).beta(0.3, 2, size=size)
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_a_loop(p: list[float]) -> None:
    expected, highest = np.empty(len(p)), 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable")):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        expected[place] = highest
    np.testing.assert_allclose(holm(np.array(p)), expected, rtol=1e-12)


def test_holm_by_hand_and_without_what_is_absent() -> None:
    np.testing.assert_allclose(holm(np.array([0.03, np.nan, 0.01, 0.02])), [0.04, np.nan, 0.03, 0.04])


@pytest.mark.parametrize("side", SIDES)
def test_sign_flips_equal_enumeration(side: Side) -> None:
    signs = np.array(list(itertools.product((1, -1), repeat=5)))
    for row, p in zip(DRAWN, sign_flip_p(DRAWN, side), strict=True):
        means, mean = signs @ row, row.sum()
        out = {"two-sided": abs(means) >= abs(mean) - 1e-9, "greater": means >= mean - 1e-9, "less": means <= mean + 1e-9}
        assert p == np.mean(out[side])


def test_sign_flips_equal_scipy() -> None:
    for row, p in zip(DRAWN, sign_flip_p(DRAWN), strict=True):
        exact = stats.permutation_test((row,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert p == pytest.approx(exact.pvalue)


def test_five_seeds_cannot_reach_five_per_cent_by_sign_flips() -> None:
    assert smallest_sign_flip_p(5) == 0.0625
    assert sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == 0.0625
    assert smallest_sign_flip_p(5, "greater") == 0.03125
    assert sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), "greater") == 0.03125


def test_sign_flips_end_where_there_are_too_many_or_one() -> None:
    for n in (1, 21):
        assert np.isnan(sign_flip_p(np.ones(n)))
        assert np.isnan(smallest_sign_flip_p(n))
    assert sign_flip_p(np.ones(20)) == 2.0**-19


def test_leave_one_out_equals_a_loop() -> None:
    low, high = leave_one_out(DRAWN)
    means = [[np.delete(row, seed).mean() for seed in range(5)] for row in DRAWN]
    np.testing.assert_allclose(low, np.min(means, axis=1))
    np.testing.assert_allclose(high, np.max(means, axis=1))


def test_no_spread_and_one_seed() -> None:
    none = Estimates.over_seeds(np.array([[0.1] * 5, [0.0] * 5]))
    np.testing.assert_array_equal(none.std, 0)
    np.testing.assert_array_equal(none.p(), [0, 1])
    one = Estimates.over_seeds(np.array([[0.1]]))
    assert np.isnan([*one.p(), *one.interval(0.05)[0], *one.equivalence_p(1.0)]).all()
