"""What the figures of measurements share: which runs made them, a mark at each probe, and axes for epochs and values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from batchnorm.errors import RunError
from batchnorm.modes import Mode
from batchnorm.quantities import FULL, QUANTITIES
from batchnorm.store import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray

    from batchnorm.analysis.curves import Curve

_MOST_MARKED = 25
"""Points of a line that has a mark at each of them."""


def has(run: Run, quantity: str) -> bool:
    """Say whether a run has a quantity, in one slot at least where it has slots."""
    return run.has(quantity) if QUANTITIES[quantity].per == "run" else bool(run.slots_with(quantity))


def runs_with(runs: Sequence[Run], quantities: Iterable[str]) -> list[Run]:
    """Return the runs that have one of the quantities.

    Raises:
        RunError: none has; the message says what records them.
    """
    names = list(quantities)
    found = [run for run in runs if any(has(run, name) for name in names)]
    if not found:
        words = " or ".join(name.replace("_", " ") for name in names)
        needed = dict.fromkeys(QUANTITIES[name].measurement for name in names)
        by = " or ".join(f"MEASURE={'full' if name in FULL else name}" for name in needed if name)
        others = f", nor have the other {len(runs) - 1} runs" if len(runs) > 1 else ""
        raise RunError(f"{runs[0].directory}: has no {words}{others}{f'; a run with {by} records it' if by else ''}")
    return found


def draw_measured(axes: Axes, curve: Curve, row: Mode, label: str) -> Line2D:
    """Draw a variant's line and band; where there are few points, each has a mark. Return the line for the legend."""
    from batchnorm.analysis import curves  # matplotlib with it

    line = curves.draw_curve(axes, curve, colour=row.colour, dashes=row.dashes, label=label)
    mark_points(line, "o")
    return line


def mark_points(line: Line2D, marker: str) -> None:
    """Mark each point of a line of few points."""
    if len(line.get_xdata(orig=True)) <= _MOST_MARKED:  # type: ignore[arg-type]
        line.set_marker(marker)
        line.set_markersize(2.5)


def epoch_axis(axes: Axes, runs: Sequence[Run], *, label: bool = True) -> None:
    """Make the horizontal axis, of training steps, one of epochs; of steps, where the runs' epochs differ in length."""
    from matplotlib.ticker import MultipleLocator

    from batchnorm.analysis import looks  # matplotlib with it
    from batchnorm.analysis.ticks import TickFormatter

    lengths = {run.length.steps_per_epoch for run in runs}
    (steps,) = lengths if len(lengths) == 1 else (0,)
    if not steps:
        looks.step_axis(axes, label=label)
        return
    epochs = axes.get_xlim()[1] / steps
    every = next(every for scale in range(9) for every in (10**scale, 2 * 10**scale, 5 * 10**scale) if epochs <= 6 * every)
    axes.xaxis.set_major_locator(MultipleLocator(every * steps))
    axes.xaxis.set_major_formatter(TickFormatter(scale=1 / steps))
    if label:
        axes.set_xlabel("Epoch")


def value_axis(axes: Axes) -> None:
    """Make the vertical axis fit what is drawn: linear within a factor of 5, else logarithmic, on both sides of 0."""
    from matplotlib.ticker import MaxNLocator

    from batchnorm.analysis import looks  # matplotlib with it
    from batchnorm.analysis.ticks import TickFormatter

    drawn = np.concatenate([np.asarray(line.get_ydata(orig=True), np.float64) for line in axes.lines])
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.any():
        return
    if drawn.min() < 0:
        _signed_axis(axes, drawn)
    elif drawn.max() > 5 * drawn.min():
        looks.log_axis(axes)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(TickFormatter())


def _signed_axis(axes: Axes, drawn: NDArray[np.float64]) -> None:
    """Make the vertical axis logarithmic on both sides of 0, and linear near it."""
    from matplotlib.ticker import FixedLocator, NullLocator

    from batchnorm.analysis.ticks import TickFormatter

    sizes = np.abs(drawn[drawn != 0])
    top = math.floor(math.log10(sizes.max()))
    bottom = max(math.floor(math.log10(sizes.min())), top - 2)  # the ticks of more powers would stand too close
    axes.set_yscale("symlog", linthresh=10.0**bottom, linscale=0.4)
    powers = [10.0**power for power in range(bottom, top + 1)]
    axes.yaxis.set_major_locator(FixedLocator([*(-power for power in powers), 0, *powers]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(TickFormatter())
