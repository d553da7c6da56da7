"""A forest plot of effects: each with its interval, family by family."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from batchnorm.analysis.outcome import ARGUMENTS, FAMILY, TESTS, Outcome, in_values, outcome_of
from batchnorm.analysis.runs import RunPath, RunPaths
from batchnorm.analysis.shell import SAVED_AS, Command, chosen_paths, look_of
from batchnorm.modes import DEFAULT_NORM

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from batchnorm.analysis.looks import Page

_COLOUR = "#0072B2"
_BAND = "#009E73"


def effects_forest(
    paths: RunPaths,
    *,
    metric: str = "test_acc",
    last: int = 1,
    epochs_to: float | None = None,
    families: Sequence[str] | None = None,
    style: str | None = None,
    title: str | None = None,
    formats: Sequence[str] = SAVED_AS,
    save_dir: RunPath | None = None,
    save: bool = True,
    **tests: Any,
) -> Figure:
    """Draw a forest plot of runs: the effects of slots, of modes, and of gamma and beta.

    Args:
        paths: runs of one problem and one setting, as `batchnorm.analysis.effects.table_of` takes them.
        metric: see there.
        last: see there.
        epochs_to: see there.
        families: see `draw_effects`.
        style: see `bn_plot_functions`.
        title: see `bn_plot_functions`.
        formats: see `bn_plot_functions`.
        save_dir: see `bn_plot_functions`.
        save: see `bn_plot_functions`.
        tests: `alpha`, `margin` and so on, as `batchnorm.analysis.effects.effects` takes them.
    """
    from batchnorm.analysis import looks  # matplotlib with it
    from batchnorm.analysis.effects import effects
    from batchnorm.analysis.effects.of_records import compare

    outcome = Outcome(metric, last, epochs_to)
    found = compare(paths, outcome)
    table = effects(found.table, slots=found.slots, **tests)
    with looks.page(style, save_dir, save, title=title, formats=formats, wide=True) as page:
        figure = _forest(page, table, families, outcome.scale, f"difference in {outcome.label}", norm=found.norm)
        page.title(figure, [*looks.facts(found.runs), found.counted])
        return page.finish(figure, "effects_forest", found.runs, "+".join(families or ()), outcome.file_name)


def draw_effects(
    table: pd.DataFrame,
    *,
    families: Sequence[str] | None = None,
    scale: float = 1.0,
    label: str = "effect",
    style: str | None = None,
    norm: str = DEFAULT_NORM,
) -> Figure:
    """Draw a forest plot of a table: each effect with its interval (thick) and the one simultaneous in its family (thin).

    The margin of the equivalence test is a band. An effect that cannot be estimated keeps its row, and says so.

    Args:
        table: of `batchnorm.analysis.effects.effects`.
        families: draw these, in this order; None stands for all but `modes_per_mask`, which has a row for each mask and mode.
        scale: values are drawn times this: 100 for accuracies in points.
        label: of the horizontal axis.
        style: a paper format of tueplots.
        norm: of the runs, as `NORM` takes it.

    Raises:
        UserError: there is no such family in the table, or no such style.
    """
    from batchnorm.analysis import looks

    with looks.page(style, None, save=False, wide=True) as page:
        figure = _forest(page, table, families, scale, label, norm=norm)
        figure.draw_without_rendering()  # ticks take their fonts now, while the style holds
        return figure


def _forest(page: Page, table: pd.DataFrame, families: Sequence[str] | None, scale: float, label: str, *, norm: str) -> Figure:
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    from batchnorm.analysis import looks
    from batchnorm.analysis.effects.table import chosen_families, titles

    asked = families or [family for family in chosen_families(table) if family != "modes_per_mask"]
    rows = [table[table["family"] == family] for family in chosen_families(table, asked)]
    heights = [len(family) for family in rows]
    line = 2.0 * matplotlib.rcParams["ytick.labelsize"] / 72
    figure = page.figure(height=line * (sum(heights) + 1.3 * len(rows)) + 0.9)
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    entries: dict[str, Artist] = {}
    for family, axes in zip(rows, panels, strict=True):
        entries |= _draw_family(axes, family, scale)
        axes.set_title(titles(norm)[family["family"].iloc[0]], loc="left")
    panels[0].xaxis.set_major_locator(MaxNLocator(7))
    panels[-1].set_xlabel(label)
    looks.label_ticks(figure)
    looks.legend_below(figure, entries)
    return figure


def _draw_family(axes: Axes, family: pd.DataFrame, scale: float) -> dict[str, Artist]:
    import numpy as np

    places = np.arange(len(family))
    mean = scale * family["estimate"].to_numpy()
    level = 100 * (1 - family["alpha"].iloc[0])
    entries: dict[str, Artist] = {}
    margin = scale * family["margin"].iloc[0]
    if np.isfinite(margin):
        entries[f"margin {margin:.3g}"] = axes.axvspan(-margin, margin, color=_BAND, alpha=0.15, linewidth=0)
    axes.axvline(0, color="black", linewidth=0.6)
    for suffix, width, name in (("_simultaneous", 0.8, f"simultaneous {level:g} %"), ("", 2.4, f"{level:g} % interval")):
        low, high = (scale * family[end + suffix].to_numpy() for end in ("low", "high"))
        drawn = np.isfinite(low)
        if drawn.any():
            entries[name] = axes.hlines(places[drawn], low[drawn], high[drawn], color=_COLOUR, linewidth=width)
    entries["estimate"] = axes.plot(
        mean, places, linestyle="", marker="o", markersize=4, color=_COLOUR, markeredgecolor="white", markeredgewidth=0.6
    )[0]
    for place in places[~np.isfinite(mean)]:
        axes.text(0.01, place, "not estimable", transform=axes.get_yaxis_transform(), va="center", color="grey", style="italic")
    axes.set_yticks(places, list(family["name"]))
    axes.set_ylim(len(family) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    return entries


def _run(given: Namespace) -> None:
    outcome = outcome_of(given)
    effects_forest(
        chosen_paths(given),
        metric=given.metric,
        last=given.last,
        epochs_to=given.epochs_to,
        families=given.family,
        alpha=given.alpha,
        margin=in_values(given.margin, outcome),
        **look_of(given),
    )


_ABOUT = "forest plot: effects of slots, modes, gamma and beta, with intervals over seeds"
COMMAND = Command("forest", _ABOUT, "output --problem fmnist_2c2d_bn --margin 0.3", _run, {**ARGUMENTS, **TESTS, **FAMILY})
