"""Where BatchNorm puts the zero of a ReLU, per slot: thresholds of the channels, and P(off) beside the measured share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from batchnorm.analysis.figures._measured import has, mark_points, runs_with
from batchnorm.analysis.figures._panels import chosen_slots, in_words
from batchnorm.analysis.runs import Group, RunPaths, group_seeds, open_runs
from batchnorm.analysis.shell import SLOTS, Command, chosen_paths, look_of
from batchnorm.errors import RunError
from batchnorm.modes import Mode
from batchnorm.store import Run, Status

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look

_FURTHEST = 5.0
"""Thresholds beyond it, where P(off) is 0 or 1 to six digits, are not shown; those of gamma near 0 have no bound."""


def thresholds_per_slot(
    paths: RunPaths,
    *,
    slots: Sequence[str] | None = None,
    **look: Unpack[Look],
) -> Figure:
    """Draw, slot by slot, quantiles of the channels' thresholds beta / |gamma|, and P(off) beside the measured share off.

    The measured share (of the probe's images, `MEASURE=full`) is drawn where it was recorded. Several seeds are pooled.

    Args:
        paths: the seeds of one mask and mode.
        slots: draw these only.
        look: see `bn_plot_functions`.
    """
    from batchnorm.analysis import looks  # matplotlib with it

    group = _one_variant(runs_with(open_runs(paths), ["threshold"]))
    chosen = chosen_slots(group.runs[0].slots_with("threshold"), slots)
    with looks.page(**look) as page:
        figure = page.figure(height=min(0.36 * page.width, 1.4) * len(chosen) + 1.1)
        panels = figure.subplots(len(chosen), 2, sharex=True, squeeze=False)
        entries: dict[str, Artist] = {}
        cut = False
        for slot, (fan, off) in zip(chosen, panels, strict=True):
            entries |= _draw_fan(fan, group, slot, group.row)
            cut |= _limit(fan)
            entries |= _draw_share(off, group, slot, group.row)
            fan.set_ylabel(slot)
        looks.panel_title(panels[0, 0], rf"threshold t = {looks.symbol('threshold')} ($\sigma$)", room=0.4)
        looks.panel_title(panels[0, 1], "samples that a ReLU stops", room=0.4)
        for axes in panels[-1]:
            looks.step_axis(axes)
        marks = [group.mark] if any(run.status != Status.FINISHED for run in group.runs) else []
        parts = [*looks.facts(group.runs), in_words(group.runs[0]), *marks]
        page.title(figure, [*parts, *([f"t beyond {_FURTHEST:g} not shown"] if cut else [])])
        looks.legend_below(figure, entries)
        return page.finish(figure, "thresholds_per_slot", group.runs)


def _one_variant(runs: list[Run]) -> Group:
    groups = group_seeds(runs)
    if len(groups) > 1:
        first, other = groups[0].runs[0], groups[1].runs[0]
        raise RunError(
            f"{other.directory}: is another variant or setting than {first.directory}; "
            "give the seeds of one: choose by --mask, --mode, --lr, ..."
        )
    return groups[0]


def _draw_fan(axes: Axes, group: Group, slot: str, row: Mode) -> dict[str, Artist]:
    """Draw median and middle of the thresholds, and return the legend's entries."""
    from matplotlib.patches import Patch

    from batchnorm.analysis import curves  # matplotlib with it

    steps, values = curves.pooled_channels(group, "threshold", slot)
    near = np.clip(values, -2 * _FURTHEST, 2 * _FURTHEST)  # they may be infinite
    far_low, low, median, high, far_high = curves.quantiles(near, (0.05, 0.25, 0.5, 0.75, 0.95))
    entries: dict[str, Artist] = {}
    for name, below, above in (("middle 90 % of channels", far_low, far_high), ("middle 50 %", low, high)):
        line = curves.draw_curve(
            axes, curves.Curve(steps, median, below, above), colour=row.colour, dashes="-", label="median of t"
        )
        entries = {
            "median of t": line,
            **entries,
            name: Patch(color=row.colour, alpha=0.1 * (2 + len(entries)) / 2, linewidth=0),
        }
    axes.axhline(0, color="#808080", linewidth=0.5)
    return entries


def _limit(axes: Axes) -> bool:
    """Keep the axis within what is worth showing; say whether that cuts anything."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -_FURTHEST), min(high, _FURTHEST))
    return low < -_FURTHEST or high > _FURTHEST


def _draw_share(axes: Axes, group: Group, slot: str, row: Mode) -> dict[str, Artist]:
    """Draw P(off) and the measured share off, and return the legend's entries."""
    from batchnorm.analysis import curves, looks  # matplotlib with them

    expected = curves.channel_curve(group, "probability_off", slot)
    label = "P(off), mean and middle 80 %"
    entries: dict[str, Artist] = {
        label: curves.draw_curve(axes, expected, colour=row.colour, dashes=(0, (4, 1.5)), label=label)
    }
    if measuring := tuple(run for run in group.runs if has(run, "share_off")):
        seen = curves.channel_curve(Group(measuring), "share_off", slot)
        label = "measured, mean and middle 80 %"
        entries[label] = line = curves.draw_curve(axes, seen, colour="#000000", dashes="-", label=label)
        mark_points(line, "o")
    looks.accuracy_axis(axes)
    return entries


COMMAND = Command(
    "thresholds",
    "thresholds beta/|gamma| per slot; P(off) beside the measured share",
    "output --mask all --mode trained_bn",
    lambda given: thresholds_per_slot(chosen_paths(given), **look_of(given)),
    SLOTS,
)
