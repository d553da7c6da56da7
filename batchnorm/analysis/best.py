"""Which rows of a table are best, which are not shown to differ from the best, and which differ from a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from batchnorm.analysis.effects.inference import Estimates, holm, paired_differences

ALPHA = 0.05
"""The level of the tests."""
BEST, SAME, DIFFERENT, NOT_TESTED = "best", "not different", "different", "not tested"
VS_BEST = "_vs_best"
"""How a column ends that says for a measure how each row stands beside the best."""
DIFFERS = "differs"
VS_REFERENCE = "vs_reference"
"""The column that says whether each row differs from its reference."""


def beside_best(values: Sequence[Mapping[int, float]], *, lowest: bool) -> list[str]:
    """Say how each row of a family stands beside the one with the best mean.

    A paired t test over the seeds that a row has in common with the best (n - 1 degrees of freedom), two-sided, at the level
    `ALPHA` after Holm's correction over the rows that can be tested: those of two or more common seeds, whose differences are
    not all the same number (other than 0).

    Args:
        values: of each row, by seed; what is not finite counts as absent.
        lowest: whether the lowest mean is best.

    Returns:
        For each row `BEST` (of equal means the first), `SAME`, `DIFFERENT`, `NOT_TESTED`, or nothing where it has no value.
    """
    rows = [{seed: value for seed, value in row.items() if np.isfinite(value)} for row in values]
    means = [float(np.mean(list(row.values()))) if row else np.nan for row in rows]
    if np.isnan(means).all():
        return [""] * len(rows)
    best = int(np.nanargmin(means) if lowest else np.nanargmax(means))
    p = holm(np.array([_p(row, rows[best]) if place != best else np.nan for place, row in enumerate(rows)]))
    told = np.where(np.isnan(p), NOT_TESTED, np.where(p > ALPHA, SAME, DIFFERENT))
    return [BEST if place == best else str(told[place]) if rows[place] else "" for place in range(len(rows))]


def beside_reference(differences: Sequence[Sequence[float]]) -> tuple[list[float], list[str]]:
    """Say of each row of a family whether it differs from its reference.

    A paired t test (n - 1 degrees of freedom), two-sided, at the level `ALPHA` after Holm's correction over the rows that can
    be tested: those of two or more differences that are not all the same number.

    Args:
        differences: of each row, seed by seed.

    Returns:
        The corrected p-value of each row, NaN where nothing is tested; and `DIFFERS`, `SAME` or `NOT_TESTED`.
    """
    tested = [len(row) > 1 and bool(np.isfinite(row).all()) and np.ptp(row) > 0 for row in differences]
    raw = [
        float(Estimates.over_seeds(np.array(row)).p()) if has else np.nan for row, has in zip(differences, tested, strict=True)
    ]
    p = holm(np.array(raw))
    told = np.where(np.isnan(p), NOT_TESTED, np.where(p > ALPHA, SAME, DIFFERS))
    return p.tolist(), [str(each) for each in told]


def _p(row: Mapping[int, float], best: Mapping[int, float]) -> float:
    """Return the p-value of the paired t test over common seeds; NaN where it has nothing to say.

    That is with fewer than two seeds, or where all differences are the same number other than 0.
    """
    differences = paired_differences(row, best)
    if len(differences) < 2 or (np.ptp(differences) == 0 and differences[0] != 0):
        return np.nan
    return float(Estimates.over_seeds(differences).p())
