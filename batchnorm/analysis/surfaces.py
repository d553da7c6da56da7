"""Channels over steps as colour: heat maps, contours and 3D surfaces."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D
from numpy.typing import NDArray

from batchnorm.analysis.curves import trajectory
from batchnorm.analysis.decimate import Map, reduce_map
from batchnorm.analysis.looks import DPI, step_axis
from batchnorm.analysis.ticks import TickFormatter
from batchnorm.errors import RunError
from batchnorm.quantities import QUANTITIES, Quantity
from batchnorm.store import Run

COLOURS = "RdBu_r"
_OUTLIERS = 0.002
_SCALE_CELLS = (320, 256)
_SURFACE_CELLS = (64, 36)
_CONTOUR_CELLS = (160, 80)
_LEVELS = 12


@dataclass(frozen=True)
class Trajectory:
    """A quantity of one slot's channels in one run, channels in the order in which they are drawn.

    Attributes:
        run: where it is from.
        slot: the weight layer.
        quantity: what it is.
        steps: shape (T,), T >= 1.
        values: shape (T, C).
    """

    run: Run
    slot: str
    quantity: Quantity
    steps: NDArray[np.int64]
    values: NDArray[np.float32]

    def grid(self, columns: int, rows: int) -> Map:
        """Reduce it to a grid."""
        return reduce_map(self.steps, self.values, columns=columns, rows=rows)

    @property
    def centre(self) -> float:
        """The middle of its colour scale: the value at which it does nothing; 0 where it has none."""
        return self.quantity.neutral or 0.0


def read_trajectory(run: Run, quantity: str, slot: str, *, sort_by_converged: bool) -> Trajectory:
    """Read a slot's trajectory; sorted, the channel with the lowest final value comes first.

    Raises:
        RunError: the slot has no such quantity, or no snapshot is recorded yet.
    """
    steps, values = trajectory(run, quantity, slot)
    if not len(steps):
        raise RunError(f"{run.directory}: has recorded no snapshot yet")
    if sort_by_converged:
        values = values[:, np.argsort(values[-1], kind="stable")]
    return Trajectory(run, slot, QUANTITIES[quantity], steps, values)


def colour_scale(trajectories: Sequence[Trajectory]) -> tuple[Normalize, str]:
    """Return one scale for trajectories that share a centre, and at which ends values lie beyond it (`extend` of a colour bar).

    The furthest 0.2 % of values may lie beyond
    its ends, where they have the last colour: one spike must not bleach all else.
    """
    centre = trajectories[0].centre
    maps = [item.grid(*_SCALE_CELLS).values - centre for item in trajectories]
    offsets = np.abs(np.concatenate([values.ravel() for values in maps]))
    offsets = offsets[np.isfinite(offsets)]
    half = float(np.quantile(offsets, 1 - _OUTLIERS)) if len(offsets) else 0.0
    half = half or (float(offsets.max()) if len(offsets) else 0.0) or 1.0
    below = any(bool((values < -half).any()) for values in maps)
    above = any(bool((values > half).any()) for values in maps)
    return CenteredNorm(centre, half), {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]


def draw_heat_map(axes: Axes, item: Trajectory, scale: Normalize) -> AxesImage:
    """Draw channels (upwards) over steps, with at most as many cells as the panel has pixels when it is saved."""
    scale_up = DPI / cast(Figure, axes.figure).dpi
    grid = item.grid(columns=int(axes.bbox.width * scale_up), rows=int(axes.bbox.height * scale_up))
    last = max(grid.last_step, grid.first_step + 1)
    image = axes.imshow(
        np.ma.masked_invalid(grid.values),
        norm=scale,
        cmap=_colours(),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(grid.first_step, last, 0.5, grid.channels + 0.5),
    )
    _channel_axis(axes)
    return image


def draw_contours(axes: Axes, item: Trajectory, scale: Normalize) -> QuadContourSet:
    """Draw filled contours of channels over steps."""
    steps, channels, values = _nodes(item.grid(*_CONTOUR_CELLS))
    assert scale.vmin is not None and scale.vmax is not None
    levels = np.linspace(scale.vmin, scale.vmax, _LEVELS + 1)
    inside = np.ma.masked_invalid(values)
    drawn = axes.contourf(steps, channels, inside, levels, norm=scale, cmap=_colours(), extend="both")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # matplotlib before 3.11 ignores it, and says so: its files are larger
        drawn.set_rasterized(True)
    _channel_axis(axes)
    return drawn


def draw_surface(axes: Axes3D, item: Trajectory, scale: Normalize) -> Poly3DCollection:
    """Draw the surface, up to the first value that is not finite."""
    steps, channels, values = _nodes(item.grid(*_SURFACE_CELLS))
    broken = np.flatnonzero(~np.isfinite(values).all(axis=0))
    whole = slice(0, max(int(broken[0]), 2) if len(broken) else None)
    x, y = np.meshgrid(steps[whole], channels)
    heights = np.nan_to_num(values[:, whole], nan=item.centre)
    surface = axes.plot_surface(
        x, y, heights, cmap=_colours(), norm=scale, rcount=len(y), ccount=x.shape[1], linewidth=0, antialiased=False
    )
    surface.set_rasterized(True)
    return surface


def finish_surface_axes(axes: Axes3D) -> None:
    """Give a 3D panel few, short ticks close to its axes, and names on them; its title and colour bar name the values."""
    size = matplotlib.rcParams["xtick.labelsize"] - 1.5
    axes.tick_params(labelsize=size, pad=-3.5)
    for axis, ticks in ((axes.xaxis, 3), (axes.yaxis, 3), (axes.zaxis, 4)):
        axis.set_major_locator(MaxNLocator(ticks, integer=axis is not axes.zaxis))
    axes.xaxis.set_major_formatter(TickFormatter(prefixes=True))
    axes.zaxis.set_major_formatter(formatter := TickFormatter())
    longest = max(map(len, formatter.format_ticks(list(axes.zaxis.get_majorticklocs()))))
    axes.tick_params(axis="z", pad=-3.5 + 0.28 * size * max(longest - 3, 0))  # they stand centred beside the axis
    axes.set_xlabel("step", labelpad=-10, fontsize=size)
    axes.set_ylabel("channel", labelpad=-10, fontsize=size)
    axes.set_box_aspect((1.3, 1.2, 0.8), zoom=1.04)
    axes.view_init(elev=28, azim=-58)


def mappable(scale: Normalize) -> ScalarMappable:
    """Return what a colour bar is drawn from."""
    return ScalarMappable(scale, _colours())


def finish_bar(axes: Axes, label: str) -> None:
    """Give a colour bar few, small ticks, and a name on top."""
    axes.tick_params(labelsize=matplotlib.rcParams["ytick.labelsize"] - 1, length=2, pad=1.5)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(label, fontsize=matplotlib.rcParams["axes.labelsize"])


def _nodes(grid: Map) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return steps, channels and values at the nodes of a surface; one single row or column is drawn as two."""
    values = np.asarray(grid.values, dtype=np.float64)
    steps = np.linspace(grid.first_step, max(grid.last_step, grid.first_step + 1), max(values.shape[1], 2))
    channels = np.linspace(1, max(grid.channels, 2), max(values.shape[0], 2))
    return steps, channels, np.broadcast_to(values, (len(channels), len(steps)))


def _colours() -> matplotlib.colors.Colormap:
    return matplotlib.colormaps[COLOURS].with_extremes(bad="#B0B0B0")


def _channel_axis(axes: Axes) -> None:
    axes.grid(False)
    step_axis(axes, label=False)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
