"""Rows of text in aligned columns, whole or made to fit a terminal's width."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from itertools import zip_longest

Rows = Sequence[Sequence[str]]


def aligned(rows: Rows) -> str:
    """Return rows, the header first, in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def fitted(rows: Rows, width: int, *, counts: Collection[str] = (), results: Collection[str] = (), whole: str) -> str:
    """Return rows as `aligned` does, made to fit: what is the same in all stands once above.

    Where that is not enough, names of columns are broken into lines, and then columns go, from the right.

    Args:
        rows: the header first.
        width: of the terminal, in letters.
        counts: columns that always stand in the table.
        results: columns that are never lifted out of it: what the table is made for.
        whole: how all columns are seen, for the last line.
    """
    columns = list(zip(*rows, strict=True))
    lifted = []
    if len(rows) > 2 or (len(rows) == 2 and _width(columns, broken=False) > width):
        lifted = [column for column in columns if len(set(column[1:])) == 1 and column[0] not in {*counts, *results}]
    left = [column for column in columns if column not in lifted]
    broken = _width(left, broken=False) > width
    dropped: list[str] = []
    for column in reversed(left[1:]):
        if _width(left, broken=broken) <= width:
            break
        if column[0] not in counts:
            left.remove(column)
            dropped.insert(0, column[0])
    names = [textwrap.wrap(column[0], _room(column, broken=broken)) for column in left]
    table = [*zip_longest(*names, fillvalue=""), *zip(*(column[1:] for column in left), strict=True)]
    parts = [_flowing([f"{name}: {value}" for name, value, *_ in lifted if value], width), aligned(table)]
    if dropped:
        parts.append(textwrap.fill(f"no room for: {', '.join(dropped)}; {whole}", width) + "\n")
    return "\n".join(part for part in parts if part)


def _width(columns: Rows, *, broken: bool) -> int:
    return sum(_room(column, broken=broken) + 2 for column in columns) - 2


def _room(column: Sequence[str], *, broken: bool) -> int:
    """Return how wide a column is; with its name broken into lines, as wide as its longest word."""
    name, *cells = column
    return max(map(len, [*(name.split() if broken else [name]), *cells]))


def _flowing(items: Sequence[str], width: int) -> str:
    """Return items in lines, as many in each as the width has room for."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 3 + len(item) <= width:
            lines[-1] += f"   {item}"
        else:
            lines.append(item)
    return "".join(f"{line}\n" for line in lines)
