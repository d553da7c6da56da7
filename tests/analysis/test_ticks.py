"""Labels of ticks are told apart and read back: as a function over many ranges, and on an axis."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from batchnorm.analysis.looks import accuracy_axis, log_axis, step_axis
from batchnorm.analysis.ticks import TickFormatter, tick_labels

PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
SIZES = [10.0**power for power in range(-6, 7)]


def value_of(label: str) -> float:
    """Read a label as a reader does."""
    power = re.fullmatch(r"\$10\^\{(-?\d+)\}\$", label)
    if power:
        return 10.0 ** int(power[1])
    number, prefix, percent = re.fullmatch(r"([\d.e\N{MINUS SIGN}]+)([kMG]?)( %)?", label).groups()  # type: ignore[union-attr]
    return float(number.replace("\N{MINUS SIGN}", "-")) * PREFIXES[prefix] / (100 if percent else 1)


def assert_they_say(values: Sequence[float], labels: Sequence[str]) -> None:
    """Check that distinct ticks have distinct labels, each within a hundredth of the distance to the next tick."""
    assert len(set(labels)) == len(set(values)) == len(labels), labels
    for value, label in zip(values, labels, strict=True):
        others = [abs(value - other) for other in values if other != value]
        assert abs(value_of(label) - value) < min(others, default=abs(value) or 1) / 100, (value, label, labels)


@pytest.mark.parametrize("size", SIZES)
def test_linear_axes_of_all_ranges_and_offsets(size: float) -> None:
    for number, offset in enumerate((0.0, *SIZES, *(-each for each in SIZES))):
        low, high = ((0, 1), (-1, 1), (0.137, 0.911), (1, 1.012))[number % 4]
        ticks = list(MaxNLocator(3 + number % 3).tick_values(offset + size * low, offset + size * high))
        if np.ptp(ticks) > 1e-9 * max(map(abs, ticks)):  # else floats themselves cannot tell them apart
            for prefixes in (False, True):
                assert_they_say(ticks, tick_labels(ticks, prefixes=prefixes))


@given(st.floats(-6, 6), st.floats(0.35, 12), st.sampled_from([(1.0,), (1.0, 2.0, 5.0)]))
def test_logarithmic_axes(power: float, decades: float, steps: tuple[float, ...]) -> None:
    low, high = 10.0**power, 10.0 ** min(power + decades, 12)
    ticks = [tick for tick in LogLocator(subs=steps, numticks=8).tick_values(low, high) if low <= tick <= high]
    assert_they_say(ticks, tick_labels(ticks))


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=8, unique=True))
def test_ticks_at_any_places(ticks: list[float]) -> None:
    gaps = np.diff(sorted(ticks))
    if not len(gaps) or gaps.min() > 1e-12 * max(map(abs, ticks)):
        assert_they_say(ticks, tick_labels(ticks))


def test_labels_as_papers_write_them() -> None:
    minus = "\N{MINUS SIGN}"
    assert tick_labels([1.0, 1.004, 1.008, 1.012]) == ["1.000", "1.004", "1.008", "1.012"]
    assert tick_labels([-1.0, -0.5, 0.0, 0.5]) == [f"{minus}1.0", f"{minus}0.5", "0.0", "0.5"]
    assert tick_labels([0.001, 0.01, 0.1, 1.0]) == ["0.001", "0.01", "0.1", "1"]
    assert tick_labels([1e-5, 1e-3, 1e-1]) == ["$10^{-5}$", "$10^{-3}$", "$10^{-1}$"]
    assert tick_labels([0.0, 2e-5, 4e-5]) == ["0", f"2e{minus}5", f"4e{minus}5"]
    assert tick_labels([0, 500, 1000, 1500], prefixes=True) == ["0", "500", "1k", "1.5k"]
    assert tick_labels([50, 62.5, 75], unit=" %") == ["50.0 %", "62.5 %", "75.0 %"]
    assert tick_labels([]) == []


def test_the_ticks_in_view_decide() -> None:
    axes = Figure().subplots()
    axes.plot([0.9e-3, 0.4])
    log_axis(axes)
    locs = list(axes.get_yticks())
    low, high = axes.get_ylim()
    shown = [label for loc, label in zip(locs, axes.yaxis.get_major_formatter().format_ticks(locs), strict=True) if label]
    assert shown == ["0.001", "0.01", "0.1"]
    assert len(shown) == sum(low <= loc <= high for loc in locs)


def test_axes_of_steps_and_accuracies() -> None:
    axes = Figure().subplots()
    axes.plot([0, 1_000_000], [0.9931, 0.9934])
    step_axis(axes)
    accuracy_axis(axes)
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        ticks = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
        assert_they_say(ticks, [label for label in axis.get_major_formatter().format_ticks(ticks) if label])
    assert axes.yaxis.get_major_formatter()(0.99325).endswith(" %")


def test_one_value_alone() -> None:
    assert TickFormatter()(math.pi) == "3.14"
