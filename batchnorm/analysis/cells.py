"""The columns of a printed table, as text: mean and deviation in one cell, accuracies in per cent, equal decimals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from batchnorm.analysis.best import DIFFERS, VS_BEST, VS_REFERENCE
from batchnorm.analysis.effects.table import p_text
from batchnorm.analysis.streams import PLUS_MINUS
from batchnorm.analysis.summary import LAST_EPOCHS
from batchnorm.analysis.variants import row_of
from batchnorm.errors import nearest_first, wrong_argument
from batchnorm.modes import DEFAULT_NORM

HEADERS = {
    "test_acc_final": "final test accuracy (%)",
    "test_acc_best": "test accuracy at best validation (%)",
    "test_acc_last10": f"test accuracy, last {LAST_EPOCHS} epochs (%)",
    "valid_acc_final": "final validation accuracy (%)",
    "valid_acc_best": "best validation accuracy (%)",
    "train_loss_final": "final train loss",
    "seconds": "time (s)",
}
_FINEST = {
    "test_acc_final": 2,
    "test_acc_best": 2,
    "test_acc_last10": 3,
    "valid_acc_final": 2,
    "valid_acc_best": 2,
    "seconds": 1,
}
"""A measure's own resolution, as it is printed: 0.01 % is one image of 10,000, and a tenth of that in a mean of ten."""
_FLOAT32_DIGITS = 6
COUNTS = ("seeds", "diverged", "unfinished", "n")
"""How many runs a row tells of: these columns stand in the table on any terminal."""


@dataclass(frozen=True)
class Column:
    """One column of a printed table.

    Attributes:
        name: what chooses it.
        header: what stands above it.
        cells: its text, row by row.
        sources: the data frame's columns that it is made of.
        result: whether it is what the table is made for.
        number: whether its cells are numbers.
        marks: how each row stands beside the best, in the words of `best`; none where that was not asked for.
    """

    name: str
    header: str
    cells: tuple[str, ...]
    sources: tuple[str, ...]
    result: bool = False
    number: bool = False
    marks: tuple[str, ...] = ()


def columns_of(table: pd.DataFrame, names: Sequence[str] | None = None, *, plus_minus: str = PLUS_MINUS) -> list[Column]:
    """Return the columns of a table of `summary` or `paired_difference` as papers print them.

    Decimals: a row asks for one more than its deviation (of a difference: half its interval) begins with, 0.32 and 3.2, but
    for none beyond what the measure resolves. All rows of a column have those that the middle one of them asks for; a
    deviation of 0 asks only where there is no other. Without any deviation the middle row has four digits.

    Args:
        table: the data frame.
        names: which columns, and in which order: a measure by its name (`test_acc_final`), `interval` for the interval of
            a difference; in any case. None stands for all.
        plus_minus: what stands between mean and deviation.

    Raises:
        RunError: there is no such column.
    """
    there = {column.name: column for name in table.columns for column in _printed(table, str(name), plus_minus)}
    if names is None:
        return list(there.values())
    by_case = {name.lower(): name for name in there}
    for name in names:
        if name.lower() not in by_case:
            raise wrong_argument("columns", name, f"no such column; {nearest_first(name.lower(), there)}")
    chosen = [there[by_case[name]] for name in dict.fromkeys(name.lower() for name in names)]
    if "variant" in there and "mask" not in [column.name for column in chosen]:
        chosen = [replace(column, cells=_with_mask(table)) if column.name == "variant" else column for column in chosen]
    return chosen


def header_of(measure: str) -> str:
    """Name a measure with its unit; a measurement by its own name."""
    return HEADERS.get(measure, measure.replace("_", " ").replace(" acc", " accuracy") + (" (%)" if "_acc_" in measure else ""))


def _printed(table: pd.DataFrame, name: str, plus_minus: str) -> list[Column]:
    """Return the columns that one of the data frame's becomes, with those that belong to it: two, one or none."""
    stem = name.removesuffix("_mean")
    if name.endswith(("_std", VS_BEST)) or name in ("low", "high", VS_REFERENCE):
        return []
    if name == "difference":
        means, ends = _differences(table)
        told = (VS_REFERENCE,) if VS_REFERENCE in table else ()
        marks = tuple(mark if mark == DIFFERS else "" for mark in table[VS_REFERENCE]) if told else ()
        return [
            Column("difference", "difference", means, ("difference", *told), result=True, number=True, marks=marks),
            Column("interval", "95 % interval", ends, ("low", "high"), result=True, number=True),
        ]
    if name == "p_holm":
        return [Column("p", "p (Holm)", tuple(map(p_text, table[name])), (name,), result=True, number=True)]
    if name.endswith("_mean"):
        cells = _with_spread(stem, _factor(stem) * table[name], _factor(stem) * table[f"{stem}_std"], plus_minus)
        vs_best = f"{stem}{VS_BEST}"
        marks = tuple(table[vs_best]) if vs_best in table else ()
        sources = (name, f"{stem}_std", *((vs_best,) if marks else ()))
        return [Column(stem, header_of(stem), cells, sources, result=True, number=True, marks=marks)]
    if name == "measure":
        return [Column(name, name, tuple(map(header_of, table[name])), (name,))]
    if name == "variant":
        return [Column(name, name, tuple(_titles(table)), (name,))]
    cells = tuple(
        "-" if pd.isna(value) else _number(value) if isinstance(value, float) else str(value) for value in table[name]
    )
    return [Column(name, name.replace("_", " "), cells, (name,), number=pd.api.types.is_numeric_dtype(table[name]))]


def _with_mask(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the variants' titles with their masks, for a table that has no column of these."""
    found = []
    for variant, mode, title in zip(table["variant"], table["mode"], _titles(table), strict=True):
        mask = str(variant).removesuffix(mode)  # nothing of `vanilla`
        found.append(mask + title)
    return tuple(found)


def _titles(table: pd.DataFrame) -> list[str]:
    norms = table["norm"].fillna(DEFAULT_NORM) if "norm" in table else [DEFAULT_NORM] * len(table)
    return [row_of(mode, norm).title for mode, norm in zip(table["mode"], norms, strict=True)]


def _factor(measure: str) -> float:
    return 100.0 if "_acc_" in measure else 1.0


def _with_spread(measure: str, means: pd.Series, spreads: pd.Series, plus_minus: str) -> tuple[str, ...]:
    """Print means and their deviations."""
    asked = [_decimals(measure, mean, spread) for mean, spread in zip(means, spreads, strict=True) if spread > 0]
    asked = asked or [_decimals(measure, mean, 0.0) for mean, spread in zip(means, spreads, strict=True) if spread == 0]
    there = [abs(mean) for mean in means if np.isfinite(mean)]
    if not asked and any(value and not 1e-3 <= value < 1e15 for value in there):
        return tuple(map(_number, means))
    asked = asked or [min(max(0, 3 - _magnitude(value)), _finest(measure, value)) for value in there]
    decimals = statistics.median_low(asked or [0])

    def cell(mean: float, spread: float) -> str:
        after = f" {plus_minus} {_fixed(spread, decimals)}" if np.isfinite(spread) else ""
        return f"{_fixed(mean, decimals)}{after}" if np.isfinite(mean) else "-"

    return tuple(map(cell, means, spreads))


def _differences(table: pd.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Print differences and their intervals with as many digits as the intervals' widths ask for."""
    measure = str(table["measure"].iloc[0]) if len(table) else ""
    scaled = [_factor(measure) * table[name] for name in ("difference", "low", "high")]
    rows = list(zip(*scaled, strict=True))
    asked = [_decimals(measure, max(abs(low), abs(high)), (high - low) / 2) for _, low, high in rows if high > low]
    asked = asked or [_decimals(measure, mean, 0.0) for mean, _, _ in rows if np.isfinite(mean)]
    decimals = statistics.median_low(asked or [0])
    means = tuple(_fixed(mean, decimals) if np.isfinite(mean) else "-" for mean, _, _ in rows)
    ends = tuple(f"{_fixed(low, decimals)} to {_fixed(high, decimals)}" if np.isfinite(low) else "-" for _, low, high in rows)
    return means, ends


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def _decimals(measure: str, value: float, spread: float) -> int:
    """Return one decimal more than the spread begins with, but none beyond what the measure resolves."""
    finest = _finest(measure, value)
    return min(finest, max(0, 1 - _magnitude(spread))) if spread > 0 else finest


def _finest(measure: str, value: float) -> int:
    return _FINEST.get(measure, max(0, _FLOAT32_DIGITS - 1 - _magnitude(value)))


def _magnitude(value: float) -> int:
    """Return the power of ten that a number begins with; that of 1 for 0."""
    return int(np.floor(np.log10(abs(value)))) if value else 0


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no "-0.00"
