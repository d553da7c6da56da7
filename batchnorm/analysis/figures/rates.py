"""One variant across the values of one key: learning rates, optimizers, norms, batch sizes, ..."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from batchnorm.analysis.figures._panels import in_words, require_common_epochs
from batchnorm.analysis.narrowing import options_for
from batchnorm.analysis.runs import Group, Hint, RunPaths, group_seeds, open_runs, setting_note, two_settings
from batchnorm.analysis.settings import flat_settings, setting_words
from batchnorm.analysis.shell import Command, chosen_paths, look_of
from batchnorm.config import SLOT_KEYS
from batchnorm.errors import RunError, nearest_first, wrong_argument
from batchnorm.modes import Dashes
from batchnorm.store import Run, Status

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from batchnorm.analysis.looks import Look

_RATE = "LR"
_OF_VARIANTS = ("RANDOM_SEED", "POSITION", "ABLATION")
_DASHES: tuple[Dashes | str, ...] = ("-", (0, (6, 1)), (0, (3, 1)), (0, (1.5, 1)), (0, (5, 1, 1, 1)))
"""Neighbours differ in more than colour, so that a line that lies under another shows in its gaps."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Of values that are no numbers, from the palette of Okabe and Ito."""


def compare_multiple_lr(paths: RunPaths, by: str = _RATE, **look: Unpack[Look]) -> Figure:
    """Draw one variant across learning rates, or the values of another key.

    Train loss and test accuracy are drawn over steps, and final accuracy over the key's values. Several seeds are drawn as
    their mean, with a band or bar from the lowest to the highest. Other settings in which the runs differ are in the legend.

    Args:
        paths: runs of one problem, one mask and one mode.
        by: the key: `LR`, `OPTIMIZER`, `NORM`, `BATCH_SIZE`, `OPT_HPARS.momentum`, ..., in any case.
        look: see `bn_plot_functions`.
    """
    from batchnorm.analysis import curves, looks  # matplotlib with them

    runs = open_runs(paths)
    groups = group_seeds(runs)
    _require_one_variant(groups)
    key = _key(by, groups)
    groups = _in_order(groups, key)
    values = [flat_settings(group.settings).get(key) for group in groups]
    require_common_epochs(runs)
    colours = _colours(values)
    with looks.page(**look, wide=True) as page:
        figure = page.figure(height=0.36 * page.width + 0.8)
        loss, accuracy, final = figure.subplots(1, 3)
        entries: dict[str, Artist] = {}
        for metric, axes in (("train_loss", loss), ("test_acc", accuracy)):
            for place, (group, value) in enumerate(zip(groups, values, strict=True)):
                notes = [note for note in (setting_note(group, groups, but=[key]), group.mark) if note]
                label = ", ".join([_short(key, value), *notes])
                curve = curves.metric_curve(group, metric)
                dashes = _DASHES[place % len(_DASHES)]
                line = curves.draw_curve(axes, curve, colour=colours[place], dashes=dashes, label=label)
                entries.setdefault(", ".join([setting_words(key, value), *notes]), line)
            axes.set_ylabel(looks.metric_label(metric))
            looks.step_axis(axes)
            looks.metric_axis(axes, metric)
        _draw_final(final, groups, key, values)
        norm = "norm" if key == "NORM" else runs[0].config.norm
        page.title(figure, [*looks.facts(runs, but=[key]), in_words(runs[0], norm=norm)])
        looks.legend_below(figure, entries)
        return page.finish(figure, "compare_multiple_lr", runs, *([] if key == _RATE else [f"by_{key}"]))


def _require_one_variant(groups: Sequence[Group]) -> None:
    first = groups[0]
    for group in groups:
        if (group.mask, group.mode) != (first.mask, first.mode):
            what, other = (in_words(each.runs[0], label=False) for each in (group, first))
            raise RunError(
                f"{group.runs[0].directory}: is {what}, {first.runs[0].directory} {other}; "
                "give one variant across learning rates or the values of another key"
            )


def _key(by: str, groups: Sequence[Group]) -> str:
    """Return the key that is meant, as settings call it."""
    keys = {key for group in groups for key in flat_settings(group.settings)} | SLOT_KEYS.keys()  # vanilla has none of them
    known = {key.removesuffix(".name").lower(): key for key in keys - {"PROBLEM"}}  # a schedule by its name
    if by.lower() in known:
        return known[by.lower()]
    if by.upper() in _OF_VARIANTS:
        raise wrong_argument("by", by, "variants and seeds are no values of one variant; ablations compares masks and modes")
    names = sorted(key.removesuffix(".name") for key in known.values())
    raise wrong_argument("by", by, f"no key that decides a result; {nearest_first(by.upper(), names)}")


def _in_order(groups: Sequence[Group], key: str) -> list[Group]:
    """Sort groups by a key's values: numbers by size, others by name.

    Raises:
        RunError: a value is there with several settings.
    """
    by_value, twice = _by_value(groups, key)
    if twice is not None:
        runs = [run for group in groups for run in group.runs]
        options = options_for(runs, lambda some: _has_values(some, key, len(by_value)))
        raise two_settings(*twice, Hint(f"give one setting of each {key}", f"choose one setting of each {key}"), options)
    return [by_value[value] for value in sorted(by_value, key=lambda value: (*_number(value), str(value)))]


def _by_value(groups: Sequence[Group], key: str) -> tuple[dict[Any, Group], tuple[Group, Group] | None]:
    """Return the first group of each value, and the first two groups of one value."""
    by_value: dict[Any, Group] = {}
    twice = None
    for group in groups:
        value = flat_settings(group.settings).get(key)
        first = by_value.setdefault(tuple(value) if isinstance(value, list) else value, group)
        if first is not group and twice is None:
            twice = first, group
    return by_value, twice


def _has_values(runs: Sequence[Run], key: str, count: int) -> bool:
    """Say whether so many values of a key are there, each with one setting."""
    by_value, twice = _by_value(group_seeds(runs), key)
    return twice is None and len(by_value) == count


def _number(value: Any) -> tuple[bool, float]:
    """Return what numbers are sorted by; they come first, and no value last."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return not is_number, float(value) if is_number else 0.0


def _colours(values: Sequence[Any]) -> Sequence[Any]:
    from matplotlib import colormaps

    if any(_number(value)[0] for value in values) and len(values) <= len(_COLOURS):
        return _COLOURS
    return list(colormaps["viridis"](np.linspace(0, 0.88, len(values))))


def _short(key: str, value: Any) -> str:
    """Say a value without its key where it is a number."""
    if value is None or _number(value)[0]:
        return setting_words(key, value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _draw_final(axes: Axes, groups: Sequence[Group], key: str, values: Sequence[Any]) -> None:
    """Draw the final accuracies over the key's values: on an axis of numbers, or side by side."""
    from batchnorm.analysis import looks  # matplotlib with it

    if not any(run.status == Status.FINISHED for group in groups for run in group.runs):
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no run has finished", ha="center", va="center", transform=axes.transAxes)
        return
    numbers = not any(_number(value)[0] for value in values)
    places = list(values) if numbers else list(range(len(values)))
    for split, dashes, marker, aside in (("train", ":", "s", -0.1), ("test", "-", "o", 0.1)):
        means, low, high = np.array([_final(group, f"{split}_acc") for group in groups]).T
        at = np.array(places, dtype=float) + (0 if numbers else aside)
        label = looks.SPLITS[split].lower()
        for part in _joined(groups, key):
            axes.errorbar(
                at[part],
                means[part],
                yerr=[(means - low)[part], (high - means)[part]],
                color=groups[0].row.colour,
                linestyle=dashes if numbers else "",
                marker=marker,
                markersize=3,
                capsize=2,
                label=label,
            )
            label = f"_{label}"
    axes.set_ylabel("Final accuracy")
    axes.set_xlabel(_axis_name(key))
    if not numbers:
        axes.set_xlim(-0.5, len(values) - 0.5)
        looks.name_places(axes, ["none" if value is None else str(value) for value in values])
    elif min(values) > 0 and (key == _RATE or max(values) >= 4 * min(values)):
        looks.log_axis(axes, "x", at=() if key == _RATE else places)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.16 * (high - low))  # room for the legend
    looks.accuracy_axis(axes)
    axes.legend(loc="upper center", ncols=2, borderaxespad=0)


def _joined(groups: Sequence[Group], key: str) -> list[list[int]]:
    """Return the places of the values that one line joins: it joins none of two optimizers, or of other settings in words."""
    parts: dict[tuple[str, ...], list[int]] = {}
    for place, group in enumerate(groups):
        words = (
            f"{name}={value}" for name, value in flat_settings(group.settings).items() if name != key and _number(value)[0]
        )
        parts.setdefault(tuple(sorted(words)), []).append(place)
    return list(parts.values())


_NAMES: Mapping[str, str] = {_RATE: "Learning rate", "NUM_EPOCHS": "Epochs"}


def _axis_name(key: str) -> str:
    words = key.removesuffix(".name").rpartition(".")[2].lower().replace("_", " ")
    return _NAMES.get(key, words[0].upper() + words[1:])


def _final(group: Group, metric: str) -> tuple[float, float, float]:
    """Return mean, lowest and highest of what the finished runs reached; NaN where there is none."""
    values = np.array([run.evaluations[metric][-1] for run in group.runs if run.status == Status.FINISHED])
    values = values[np.isfinite(values)]
    if not len(values):
        return (np.nan,) * 3
    low, high = float(values.min()), float(values.max())
    return min(max(float(values.mean()), low), high), low, high  # a rounded mean of equal values may lie beside them


def _run(given: Namespace) -> None:
    compare_multiple_lr(chosen_paths(given), given.by, **look_of(given))


_BY = {"--by": {"default": _RATE, "metavar": "KEY", "help": "OPTIMIZER, NORM, BATCH_SIZE, ... (default: LR)"}}
COMMAND = Command("rates", "one variant across learning rates, or the values of any other key", "output --mask none", _run, _BY)
