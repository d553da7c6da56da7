"""How a table of `summary` is printed: CSV with all digits; text, Markdown and LaTeX as papers print it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from batchnorm.analysis.columns import aligned, fitted
from batchnorm.analysis.files import whole_file
from batchnorm.analysis.streams import PLUS_MINUS
from batchnorm.analysis.summary import LAST_EPOCHS
from batchnorm.analysis.variants import ROWS
from batchnorm.errors import RunError

_HEADERS = {
    "test_acc_final": "final test accuracy (%)",
    "test_acc_best": "test accuracy at best validation (%)",
    "test_acc_last10": f"test accuracy, last {LAST_EPOCHS} epochs (%)",
    "valid_acc_final": "final validation accuracy (%)",
    "valid_acc_best": "best validation accuracy (%)",
    "train_loss_final": "final train loss",
    "seconds": "time (s)",
}
_DECIMALS = {
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
_RESULTS = (*_HEADERS.values(), "difference", "95 % interval")
_FORMATS = {".csv": "csv", ".md": "markdown", ".tex": "latex"}


def export(table: pd.DataFrame, path: Path | str) -> None:
    """Write a table as its file's suffix says: `.csv` (all digits), `.md` or `.tex` (as papers print it).

    Raises:
        RunError: another suffix, or it cannot be written.
    """
    write(path, lambda form: render(table, form))


def write(path: Path | str, rendered: Callable[[str], str]) -> None:
    """Write what `rendered` returns for the format that the file's suffix stands for.

    Raises:
        RunError: another suffix, or it cannot be written.
    """
    target = Path(path)
    if target.suffix not in _FORMATS:
        raise RunError(f"{target}: a table is written as {', '.join(_FORMATS)}, by its suffix")
    text = rendered(_FORMATS[target.suffix])
    with whole_file(target) as file:
        file.write(text.encode(errors="surrogateescape"))


def render(table: pd.DataFrame, form: str, *, plus_minus: str = PLUS_MINUS, width: int | None = None) -> str:
    """Return a table as text.

    Args:
        table: of `summary` or `paired_difference`.
        form: `csv` (all digits), `markdown`, `latex` (booktabs), or `text` (aligned, for a terminal).
        plus_minus: what stands between mean and deviation; LaTeX has its own sign.
        width: make `text` fit into so many letters; None stands for whole rows.
    """
    if form == "csv":
        return str(table.to_csv(index=False))
    if form != "text":
        return marked_up(_cells(table, r"$\pm$" if form == "latex" else plus_minus), form)
    rows = _cells(table, plus_minus)
    if width is None:
        return aligned(rows)
    return fitted(rows, width, counts=COUNTS, results=_RESULTS, whole="--wide shows all columns, --out FILE writes them")


def marked_up(rows: list[list[str]], form: str) -> str:
    """Return rows of text, the header first, as `markdown` or `latex`."""
    return _as_latex(rows) if form == "latex" else _as_markdown(rows)


def _cells(table: pd.DataFrame, plus_minus: str) -> list[list[str]]:
    """Return header and rows as papers print them: mean and deviation in one cell, accuracies in per cent."""
    header, columns = [], []
    for name in table.columns:
        if name.endswith("_std") or name in ("low", "high"):
            continue
        stem = name.removesuffix("_mean")
        if name.endswith("_mean"):
            factor = _factor(stem)
            header.append(_header(stem))
            pairs = zip(factor * table[name], factor * table[f"{stem}_std"], strict=True)
            columns.append([_with_spread(stem, mean, std, plus_minus) for mean, std in pairs])
        elif name == "measure":
            header.append(name)
            columns.append([_header(measure) for measure in table[name]])
        elif name == "difference":
            header += ["difference", "95 % interval"]
            intervals = [
                _interval(measure, *(_factor(measure) * end for end in ends))
                for measure, *ends in zip(table["measure"], table["difference"], table["low"], table["high"], strict=True)
            ]
            columns += [[mean for mean, _ in intervals], [ends for _, ends in intervals]]
        else:
            header.append(name.replace("_", " "))
            columns.append([_number(value) if isinstance(value, float) else str(value) for value in table[name]])
    return [header, *(list(row) for row in zip(*columns, strict=True))]


def _header(measure: str) -> str:
    """Name a measure with its unit; a measurement by its own name."""
    return _HEADERS.get(
        measure, measure.replace("_", " ").replace(" acc", " accuracy") + (" (%)" if "_acc_" in measure else "")
    )


def _factor(measure: str) -> float:
    return 100.0 if "_acc_" in measure else 1.0


def _interval(measure: str, mean: float, low: float, high: float) -> tuple[str, str]:
    """Print a difference and its interval with as many digits as the interval's width asks for."""
    if not np.isfinite(mean):
        return "-", "-"
    decimals = _decimals(measure, max(abs(low), abs(high)) if np.isfinite(low) else mean, (high - low) / 2)
    ends = f"{_fixed(low, decimals)} to {_fixed(high, decimals)}" if np.isfinite(low) else "-"
    return _fixed(mean, decimals), ends


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def _with_spread(measure: str, mean: float, std: float, plus_minus: str) -> str:
    """Print a mean and its deviation; without deviation, four digits."""
    if not np.isfinite(mean) or not np.isfinite(std):
        return _number(mean)
    decimals = _decimals(measure, mean, std)
    return f"{_fixed(mean, decimals)} {plus_minus} {_fixed(std, decimals)}"


def _decimals(measure: str, value: float, spread: float) -> int:
    """Return one decimal more than the spread begins with, but none beyond what the measure resolves."""
    finest = _DECIMALS.get(measure)
    if finest is None:
        finest = max(0, _FLOAT32_DIGITS - 1 - _magnitude(value))
    return min(finest, max(0, 1 - _magnitude(spread))) if spread > 0 else finest


def _magnitude(value: float) -> int:
    """Return the power of ten that a number begins with; that of 1 for 0."""
    return int(np.floor(np.log10(abs(value)))) if value else 0


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no "-0.00"


def _as_markdown(cells: list[list[str]]) -> str:
    header, *rows = cells
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in lines)


def _as_latex(cells: list[list[str]]) -> str:
    labels = {row.title: row.label for row in ROWS}
    header, *rows = [" & ".join(labels.get(cell) or _escaped(cell) for cell in row) + r" \\" for row in cells]
    parts = [rf"\begin{{tabular}}{{{'l' * len(cells[0])}}}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}", ""])


def _escaped(cell: str) -> str:
    """Escape what LaTeX reads as its own; the plus-minus sign between numbers stays."""
    for symbol in "&%#_":
        cell = cell.replace(symbol, rf"\{symbol}")
    return cell.replace("<", "$<$")
