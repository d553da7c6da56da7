"""Interactions of slots as a map: whether a norm in one slot does more where another slot has it too."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from batchnorm.analysis.outcome import ARGUMENTS, LEVEL, Outcome
from batchnorm.analysis.runs import RunPath, RunPaths
from batchnorm.analysis.shell import SAVED_AS, Command, chosen_paths, look_of
from batchnorm.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from batchnorm.analysis.looks import Page


def slot_interactions(
    paths: RunPaths,
    *,
    metric: str = "test_acc",
    last: int = 1,
    epochs_to: float | None = None,
    style: str | None = None,
    title: str | None = None,
    formats: Sequence[str] = SAVED_AS,
    save_dir: RunPath | None = None,
    save: bool = True,
    **tests: Any,
) -> Figure:
    """Draw the slot x slot interactions of runs as a map.

    Args:
        paths: runs of one problem and one setting, as `batchnorm.analysis.effects.table_of` takes them.
        metric: see there.
        last: see there.
        epochs_to: see there.
        style: see `bn_plot_functions`.
        title: see `bn_plot_functions`.
        formats: see `bn_plot_functions`.
        save_dir: see `bn_plot_functions`.
        save: see `bn_plot_functions`.
        tests: `alpha` and so on, as `batchnorm.analysis.effects.effects` takes them.
    """
    from batchnorm.analysis import looks  # matplotlib with it
    from batchnorm.analysis.effects import effects
    from batchnorm.analysis.effects.of_records import compare

    outcome = Outcome(metric, last, epochs_to)
    found = compare(paths, outcome)
    table = effects(found.table, slots=found.slots, **tests)
    with looks.page(style, save_dir, save, title=title, formats=formats) as page:
        figure = _map(page, table, outcome.scale, f"interaction in {outcome.label}")
        page.title(figure, [*looks.facts(found.runs), found.counted])
        return page.finish(figure, "slot_interactions", found.runs, outcome.file_name)


def draw_interactions(
    table: pd.DataFrame, *, scale: float = 1.0, label: str = "interaction", style: str | None = None
) -> Figure:
    """Draw the slot x slot interactions of a table as a map, with each value and its interval in its cell.

    Values whose Holm-corrected p-value is at most alpha are bold. A cell is grey where there is no estimate.

    Args:
        table: of `batchnorm.analysis.effects.effects`.
        scale: values are shown times this: 100 for accuracies in points.
        label: of the colours.
        style: a paper format of tueplots.

    Raises:
        UserError: the table has no interactions (one slot has none), or no such style.
    """
    from batchnorm.analysis import looks

    with looks.page(style, None, save=False) as page:
        figure = _map(page, table, scale, label)
        figure.draw_without_rendering()  # ticks take their fonts now, while the style holds
        return figure


def _map(page: Page, table: pd.DataFrame, scale: float, label: str) -> Figure:
    import matplotlib
    import numpy as np
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    from batchnorm.analysis import looks

    cells = table[table["family"] == "interactions"]
    slots = list(table.loc[table["family"] == "slots", "name"])
    if not len(cells):
        raise UserError("the table of effects has no interactions; they need two slots or more")
    values = np.full((len(slots) - 1, len(slots) - 1), np.nan)
    for row in cells.to_dict("records"):
        values[slots.index(row["partner"]) - 1, slots.index(row["subject"])] = scale * row["estimate"]
    known = np.abs(values[np.isfinite(values)])
    limit = float(known.max()) if known.size and known.max() > 0 else 1.0
    side = page.width / (len(values) + 2)
    figure = page.figure(height=min(side, 1.0) * len(values) + 0.9)
    axes = figure.subplots()
    colours = matplotlib.colormaps["RdBu_r"]
    image = axes.imshow(values, cmap=colours, norm=Normalize(-limit, limit), aspect="auto")
    digits = max(0, 2 - int(np.floor(np.log10(limit))) - 1)
    for row in cells.to_dict("records"):
        down, across = slots.index(row["partner"]) - 1, slots.index(row["subject"])
        shade = abs(values[down, across]) / limit
        if not np.isfinite(shade):
            axes.fill_between([across - 0.5, across + 0.5], down - 0.5, down + 0.5, color="0.9", linewidth=0)
        axes.text(
            across,
            down,
            _cell(row, scale, digits),
            ha="center",
            va="center",
            fontsize=matplotlib.rcParams["xtick.labelsize"],
            color="white" if shade > 0.6 else "black",
            weight="bold" if row["p_holm"] <= row["alpha"] else "normal",
        )
    axes.set_xticks(range(len(values)), slots[:-1], rotation=30 if len(slots) > 4 else 0)
    axes.set_yticks(range(len(values)), slots[1:])
    axes.tick_params(length=0)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes)
    looks.row_name(bar.ax, [label], height=min(side, 1.0) * len(values))
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    looks.label_ticks(figure)
    if cells["p_holm"].notna().any():
        axes.set_xlabel(f"bold: Holm-corrected p at most {cells['alpha'].iloc[0]:g}")
    figure.draw_without_rendering()  # now the cells have a width
    _fit_texts(axes, room=axes.bbox.width / len(values))
    return figure


def _fit_texts(axes: Axes, *, room: float) -> None:
    """Make all texts of the panel smaller by one factor, where the widest would not go into a cell."""
    widest = max(text.get_window_extent().width for text in axes.texts)
    for text in axes.texts:
        text.set_fontsize(text.get_fontproperties().get_size_in_points() * min(1.0, 0.88 * room / widest))


def _cell(row: Mapping[Hashable, Any], scale: float, digits: int) -> str:
    """Return what stands in a cell of the map: the value, and below it the interval's ends."""
    import numpy as np

    from batchnorm.analysis.effects.table import number

    if not np.isfinite(row["estimate"]):
        return "none"
    value, low, high = (
        number(scale * row[name], digits).replace("-", "\N{MINUS SIGN}") for name in ("estimate", "low", "high")
    )
    return f"{value}\n{low} to {high}" if np.isfinite(row["low"]) else value


def _run(given: Namespace) -> None:
    slot_interactions(
        chosen_paths(given),
        metric=given.metric,
        last=given.last,
        epochs_to=given.epochs_to,
        alpha=given.alpha,
        **look_of(given),
    )


_ABOUT = "slot x slot: whether a norm in one slot does more where another has it"
COMMAND = Command("interactions", _ABOUT, "output --problem fmnist_2c2d_bn", _run, {**ARGUMENTS, **LEVEL})
