"""How a table of `summary` is printed: CSV with all digits; text, Markdown and LaTeX as papers print it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from batchnorm.analysis.best import ALPHA, BEST, DIFFERS, NOT_TESTED, SAME, VS_REFERENCE
from batchnorm.analysis.cells import COUNTS, Column, columns_of, header_of
from batchnorm.analysis.columns import aligned, fitted
from batchnorm.analysis.files import whole_file
from batchnorm.analysis.markup import as_latex, as_markdown
from batchnorm.analysis.streams import PLUS_MINUS
from batchnorm.analysis.variants import row_of
from batchnorm.errors import RunError
from batchnorm.modes import DEFAULT_NORM, VANILLA

_FORMATS = {".csv": "csv", ".md": "markdown", ".tex": "latex"}
_MARKS: dict[str, dict[str, tuple[str, str]]] = {
    "text": {BEST: ("", " *"), SAME: ("", " ~"), DIFFERS: ("", " *")},
    "markdown": {BEST: ("**", "**"), SAME: ("*", "*"), DIFFERS: ("**", "**")},
}
"""What stands before and after a cell that is marked."""
_COMMANDS = {BEST: r"\textbf", SAME: r"\underline", DIFFERS: r"\textbf"}
_MARKED = {"text": ("*", "~"), "markdown": ("Bold", "Italic"), "latex": ("Bold", "Underlined")}
"""What the notes call the marks: of the best, or of what differs from the reference; of what is not different from the best."""
_TEST = "paired t test over common seeds, two-sided, n - 1 degrees of freedom"


def export(table: pd.DataFrame, path: Path | str, *, columns: Sequence[str] | None = None, whole: bool = False) -> None:
    """Write a table as its file's suffix says: `.csv` (all digits), `.md` or `.tex` (as papers print it).

    Args:
        table: see `render`.
        path: the file; a LaTeX table has the label `tab:` and the file's name without suffix.
        columns: see `render`.
        whole: see `render`.

    Raises:
        RunError: another suffix, no such column, or it cannot be written.
    """
    label = f"tab:{Path(path).stem}"
    write(path, lambda form: render(table, form, columns=columns, whole=whole, label=label))


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


def render(
    table: pd.DataFrame,
    form: str,
    *,
    plus_minus: str = PLUS_MINUS,
    width: int | None = None,
    columns: Sequence[str] | None = None,
    whole: bool = False,
    label: str = "",
) -> str:
    """Return a table as text; `cells.columns_of` says how numbers are printed.

    Args:
        table: of `summary` or `paired_difference`.
        form: `csv` (all digits), `markdown`, `latex` (a float with booktabs; what is the same in all rows stands in its
            caption), or `text` (aligned, for a terminal).
        plus_minus: what stands between mean and deviation; LaTeX has its own sign.
        width: make `text` fit into so many letters; None stands for whole rows.
        columns: which columns, and in which order: as `["variant", "lr", "seeds", "test_acc_final"]`; None stands for all.
        whole: leave in LaTeX too what is the same in all rows in the table.
        label: of the LaTeX float.

    Raises:
        RunError: there is no such column.
    """
    chosen = columns_of(table, columns, plus_minus=PLUS_MINUS if form == "latex" else plus_minus)
    if form == "csv":
        kept = table if columns is None else table[[source for column in chosen for source in column.sources]]
        return str(kept.to_csv(index=False))
    if form == "latex":
        return _latex(table, chosen, whole=whole, label=label)
    rows = _rows([_marked(column, _MARKS[form]) for column in chosen])
    notes = _notes(table, chosen, form)
    if form == "markdown":
        return "\n".join([as_markdown(rows), *(f"{note}\n" for note in notes)])
    if width is None:
        return "\n".join([aligned(rows), *(f"{note}\n" for note in notes)])
    counts = [column.header for column in chosen if column.name in COUNTS]
    results = [column.header for column in chosen if column.result]
    text = fitted(rows, width, counts=counts, results=results, whole="--wide shows all columns, --out FILE writes them")
    return "\n".join([text, *(textwrap.fill(note, width) + "\n" for note in notes)])


def marked_up(rows: list[list[str]], form: str) -> str:
    """Return rows of text, the header first, as `markdown` or `latex`."""
    return as_latex(rows) if form == "latex" else as_markdown(rows)


def _rows(columns: Sequence[Column]) -> list[list[str]]:
    header = [column.header for column in columns]
    return [header, *(list(row) for row in zip(*(column.cells for column in columns), strict=True))]


def _marked(column: Column, marks: dict[str, tuple[str, str]]) -> Column:
    """Return a column with its marks around its cells."""
    if not column.marks:
        return column
    around = [marks.get(mark, ("", "")) for mark in column.marks]
    cells = [f"{before}{cell}{after}" for cell, (before, after) in zip(column.cells, around, strict=True)]
    return Column(column.name, column.header, tuple(cells), column.sources, result=True)


def _latex(table: pd.DataFrame, columns: Sequence[Column], *, whole: bool, label: str) -> str:
    """Return a float; with several rows, what is the same in all of them is lifted into its caption, counts in words."""
    lifted: list[Column] = []
    if len(table) > 1 and not whole:
        lifted = [column for column in columns if len(set(column.cells)) == 1 and not column.result]
    left = [column for column in columns if column not in lifted] or list(columns)
    counted = "n" if "difference" in table else "seeds"
    named = (counted, "measure", "reference", "reference_mask")
    told = [f"{column.header}: {column.cells[0]}" for column in lifted if column.name not in named]
    what = ", ".join(each for each in told if not each.endswith(": "))
    caption = f"{what[:1].upper()}{what[1:]}. {_caption(table, counted)}" if what else _caption(table, counted)
    commands = zip(*([_COMMANDS.get(mark, "") for mark in column.marks] or [""] * len(table) for column in left), strict=True)
    return as_latex(
        _rows(left),
        alignment="".join("r" if column.number else "l" for column in left),
        caption=caption,
        label=label,
        notes=_notes(table, left, "latex"),
        commands=list(commands),
    )


def _caption(table: pd.DataFrame, counted: str) -> str:
    """Say what the numbers are, and over how many runs."""
    fewest, most = (int(table[counted].min()), int(table[counted].max())) if counted in table and len(table) else (0, 0)
    number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    if counted == "n":
        measure = header_of(str(table["measure"].iloc[0]))
        reference = _reference(table)
        pairs = f"{number} pair{'' if number == '1' else 's'} of runs with one seed"
        return f"Difference from {reference} in {measure}: mean over {pairs}, with the 95 % interval of Student's t."
    if most == 1:
        return "One seed." if fewest == most else f"{number} seeds."
    return f"Mean {PLUS_MINUS} standard deviation over {number} seeds."


def _reference(table: pd.DataFrame) -> str:
    """Name what a table's differences are from, with its mask where all rows have another; several by a word."""
    modes, masks = (list(dict.fromkeys(table[name])) for name in ("reference", "reference_mask"))
    if len(modes) != 1:
        return "the reference"
    norms = table.get("reference_norm", table.get("norm"))
    norm = DEFAULT_NORM if norms is None or norms.isna().any() or norms.nunique() > 1 else str(norms.iloc[0])
    title = row_of(modes[0], norm).title
    if modes[0] == VANILLA:
        return title
    return f"{masks[0]} {title}" if len(masks) == 1 and masks[0] else f"{title} of the same mask"


def _notes(table: pd.DataFrame, columns: Sequence[Column], form: str) -> list[str]:
    """Say what the marks mean, and what was compared."""
    marks = [mark for column in columns for mark in column.marks]
    if not marks:
        return []
    if VS_REFERENCE in table:
        return _notes_of_differences(table, form)
    best, same = _MARKED[form]
    several = "problem" in table and table["problem"].nunique() > 1
    first = f"{best}: the best mean{' of each problem' if several else ''}"
    untested = marks.count(NOT_TESTED)
    if len(marks) - marks.count("") == marks.count(BEST) + untested:
        return [f"{first}. Nothing is tested: that takes two or more seeds in common with the best."]
    family = f"Holm's correction over the comparisons of a {'problem and measure' if several else 'measure'}"
    notes = [f"{first}; {same.lower()}: not different from it at level {ALPHA:g}: {_TEST}, {family}."]
    notes += [f"Not tested, for fewer than two seeds in common with the best: {untested}."] if untested else []
    return notes


def _notes_of_differences(table: pd.DataFrame, form: str) -> list[str]:
    """Say what the marks of a paired table mean, and what was tested."""
    untested = int((table[VS_REFERENCE] == NOT_TESTED).sum())
    if untested == len(table):
        return ["Nothing is tested: that takes two or more pairs whose differences are not all the same."]
    family = f"Holm's correction over the comparisons{' of a problem' if table['problem'].nunique() > 1 else ''}"
    notes = [f"{_MARKED[form][0]}: differs from the reference at level {ALPHA:g}: {_TEST}, {family}."]
    notes += [f"Not tested, for fewer than two pairs or equal differences: {untested}."] if untested else []
    return notes
