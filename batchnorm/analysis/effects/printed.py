"""How tables of effects and plans are printed: text for a terminal of 100 columns, and the cells that papers print."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd

from batchnorm.analysis.columns import aligned
from batchnorm.analysis.effects.plan import MOST_SEEDS
from batchnorm.analysis.effects.table import number, readable, titles
from batchnorm.analysis.tables import marked_up
from batchnorm.modes import DEFAULT_NORM

WIDTH = 100
_ALWAYS = ("effect", "estimate", "p (Holm)", "pairs", "equivalent")
_WHERE_ANY = ("diverged", "capped")

_MEANING = (
    "simultaneous: after Bonferroni, over the family; may disagree with p (Holm), which rejects more. "
    "sign flip p: of the exact test, with the smallest that it can give; it decides nothing."
)


def print_effects(
    table: pd.DataFrame, form: str, *, scale: float = 1.0, heading: str = "", wide: bool = False, norm: str = DEFAULT_NORM
) -> str:
    """Return the table of effects, or some families of it, in a format that `batchnorm.analysis.tables` knows.

    Args:
        table: of `effects`.
        form: `csv` (all digits, all columns), `markdown`, `latex`, or `text`: family by family, notes below.
        scale: values are printed times this; not in CSV.
        heading: stands above `text`.
        wide: all columns of `readable`; else those that fit into 100 letters.
        norm: of the runs, as `NORM` takes it.
    """
    if form == "csv":
        return str(table.to_csv(index=False))
    cells = readable(table, scale=scale)
    if form != "text":
        return marked_up(_rows(cells if wide else cells[["family", *_chosen(table, cells)]]), form)
    if wide:
        return "\n".join([*_heading(heading), aligned(_rows(cells)), *textwrap.wrap(_MEANING, WIDTH), ""])
    header, *lines = aligned(_rows(cells[_chosen(table, cells)])).splitlines()
    parts = [*_heading(heading), header]
    for family in dict.fromkeys(table["family"]):
        parts += ["", titles(norm)[family], *(line for line, of in zip(lines, table["family"], strict=True) if of == family)]
    return "\n".join([*parts, *_notes(table), ""])


def print_plan(table: pd.DataFrame, form: str, *, scale: float = 1.0, heading: str = "") -> str:
    """Return a plan in a format that `batchnorm.analysis.tables` knows; `scale` and `heading` as in `print_effects`."""
    if form == "csv":
        return str(table.to_csv(index=False))
    spread = scale * table["std"].median()
    digits = max(0, 1 - int(np.floor(np.log10(spread))))

    def scaled(column: str) -> list[str]:
        return [number(scale * value, digits) for value in table[column]]

    ranges = zip(scaled("std_low"), scaled("std_high"), strict=True)
    columns = {
        "effect": table["name"],
        "std": scaled("std"),
        "95 % interval": [f"{low} to {high}" for low, high in ranges],
        "seeds": table["seeds"].map(str),
        "finds": scaled("finds"),
        "shows": scaled("shows"),
    }
    for name, header in (("difference", "to find"), ("margin", "to show")):
        if f"seeds_for_{name}" in table:
            columns[header] = [
                f"{value:.0f}" if np.isfinite(value) else f"> {MOST_SEEDS}" for value in table[f"seeds_for_{name}"]
            ]
    rows = _rows(pd.DataFrame(columns))
    return "\n".join([*_heading(heading), aligned(rows)]) if form == "text" else marked_up(rows, form)


def _chosen(table: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """Return the columns of `readable` that a terminal has room for; counts of what nothing counts say nothing."""
    interval = f"{100 * (1 - table['alpha'].iloc[0]):g} % interval"
    counted = [name for name in _WHERE_ANY if table[name].any()]
    return [name for name in cells.columns if name in (*_ALWAYS, interval, *counted)]


def _rows(cells: pd.DataFrame) -> list[list[str]]:
    return [list(map(str, cells.columns)), *cells.to_numpy().astype(str).tolist()]


def _heading(text: str) -> list[str]:
    return [*textwrap.wrap(text, WIDTH), ""] if text else []


def _notes(table: pd.DataFrame) -> list[str]:
    """Return each note once, behind the effects that it is of."""
    lines = []
    for note in dict.fromkeys(note for note in table["note"] if note):
        of_note = table["note"] == note
        names, others = list(table["name"][of_note]), list(table["name"][~of_note])
        whose = "all" if not others else ", ".join(names) if len(names) <= len(others) else "all but " + ", ".join(others)
        lines += textwrap.wrap(f"{whose}: {note}", WIDTH, subsequent_indent="  ")
    return ["", *lines] if lines else []
