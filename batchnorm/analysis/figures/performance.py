"""Loss and accuracy of vanilla and one mask's modes, over training steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchnorm.analysis.figures._panels import line_label, require_common_epochs
from batchnorm.analysis.runs import COMPARE_MASKS, RunPaths, open_runs, require_one_mask, sort_ablations
from batchnorm.analysis.shell import Command, chosen_paths, look_of
from batchnorm.modes import format_mask

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look

_METRICS = ("train_loss", "test_loss", "train_acc", "test_acc")


def performance_across_ablations(
    paths: RunPaths,
    smooth_curve: bool = False,
    **look: Unpack[Look],
) -> Figure:
    """Draw train and test loss and accuracy over training steps for vanilla and the modes of one mask.

    Several seeds are drawn as their mean, with a band from the lowest to the highest.

    Args:
        paths: runs of one problem and one mask; vanilla, and BatchNorm everywhere, may be among them.
        smooth_curve: draw a Savitzky-Golay filtered line over the recorded one, which turns faint.
        look: see `bn_plot_functions`.
    """
    from batchnorm.analysis import curves, looks  # matplotlib with them

    ablations = sort_ablations(open_runs(paths))
    mask = require_one_mask(ablations, instead=COMPARE_MASKS)
    require_common_epochs(ablations.runs)
    drawn = ablations.panel(mask)
    read = {metric: [curves.metric_curve(group, metric) for _, group in drawn] for metric in _METRICS}
    window = curves.smoothing_window([curve for row in read.values() for curve in row]) if smooth_curve else None
    smoothed = [f"smoothed (Savitzky-Golay, order 2, {window} epochs) over faint lines as recorded"] if window else []
    with looks.page(**look) as page:
        figure = page.figure(height=0.55 * page.width + 1.7)
        panels = figure.subplots(2, 2, sharex=True, sharey="row")
        entries: dict[str, Artist] = {}
        for metric, axes in zip(_METRICS, panels.flat, strict=True):
            for (row, group), curve in zip(drawn, read[metric], strict=True):
                label = line_label(row, group, [group for _, group in drawn])
                line = curves.draw_curve(axes, curve, colour=row.colour, dashes=row.dashes, label=label, window=window)
                entries.setdefault(label, line)
        for column, split in enumerate(("train", "test")):
            panels[0, column].set_title(looks.SPLITS[split])
            looks.step_axis(panels[1, column])
        for (axes, _), metric in zip(panels, ("train_loss", "train_acc"), strict=True):
            axes.set_ylabel(looks.metric_label(metric, split=False))
            looks.metric_axis(axes, metric)
        page.title(figure, [*looks.facts(ablations.runs), f"mask {format_mask(mask)}", *smoothed])
        looks.legend_below(figure, entries)
        more = ["smooth"] if smooth_curve else []
        return page.finish(figure, "performance_across_ablations", ablations.runs, *more)


COMMAND = Command(
    "performance",
    "loss and accuracy of vanilla and one mask's modes",
    "output --mask none 001",
    lambda given: performance_across_ablations(chosen_paths(given), given.smooth, **look_of(given)),
    {"--smooth": {"action": "store_true", "help": "smooth (Savitzky-Golay) over faint recorded lines"}},
)
