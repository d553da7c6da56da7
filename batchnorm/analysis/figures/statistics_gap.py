"""How far BatchNorm's running statistics lag: accuracy and loss under running, precise and batch statistics, over epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchnorm.analysis.figures._measured import epoch_axis, mark_points, runs_with
from batchnorm.analysis.runs import RunPaths, group_seeds, is_vanilla, open_runs, require_one_setting, setting_note
from batchnorm.analysis.shell import Command, chosen_paths, look_of
from batchnorm.errors import RunError
from batchnorm.modes import Dashes, format_mask
from batchnorm.quantities import QUANTITIES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look

_STATISTICS: dict[str, tuple[str, Dashes | str, str]] = {
    "running": ("#0072B2", "-", "o"),
    "precise": ("#009E73", (0, (5, 2)), "s"),
    "batch": ("#D55E00", (0, (1.5, 1.5)), "^"),
}
"""Colour, dashes and mark of each."""


def statistics_gap(paths: RunPaths, **look: Unpack[Look]) -> Figure:
    """Draw accuracy and loss on fixed test images under running, precise and batch statistics, a row for each mask and mode.

    Vanilla, to which all three are the same, is left out, and so are runs that did not measure it. Several seeds are drawn
    as their mean, with a band from the lowest to the highest.

    Args:
        paths: runs of one problem.
        look: see `bn_plot_functions`.
    """
    from batchnorm.analysis import curves, looks  # matplotlib with them

    runs = [run for run in runs_with(open_runs(paths), ["probe_acc_running"]) if not is_vanilla(run)]
    if not runs:
        raise RunError("only runs of vanilla given: it has no statistics")
    groups = group_seeds(runs)
    require_one_setting(groups)
    with_mask = len({group.mask for group in groups}) > 1
    with looks.page(**look) as page:
        height = min(0.42 * page.width, 1.9)
        figure = page.figure(height=height * len(groups) + 1.0)
        panels = figure.subplots(len(groups), 2, sharex=True, squeeze=False)
        entries: dict[str, Artist] = {}
        beside = 0.0
        for group, row_of_panels in zip(groups, panels, strict=True):
            for metric, axes in zip(("acc", "loss"), row_of_panels, strict=True):
                for statistics, (colour, dashes, marker) in _STATISTICS.items():
                    curve = curves.metric_curve(group, f"probe_{metric}_{statistics}")
                    label = f"{statistics} statistics"
                    entries[label] = line = curves.draw_curve(axes, curve, colour=colour, dashes=dashes, label=label)
                    mark_points(line, marker)
                looks.metric_axis(axes, f"probe_{metric}")
                epoch_axis(axes, runs, label=group is groups[-1])
            notes = [group.row.label, *([f"mask {format_mask(group.mask)}"] if with_mask else []), setting_note(group, groups)]
            beside = max(beside, looks.row_name(row_of_panels[0], [*notes, group.mark], height=height))
        room = 0.38 * (1 - beside)
        looks.panel_title(panels[0, 0], "accuracy on test images", room=room)
        looks.panel_title(panels[0, 1], f"loss on test images ({QUANTITIES['probe_loss_running'].unit})", room=room)
        page.title(figure, [*looks.facts(runs), *([] if with_mask else [f"mask {format_mask(groups[0].mask)}"])])
        looks.legend_below(figure, entries)
        return page.finish(figure, "statistics_gap", runs)


COMMAND = Command(
    "statistics_gap",
    "accuracy and loss under running, precise and batch statistics",
    "output --mask all --seed 1",
    lambda given: statistics_gap(chosen_paths(given), **look_of(given)),
)
