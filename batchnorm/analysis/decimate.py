"""Reduction of long trajectories to what pixels can show, without losing extremes. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def line_rows(steps: NDArray[Any], lines: Sequence[Floats], bins: int) -> NDArray[np.intp]:
    """Choose the rows that draw lines as all rows would: per bin of steps the first, last, lowest and highest of each line.

    A line through these rows covers the same pixels when a bin is a pixel's width (Jugel et al., "M4: A
    Visualization-Oriented Time Series Data Aggregation", VLDB 2014). Rows that are not finite are kept where a gap begins.

    Args:
        steps: rising, shape (T,).
        lines: each of shape (T,).
        bins: how many bins the steps are laid into.

    Returns:
        Rising row numbers, at most (2 + 3 per line) per bin.
    """
    if len(steps) <= 4 * bins:
        return np.arange(len(steps))
    starts, _ = _bins(steps, bins)
    ends = np.append(starts[1:], len(steps))
    kept = [starts, ends - 1]
    for line in lines:
        finite = np.isfinite(line)
        gap = np.flatnonzero(~finite)
        kept.append(gap[np.unique(np.searchsorted(starts, gap, side="right"), return_index=True)[1]])
        for fill, extreme in ((np.inf, np.argmin), (-np.inf, np.argmax)):
            filled = np.where(finite, line, fill)
            kept.append(np.array([start + extreme(filled[start:end]) for start, end in zip(starts, ends, strict=True)]))
    return np.unique(np.concatenate(kept)).astype(np.intp)


@dataclass(frozen=True)
class Map:
    """Channels over steps, on an even grid.

    Attributes:
        values: shape (rows, columns): groups of neighbouring channels, and spans of steps.
        first_step: where the first column begins.
        last_step: where the last column ends.
        channels: how many channels the rows stand for.
    """

    values: Floats
    first_step: int
    last_step: int
    channels: int


def reduce_map(steps: NDArray[Any], values: Floats, *, columns: int, rows: int) -> Map:
    """Lay a trajectory on a grid of at most `columns` spans of steps and `rows` groups of channels.

    Where that is enough, each snapshot has a column.

    A cell holds the one of its values that lies furthest from the mean of its surroundings, so that a spike stays,
    whichever way it points. A span without a snapshot shows the one before it, which still held then.

    Args:
        steps: of the snapshots, rising, shape (T,), T >= 1; they need not be even.
        values: shape (T, C); what is not finite comes back as NaN.
        columns: upper limit.
        rows: upper limit.
    """
    finite = np.where(np.isfinite(values), values, np.asarray(np.nan, dtype=values.dtype))
    narrowest = int(np.diff(steps).min(initial=max(steps[-1] - steps[0], 1)))
    columns = min(columns, int(steps[-1] - steps[0]) // narrowest + 1)
    starts, places = _bins(steps, columns)
    by_span = _keep_extremes(finite, starts)
    filled = by_span[np.searchsorted(places, np.arange(columns), side="right") - 1]
    channels = values.shape[1]
    groups = min(rows, channels)
    return Map(_keep_extremes(filled.T, np.arange(groups) * channels // groups), int(steps[0]), int(steps[-1]), channels)


def last_rows(steps: NDArray[Any], columns: int) -> NDArray[np.intp]:
    """Return for each of `columns` spans of steps the last row that belongs to it, or to one before it where it has none."""
    starts, places = _bins(steps, columns)
    ends = np.append(starts[1:], len(steps)) - 1
    return ends[np.searchsorted(places, np.arange(columns), side="right") - 1]


def _bins(steps: NDArray[Any], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Lay rising steps into equal bins; return where each bin that is not empty starts, and which bin it is."""
    span = max(float(steps[-1] - steps[0]), 1.0)
    place = np.minimum(((steps - steps[0]) / span * count).astype(np.intp), count - 1)
    places, starts = np.unique(place, return_index=True)
    return starts, places


def _keep_extremes(values: Floats, starts: NDArray[np.intp]) -> Floats:
    """Reduce each bin of rows to its lowest or highest value, whichever is further from the mean of it and its neighbours.

    The neighbours count because in a bin of two neither is further from the mean of both.
    """
    low = _in_bins(np.minimum, values, starts)
    high = _in_bins(np.maximum, values, starts)
    sums = np.pad(_in_bins(np.add, values, starts), ((1, 1), (0, 0)))
    counts = np.pad(np.diff(np.append(starts, len(values))), 1)
    around = sums[:-2] + sums[1:-1] + sums[2:]
    base = around / (counts[:-2] + counts[1:-1] + counts[2:])[:, None].astype(values.dtype)
    base = np.where(np.isnan(base), (low + high) / 2, base)
    return np.where(high - base >= base - low, high, low)


def _in_bins(operation: np.ufunc, values: Floats, starts: NDArray[np.intp]) -> Floats:
    """Reduce each bin of rows to one, as `reduceat` does, which takes 20 times as long where rows are long."""
    ends = np.append(starts[1:], len(values))
    return np.stack([operation.reduce(values[start:end], axis=0) for start, end in zip(starts, ends, strict=True)])
