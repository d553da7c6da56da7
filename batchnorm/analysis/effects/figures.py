"""Drawings of the table of effects: a forest plot, and the interactions of slots as a map. They compute nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from batchnorm.analysis import looks
from batchnorm.analysis.effects.contrasts import FAMILIES
from batchnorm.analysis.effects.table import number
from batchnorm.errors import UserError, nearest_first

_TITLES = {
    "slots": "slots: with BatchNorm minus without",
    "interactions": "slot x slot",
    "modes": "modes, over all masks",
    "modes_per_mask": "modes, mask by mask",
    "gamma_beta": "gamma and beta: trained minus fixed",
}
_COLOUR = "#0072B2"
_BAND = "#009E73"


def draw_effects(
    table: pd.DataFrame,
    *,
    families: Sequence[str] | None = None,
    scale: float = 1.0,
    label: str = "effect",
    style: str | None = None,
) -> Figure:
    """Draw a forest plot: each effect with its interval (thick) and the one simultaneous in its family (thin).

    The margin of the equivalence test is a band. An effect that cannot be estimated keeps its row, and says so.

    Args:
        table: of `effects`.
        families: draw these, in this order; None stands for all but `modes_per_mask`, which has a row for each mask and mode.
        scale: values are drawn times this: 100 for accuracies in points.
        label: of the horizontal axis.
        style: a paper format of tueplots.

    Raises:
        UserError: there is no such family in the table, or no such style.
    """
    chosen = _families(table, families)
    rows = [table[table["family"] == family] for family in chosen]
    heights = [len(family) for family in rows]
    with looks.page(style, None, False, wide=True) as page:
        line = 2.0 * matplotlib.rcParams["ytick.labelsize"] / 72
        figure = page.figure(height=line * (sum(heights) + 1.3 * len(rows)) + 0.9)
        panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        entries: dict[str, Artist] = {}
        for family, axes in zip(rows, panels, strict=True):
            entries |= _draw_family(axes, family, scale)
            axes.set_title(_TITLES[family["family"].iloc[0]], loc="left")
        panels[0].xaxis.set_major_locator(MaxNLocator(7))
        panels[-1].set_xlabel(label)
        looks.legend_below(figure, [(artist, name) for name, artist in entries.items()])
        figure.set_label("effects")
        figure.draw_without_rendering()  # ticks take their fonts now, while the style holds
        return figure


def _families(table: pd.DataFrame, families: Sequence[str] | None) -> list[str]:
    there = [family for family in FAMILIES if (table["family"] == family).any()]
    for family in families or []:
        if family not in there:
            raise UserError(f"family {family}: not in the table of effects; {nearest_first(family, there)}")
    chosen = list(families) if families else [family for family in there if family != "modes_per_mask"]
    if not chosen:
        raise UserError("the table of effects is empty")
    return chosen


def _draw_family(axes: Axes, family: pd.DataFrame, scale: float) -> dict[str, Artist]:
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


def draw_interactions(
    table: pd.DataFrame, *, scale: float = 1.0, label: str = "interaction", style: str | None = None
) -> Figure:
    """Draw the slot x slot interactions as a map, with each value and its interval in its cell.

    Values whose Holm-corrected p-value is at most alpha are bold. A cell is grey where there is no estimate.

    Args:
        table: of `effects`.
        scale: values are shown times this: 100 for accuracies in points.
        label: of the colours.
        style: a paper format of tueplots.

    Raises:
        UserError: the table has no interactions (one slot has none), or no such style.
    """
    cells = table[table["family"] == "interactions"]
    slots = list(table.loc[table["family"] == "slots", "name"])
    if not len(cells):
        raise UserError("the table of effects has no interactions; they need two slots or more")
    values = np.full((len(slots) - 1, len(slots) - 1), np.nan)
    for row in cells.to_dict("records"):
        values[slots.index(row["partner"]) - 1, slots.index(row["subject"])] = scale * row["estimate"]
    known = np.abs(values[np.isfinite(values)])
    limit = float(known.max()) if known.size and known.max() > 0 else 1.0
    with looks.page(style, None, False) as page:
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
        bar.set_label(label)
        bar.ax.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(f"bold: Holm-corrected p at most {cells['alpha'].iloc[0]:g}")
        figure.set_label("interactions")
        figure.draw_without_rendering()  # ticks take their fonts now, while the style holds
        _fit_texts(axes, room=axes.bbox.width / len(values))
        return figure


def _fit_texts(axes: Axes, *, room: float) -> None:
    """Make all texts of the panel smaller by one factor, where the widest would not go into a cell."""
    widest = max(text.get_window_extent().width for text in axes.texts)
    for text in axes.texts:
        text.set_fontsize(text.get_fontproperties().get_size_in_points() * min(1.0, 0.88 * room / widest))


def _cell(row: Mapping[Hashable, Any], scale: float, digits: int) -> str:
    """Return what stands in a cell of the map: the value, and below it the interval's ends."""
    if not np.isfinite(row["estimate"]):
        return "none"
    value, low, high = (
        number(scale * row[name], digits).replace("-", "\N{MINUS SIGN}") for name in ("estimate", "low", "high")
    )
    return f"{value}\n{low} to {high}" if np.isfinite(row["low"]) else value
