"""Intervals and tests over seeds, on arrays whose last axis is the seed or the family. Nothing here knows of BatchNorm.

A standard error of 0 (all seeds give the same number) makes t infinite, and p 0 or 1: tables say so in a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # its parts are imported where they are used: stats takes half a second

Side = Literal["two-sided", "greater", "less"]
MOST_SEEDS_FLIPPED = 20
"""With more seeds an exact sign-flip test has too many sign patterns: over half a million for each effect."""

_RESOLUTION = 1e-12
"""Of a difference, relative to the values that it is made of: what is below is rounding."""


def without_rounding(differences: np.ndarray, size: np.ndarray | float) -> np.ndarray:
    """Round differences to a grid, so that those of equal values are equal: rounding errors give them no spread.

    Args:
        differences: of values.
        size: of these values; the grid is 1e-12 of it, the next power of 2.
    """
    grid = np.exp2(np.ceil(np.log2(np.where(np.asarray(size) > 0, size, 1.0) * _RESOLUTION)))
    return np.asarray(np.round(differences / grid) * grid)


def paired_differences(values: Mapping[int, float], reference: Mapping[int, float]) -> np.ndarray:
    """Return values minus those of a reference, both by seed: of the seeds in common, in their order."""
    seeds = sorted(values.keys() & reference.keys())
    here, there = (np.array([each[seed] for seed in seeds], dtype=np.float64) for each in (values, reference))
    sizes = np.abs([here, there])
    return without_rounding(here - there, float(np.max(sizes, initial=0.0, where=np.isfinite(sizes))))


@dataclass(frozen=True)
class Estimates:
    """Means over seeds, with what a t interval needs; arrays of one shape.

    Attributes:
        mean: over the seeds.
        std: deviation over the seeds (n - 1); NaN for one seed.
        n: number of seeds; there are n - 1 degrees of freedom.
    """

    mean: np.ndarray
    std: np.ndarray
    n: np.ndarray

    @classmethod
    def over_seeds(cls, differences: np.ndarray) -> Estimates:
        """Summarise one number per seed, which stand along the last axis."""
        n = differences.shape[-1]
        same = np.ptp(differences, axis=-1) == 0
        mean = np.where(same, differences[..., 0], differences.mean(axis=-1))  # else rounding gives equal seeds a spread
        std = np.where(same, 0.0, differences.std(axis=-1, ddof=1)) if n > 1 else np.full(mean.shape, np.nan)
        return cls(mean, std, np.full(mean.shape, n))

    @property
    def df(self) -> np.ndarray:
        """Degrees of freedom; at least 1, for one seed has no deviation and so no result."""
        return np.asarray(np.maximum(self.n - 1, 1))

    @property
    def error(self) -> np.ndarray:
        """Standard error of the mean."""
        return np.asarray(self.std / np.sqrt(self.n))

    def interval(self, alpha: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the two-sided (1 - alpha) t interval."""
        half = scipy.stats.t.isf(np.asarray(alpha) / 2, self.df) * self.error
        return self.mean - half, self.mean + half

    def p(self, side: Side = "two-sided", null: float = 0.0) -> np.ndarray:
        """Return the t test's p-value against a mean of `null`."""
        distance = self.mean - null
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where((distance == 0) & (self.error == 0), 0.0, distance / self.error)
        if side == "two-sided":
            return np.asarray(2 * scipy.stats.t.sf(np.abs(t), self.df))
        return np.asarray(scipy.stats.t.sf(t if side == "greater" else -t, self.df))

    def equivalence_p(self, margin: float) -> np.ndarray:
        """Return the p-value of two one-sided tests (TOST; Schuirmann 1987) for a mean between -margin and margin."""
        return np.asarray(np.maximum(self.p("greater", -margin), self.p("less", margin)))


def holm(p: np.ndarray) -> np.ndarray:
    """Return the p-values of a family, along the last axis, corrected after Holm (1979); NaN belongs to no family.

    The i-th smallest of m counts m - i + 1 fold, and never less than the one before it.
    """
    order = np.argsort(p, axis=-1)  # NaN comes last
    sorted_p = np.take_along_axis(p, order, axis=-1)
    size = np.sum(~np.isnan(p), axis=-1, keepdims=True)
    factors = np.maximum(size - np.arange(p.shape[-1]), 1)
    corrected = np.minimum(np.maximum.accumulate(factors * sorted_p, axis=-1), 1.0)
    result = np.empty_like(corrected)
    np.put_along_axis(result, order, corrected, axis=-1)
    return result


def sign_flip_p(differences: np.ndarray, side: Side = "two-sided") -> np.ndarray:
    """Return the exact sign-flip test's p-value: the share of all sign patterns whose mean is as far out as the real one.

    Args:
        differences: one number per seed along the last axis. The result is NaN for one seed, and for over
            `MOST_SEEDS_FLIPPED`.
        side: which means are far out.
    """
    n = differences.shape[-1]
    if not 2 <= n <= MOST_SEEDS_FLIPPED:
        return np.full(differences.shape[:-1], np.nan)
    sums = differences[..., :1]  # the first sign stays: the other half of the patterns are these, negated
    for seed in range(1, n):
        here = differences[..., seed : seed + 1]
        sums = np.concatenate([sums + here, sums - here], axis=-1)
    real = differences.sum(axis=-1, keepdims=True) * (-1 if side == "less" else 1)
    slack = 1e-10 * np.abs(differences).sum(axis=-1, keepdims=True)  # ties count, whatever rounding does
    if side == "two-sided":
        share = np.mean(np.abs(sums) >= np.abs(real) - slack, axis=-1)
    else:
        share = (np.mean(sums >= real - slack, axis=-1) + np.mean(-sums >= real - slack, axis=-1)) / 2
    return np.where(np.isnan(differences).any(axis=-1), np.nan, share)


def smallest_sign_flip_p(n_seeds: int, side: Side = "two-sided") -> float:
    """Return the smallest p-value that the sign-flip test can give with so many seeds; NaN where it gives none."""
    if not 2 <= n_seeds <= MOST_SEEDS_FLIPPED:
        return float("nan")
    return float((2 if side == "two-sided" else 1) / 2**n_seeds)


def leave_one_out(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest mean over all seeds but one, for one number per seed along the last axis."""
    n = differences.shape[-1]
    if n == 1:
        return (np.full(differences.shape[:-1], np.nan),) * 2
    means = (differences.sum(axis=-1, keepdims=True) - differences) / (n - 1)
    return means.min(axis=-1), means.max(axis=-1)
