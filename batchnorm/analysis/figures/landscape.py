"""How smooth the loss is along the gradient, over epochs: Santurkar's three quantities, vanilla and one mask's modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchnorm.analysis.figures._measured import draw_measured, epoch_axis, runs_with, value_axis
from batchnorm.analysis.figures._panels import line_label
from batchnorm.analysis.runs import RunPaths, open_runs, require_one_mask, sort_ablations
from batchnorm.analysis.shell import Command, chosen_paths, look_of
from batchnorm.modes import format_mask

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look

_QUANTITIES = ("loss_variation", "gradient_predictiveness", "effective_smoothness")


def loss_landscape(paths: RunPaths, **look: Unpack[Look]) -> Figure:
    """Draw loss variation, gradient predictiveness and effective smoothness along the gradient, a panel each.

    Vanilla stands beside the modes of one mask. Several seeds are drawn as their mean, with a band from the lowest to the
    highest. Runs that did not measure it are left out.

    Args:
        paths: runs of one problem and one mask; vanilla, and BatchNorm everywhere, may be among them.
        look: see `bn_plot_functions`.
    """
    from batchnorm.analysis import curves, looks  # matplotlib with them

    ablations = sort_ablations(runs_with(open_runs(paths), _QUANTITIES[:1]))
    mask = require_one_mask(ablations)
    drawn = ablations.panel(mask)
    groups = [group for _, group in drawn]
    with looks.page(**look, wide=True) as page:
        figure = page.figure(height=0.28 * page.width + 0.9)
        panels = figure.subplots(1, len(_QUANTITIES), squeeze=False)[0]
        entries: dict[str, Artist] = {}
        for name, axes in zip(_QUANTITIES, panels, strict=True):
            for row, group in drawn:
                label = line_label(row, group, groups)
                entries.setdefault(label, draw_measured(axes, curves.metric_curve(group, name), row, label))
            axes.set_title(looks.symbol(name))
            value_axis(axes)
            epoch_axis(axes, ablations.runs)
        page.title(figure, [*looks.facts(ablations.runs), f"mask {format_mask(mask)}"])
        looks.legend_below(figure, entries)
        return page.finish(figure, "loss_landscape", ablations.runs)


COMMAND = Command(
    "landscape",
    "loss variation, gradient predictiveness, effective smoothness: vanilla and one mask's modes",
    "output --mask none all --seed 1",
    lambda given: loss_landscape(chosen_paths(given), **look_of(given)),
)
