from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from batchnorm.analysis.best import beside_best, beside_reference
from batchnorm.analysis.effects.inference import paired_differences


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


@given(st.integers(0, 10**6))
def test_the_tests_are_scipys_and_the_correction_is_statsmodels(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(5, 4)) + draw.normal(size=(5, 1))
    best = int(rows.mean(axis=1).argmax())
    others = [place for place in range(5) if place != best]
    p = [stats.ttest_rel(rows[place], rows[best]).pvalue for place in others]
    different = multipletests(p, alpha=0.05, method="holm")[0]
    expected = {best: "best"} | {
        place: "different" if found else "not different" for place, found in zip(others, different, strict=True)
    }
    found = beside_best([by_seed(*row) for row in rows], lowest=False)
    assert dict(enumerate(found)) == expected
    assert beside_best([by_seed(*-row) for row in rows], lowest=True) == found


def test_one_seed_marks_the_best_alone() -> None:
    assert beside_best([by_seed(0.8), by_seed(0.9), {}], lowest=False) == ["not tested", "best", ""]
    assert beside_best([by_seed(0.8), by_seed(0.9)], lowest=True) == ["best", "not tested"]
    assert beside_best([{}, by_seed(np.nan)], lowest=True) == ["", ""]


def test_only_common_seeds_are_compared() -> None:
    assert beside_best([{1: 0.9, 2: 0.91}, {3: 0.5, 4: 0.6}], lowest=False) == ["best", "not tested"]


def test_equal_rows_are_not_different() -> None:
    assert beside_best([by_seed(0.9, 0.8), by_seed(0.9, 0.8)], lowest=False) == ["best", "not different"]


def test_rounding_is_no_difference() -> None:
    """Both differ by 45 images of 10,000; as floating-point numbers the differences are not the same."""
    row, reference = by_seed(0.9086, 0.9098), by_seed(0.9041, 0.9053)
    assert len({row[seed] - reference[seed] for seed in row}) == 2
    differences = paired_differences(row, reference)
    assert len(set(differences)) == 1
    np.testing.assert_allclose(differences, 0.0045, rtol=1e-9)
    assert beside_reference([differences.tolist()])[1] == ["not tested"]
    assert beside_best([row, reference], lowest=False) == ["best", "not tested"]


def test_what_is_absent_or_not_finite_stays_so() -> None:
    assert paired_differences({1: 0.5}, {2: 0.5}).shape == (0,)
    np.testing.assert_array_equal(paired_differences({1: 0.5, 2: np.nan}, {1: 0.25, 2: 0.5}), [0.25, np.nan])
