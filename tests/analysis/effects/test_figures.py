"""What the figures of effects show, read back from them; and that no two of their texts overlap."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from batchnorm.analysis.effects import effects
from batchnorm.analysis.figures.effects import draw_effects
from batchnorm.analysis.figures.interactions import draw_interactions
from batchnorm.errors import RunError, UserError
from tests.analysis.effects.designs import ALL_MASKS, PREFIXES, SLOTS, runs

STYLES = [None, "neurips", "icml", "aistats2022", "jmlr2001", "beamer_moml"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return effects(runs(noise=0.3), slots=SLOTS, margin=0.2)


def nine_slots() -> pd.DataFrame:
    masks = [mask for mask in itertools.product((0, 1), repeat=9) if sum(mask) <= 2 and mask != (1, 1, *[0] * 7)]
    draw = np.random.default_rng(0)
    rows = [(seed, ",".join(map(str, mask)), "trained_bn", draw.normal()) for seed in range(5) for mask in masks]
    return effects(pd.DataFrame(rows, columns=["seed", "mask", "mode", "value"]), slots=[f"conv{n}" for n in range(1, 10)])


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def labels_beyond(axis: Axis) -> list[Text]:
    """Return the labels of ticks outside of what the axis shows; matplotlib keeps them and does not draw them."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


def assert_texts_have_room(figure: Figure) -> None:
    figure.draw_without_rendering()
    beyond = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in labels_beyond(axis)}
    shown = [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in beyond and isinstance(text, Text)
    ]
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    page = figure.bbox.padded(1)
    for text, box in boxes:
        assert page.containsx(box.x0) and page.containsx(box.x1), text
        assert page.containsy(box.y0) and page.containsy(box.y1), text
    for (one, box), (other, at) in itertools.combinations(boxes, 2):
        assert not box.padded(-1).overlaps(at.padded(-1)), (one, other)


class TestForest:
    def test_both_intervals_and_the_estimates_are_drawn(self, table: pd.DataFrame) -> None:
        axes = draw_effects(table, scale=100).axes[0]
        slots = table[table["family"] == "slots"]
        assert [tick.get_text() for tick in axes.get_yticklabels()] == list(SLOTS)
        simultaneous, plain = (lines for lines in axes.collections if isinstance(lines, LineCollection))
        for drawn, suffix in ((simultaneous, "_simultaneous"), (plain, "")):
            ends = np.array(drawn.get_segments())[:, :, 0]
            np.testing.assert_allclose(ends, 100 * slots[[f"low{suffix}", f"high{suffix}"]])
        np.testing.assert_allclose(np.asarray(axes.get_lines()[-1].get_xdata(), dtype=float), 100 * slots["estimate"])

    def test_the_norm_is_named(self, table: pd.DataFrame) -> None:
        for norm, words in (
            ("batch", "BatchNorm"),
            ("group:4", "group norm (4 groups)"),
            ("center", "centring"),
            ("new", "new"),
        ):
            axes = draw_effects(table, families=["slots"], norm=norm).axes[0]
            assert axes.get_title(loc="left") == f"slots: with {words} minus without"

    def test_the_margin_is_named(self, table: pd.DataFrame) -> None:
        legend = [text.get_text() for text in draw_effects(table, scale=100).legends[0].get_texts()]
        assert legend == ["margin 20", "simultaneous 95 %", "95 % interval", "estimate"]

    def test_the_many_rows_of_masks_are_drawn_when_asked_for(self, table: pd.DataFrame) -> None:
        assert len(draw_effects(table).axes) == 4
        assert len(draw_effects(table, families=["modes_per_mask"]).axes[0].get_yticks()) == 21

    def test_what_cannot_be_estimated_keeps_its_row(self) -> None:
        figure = draw_effects(effects(runs(masks=PREFIXES, noise=1)))
        assert texts(figure.axes[1]) == ["not estimable"] * 3
        assert_texts_have_room(figure)

    def test_one_seed_is_drawn_without_intervals(self) -> None:
        figure = draw_effects(effects(runs(seeds=[1])))
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["estimate"]

    @pytest.mark.parametrize("style", STYLES)
    def test_texts_have_room(self, table: pd.DataFrame, style: str | None) -> None:
        assert_texts_have_room(draw_effects(table, style=style, scale=100, label="difference in accuracy (points)"))
        assert_texts_have_room(draw_effects(table, style=style, families=["modes_per_mask"]))

    def test_messages(self, table: pd.DataFrame) -> None:
        with pytest.raises(UserError, match="family slot: not in the table of effects; did you mean slots"):
            draw_effects(table, families=["slot"])
        with pytest.raises(UserError, match="the table of effects is empty"):
            draw_effects(table.iloc[:0])
        with pytest.raises(RunError, match="style=nips: no such paper format"):
            draw_effects(table, style="nips")


class TestInteractions:
    def test_values_stand_in_their_cells(self, table: pd.DataFrame) -> None:
        axes = draw_interactions(table, scale=100).axes[0]
        image: np.ndarray = np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan)
        cells = table[table["family"] == "interactions"].set_index("name")["estimate"]
        expected = [[cells["conv1 x conv2"], np.nan], [cells["conv1 x dense1"], cells["conv2 x dense1"]]]
        np.testing.assert_allclose(image, 100 * np.array(expected))
        assert [label.get_text() for label in axes.get_yticklabels()] == ["conv2", "dense1"]
        for text, value in zip(axes.texts, cells, strict=True):
            shown = float(text.get_text().splitlines()[0].replace("\N{MINUS SIGN}", "-"))
            assert shown == pytest.approx(100 * value, abs=0.5)

    def test_bold_is_what_holm_rejects(self, table: pd.DataFrame) -> None:
        low = table.assign(p_holm=np.where(table["name"] == "conv1 x dense1", 0.01, 0.2))
        assert [text.get_fontweight() for text in draw_interactions(low).axes[0].texts] == ["normal", "bold", "normal"]

    def test_what_cannot_be_estimated_is_said_so(self) -> None:
        axes = draw_interactions(effects(runs(masks=ALL_MASKS[:4], noise=1), slots=SLOTS)).axes[0]
        assert [text.get_text().splitlines()[0] for text in axes.texts].count("none") == 2

    @pytest.mark.parametrize("style", STYLES)
    def test_texts_have_room(self, table: pd.DataFrame, style: str | None) -> None:
        assert_texts_have_room(draw_interactions(table, style=style, scale=100, label="interaction (points)"))
        assert_texts_have_room(draw_interactions(nine_slots(), style=style))

    def test_one_slot_has_none(self) -> None:
        rows = [(seed, mask, "trained_bn", float(seed)) for seed in (1, 2) for mask in ("0", "1")]
        table = effects(pd.DataFrame(rows, columns=["seed", "mask", "mode", "value"]))
        with pytest.raises(UserError, match="no interactions; they need two slots"):
            draw_interactions(table)
