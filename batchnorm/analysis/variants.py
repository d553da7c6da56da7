"""How the variants of a network appear in all tables and figures: the rows of `MODES`, and those of the two references."""

from __future__ import annotations

from batchnorm.modes import DEFAULT_MODE, MODES, UNTREATED, VANILLA, Affine, Mode

VANILLA_ROW = Mode(VANILLA, UNTREATED, "vanilla", "vanilla", "#000000", (0, (4, 2)))
FULL_ROW = Mode("full", MODES[DEFAULT_MODE].treatment, "full BN", "full BN", "#E69F00", (0, (7, 2)))
"""BatchNorm in every slot, all of it trained: the second reference, beside other masks."""


def row_of(mode: str) -> Mode:
    """Return a run's row by `Run.mode`; a mode that this package does not know is drawn in grey, under its own name."""
    unknown = Mode(mode, UNTREATED, mode, mode, "#7F7F7F", ":")
    return VANILLA_ROW if mode == VANILLA else MODES.get(mode, unknown)


def legend_place(row: Mode) -> tuple[bool, bool, bool, bool]:
    """Return what legends and tables sort by: vanilla, the modes by what they train (gamma before beta), full BatchNorm."""

    def trains(part: Affine | None) -> bool:
        return part is not None and part.trained

    return row == FULL_ROW, row != VANILLA_ROW, trains(row.treatment.beta), trains(row.treatment.gamma)


ROWS = tuple(sorted((VANILLA_ROW, *MODES.values(), FULL_ROW), key=legend_place))
"""All of them, as legends list them."""
