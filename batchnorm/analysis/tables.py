"""How a table of `summary` is printed: CSV with all digits; text, Markdown and LaTeX as papers print it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from batchnorm.analysis.summary import LAST_EPOCHS, MEASURES
from batchnorm.analysis.variants import ROWS
from batchnorm.errors import RunError

_HEADERS = {
    "test_acc_final": "final test accuracy (%)",
    "test_acc_best": "best test accuracy (%)",
    "test_acc_last10": f"test accuracy, last {LAST_EPOCHS} epochs (%)",
    "train_loss_final": "final train loss",
    "seconds": "time (s)",
}
_FORMATS = {".csv": "csv", ".md": "markdown", ".tex": "latex"}


def export(table: pd.DataFrame, path: Path | str) -> None:
    """Write a table as its file's suffix says: `.csv` (all digits), `.md` or `.tex` (as papers print it).

    Raises:
        RunError: another suffix, or it cannot be written.
    """
    target = Path(path)
    if target.suffix not in _FORMATS:
        raise RunError(f"{target}: a table is written as {', '.join(_FORMATS)}, by its suffix")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(render(table, _FORMATS[target.suffix]), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{target}: cannot be written: {error.strerror}") from None


def render(table: pd.DataFrame, form: str) -> str:
    """Return a table as text.

    Args:
        table: of `summary` or `paired_difference`.
        form: `csv` (all digits), `markdown`, `latex` (booktabs), or `text` (aligned, for a terminal).
    """
    return _RENDERERS[form](table)


def _cells(table: pd.DataFrame, plus_minus: str) -> list[list[str]]:
    """Return header and rows as papers print them: mean and deviation in one cell, accuracies in per cent."""
    header, columns = [], []
    for name in table.columns:
        if name.endswith("_std") or name in ("low", "high"):
            continue
        stem = name.removesuffix("_mean")
        if stem in MEASURES:
            factor = _factor(stem)
            header.append(_HEADERS[stem])
            pairs = zip(factor * table[name], factor * table[f"{stem}_std"], strict=True)
            columns.append([_with_spread(mean, std, plus_minus) for mean, std in pairs])
        elif name == "measure":
            header.append(name)
            columns.append([_HEADERS[measure] for measure in table[name]])
        elif name == "difference":
            header += ["difference", "95 % interval"]
            factors = np.array([_factor(measure) for measure in table["measure"]])
            low, high = factors * table["low"], factors * table["high"]
            columns.append([_number(value) for value in factors * table[name]])
            columns.append([_range(*ends) for ends in zip(low, high, strict=True)])
        else:
            header.append(name.replace("_", " "))
            columns.append([_number(value) if isinstance(value, float) else str(value) for value in table[name]])
    return [header, *(list(row) for row in zip(*columns, strict=True))]


def _factor(measure: str) -> float:
    return 100.0 if measure.startswith("test_acc") else 1.0


def _range(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}" if np.isfinite(low) else "-"


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "-"


def _with_spread(mean: float, std: float, plus_minus: str) -> str:
    """Print a mean with one digit more than its deviation begins with, at least two in all; without deviation, four digits."""
    if not np.isfinite(mean):
        return "-"
    if not np.isfinite(std) or std == 0:
        return f"{mean:.4g}" + (f" {plus_minus} 0" if std == 0 else "")
    digits = max(0, 1 - int(np.floor(np.log10(std))))
    return f"{mean:.{digits}f} {plus_minus} {std:.{digits}f}"


def _as_csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False))


def _as_markdown(table: pd.DataFrame) -> str:
    header, *rows = _cells(table, "±")
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in lines)


def _as_latex(table: pd.DataFrame) -> str:
    labels = {row.title: row.label for row in ROWS}
    cells = _cells(table, r"$\pm$")
    header, *rows = [" & ".join(labels.get(cell) or _escaped(cell) for cell in row) + r" \\" for row in cells]
    parts = [rf"\begin{{tabular}}{{{'l' * len(cells[0])}}}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}", ""])


def _as_text(table: pd.DataFrame) -> str:
    rows = _cells(table, "±")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _escaped(cell: str) -> str:
    """Escape what LaTeX reads as its own; the plus-minus sign between numbers stays."""
    for symbol in "&%#_":
        cell = cell.replace(symbol, rf"\{symbol}")
    return cell


_RENDERERS: dict[str, Callable[[pd.DataFrame], str]] = {
    "text": _as_text,
    "csv": _as_csv,
    "markdown": _as_markdown,
    "latex": _as_latex,
}
