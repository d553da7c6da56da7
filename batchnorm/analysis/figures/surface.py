"""A parameter's channels over training steps, as a heat map and a 3D surface of each slot."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from batchnorm.analysis.figures._panels import chosen_slots, in_words, mark
from batchnorm.analysis.runs import OneRun, one_run, read_each, treatment_in
from batchnorm.analysis.shell import SLOTS, UNSORTED, Command, chosen_paths, look_of
from batchnorm.errors import RunError, nearest_first, wrong_argument
from batchnorm.modes import format_mask
from batchnorm.quantities import PARAMETERS, QUANTITIES
from batchnorm.store import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.axes3d import Axes3D
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look

_CHOICES = tuple(name for name, quantity in QUANTITIES.items() if quantity.per == "channel")


def bn_params_3Dsurface(  # noqa: N802  (the public name)
    sort_by_converged: bool,
    affine_param: str,
    path: OneRun,
    *,
    slots: Sequence[str] | None = None,
    **look: Unpack[Look],
) -> Figure:
    """Draw a parameter of each slot, channels over steps, as a heat map and a 3D surface.

    Where there are more values than pixels, each shows the one that lies furthest from its surroundings.

    Args:
        sort_by_converged: sort the channels by their final value.
        affine_param: `gamma`, `beta`, `bias`, or any other quantity of channels that the run has recorded.
        path: the run, or what leads to it.
        slots: draw these only; None stands for all that have the parameter.
        look: see `bn_plot_functions`.
    """
    from batchnorm.analysis import looks, surfaces  # matplotlib with them

    if affine_param not in _CHOICES:
        why = f"no such parameter; {nearest_first(str(affine_param), _CHOICES)}"
        raise wrong_argument("affine_param", affine_param, why, option="parameter")
    run = one_run(path)
    having = run.slots_with(affine_param)
    if not having:
        raise RunError(f"{run.directory}: has no {affine_param}: it has BatchNorm in {_where(run)}")
    chosen = chosen_slots(having, slots)
    symbol = looks.symbol(affine_param)
    order = ["channels sorted by final value"] if sort_by_converged else []
    heading = [*looks.facts([run]), in_words(run), symbol, *order, *mark(run)]
    with looks.page(**look, wide=True) as page:
        sheet = page.sheet(heading)
        em, columns = sheet.em, {1: 1, 2: 1, 4: 2}.get(len(chosen), 3)
        blocks, beside = -(-len(chosen) // columns), columns == 1
        left, bar, label, foot = 2.8 * em, 0.7 * em, 3.4 * em, 3.4 * em
        cell = (sheet.width - 1.4 * em) / columns
        width = (0.56 if beside else 1.0) * cell - left - bar - label
        height = width * (0.62 if beside else 0.9)
        deep_size = (cell - width - left - bar - label - em, height + foot) if beside else (cell - 2 * em, 0.8 * cell)
        block_height = 2.0 * em + height + foot + (0 if beside else deep_size[1] + em)
        sheet.set_height(sheet.top + blocks * block_height)
        for number, slot in enumerate(chosen):
            item = surfaces.read_trajectory(run, affine_param, slot, sort_by_converged=sort_by_converged)
            scale, extend = surfaces.colour_scale([item])
            block, column = divmod(number, columns)
            x, y = 1.4 * em + column * cell, sheet.top + block * block_height + 2.0 * em
            flat = sheet.panel(x + left, y, width, height)
            image = surfaces.draw_heat_map(flat, item, scale)
            flat.set_title(_slot_title(run, slot, affine_param))
            flat.set_xlabel("Training step")
            if column == 0:
                flat.set_ylabel("Channel")
            beam = sheet.panel(x + left + width + 0.6 * em, y, bar, height)
            surfaces.finish_bar(sheet.figure.colorbar(image, cax=beam, extend=extend).ax, symbol)
            corner = (x + cell - deep_size[0] - em, y - em) if beside else (x, y + height + foot)
            deep = cast("Axes3D", sheet.panel(*corner, *deep_size, projection="3d"))
            surfaces.draw_surface(deep, item, scale)
            surfaces.finish_surface_axes(deep)
        more = [] if sort_by_converged else ["unsorted"]
        return page.finish(sheet.figure, "bn_params_3Dsurface", [run], affine_param, *more)


def _where(run: Run) -> str:
    if not any(run.mask):
        return f"no slot (mask {format_mask(run.mask)})"
    return f"{'all' if all(run.mask) else 'some'} slots (mask {format_mask(run.mask)}), mode {run.mode}"


def _slot_title(run: Run, slot: str, parameter: str) -> str:
    part = getattr(treatment_in(run, slot), parameter, None)
    fixed = " (fixed)" if part is not None and not part.trained else ""
    return f"{run.layers.index(slot) + 1}: {slot}{fixed}"


def _run(given: Namespace) -> None:
    def draw(run: Run) -> Figure:
        return bn_params_3Dsurface(not given.unsorted, given.parameter, run.directory, **look_of(given))

    read_each(chosen_paths(given), draw)


_PARAMETER = {"--parameter": {"default": PARAMETERS[0], "choices": _CHOICES, "help": f"default: {PARAMETERS[0]}"}}
_ABOUT = "a parameter's channels over steps, run by run"
COMMAND = Command("surface", _ABOUT, "output --mode trained_bn --mask all", _run, {**_PARAMETER, **UNSORTED, **SLOTS})
