"""What a page shows of gamma, beta and all else that has a number for each channel: maps of bytes, and quantiles over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchnorm.analysis.decimate import Floats, last_rows, reduce_map
from batchnorm.analysis.report.blobs import packed, quantise
from batchnorm.analysis.runs import treatment_in
from batchnorm.errors import RunError, wrong_argument
from batchnorm.modes import UNIFORM
from batchnorm.quantities import QUANTITIES, RECORDED, ROWS, Quantity
from batchnorm.store import Run

SHOWN = tuple(
    quantity for quantity in RECORDED if quantity.per == "channel" and quantity.axis in ("snapshots", "epochs", "probes")
)
"""The quantities that a page has for each channel."""
OF_SLOTS = tuple(
    quantity for quantity in ROWS if quantity.per == "slot" and quantity.axis in ("updates", "probes") and quantity.symbol
)
"""Those that it has for each slot, as the norm of its weights: what figures show."""
_PAGE_BYTES = 16e6
"""What all parameters of a page may take in the file."""
_BYTES_A_PLACE = 400
"""Of what the manifest says of each, and of the elements that hold its blobs."""
_BYTES_A_CELL = 0.8 * 4 / 3
"""Deflated, in base64; as measured."""
_BYTES_A_COLUMN = 5 * 4 * 4 / 3
"""Of quantiles, which hardly deflate; those of one channel are equal, and take a quarter."""
_COLUMNS = np.arange(8, 241, 4)
_ROWS_A_COLUMN = 1.0
_QUARTERS = (0.25, 0.5, 0.75)
_GREEK = {"gamma": "\N{GREEK SMALL LETTER GAMMA}", "beta": "\N{GREEK SMALL LETTER BETA}"}


class Place(NamedTuple):
    """A quantity of one slot of a run, and how many values there are; no channels where that is not known.

    A gamma or beta that stays has a value, and nothing needs to be read.
    """

    quantity: str
    slot: str
    rows: int
    channels: int
    value: float | None


@dataclass(frozen=True)
class Size:
    """How large a map may be."""

    columns: int
    rows: int


def size_for(places: Sequence[Place]) -> Size:
    """Return the largest size that maps may have, so that all of them find room in a page."""
    shapes = np.array([(place.rows, place.channels or np.inf) for place in places if place.value is None]).reshape(-1, 2)
    best = Size(int(_COLUMNS[0]), int(_ROWS_A_COLUMN * _COLUMNS[0]))
    left = _PAGE_BYTES - _BYTES_A_PLACE * len(places)
    for columns in _COLUMNS.tolist():
        size = Size(columns, int(_ROWS_A_COLUMN * columns))
        wide, high = np.minimum(shapes, (size.columns, size.rows)).T
        of_quantiles = np.where(high == 1, _BYTES_A_COLUMN / 4, _BYTES_A_COLUMN)
        if (wide * (of_quantiles + _BYTES_A_CELL * high)).sum() > left:
            break
        best = size
    return best


def places_in(run: Run) -> list[Place]:
    """Return the quantities that a run has of its slots, quantity by quantity."""
    channels = {slot.name: slot.channels for slot in run.slots}
    found = []
    rows_of: dict[str, int] = {}
    for quantity in (*SHOWN, *OF_SLOTS):
        axis = quantity.name if quantity.axis == "probes" else quantity.axis  # what was measured afterwards has its own
        for slot in _slots_with(run, quantity):
            if axis not in rows_of:
                rows_of[axis] = len(run.index(axis)["step"])
            width = 1 if quantity.per == "slot" else channels.get(slot, 0)
            value = _value_that_stays(run, slot, quantity) if slot in channels else None
            found.append(Place(quantity.name, slot, rows_of[axis], width, value))
    return found


def _value_that_stays(run: Run, slot: str, quantity: Quantity) -> float | None:
    """Return the one value of all channels of a gamma or beta that is fixed; None where it is trained, or was drawn."""
    affine = getattr(treatment_in(run, slot), quantity.name, None)
    return None if affine is None or affine.trained or affine.value == UNIFORM else float(affine.value)


def _slots_with(run: Run, quantity: Quantity) -> list[str]:
    """Return the slots that may have a quantity; of one that is derived, those that have what it needs: it is not derived."""
    if quantity.derive is None:
        return list(run.slots_with(quantity.name))
    return [slot.name for slot in run.slots if quantity.is_in(slot.parts)] if run.has("update_lr") else []


def chosen_runs(names: Sequence[str], patterns: Sequence[str]) -> list[bool]:
    """Say of each run, by its path, whether it is asked for.

    Args:
        names: the paths, as a page shows them.
        patterns: `all`, `none`, or patterns: with `*` and `?` of the whole path, else a part of it.

    Raises:
        RunError: a pattern means no run.
    """
    if list(patterns) in (["all"], ["none"]):
        return [patterns[0] == "all"] * len(names)
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            raise wrong_argument(
                "parameters", pattern, f"no run's path has it, as {names[0]}; all, none, or patterns with * and ?"
            )
    return [any(_matches(name, pattern) for pattern in patterns) for name in names]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) if any(sign in pattern for sign in "*?") else pattern in name


@dataclass(frozen=True)
class Gathered:
    """What a page has of one run.

    Attributes:
        entries: as manifest.d.ts has them; `map` and `quantiles` name blobs.
        blobs: base64, by name.
        reduced: whether a map has fewer cells than there are values.
    """

    entries: list[dict[str, Any]]
    blobs: dict[str, str]
    reduced: bool


def gather(run: Run, places: Iterable[Place], size: Size, *, first: int) -> Gathered:
    """Read a run's parameters; `first` is the number of its first blob."""
    entries: list[dict[str, Any]] = []
    blobs: dict[str, str] = {}
    steps_of: dict[str, NDArray[np.int64]] = {}
    reduced = False
    for name, slot, _, channels, value in places:
        quantity = QUANTITIES[name]
        if value is not None:
            entries.append(_entry(quantity, slot, constant=value, channels=channels))
            continue
        if name not in steps_of:
            steps_of[name] = run.index(name)["step"]
        try:
            values = run.read(name, slot)
        except RunError:
            if quantity.derive is None:
                raise
            continue  # what it follows from does not move
        values = values[:, np.newaxis] if values.ndim == 1 else values
        rows = min(len(steps_of[name]), len(values))  # it may grow between two readings
        if not rows:
            continue
        steps, values = steps_of[name][:rows], values[:rows]
        entry, packs = _of_values(quantity, slot, steps, values, size)
        reduced |= (entry["columns"] < len(steps) or entry["rows"] < entry["channels"]) and bool(packs)
        for kind, pack in zip(("map", "quantiles"), packs, strict=bool(packs)):
            entry[kind] = f"{kind}-{first + len(blobs)}"
            blobs[entry[kind]] = pack
        entries.append(entry)
    return Gathered(entries, blobs, reduced)


def _entry(quantity: Quantity, slot: str, *, constant: float | None, channels: int) -> dict[str, Any]:
    at = 0.0 if constant is None else constant
    return {
        "quantity": quantity.name,
        "label": _GREEK.get(quantity.name, quantity.name.replace("_", " ").replace(" var", " variance")),
        "slot": slot,
        "trained": False,
        "constant": constant,
        "channels": channels,
        "rows": 0,
        "columns": 0,
        "steps": [0, 0],
        "low": at,
        "high": at,
        "neutral": quantity.neutral,
        "map": None,
        "quantiles": None,
    }


def _of_values(
    quantity: Quantity, slot: str, steps: NDArray[np.int64], values: Floats, size: Size
) -> tuple[dict[str, Any], list[str]]:
    """Return an entry, and its map and quantiles; none of them where all values are one."""
    finite = np.isfinite(values)
    first = values.flat[0]
    if finite.flat[0] and (values == first).all():
        entry = _entry(quantity, slot, constant=float(first), channels=values.shape[1])
        return entry | {"steps": [int(steps[0]), int(steps[-1])]}, []
    if not finite.all():
        values = np.where(finite, values, np.asarray(np.nan, dtype=values.dtype))
    grid = reduce_map(steps, values, columns=size.columns, rows=size.rows)
    found = quantise(grid.values)
    rows, columns = grid.values.shape
    entry = _entry(quantity, slot, constant=None, channels=grid.channels) | {
        "trained": len(steps) == 1 or bool((values[0] != values[-1]).any()),
        "rows": rows,
        "columns": columns,
        "steps": [grid.first_step, grid.last_step],
        "low": found.low,
        "high": found.high,
    }
    return entry, [packed(found.values), packed(quantiles(steps, values, columns))]


def quantiles(steps: NDArray[np.int64], values: Floats, columns: int) -> NDArray[np.float32]:
    """Return quantiles over channels, 5 x columns: minimum, quarter, median, three quarters, maximum.

    Minimum and maximum are those of all snapshots of a column; the others, those of its last snapshot.
    """
    last = last_rows(steps, columns)
    starts = np.minimum(np.append(0, last[:-1] + 1), last)  # a column without a snapshot shows the one before it
    shown = values[last]
    ends = []
    for extreme in (np.fmin, np.fmax):
        by_row = extreme.reduce(values, axis=1)
        ends.append(extreme(extreme.reduceat(by_row, starts), by_row[last]))
    if np.isfinite(shown).all():
        middle = np.quantile(shown, _QUARTERS, axis=1)
    else:
        middle = np.full((len(_QUARTERS), columns), np.nan)
        some = np.isfinite(shown).any(axis=1)
        middle[:, some] = np.nanquantile(shown[some], _QUARTERS, axis=1)
    return np.vstack([ends[0], middle, ends[1]]).astype(np.float32)
