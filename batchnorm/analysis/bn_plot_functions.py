"""The public figures. Each takes paths of runs, returns its matplotlib `Figure`, and saves PNG and PDF.

Keywords of all of them:
    style: a paper format of tueplots (`neurips`, `icml`, `aistats2022`, ...) for size and fonts.
    save_dir: where to save; None stands for `plots/` in the folder that holds the runs.
    save: whether to save.

All raise `RunError`, one clear line, where a path is no run, the list is empty, runs do not go together, or a run
lacks what is asked for. Runs that go on or were cut off are drawn as far as they go, and marked so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.axes3d import Axes3D

from batchnorm.analysis import style as looks
from batchnorm.analysis import surfaces
from batchnorm.analysis.curves import channel_curve, check_metric, draw_curve, draw_end, metric_curve, smoothing_window
from batchnorm.analysis.runs import (
    END_MARKERS,
    Group,
    RunPath,
    RunPaths,
    as_list,
    distinct,
    group_seeds,
    open_runs,
    progress_mark,
    require_common_step,
    require_one_mask,
    require_one_setting,
    setting_note,
    sort_ablations,
    state_of,
)
from batchnorm.analysis.surfaces import Trajectory, read_trajectory
from batchnorm.analysis.variants import SYMBOLS, Variant, variant_of
from batchnorm.errors import RunError, nearest_first
from batchnorm.masks import format_mask
from batchnorm.store import Run

_METRIC_LABELS = {"loss": "loss (nats)", "acc": "accuracy"}
_SPLIT_LABELS = {"train": "Train", "valid": "Validation", "test": "Test"}


def performance_across_ablations(
    paths: RunPaths,
    smooth_curve: bool = False,
    *,
    style: str | None = None,
    save_dir: RunPath | None = None,
    save: bool = True,
) -> Figure:
    """Draw train and test loss and accuracy over training steps for vanilla and the modes of one mask.

    Several seeds are drawn as their mean, with a band from the lowest to the highest.

    Args:
        paths: runs of one problem and one mask; vanilla, and BatchNorm everywhere, may be among them.
        smooth_curve: draw a Savitzky-Golay filtered line over the recorded one, which turns faint.
        style: see the module.
        save_dir: see the module.
        save: see the module.
    """
    ablations = sort_ablations(open_runs(paths), instead="; compare_multiple_lr compares learning rates")
    mask = require_one_mask(ablations, instead="; compare_ablation_performance compares masks")
    _require_common_epochs(ablations.runs)
    drawn = ablations.panel(mask)
    curves = {
        (metric, number): metric_curve(group, metric)
        for metric in ("train_loss", "test_loss", "train_acc", "test_acc")
        for number, (_, group) in enumerate(drawn)
    }
    window = smoothing_window(list(curves.values())) if smooth_curve else None
    with looks.page(style, save_dir, save) as page:
        figure = page.figure(height=0.55 * page.width + 1.7)
        panels = figure.subplots(2, 2, sharex=True, sharey="row")
        entries: list[tuple[Artist, str]] = []
        for metric, axes in zip(("train_loss", "test_loss", "train_acc", "test_acc"), panels.flat, strict=True):
            for number, (variant, group) in enumerate(drawn):
                label = _label(variant, group, [group for _, group in drawn])
                line = draw_curve(
                    axes,
                    curves[metric, number],
                    colour=variant.colour,
                    dashes=variant.dashes,
                    label=label,
                    window=window,
                )
                if metric == "train_loss":
                    entries.append((line, label))
        for column, split in enumerate(("train", "test")):
            panels[0, column].set_title(_SPLIT_LABELS[split])
            looks.step_axis(panels[1, column])
        panels[0, 0].set_ylabel("Loss (nats)")
        panels[1, 0].set_ylabel("Accuracy")
        looks.log_axis(panels[0, 0])
        looks.accuracy_axis(panels[1, 0])
        looks.title(figure, [*looks.facts(ablations.runs), f"mask {format_mask(mask)}", *_smoothing_note(window)])
        looks.legend_below(figure, entries)
        name = looks.file_name("performance_across_ablations", ablations.runs, *(["smooth"] if smooth_curve else []))
        return page.finish(figure, name, ablations.runs)


def compare_ablation_performance(
    paths: RunPaths,
    metric: str = "test_loss",
    *,
    style: str | None = None,
    save_dir: RunPath | None = None,
    save: bool = True,
) -> Figure:
    """Draw a panel for each mask with all its modes; vanilla and full BatchNorm are dashed references in each.

    Args:
        paths: runs of one problem, with any number of masks.
        metric: `{train,valid,test}_{loss,acc}`; a loss is drawn on a logarithmic axis.
        style: see the module.
        save_dir: see the module.
        save: see the module.
    """
    check_metric(metric)
    ablations = sort_ablations(open_runs(paths), instead="; compare_multiple_lr compares learning rates")
    _require_common_epochs(ablations.runs)
    masks = list(ablations.by_mask) or [ablations.groups[0].mask]
    curves = {id(group): metric_curve(group, metric) for group in ablations.groups}
    split, _, kind = metric.partition("_")
    with looks.page(style, save_dir, save, wide=len(masks) > 1) as page:
        columns = min(len(masks), 3 if page.width > 4 else 2)
        rows = -(-len(masks) // columns)
        figure = page.figure(height=rows * min(0.8 * page.width / columns, 2.6) + 0.9)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        entries: dict[str, Artist] = {}
        marks: dict[str, Artist] = {}
        for mask, axes in zip(masks, panels.flat, strict=False):
            for variant, group in ablations.panel(mask):
                label = _label(variant, group, ablations.groups, shared=True)
                curve = curves[id(group)]
                line = draw_curve(axes, curve, colour=variant.colour, dashes=variant.dashes, label=label)
                entries.setdefault(label, line)
                for state in {state_of(run) for run in group.runs} & set(END_MARKERS):
                    marks.setdefault(state, draw_end(axes, curve, colour=variant.colour, marker=END_MARKERS[state]))
            axes.set_title(f"mask {format_mask(mask)}")
        _finish_grid(panels, len(masks), y_label=f"{_SPLIT_LABELS[split]} {_METRIC_LABELS[kind]}")
        (looks.log_axis if kind == "loss" else looks.accuracy_axis)(panels[0, 0])
        looks.title(figure, looks.facts(ablations.runs))
        looks.legend_below(figure, [(line, label) for label, line in {**entries, **marks}.items()])
        return page.finish(figure, looks.file_name("compare_ablation_performance", ablations.runs, metric), ablations.runs)


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
        style: see the module.
        save_dir: see the module.
        save: see the module.
    """
    runs = open_runs(paths)
    groups = sorted(group_seeds(runs), key=lambda group: group.config.lr)
    for group in groups:
        if (group.mask, group.variant) != (groups[0].mask, groups[0].variant):
            raise RunError(
                f"{group.runs[0].directory}: is {_in_words(group)}, {groups[0].runs[0].directory} {_in_words(groups[0])}; "
                "give one variant across learning rates"
            )
    for before, after in pairwise(groups):
        if before.config.lr == after.config.lr:
            require_one_setting([before, after], instead=" and learning rate")
    _require_common_epochs(runs)
    variant = groups[0].variant
    ramp = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(groups)))
    with looks.page(style, save_dir, save, wide=True) as page:
        figure = page.figure(height=0.36 * page.width + 0.8)
        loss, accuracy, final = figure.subplots(1, 3)
        entries: list[tuple[Artist, str]] = []
        for colour, group in zip(ramp, groups, strict=True):
            label = ", ".join(part for part in (f"{group.config.lr:.4g}", group.mark) if part)
            line = draw_curve(loss, metric_curve(group, "train_loss"), colour=colour, dashes="-", label=label)
            draw_curve(accuracy, metric_curve(group, "test_acc"), colour=colour, dashes="-", label=label)
            entries.append((line, label))
        for split, dashes, marker in (("train", ":", "s"), ("test", "-", "o")):
            means, low, high = np.array([_final(group, f"{split}_acc") for group in groups]).T
            rates = [group.config.lr for group in groups]
            bars = final.errorbar(
                rates,
                means,
                yerr=[means - low, high - means],
                color=variant.colour,
                linestyle=dashes,
                marker=marker,
                markersize=3,
                capsize=2,
                label=_SPLIT_LABELS[split].lower(),
            )
            del bars
        for axes, name in ((loss, "Train loss (nats)"), (accuracy, "Test accuracy"), (final, "Final accuracy")):
            axes.set_ylabel(name)
        looks.step_axis(loss)
        looks.step_axis(accuracy)
        looks.log_axis(loss)
        looks.log_axis(final, "x")
        final.set_xlabel("Learning rate")
        looks.accuracy_axis(accuracy)
        looks.accuracy_axis(final)
        final.legend()
        looks.title(figure, [*looks.facts(runs, rate=False), _in_words(groups[0], label=True)])
        looks.legend_below(figure, [(line, f"lr {label}") for line, label in entries])
        return page.finish(figure, looks.file_name("compare_multiple_lr", runs), runs)


def paramMean_perLayer(  # noqa: N802  (the public name)
    Vanilla_path: RunPath,  # noqa: N803
    fullBN_path: RunPath,  # noqa: N803
    paths: RunPaths,
    *,
    slots: Sequence[str] | None = None,
    style: str | None = None,
    save_dir: RunPath | None = None,
    save: bool = True,
) -> Figure:
    """Draw mean and 10-90 % band of each slot's gamma and beta over training, over the channels.

    Where a run has no BatchNorm, its bias stands beside the others' beta: both shift the activations. Several seeds
    are pooled.

    Args:
        Vanilla_path: the vanilla run, a reference.
        fullBN_path: the run with BatchNorm everywhere, a reference.
        paths: the modes of one mask.
        slots: draw these only.
        style: see the module.
        save_dir: see the module.
        save: see the module.
    """
    _require_some(paths)
    runs = open_runs([Vanilla_path, fullBN_path, *as_list(paths)])
    ablations = sort_ablations(runs, instead="; compare_multiple_lr compares learning rates")
    mask = require_one_mask(ablations, instead=", beside the two references")
    require_common_step(runs, [run.snapshot_steps for run in runs])
    drawn = ablations.panel(mask)
    chosen = _chosen(runs[0].layers, slots)
    with looks.page(style, save_dir, save) as page:
        figure = page.figure(height=min(0.36 * page.width, 1.4) * len(chosen) + 1.0)
        panels = figure.subplots(len(chosen), 2, sharex=True, squeeze=False)
        entries: dict[str, Artist] = {}
        for slot, (gammas, betas) in zip(chosen, panels, strict=True):
            for variant, group in drawn:
                normalised = bool(group.mask[group.runs[0].layers.index(slot)])
                label = _label(variant, group, [group for _, group in drawn])
                for axes, parameter in ((gammas, "gamma"), (betas, "beta" if normalised else "bias")):
                    if any(slot not in run.slots_with(parameter) for run in group.runs):
                        continue
                    curve = channel_curve(group, parameter, slot)
                    line = draw_curve(axes, curve, colour=variant.colour, dashes=variant.dashes, label=label)
                    entries.setdefault(label, line)
            gammas.set_ylabel(slot)
            for axes in (gammas, betas):
                axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        panels[0, 0].set_title(rf"scale {SYMBOLS['gamma']}")
        panels[0, 1].set_title(rf"shift {SYMBOLS['beta']} or bias")
        for axes in panels[-1]:
            looks.step_axis(axes)
        looks.title(figure, [*looks.facts(runs), f"mask {format_mask(mask)}", "mean and middle 80 % of channels"])
        looks.legend_below(figure, [(line, label) for label, line in entries.items()])
        return page.finish(figure, looks.file_name("paramMean_perLayer", runs), runs)


def bn_params_3Dsurface(  # noqa: N802  (the public name)
    sort_by_converged: bool,
    affine_param: str,
    path: RunPath,
    *,
    slots: Sequence[str] | None = None,
    style: str | None = None,
    save_dir: RunPath | None = None,
    save: bool = True,
) -> Figure:
    """Draw each slot's gamma, beta or bias, channels over steps, as a heat map and a 3D surface.

    Where there are more values than pixels, each shows the one that lies furthest from its surroundings.

    Args:
        sort_by_converged: sort the channels by their final value.
        affine_param: `gamma`, `beta` or `bias`.
        path: the run.
        slots: draw these only; None stands for all that have the parameter.
        style: see the module.
        save_dir: see the module.
        save: see the module.
    """
    if affine_param not in SYMBOLS:
        raise RunError(f"affine_param={affine_param}: no such parameter; {nearest_first(str(affine_param), SYMBOLS)}")
    run = Run(path)
    having = run.slots_with(affine_param)
    if not having:
        what = f"has BatchNorm in no slot (mask {format_mask(run.mask)})" if affine_param != "bias" else "has BatchNorm in all"
        raise RunError(f"{run.directory}: has no {affine_param}: it {what}")
    chosen = _chosen(having, slots)
    order = ["channels sorted by final value"] if sort_by_converged else []
    heading = [*looks.facts([run]), _run_in_words(run), SYMBOLS[affine_param], *order, *_mark(run)]
    with looks.page(style, save_dir, save, wide=True) as page:
        sheet = page.sheet(heading)
        em, columns = sheet.em, 1 if len(chosen) < 3 else 3
        blocks, beside = -(-len(chosen) // columns), columns == 1
        left, bar, label, foot = 2.8 * em, 0.7 * em, 3.4 * em, 3.4 * em
        cell = (sheet.width - 1.4 * em) / columns
        width = (0.56 if beside else 1.0) * cell - left - bar - label
        height = width * (0.62 if beside else 0.9)
        deep_size = (cell - width - left - bar - label - em, height + foot) if beside else (cell - 2 * em, 0.8 * cell)
        block_height = 2.0 * em + height + foot + (0 if beside else deep_size[1] + em)
        sheet.set_height(sheet.top + blocks * block_height)
        for number, slot in enumerate(chosen):
            item = read_trajectory(run, affine_param, slot, sort_by_converged=sort_by_converged)
            scale, extend = surfaces.colour_scale([item])
            block, column = divmod(number, columns)
            x, y = 1.4 * em + column * cell, sheet.top + block * block_height + 2.0 * em
            flat = sheet.panel(x + left, y, width, height)
            image = surfaces.draw_heat_map(flat, item, scale)
            flat.set_title(_slot_title(run, slot, item))
            flat.set_xlabel("Training step")
            if column == 0:
                flat.set_ylabel("Channel")
            beam = sheet.panel(x + left + width + 0.6 * em, y, bar, height)
            _finish_bar(sheet.figure.colorbar(image, cax=beam, extend=extend).ax, SYMBOLS[affine_param])
            corner = (x + cell - deep_size[0] - em, y - em) if beside else (x, y + height + foot)
            deep = cast(Axes3D, sheet.panel(*corner, *deep_size, projection="3d"))
            surfaces.draw_surface(deep, item, scale)
            surfaces.finish_surface_axes(deep)
        name = looks.file_name("bn_params_3Dsurface", [run], affine_param, *([] if sort_by_converged else ["unsorted"]))
        return page.finish(sheet.figure, name, [run])


def compare_3Dsurface_betas(  # noqa: N802  (the public name)
    sort_by_converged: bool,
    Vanilla_path: RunPath,  # noqa: N803
    fullBN_path: RunPath,  # noqa: N803
    trained_bn_path: RunPath,
    fixed_gamma_path: RunPath,
    *,
    slots: Sequence[str] | None = None,
    style: str | None = None,
    save_dir: RunPath | None = None,
    save: bool = True,
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
        style: see the module.
        save_dir: see the module.
        save: see the module.
    """

    def draw(axes: Axes, item: Trajectory, scale: matplotlib.colors.Normalize) -> None:
        surfaces.draw_surface(cast(Axes3D, axes), item, scale)

    paths = [Vanilla_path, fullBN_path, trained_bn_path, fixed_gamma_path]
    with looks.page(style, save_dir, save, wide=True) as page:
        return _compare_betas(page, "compare_3Dsurface_betas", sort_by_converged, paths, slots, draw, deep=True)


def compare_contour_betas(
    sort_by_converged: bool,
    Vanilla_path: RunPath,  # noqa: N803
    fullBN_path: RunPath,  # noqa: N803
    trained_bn_path: RunPath,
    fixed_gamma_path: RunPath,
    *,
    slots: Sequence[str] | None = None,
    style: str | None = None,
    save_dir: RunPath | None = None,
    save: bool = True,
) -> Figure:
    """Draw what `compare_3Dsurface_betas` draws as filled contours; same arguments."""

    def draw(axes: Axes, item: Trajectory, scale: matplotlib.colors.Normalize) -> None:
        surfaces.draw_contours(axes, item, scale)

    paths = [Vanilla_path, fullBN_path, trained_bn_path, fixed_gamma_path]
    with looks.page(style, save_dir, save, wide=True) as page:
        return _compare_betas(page, "compare_contour_betas", sort_by_converged, paths, slots, draw, deep=False)


def _compare_betas(
    page: looks.Page,
    function: str,
    sort_by_converged: bool,
    paths: Sequence[RunPath],
    slots: Sequence[str] | None,
    draw: Callable[[Axes, Trajectory, matplotlib.colors.Normalize], None],
    *,
    deep: bool,
) -> Figure:
    runs = [Run(path) for path in paths]
    open_runs(paths)
    require_common_step(runs, [run.snapshot_steps for run in runs])
    chosen = _chosen(runs[0].layers, slots)
    one_mask = len({run.mask for run in runs if any(run.mask)}) == 1
    order = ["channels sorted by final value"] if sort_by_converged else []
    headings = [[_column_title(run, with_mask=not one_mask), *_mark(run)] for run in runs]
    sheet = page.sheet([*looks.facts(distinct(runs)), *order])
    em = sheet.em
    left, right, gap, head = (0.4 if deep else 4.6) * em, 5.0 * em, (0.6 if deep else 0.9) * em, 1.6 * em
    cell = (sheet.width - left - right) / len(runs)
    height = cell * (0.84 if deep else 0.62)
    top = sheet.top + 0.4 * em + 1.35 * em * max(len(lines) for lines in headings)
    sheet.set_height(top + len(chosen) * (head + height) + (1.0 if deep else 3.2) * em)
    for number, slot in enumerate(chosen):
        items = [read_trajectory(run, _shift(run, slot), slot, sort_by_converged=sort_by_converged) for run in runs]
        scale, extend = surfaces.colour_scale(items)
        y = top + number * (head + height) + head
        row = []
        for column, item in enumerate(items):
            corner = (left + column * cell, y)
            axes = sheet.panel(*corner, cell - gap, height, projection="3d" if deep else None)
            draw(axes, item, scale)
            axes.set_title("\n".join([*(headings[column] if number == 0 else []), f"{slot}, {SYMBOLS[item.parameter]}"]))
            row.append(axes)
        _share_limits(row, ("x", "z") if deep else ("x",))
        for column, axes in enumerate(row):
            if deep:
                surfaces.finish_surface_axes(cast(Axes3D, axes))
                continue
            axes.tick_params(labelleft=column == 0, labelbottom=number == len(chosen) - 1)
            axes.set_ylabel("Channel" if column == 0 else "")
            axes.set_xlabel("Training step" if number == len(chosen) - 1 else "")
        beam = sheet.panel(sheet.width - right + 0.4 * em, y + 0.1 * height, 0.7 * em, 0.8 * height)
        _finish_bar(sheet.figure.colorbar(surfaces.mappable(scale), cax=beam, extend=extend).ax, "")
    name = looks.file_name(function, runs, *([] if sort_by_converged else ["unsorted"]))
    return page.finish(sheet.figure, name, runs)


def _share_limits(row: Sequence[Axes], directions: Sequence[str]) -> None:
    for direction in directions:
        limits = np.array([getattr(axes, f"get_{direction}lim")() for axes in row])
        for axes in row:
            getattr(axes, f"set_{direction}lim")(limits.min(), limits.max())


def _shift(run: Run, slot: str) -> str:
    """Return what shifts a slot's activations: beta under BatchNorm, else the bias."""
    return "beta" if run.mask[run.layers.index(slot)] else "bias"


def _final(group: Group, metric: str) -> tuple[float, float, float]:
    """Return mean, lowest and highest of the last recorded values; NaN where none is finite."""
    values = np.array([column[-1] for run in group.runs if len(column := run.epochs[metric])])
    values = values[np.isfinite(values)]
    return (float(values.mean()), float(values.min()), float(values.max())) if len(values) else (np.nan,) * 3


def _require_some(paths: RunPaths) -> None:
    if not as_list(paths):
        raise RunError("no runs given: the list of paths is empty")


def _require_common_epochs(runs: Sequence[Run]) -> None:
    require_common_step(runs, [run.epochs["step"] for run in runs])


def _chosen(having: Sequence[str], slots: Sequence[str] | None) -> list[str]:
    for slot in slots or ():
        if slot not in having:
            raise RunError(f"slots={slot}: no such slot here; {nearest_first(slot, having)}")
    return [slot for slot in having if slots is None or slot in slots]


def _label(variant: Variant, group: Group, groups: Sequence[Group], *, shared: bool = False) -> str:
    """Name a line in a legend; where panels share the legend, what holds for one run only is left out."""
    notes = [setting_note(group, groups)] + ([] if shared else [group.mark])
    shown = "; ".join(note for note in notes if note)
    return f"{variant.label} ({shown})" if shown else variant.label


def _in_words(group: Group, *, label: bool = False) -> str:
    return _run_in_words(group.runs[0], label=label)


def _run_in_words(run: Run, *, label: bool = True) -> str:
    variant = variant_of(run.mask, run.config.mode)
    name = variant.label if label else variant.name
    return f"{name}, mask {format_mask(run.mask)}" if any(run.mask) else name


def _column_title(run: Run, *, with_mask: bool) -> str:
    label = variant_of(run.mask, run.config.mode).label
    return f"{label}\n{format_mask(run.mask).replace(',', '')}" if with_mask and any(run.mask) else label


def _slot_title(run: Run, slot: str, item: Trajectory) -> str:
    fixed = " (fixed)" if np.ptp(item.values) == 0 and item.parameter != "bias" else ""
    return f"{run.layers.index(slot) + 1}: {slot}{fixed}"


def _mark(run: Run) -> list[str]:
    mark = progress_mark(run)
    return [f"({mark})"] if mark else []


def _finish_bar(axes: Axes, label: str) -> None:
    axes.tick_params(labelsize=matplotlib.rcParams["ytick.labelsize"] - 1, length=2, pad=1.5)
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    axes.set_title(label, fontsize=matplotlib.rcParams["axes.labelsize"])


def _finish_grid(panels: np.ndarray, used: int, *, y_label: str) -> None:
    """Label the outer panels of a grid, and take away those that are not used."""
    columns = panels.shape[1]
    for place, axes in enumerate(panels.flat):
        if place >= used:
            axes.remove()
            continue
        looks.step_axis(axes, label=place + columns >= used)
        axes.tick_params(labelbottom=place + columns >= used)
        if place % columns == 0:
            axes.set_ylabel(y_label)


def _smoothing_note(window: int | None) -> list[str]:
    return [] if window is None else [f"smoothed (Savitzky-Golay, order 2, {window} epochs) over faint lines as recorded"]
