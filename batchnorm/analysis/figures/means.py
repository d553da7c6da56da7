"""Mean gamma and beta per slot, beside the two references."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchnorm.analysis.figures._panels import SCALES, SHIFTS, chosen_slots, first_of, line_label, references
from batchnorm.analysis.runs import (
    Hint,
    RunPaths,
    as_list,
    open_runs,
    read_each,
    require_common_step,
    require_one_mask,
    sort_ablations,
)
from batchnorm.analysis.shell import SLOTS, Command, chosen_paths, look_of
from batchnorm.errors import RunError
from batchnorm.modes import format_mask
from batchnorm.store import Run

_BESIDE = Hint(*2 * (", beside the two references",))

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look


def paramMean_perLayer(  # noqa: N802  (the public name)
    Vanilla_path: RunPaths,  # noqa: N803
    fullBN_path: RunPaths,  # noqa: N803
    paths: RunPaths,
    *,
    slots: Sequence[str] | None = None,
    **look: Unpack[Look],
) -> Figure:
    """Draw mean and 10-90 % band of each slot's gamma and beta over training, over the channels.

    Where a run has no BatchNorm, its bias stands beside the others' beta: both shift the activations. Several seeds
    are pooled.

    Args:
        Vanilla_path: the vanilla run, a reference.
        fullBN_path: the run with BatchNorm everywhere, a reference.
        paths: the modes of one mask.
        slots: draw these only.
        look: see `bn_plot_functions`.
    """
    from matplotlib.ticker import MaxNLocator

    from batchnorm.analysis import curves, looks  # matplotlib with them

    if not as_list(paths):
        raise RunError("no runs given: the list of paths is empty")
    runs = open_runs([*as_list(Vanilla_path), *as_list(fullBN_path), *as_list(paths)])
    ablations = sort_ablations(runs)
    mask = require_one_mask(ablations, instead=_BESIDE)
    require_common_step(runs, [run.snapshot_steps for run in runs])
    drawn = ablations.panel(mask)
    chosen = chosen_slots(runs[0].layers, slots)
    with looks.page(**look) as page:
        figure = page.figure(height=min(0.36 * page.width, 1.4) * len(chosen) + 1.0)
        panels = figure.subplots(len(chosen), 2, sharex=True, squeeze=False)
        entries: dict[str, Artist] = {}
        for slot, row_of_panels in zip(chosen, panels, strict=True):
            for row, group in drawn:
                label = line_label(row, group, [group for _, group in drawn])
                for axes, alike in zip(row_of_panels, (SCALES, SHIFTS), strict=True):
                    if parameter := first_of(alike, group.runs, slot):
                        curve = curves.channel_curve(group, parameter, slot)
                        line = curves.draw_curve(axes, curve, colour=row.colour, dashes=row.dashes, label=label)
                        entries.setdefault(label, line)
            row_of_panels[0].set_ylabel(slot)
            for axes in row_of_panels:
                axes.yaxis.set_major_locator(MaxNLocator(4))
        for axes, word, alike in zip(panels[0], ("scale", "shift"), (SCALES, SHIFTS), strict=True):
            axes.set_title(f"{word} {' or '.join(map(looks.symbol, alike))}")
        for axes in panels[-1]:
            looks.step_axis(axes)
        page.title(figure, [*looks.facts(runs), f"mask {format_mask(mask)}", "mean and middle 80 % of channels"])
        looks.legend_below(figure, entries)
        return page.finish(figure, "paramMean_perLayer", runs)


def _run(given: Namespace) -> None:
    vanilla, full, others = references(open_runs(chosen_paths(given)))
    slots = chosen_slots(vanilla.layers, given.slots)

    def read(run: Run) -> None:
        """Read what is drawn, so that one run that has lost it is left out."""
        for slot in slots:
            for quantity in (*SCALES, *SHIFTS):
                if slot in run.slots_with(quantity):
                    run.read(quantity, slot)

    whole = [run.directory for run, _ in read_each([run.directory for run in others], read)]
    paramMean_perLayer(vanilla.directory, full.directory, whole, **look_of(given))


_ABOUT = "mean gamma and beta per slot beside the references"
COMMAND = Command("means", _ABOUT, "output --mask none all 001 --seed 1", _run, SLOTS)
