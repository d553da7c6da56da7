"""What of a figure is text: where it stands, whether it has room, and what ticks say. Nothing is turned into pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter
from numpy.typing import NDArray

from batchnorm.analysis.ticks import TickFormatter
from tests.analysis.test_ticks import assert_they_say

_CLOSE = 1.0
"""Pixels, at 100 an inch, by which boxes may overlap: a text's box is a little larger than its letters."""


def assert_texts_have_room(figure: Figure) -> None:
    """Check that no two texts overlap, that none leaves the page, and that no colour bar covers another panel's."""
    figure.draw_without_rendering()
    beyond = {label for axes in figure.axes for axis in axes._axis_map.values() for label in labels_beyond(axis)}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in beyond]
    shown = [(text, corners(text)) for text in texts if isinstance(text, Text) and is_drawn(text)]
    for text, at in shown:
        for place, end in zip(at.T, figure.bbox.size, strict=True):
            assert place.min() >= -_CLOSE and place.max() <= end + _CLOSE, ("leaves the page", text.get_text())
    for (one, at), (other, there) in itertools.combinations(shown, 2):
        assert are_apart(at, there), ("overlap", one.get_text(), other.get_text())
    for bar in (axes for axes in figure.axes if "outline" in axes.spines):
        box, own = bar.get_window_extent().corners()[[0, 2, 3, 1]], bar.findobj(Text)
        for text, at in shown:
            assert text in own or are_apart(at, box), ("a colour bar covers", text.get_text())


def assert_ticks_say_their_values(figure: Figure) -> None:
    """Check the labels of all axes of numbers, of colour bars too."""
    for axes in figure.axes:
        for axis in axes._axis_map.values():
            formatter = axis.get_major_formatter()
            named = isinstance(formatter, FuncFormatter) and isinstance(axis.get_major_locator(), FixedLocator)  # set_yticks
            if axes.axison and axis.get_visible() and not named and not isinstance(formatter, NullFormatter):
                low, high = sorted(axis.get_view_interval())
                ticks = [float(tick) for tick in axis.get_majorticklocs() if low <= tick <= high]
                assert isinstance(formatter, TickFormatter), ("has matplotlib's labels", axes.get_title())
                in_units = [tick * formatter.scale / (100 if formatter.unit == " %" else 1) for tick in ticks]
                assert_they_say(in_units, [label for label in formatter.format_ticks(ticks) if label])
                assert not axis.get_offset_text().get_text(), axes.get_title()


def labels_beyond(axis: Axis) -> Iterator[Text]:
    """Return the labels of ticks outside of what the axis shows; matplotlib keeps them and does not draw them."""
    low, high = sorted(axis.get_view_interval())
    room = 1e-6 * (high - low)
    for tick in axis.get_major_ticks():
        if not low - room <= tick.get_loc() <= high + room:
            yield from (tick.label1, tick.label2)


def is_drawn(text: Text) -> bool:
    """Say whether a text's panel shows its axes: `set_axis_off` hides their names and labels."""
    axes = text.axes
    return axes is None or axes.axison or text in axes.texts or text is getattr(axes, "title", None)


def corners(text: Text) -> NDArray[np.float64]:
    """Return the corners of a text's box, shape (4, 2), aslant where the text is."""
    angle = text.get_rotation()
    text.set_rotation(0)
    straight = text.get_window_extent()
    text.set_rotation(angle)
    turned = text.get_window_extent()
    if angle % 90 == 0:
        straight, angle = turned, 0
    width, height = straight.width, straight.height
    box = np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    middle = (turned.corners()[0] + turned.corners()[-1]) / 2
    return np.asarray(box @ [[cos, sin], [-sin, cos]] + middle, np.float64)


def are_apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Say whether a line parts two boxes: it is along a side of one of them."""
    for side in (*np.diff(one[:3], axis=0), *np.diff(other[:3], axis=0)):
        normal = np.array([-side[1], side[0]]) / np.hypot(*side)
        here, there = one @ normal, other @ normal
        if here.max() - _CLOSE <= there.min() + _CLOSE or there.max() - _CLOSE <= here.min() + _CLOSE:
            return True
    return False
