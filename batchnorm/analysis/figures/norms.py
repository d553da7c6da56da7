"""Norms of weights and gradients, the angle of an update and the effective rate, slot by slot, over training steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchnorm.analysis.figures._measured import runs_with, value_axis
from batchnorm.analysis.figures._panels import chosen_slots, line_label
from batchnorm.analysis.runs import RunPaths, open_runs, require_one_mask, sort_ablations
from batchnorm.analysis.shell import SLOTS, Command, chosen_paths, look_of
from batchnorm.modes import format_mask
from batchnorm.quantities import QUANTITIES
from batchnorm.store import Run

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look

_QUANTITIES = ("weight_norm", "gradient_norm", "angle", "effective_rate")


def norms_per_slot(
    paths: RunPaths,
    *,
    slots: Sequence[str] | None = None,
    **look: Unpack[Look],
) -> Figure:
    """Draw, slot by slot, norms of weights and gradient, the angle of an update, and the effective learning rate.

    Vanilla, which has no effective rate, stands beside the modes of one mask. Several seeds are drawn as their mean, with a
    band from the lowest to the highest. Runs that did not measure their weights (`MEASURE=none`, old records) are left out.

    Args:
        paths: runs of one problem and one mask; vanilla, and BatchNorm everywhere, may be among them.
        slots: draw these only.
        look: see `bn_plot_functions`.
    """
    from batchnorm.analysis import curves, looks  # matplotlib with them

    ablations = sort_ablations(runs_with(open_runs(paths), ["weight_norm"]))
    mask = require_one_mask(ablations)
    drawn = ablations.panel(mask)
    groups = [group for _, group in drawn]
    chosen = chosen_slots(groups[0].runs[0].slots_with("weight_norm"), slots)
    having = {
        name: [set(chosen).intersection(*(_slots_with(name, run) for run in group.runs)) for group in groups]
        for name in _QUANTITIES
    }
    columns = [name for name in _QUANTITIES if any(having[name])]
    with looks.page(**look, wide=True) as page:
        figure = page.figure(height=min(0.2 * page.width, 1.3) * len(chosen) + 0.9)
        panels = figure.subplots(len(chosen), len(columns), sharex=True, squeeze=False)
        entries: dict[str, Artist] = {}
        for slot, row_of_panels in zip(chosen, panels, strict=True):
            for name, axes in zip(columns, row_of_panels, strict=True):
                for (row, group), there in zip(drawn, having[name], strict=True):
                    if slot in there:
                        label = line_label(row, group, groups)
                        curve = curves.metric_curve(group, name, slot)
                        line = curves.draw_curve(axes, curve, colour=row.colour, dashes=row.dashes, label=label)
                        entries.setdefault(label, line)
            row_of_panels[0].set_ylabel(slot)
        for name, column in zip(columns, panels.T, strict=True):
            unit = QUANTITIES[name].unit
            column[0].set_title(looks.symbol(name) + (f" ({unit})" if unit else ""))
            _finish_column(list(column))
        page.title(figure, [*looks.facts(ablations.runs), f"mask {format_mask(mask)}"])
        looks.legend_below(figure, entries)
        return page.finish(figure, "norms_per_slot", ablations.runs)


def _slots_with(name: str, run: Run) -> list[str]:
    """Return the slots that have a quantity; what speaks of a norm, those with one."""
    normalised = "norm" in QUANTITIES[name].needs
    under = {slot for slot, norm in zip(run.layers, run.mask, strict=True) if norm or not normalised}
    return [slot for slot in run.slots_with(name) if slot in under]


def _finish_column(column: Sequence[Axes]) -> None:
    """Hide the panels of slots in which nothing is drawn, and say below the last one that is left what its axis is."""
    from batchnorm.analysis import looks  # matplotlib with it

    shown = [axes for axes in column if axes.lines]
    for axes in column:
        if axes not in shown:
            axes.set_axis_off()  # the title above the column stays
    for axes in shown:
        value_axis(axes)
        looks.step_axis(axes, label=axes is shown[-1])
        axes.tick_params(labelbottom=axes is shown[-1])


COMMAND = Command(
    "norms",
    "weights, gradients, angle and effective rate per slot, vanilla and one mask's modes",
    "output --mask none all --seed 1",
    lambda given: norms_per_slot(chosen_paths(given), **look_of(given)),
    SLOTS,
)
