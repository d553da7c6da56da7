"""Beta of four runs side by side, slot by slot: as 3D surfaces, and as filled contours."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from batchnorm.analysis.figures._panels import SHIFTS, chosen_slots, first_of, mark, only, references
from batchnorm.analysis.runs import Group, OneRun, are_same, distinct, one_run, open_runs, require_common_step, setting_note
from batchnorm.analysis.shell import SLOTS, UNSORTED, Command, chosen_paths, look_of
from batchnorm.modes import format_mask
from batchnorm.store import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.axes3d import Axes3D
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look


def compare_3Dsurface_betas(  # noqa: N802  (the public name)
    sort_by_converged: bool,
    Vanilla_path: OneRun,  # noqa: N803
    fullBN_path: OneRun,  # noqa: N803
    trained_bn_path: OneRun,
    fixed_gamma_path: OneRun,
    *,
    slots: Sequence[str] | None = None,
    **look: Unpack[Look],
) -> Figure:
    """Draw beta (bias, where there is no BatchNorm) of four runs side by side as 3D surfaces, slot by slot.

    A slot's panels share one scale. What a run is called comes from the run.

    Args:
        sort_by_converged: sort each panel's channels by their final value.
        Vanilla_path: the first column's run.
        fullBN_path: the second's.
        trained_bn_path: the third's.
        fixed_gamma_path: the fourth's.
        slots: draw these only.
        look: see `bn_plot_functions`.
    """
    runs = [one_run(path) for path in (Vanilla_path, fullBN_path, trained_bn_path, fixed_gamma_path)]
    return _compare("compare_3Dsurface_betas", sort_by_converged, runs, slots, look, deep=True)


def compare_contour_betas(
    sort_by_converged: bool,
    Vanilla_path: OneRun,  # noqa: N803
    fullBN_path: OneRun,  # noqa: N803
    trained_bn_path: OneRun,
    fixed_gamma_path: OneRun,
    *,
    slots: Sequence[str] | None = None,
    **look: Unpack[Look],
) -> Figure:
    """Draw what `compare_3Dsurface_betas` draws as filled contours; same arguments."""
    runs = [one_run(path) for path in (Vanilla_path, fullBN_path, trained_bn_path, fixed_gamma_path)]
    return _compare("compare_contour_betas", sort_by_converged, runs, slots, look, deep=False)


def _compare(
    function: str, sort_by_converged: bool, runs: Sequence[Run], slots: Sequence[str] | None, look: Look, *, deep: bool
) -> Figure:
    from batchnorm.analysis import looks, surfaces  # matplotlib with them

    open_runs(runs)
    require_common_step(runs, [run.snapshot_steps for run in runs])
    chosen = chosen_slots(runs[0].layers, slots)
    order = ["channels sorted by final value"] if sort_by_converged else []
    with looks.page(**look, wide=True) as page:
        sheet = page.sheet([*looks.facts(distinct(runs)), *order])
        em = sheet.em
        left, right, head = (0.4 if deep else 4.6) * em, 5.0 * em, (2.2 if deep else 1.6) * em
        gap = (2.0 if deep else 1.2) * em  # the labels of a 3D panel stand to its right
        cell = (sheet.width - left - right) / len(runs)
        room = (cell - (0.6 if deep else 1.2) * em) / sheet.width
        headings = [
            [line for part in heading for line in looks.lines_of(sheet.figure, [part], between="", room=room)]
            for heading in _headings(runs)
        ]
        height = cell * (0.84 if deep else 0.62)
        top = sheet.top + 0.4 * em + 1.35 * em * max(len(lines) for lines in headings)
        sheet.set_height(top + len(chosen) * (head + height) + (1.0 if deep else 3.2) * em)
        for number, slot in enumerate(chosen):
            items = [
                surfaces.read_trajectory(run, _shift(run, slot), slot, sort_by_converged=sort_by_converged) for run in runs
            ]
            scale, extend = surfaces.colour_scale(items)
            y = top + number * (head + height) + head
            row = []
            for column, item in enumerate(items):
                corner = (left + column * cell, y)
                axes = sheet.panel(*corner, cell - gap, height, projection="3d" if deep else None)
                (surfaces.draw_surface if deep else surfaces.draw_contours)(axes, item, scale)
                named = f"{slot}, {looks.symbol(item.quantity.name)}"
                axes.set_title("\n".join([*(headings[column] if number == 0 else []), named]))
                row.append(axes)
            _share_limits(row, ("x", "z") if deep else ("x",))
            for column, axes in enumerate(row):
                if deep:
                    axes.patch.set_visible(False)  # else it would cover the labels of the panel before
                    surfaces.finish_surface_axes(cast("Axes3D", axes))
                    continue
                axes.tick_params(labelleft=column == 0, labelbottom=number == len(chosen) - 1)
                axes.set_ylabel("Channel" if column == 0 else "")
                axes.set_xlabel("Training step" if number == len(chosen) - 1 else "")
            beam = sheet.panel(sheet.width - right + 0.4 * em, y + 0.1 * height, 0.7 * em, 0.8 * height)
            surfaces.finish_bar(sheet.figure.colorbar(surfaces.mappable(scale), cax=beam, extend=extend).ax, "")
        return page.finish(sheet.figure, function, runs, *([] if sort_by_converged else ["unsorted"]))


def _share_limits(row: Sequence[Axes], directions: Sequence[str]) -> None:
    for direction in directions:
        limits = np.array([getattr(axes, f"get_{direction}lim")() for axes in row])
        for axes in row:
            getattr(axes, f"set_{direction}lim")(limits.min(), limits.max())


def _shift(run: Run, slot: str) -> str:
    """Return what shifts a slot's activations; where nothing does, reading its name gives the error."""
    return first_of(SHIFTS, [run], slot) or SHIFTS[0]


def _headings(runs: Sequence[Run]) -> list[list[str]]:
    """Return what stands above each column: which run it is, what else differs, how far it is, and whether it stands twice."""
    groups = [Group((run,)) for run in runs]
    with_mask = len({run.mask for run in runs if any(run.mask)}) > 1
    found = []
    for place, (run, group) in enumerate(zip(runs, groups, strict=True)):
        masks = [format_mask(run.mask).replace(",", "")] if with_mask and any(run.mask) else []
        twin = next((column for column, other in enumerate(runs[:place], 1) if are_same(run, other)), None)
        notes = [setting_note(group, groups), f"same run as column {twin}" if twin else "", *mark(run)]
        found.append([group.row.label, *masks, *(note for note in notes if note)])
    return found


def _run(given: Namespace) -> None:
    vanilla, full, others = references(open_runs(chosen_paths(given)))
    trained = only(others, lambda run: run.mode == "trained_bn", "trained_bn of one mask")
    fixed = only(others, lambda run: run.mode == "fixed_gamma", "fixed_gamma of one mask")
    four = [run.directory for run in (vanilla, full, trained, fixed)]
    for draw in (compare_3Dsurface_betas, compare_contour_betas):
        draw(not given.unsorted, *four, **look_of(given))


_ABOUT = "beta of vanilla, full BatchNorm and one mask's modes"
COMMAND = Command("betas", _ABOUT, "output --mask none all 001 --seed 1", _run, {**UNSORTED, **SLOTS})
