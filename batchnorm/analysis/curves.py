"""Lines over training steps, as mean and band: a metric over seeds, or a slot's parameter; and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from batchnorm.analysis.decimate import Floats, line_rows
from batchnorm.analysis.looks import DPI
from batchnorm.analysis.runs import Group, shared_steps
from batchnorm.modes import Dashes
from batchnorm.quantities import METRICS
from batchnorm.store import Run, Status

_FAINT = 0.3
_BAND = 0.1
_BAND_EDGE = 0.45
_SMALLEST_WINDOW = 5
END_MARKERS = {Status.RUNNING: ">", Status.CUT_OFF: "s", Status.DIVERGED: "X"}
"""How the end of a line is marked where a legend is shared by panels."""


@dataclass(frozen=True)
class Curve:
    """A line with a band, each of shape (T,); without a band `low` and `high` are `mean`."""

    steps: NDArray[np.int64]
    mean: Floats
    low: Floats
    high: Floats

    @property
    def has_band(self) -> bool:
        """Whether there is more than a line."""
        return self.low is not self.mean


def metric_curve(group: Group, metric: str, slot: str | None = None) -> Curve:
    """Return a single number's mean over seeds along its axis, from the lowest to the highest seed as its band.

    Raises:
        RunError: the seeds share no step, or one has no such quantity.
    """
    records = [_at_evaluations(run, metric) if metric in METRICS else trajectory(run, metric, slot) for run in group.runs]
    steps = shared_steps(group.runs, [axis for axis, _ in records])
    values = np.full((len(records), len(steps)), np.nan)
    for row, (axis, recorded) in zip(values, records, strict=True):
        row[np.isin(steps, axis)] = recorded[np.isin(axis, steps)]
    values[~np.isfinite(values)] = np.nan
    if len(records) == 1:
        (single,) = values
        return Curve(steps, single, single, single)
    counts = np.isfinite(values).sum(axis=0)
    mean = np.divide(np.nansum(values, axis=0), counts, out=np.full(len(steps), np.nan), where=counts > 0)
    return Curve(steps, mean, np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0))


def _at_evaluations(run: Run, metric: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return a metric at the epochs that were evaluated: steps and values, each of shape (E,)."""
    rows = run.evaluations
    return rows["step"], rows[metric]


def trajectory(run: Run, quantity: str, slot: str | None) -> tuple[NDArray[np.int64], Floats]:
    """Return a quantity: steps (T,) and values (T,), or (T, C) for channels. While a run goes on it may grow between two reads.

    Raises:
        RunError: the run, or the slot, has no such quantity.
    """
    steps = run.index(quantity)["step"]
    values = run.read(quantity, slot)
    length = min(len(steps), len(values))
    return steps[:length], values[:length]


def channel_curve(group: Group, quantity: str, slot: str) -> Curve:
    """Return the mean over a slot's channels, and of all seeds; the band holds the middle 80 % of them.

    Raises:
        RunError: the seeds share no step.
    """
    steps, pooled = pooled_channels(group, quantity, slot)
    low, mean, high = _percentiles_and_mean(pooled)
    return Curve(steps, mean, low, high)


def pooled_channels(group: Group, quantity: str, slot: str) -> tuple[NDArray[np.int64], Floats]:
    """Return a quantity of a slot's channels, those of all seeds side by side: steps (T,) and values (T, C times seeds).

    Raises:
        RunError: the seeds share no step.
    """
    read = [trajectory(run, quantity, slot) for run in group.runs]
    steps = shared_steps(group.runs, [axis for axis, _ in read])
    if len(read) == 1:
        ((_, single),) = read
        return steps, single
    pooled = np.full((len(steps), sum(values.shape[1] for _, values in read)), np.nan, dtype=np.float32)
    column = 0
    for axis, values in read:
        pooled[np.isin(steps, axis), column : column + values.shape[1]] = values[np.isin(axis, steps)]
        column += values.shape[1]
    return steps, pooled


def _percentiles_and_mean(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return 10 % quantile, mean and 90 % quantile of each row's finite values; NaN where there are none."""
    low, high = quantiles(values, (0.1, 0.9))
    finite = np.isfinite(values)
    counts = finite.sum(axis=1)
    sums = np.sum(values, axis=1, dtype=np.float64, where=finite)
    return low, np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0), high


def quantiles(values: Floats, shares: Iterable[float]) -> list[Floats]:
    """Return quantiles of each row's finite values, an array a share; NaN where there are none."""
    ordered = np.sort(np.where(np.isfinite(values), values, np.float32(np.nan)), axis=1)
    rows, last = np.arange(len(ordered)), np.maximum(np.isfinite(ordered).sum(axis=1) - 1, 0)
    found = []
    for share in shares:
        place = share * last
        below = np.floor(place).astype(np.intp)
        above = np.minimum(below + 1, last)
        found.append(ordered[rows, below] + (place - below) * (ordered[rows, above] - ordered[rows, below]))
    return found


def smoothing_window(curves: Sequence[Curve]) -> int:
    """Return the Savitzky-Golay window for curves of one figure, in epochs: a tenth of the longest, odd, at least 5."""
    longest = max((len(curve.steps) for curve in curves), default=0)
    return max(_SMALLEST_WINDOW, longest // 10 | 1)


def smoothed(values: Floats, window: int) -> Floats | None:
    """Smooth with a Savitzky-Golay filter of order 2 up to the first value that is not finite; None where that is too short."""
    gaps = np.flatnonzero(~np.isfinite(values))
    length = int(gaps[0]) if len(gaps) else len(values)
    if length < window:
        return None
    return np.append(savgol_filter(values[:length], window, 2), values[length:])


def draw_curve(axes: Axes, curve: Curve, *, colour: Any, dashes: Dashes | str, label: str, window: int | None = None) -> Line2D:
    """Draw line and band, and return the line for the legend.

    Args:
        axes: where.
        curve: what; it may be empty.
        colour: of both.
        dashes: the line's style.
        label: what the line is called.
        window: smooth over so many epochs, and draw the recorded line faintly behind.
    """
    bins = int(axes.get_figure(root=True).get_size_inches()[0] * DPI / 2)  # type: ignore[union-attr]
    smooth = None if window is None else smoothed(curve.mean, window)
    main = curve.mean if smooth is None else smooth
    marker = "o" if len(curve.steps) == 1 else None
    width = matplotlib.rcParams["lines.linewidth"]

    def line(values: Floats, **look: Any) -> Line2D:
        rows = line_rows(curve.steps, [values], bins)
        look = {"color": colour, "marker": marker, "markersize": 3, "zorder": 2 + _gaps(look["linestyle"]), **look}
        return axes.plot(curve.steps[rows], values[rows], **look)[0]

    if curve.has_band and len(curve.steps):
        rows = line_rows(curve.steps, [curve.low, curve.high], bins)
        low, high = curve.low[rows], curve.high[rows]
        axes.fill_between(curve.steps[rows], low, high, color=colour, alpha=_BAND, linewidth=0)
        for edge in (low, high):
            axes.plot(curve.steps[rows], edge, color=colour, alpha=_BAND_EDGE, linewidth=0.3 * width, label=f"_{label}, band")
    if smooth is not None:
        line(curve.mean, alpha=_FAINT, linewidth=0.6 * width, linestyle="-", label=f"_{label}, as recorded")
    return line(main, linestyle=dashes, label=label)


def _gaps(dashes: Dashes | str) -> float:
    """Return which share of a line is gaps. Lines with more lie on top, so that one that lies beneath shows through."""
    if isinstance(dashes, str):
        return {"-": 0.0}.get(dashes, 0.5)
    return sum(dashes[1][1::2]) / sum(dashes[1])


def draw_end(axes: Axes, curve: Curve, *, colour: Any, status: Status) -> Line2D:
    """Mark where an unfinished run's line ends, and return the mark for the legend."""
    marker = END_MARKERS[status]
    there = np.flatnonzero(np.isfinite(curve.mean))[-1:]
    axes.plot(curve.steps[there], curve.mean[there], color=colour, marker=marker, markersize=4, linestyle="", label="_end")
    return Line2D([], [], color="#404040", marker=marker, markersize=4, linestyle="")
