"""A table of runs as arrays: its seeds, the variants that each seed has, and the contrasts between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from batchnorm.analysis.effects.contrasts import REFERENCE, Cell, Contrast, cell, contrasts, weight_matrix
from batchnorm.analysis.effects.inference import without_rounding
from batchnorm.errors import UserError
from batchnorm.modes import Mask

COLUMNS = ("seed", "mask", "mode", "value")


@dataclass(frozen=True)
class Design:
    """What is compared, found once for a table and applied to any values of the same runs.

    Attributes:
        seeds: all that the table has.
        cells: the variants that every seed has.
        contrasts: the effects.
        weights: of the runs in each effect, contrasts x cells; a row of 0 where an effect cannot be estimated.
    """

    seeds: list[int]
    cells: list[Cell]
    contrasts: list[Contrast]
    weights: np.ndarray

    @property
    def estimable(self) -> np.ndarray:
        """Of each effect, whether there is a pair for it."""
        return np.array([bool(effect.weights) for effect in self.contrasts])

    def differences(self, values: np.ndarray) -> np.ndarray:
        """Return each effect within each seed, ... x contrasts x seeds, from values, ... x seeds x cells.

        An effect that cannot be estimated is NaN.
        """
        found = np.swapaxes(values @ self.weights.T, -1, -2)
        size = np.max(np.abs(values) @ np.abs(self.weights.T), axis=-2)[..., np.newaxis]
        return np.where(self.estimable[:, np.newaxis], without_rounding(found, size), np.nan)


def read(table: pd.DataFrame, *, slots: Sequence[str] | None = None, reference: str = REFERENCE) -> tuple[Design, pd.DataFrame]:
    """Return a table's design, and the runs that it compares, sorted by seed and `cell` (a column that is added).

    Raises:
        UserError: a column is missing, a mask or a value is unusable, or a seed has two runs of one variant.
    """
    absent = [name for name in COLUMNS if name not in table.columns]
    if absent:
        raise UserError(f"the table of runs has no column {', '.join(absent)}; it needs {', '.join(COLUMNS)}")
    runs = _checked(table)
    cells = [cell(_parsed(mask), str(mode)) for mask, mode in zip(runs["mask"], runs["mode"], strict=True)]
    lengths = {len(mask) for mask, _ in cells}
    if slots is None:
        slots = [f"slot {number + 1}" for number in range(max(lengths))]
    if lengths != {len(slots)} or len(set(slots)) != len(slots):
        raise UserError(f"masks of {_listed(lengths)} digits do not go with {len(slots)} slots ({', '.join(slots)})")
    runs["cell"] = pd.Series(cells, index=runs.index, dtype=object)
    runs = runs.drop_duplicates(["seed", "cell", "value"])  # vanilla may stand in the table once for each mode
    twice = runs[runs.duplicated(["seed", "cell"])]
    if len(twice):
        first = twice.iloc[0]
        raise UserError(f"seed {first['seed']} has two runs of mask {first['mask']} in {first['mode']} with different values")
    seeds = sorted(set(runs["seed"]))
    seeds_of = runs.groupby("cell")["seed"].nunique()
    complete = sorted(seeds_of.index[seeds_of == len(seeds)])
    found = contrasts(complete, list(seeds_of.index), slots, reference=reference)
    design = Design(seeds, complete, found, weight_matrix(found, complete))
    return design, runs[runs["cell"].isin(complete)].sort_values(["seed", "cell"], ignore_index=True)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    runs = table.copy()
    for name in ("diverged", "capped"):
        runs[name] = runs[name].eq(True) if name in runs.columns else False  # absent for some runs: not so
    runs["value"] = runs["value"].astype(float)
    unusable = runs[np.isinf(runs["value"]) | (runs["value"].isna() & runs["diverged"])]
    if len(unusable):
        first = unusable.iloc[0]
        raise UserError(
            f"seed {first['seed']}, mask {first['mask']}, {first['mode']}: its value is {first['value']}; "
            "a run that diverged counts with the value of chance"
        )
    runs = runs[runs["value"].notna()]
    if not len(runs):
        raise UserError("the table of runs has no run with a value")
    return runs.reset_index(drop=True)


def _parsed(text: object) -> Mask:
    digits = [digit.strip() for digit in str(text).split(",")]
    if any(digit not in ("0", "1") for digit in digits):
        raise UserError(f"mask {text}: not a mask; one digit 0 or 1 per slot, with commas")
    return tuple(int(digit) for digit in digits)


def _listed(numbers: set[int]) -> str:
    return " and ".join(str(number) for number in sorted(numbers))
