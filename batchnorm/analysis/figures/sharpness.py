"""How curved the loss is, over epochs: batch sharpness, and the Hessian's largest eigenvalue, with 2 over the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from batchnorm.analysis.figures._measured import draw_measured, epoch_axis, has, runs_with, value_axis
from batchnorm.analysis.figures._panels import line_label
from batchnorm.analysis.runs import Group, RunPaths, open_runs, require_one_mask, sort_ablations
from batchnorm.analysis.shell import Command, chosen_paths, look_of
from batchnorm.modes import format_mask

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look

_QUANTITIES = ("batch_sharpness", "sharpness")


def sharpness(paths: RunPaths, **look: Unpack[Look]) -> Figure:
    """Draw batch sharpness, and the Hessian's largest eigenvalue where it was recorded, a panel each, with 2 / learning rate.

    2 / learning rate is drawn for plain SGD alone: other optimizers have another limit. Vanilla stands beside the modes of
    one mask. Several seeds are drawn as their mean, with a band from the lowest to the highest.

    Args:
        paths: runs of one problem and one mask; vanilla, and BatchNorm everywhere, may be among them.
        look: see `bn_plot_functions`.
    """
    from batchnorm.analysis import curves, looks  # matplotlib with them

    ablations = sort_ablations(runs_with(open_runs(paths), _QUANTITIES))
    mask = require_one_mask(ablations)
    drawn = ablations.panel(mask)
    groups = [group for _, group in drawn]
    shown = [name for name in _QUANTITIES if any(has(run, name) for run in ablations.runs)]
    with looks.page(**look, wide=len(shown) > 1) as page:
        figure = page.figure(height=(0.36 if len(shown) > 1 else 0.6) * page.width + 0.9)
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        entries: dict[str, Artist] = {}
        for name, axes in zip(shown, panels, strict=True):
            for row, group in drawn:
                label = line_label(row, group, groups)
                if runs := tuple(run for run in group.runs if has(run, name)):
                    entries.setdefault(label, draw_measured(axes, curves.metric_curve(Group(runs), name), row, label))
            entries |= _draw_limits(axes, groups)
            axes.set_title(looks.symbol(name))
            value_axis(axes)
        for axes in panels:
            epoch_axis(axes, ablations.runs)
        page.title(figure, [*looks.facts(ablations.runs), f"mask {format_mask(mask)}"])
        looks.legend_below(figure, entries)
        return page.finish(figure, "sharpness", ablations.runs)


def _draw_limits(axes: Axes, groups: Sequence[Group]) -> dict[str, Artist]:
    """Draw 2 / learning rate of the runs of plain SGD, once for each course of the rate."""
    entries: dict[str, Artist] = {}
    drawn = set()
    for group in groups:
        epochs = group.runs[0].epochs
        if group.config.optimizer == "SGD" and (course := (epochs["step"].tobytes(), epochs["lr"].tobytes())) not in drawn:
            drawn.add(course)
            rates = np.where(epochs["lr"] > 0, epochs["lr"], np.nan)  # schedules end at 0
            (line,) = axes.plot(epochs["step"], 2 / rates, color="#808080", linewidth=0.8, linestyle=":", label="_limit")
            entries["2 / learning rate"] = line
    return entries


COMMAND = Command(
    "sharpness",
    "batch sharpness and the largest eigenvalue, with 2 / learning rate: vanilla and one mask's modes",
    "output --mask none all --seed 1",
    lambda given: sharpness(chosen_paths(given), **look_of(given)),
)
