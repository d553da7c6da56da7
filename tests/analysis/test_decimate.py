from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from batchnorm.analysis.decimate import line_rows, reduce_map


@st.composite
def steps_of(draw: st.DrawFn, shortest: int = 1, longest: int = 400) -> np.ndarray:
    length = draw(st.integers(shortest, longest))
    gaps = draw(st.lists(st.integers(1, 9), min_size=length, max_size=length)) if draw(st.booleans()) else [5] * length
    return np.cumsum(gaps)


@given(steps_of(), st.integers(1, 60), st.integers(0, 2**32))
def test_a_line_keeps_its_ends_and_the_range_of_each_bin(steps: np.ndarray, bins: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(len(steps))
    rows = line_rows(steps, [values], bins)
    assert np.all(np.diff(rows) > 0)
    assert rows[0] == 0 and rows[-1] == len(steps) - 1
    assert len(rows) <= max(4 * bins, len(steps) if len(steps) <= 4 * bins else 0)
    place = np.minimum((steps - steps[0]) / max(steps[-1] - steps[0], 1) * bins, bins - 1).astype(int)
    for bin_ in np.unique(place):
        inside = np.flatnonzero(place == bin_)
        kept = rows[np.isin(rows, inside)]
        assert values[kept].min() == values[inside].min()
        assert values[kept].max() == values[inside].max()


def test_a_gap_in_a_line_stays_a_gap() -> None:
    values = np.sin(np.arange(5000) / 50)
    values[2000:2003] = np.nan
    rows = line_rows(np.arange(5000), [values], 100)
    assert np.isnan(values[rows]).any()
    assert len(rows) < 500


@settings(deadline=None)
@given(
    st.data(),
    steps_of(shortest=40),
    st.integers(1, 40),
    st.integers(20, 90),
    st.integers(8, 30),
    st.sampled_from([-1, 1]),
    st.integers(0, 2**32),
)
def test_a_spike_stays_in_a_map(
    data: st.DataObject, steps: np.ndarray, channels: int, columns: int, rows: int, sign: int, seed: int
) -> None:
    first = data.draw(st.integers(0, len(steps) - 1))
    length = data.draw(st.integers(1, min(4, len(steps) - first)))
    channel = data.draw(st.integers(0, channels - 1))
    values = np.random.default_rng(seed).uniform(0.9, 1.1, (len(steps), channels)).astype(np.float32)
    values[first : first + length, channel] = 1 + 4 * sign
    grid = reduce_map(steps, values, columns=columns, rows=rows)
    assert grid.values.shape[0] == min(rows, channels) and grid.values.shape[1] <= columns
    assert (1 + 4 * sign) in grid.values


@given(steps_of(longest=60), st.integers(1, 12), st.integers(0, 2**32))
def test_a_map_with_room_for_all_holds_each_snapshot(steps: np.ndarray, channels: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((len(steps), channels)).astype(np.float32)
    even = np.arange(len(steps)) * 5
    np.testing.assert_array_equal(reduce_map(even, values, columns=400, rows=40).values, values.T)
    grid = reduce_map(steps, values, columns=600, rows=40)
    np.testing.assert_array_equal(grid.values[:, -1], values[-1])
    assert all(snapshot.tolist() in grid.values.T.tolist() for snapshot in values)
    assert (grid.first_step, grid.last_step, grid.channels) == (steps[0], steps[-1], channels)


@given(steps_of(), st.integers(1, 50), st.integers(1, 20), st.integers(0, 2**32))
def test_each_cell_of_a_map_is_a_recorded_value(steps: np.ndarray, columns: int, rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((len(steps), 30)).astype(np.float32)
    assert np.isin(reduce_map(steps, values, columns=columns, rows=rows).values, values).all()


def test_what_is_not_finite_is_nan_and_does_not_spread() -> None:
    values = np.ones((1000, 4), dtype=np.float32)
    values[990:, 1] = np.inf
    values[500, 2] = np.nan
    grid = reduce_map(np.arange(1000), values, columns=100, rows=4).values
    assert np.isnan(grid[1, 99:]).all() and np.isnan(grid[2, 50])
    assert np.isnan(grid).sum() == 2
    assert np.nanmax(grid) == np.nanmin(grid) == 1
