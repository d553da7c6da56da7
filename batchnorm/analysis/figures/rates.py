"""One variant across learning rates."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from batchnorm.analysis.figures._panels import in_words, require_common_epochs
from batchnorm.analysis.runs import Group, RunPath, RunPaths, group_seeds, open_runs, require_one_setting
from batchnorm.analysis.shell import Command, chosen_paths, look
from batchnorm.errors import RunError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure


def compare_multiple_lr(
    paths: RunPaths,
    *,
    style: str | None = None,
    save_dir: RunPath | None = None,
    save: bool = True,
) -> Figure:
    """Draw one variant across learning rates: train loss and test accuracy over steps, and final accuracy over the rate.

    Several seeds are drawn as their mean, with a band or bar from the lowest to the highest.

    Args:
        paths: runs of one problem, one mask and one mode.
        style: see `bn_plot_functions`.
        save_dir: see `bn_plot_functions`.
        save: see `bn_plot_functions`.
    """
    from matplotlib import colormaps

    from batchnorm.analysis import curves, looks  # matplotlib with them

    runs = open_runs(paths)
    groups = sorted(group_seeds(runs), key=lambda group: group.config.lr)
    for group in groups:
        if (group.mask, group.mode) != (groups[0].mask, groups[0].mode):
            raise RunError(
                f"{group.runs[0].directory}: is {in_words(group.runs[0], label=False)}, "
                f"{runs[0].directory} {in_words(runs[0], label=False)}; give one variant across learning rates"
            )
    for before, after in pairwise(groups):
        if before.config.lr == after.config.lr:
            require_one_setting([before, after], instead=" and learning rate")
    require_common_epochs(runs)
    ramp = colormaps["viridis"](np.linspace(0, 0.88, len(groups)))
    with looks.page(style, save_dir, save, wide=True) as page:
        figure = page.figure(height=0.36 * page.width + 0.8)
        loss, accuracy, final = figure.subplots(1, 3)
        entries: dict[str, Artist] = {}
        for metric, axes in (("train_loss", loss), ("test_acc", accuracy)):
            for colour, group in zip(ramp, groups, strict=True):
                label = ", ".join(part for part in (f"{group.config.lr:.4g}", group.mark) if part)
                curve = curves.metric_curve(group, metric)
                line = curves.draw_curve(axes, curve, colour=colour, dashes="-", label=label)
                entries.setdefault(f"lr {label}", line)
            axes.set_ylabel(looks.metric_label(metric))
            looks.step_axis(axes)
            looks.metric_axis(axes, metric)
        for split, dashes, marker in (("train", ":", "s"), ("test", "-", "o")):
            means, low, high = np.array([_final(group, f"{split}_acc") for group in groups]).T
            rates = [group.config.lr for group in groups]
            final.errorbar(
                rates,
                means,
                yerr=[means - low, high - means],
                color=groups[0].row.colour,
                linestyle=dashes,
                marker=marker,
                markersize=3,
                capsize=2,
                label=looks.SPLITS[split].lower(),
            )
        final.set_ylabel("Final accuracy")
        final.set_xlabel("Learning rate")
        looks.log_axis(final, "x")
        looks.accuracy_axis(final)
        final.legend()
        looks.title(figure, [*looks.facts(runs, rate=False), in_words(runs[0])])
        looks.legend_below(figure, entries)
        return page.finish(figure, "compare_multiple_lr", runs)


def _final(group: Group, metric: str) -> tuple[float, float, float]:
    """Return mean, lowest and highest of the last recorded values; NaN where none is finite."""
    values = np.array([column[-1] for run in group.runs if len(column := run.evaluations[metric])])
    values = values[np.isfinite(values)]
    return (float(values.mean()), float(values.min()), float(values.max())) if len(values) else (np.nan,) * 3


COMMAND = Command(
    "rates",
    "one variant across learning rates",
    "output --mask none",
    lambda given: compare_multiple_lr(chosen_paths(given), **look(given)),
)
