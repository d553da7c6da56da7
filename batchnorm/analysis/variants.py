"""How the variants of a network appear in all tables and figures: the rows of `MODES`, and those of the two references."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace

from batchnorm.errors import ConfigError
from batchnorm.modes import (
    DEFAULT_MODE,
    DEFAULT_NORM,
    MODES,
    NORMS,
    UNTREATED,
    VANILLA,
    Affine,
    Dashes,
    Mode,
    Trains,
    norm_kind,
)

VANILLA_ROW = Mode(VANILLA, UNTREATED, "vanilla", "vanilla", "#000000", (0, (4, 2)))
FULL_ROW = Mode("full", MODES[DEFAULT_MODE].treatment, "full BN", "full BN", "#E69F00", (0, (7, 2)))
"""BatchNorm in every slot, all of it trained: the second reference, beside other masks."""


def row_of(mode: str, norm: str = DEFAULT_NORM) -> Mode:
    """Return a run's row by `Run.mode` and its `NORM`.

    A list of modes, one for each slot, has a colour and dashes of its own, the same in every figure. A mode that this package
    does not know is drawn in grey, under its own name.
    """
    return under(norm, _row_of(mode))


def under(norm: str, row: Mode) -> Mode:
    """Return a row as it is called under a norm: with LN, GN(4), ... where it says BN."""
    try:
        kind = norm_kind(norm)
    except ConfigError:  # one that this package does not know
        short = norm
    else:
        short = kind.short + (f"({norm.partition(':')[2]})" if kind.groups else "")
    if short == NORMS[DEFAULT_NORM].short:
        return row
    title, label = (re.sub(rf"\b{NORMS[DEFAULT_NORM].short}\b", short, text) for text in (row.title, row.label))
    return replace(row, title=title, label=label)


def norm_in_words(norm: str) -> str:
    """Return what sentences call a norm: `BatchNorm`, `layer norm`, `group norm (4 groups)`."""
    try:
        kind = norm_kind(norm)
    except ConfigError:  # one that this package does not know
        return norm
    return (kind.words or f"{kind.name} norm") + (f" ({norm.partition(':')[2]} groups)" if kind.groups else "")


def _row_of(mode: str) -> Mode:
    rows = [MODES[name] for name in mode.split(",") if name in MODES]
    if mode == VANILLA:
        return VANILLA_ROW
    if len(rows) != mode.count(",") + 1:
        return Mode(mode, UNTREATED, mode, mode, "#7F7F7F", ":")
    if len(rows) == 1:
        return rows[0]
    number = zlib.crc32(mode.encode())
    look = _LIST_COLOURS[number % len(_LIST_COLOURS)], _LIST_DASHES[number // len(_LIST_COLOURS) % len(_LIST_DASHES)]
    return Mode(mode, UNTREATED, ", ".join(row.title for row in rows), ", ".join(row.label for row in rows), *look)


_LIST_COLOURS = ("#332288", "#44AA99", "#117733", "#DDCC77", "#CC6677", "#AA4499")
"""From Paul Tol's muted palette."""
_LIST_DASHES: tuple[Dashes, ...] = ((0, (6, 1)), (0, (2, 2)), (0, (6, 1, 2, 1)))


def legend_place(row: Mode) -> tuple[bool, bool, int, bool, bool, bool]:
    """Return what legends and tables sort by.

    Vanilla, the modes by what they train (all weights before few, no norm before a norm, gamma before beta), lists of modes,
    full BatchNorm.
    """

    def trains(part: Affine | None) -> bool:
        return part is not None and part.trained

    weights = len(Trains) if row.treatment == UNTREATED else list(Trains).index(row.trains)
    treatment = row.treatment
    norm = treatment.norm is not None
    return (
        row.name == FULL_ROW.name,
        row.name != VANILLA_ROW.name,
        weights,
        norm,
        trains(treatment.beta),
        trains(treatment.gamma),
    )


ROWS = tuple(sorted((VANILLA_ROW, *MODES.values(), FULL_ROW), key=legend_place))
"""All of them, as legends list them."""
