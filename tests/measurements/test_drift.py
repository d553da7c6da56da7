from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from batchnorm.measurements.drift import drift, path_length, settled_at


def naive(values: NDArray[np.float32], *, relative: bool) -> tuple[list[float], list[float]]:
    rows = [[float(value) for value in row] for row in values]
    unit = math.hypot(*rows[0]) if relative else 1.0
    gone = [math.dist(row, rows[0]) / unit for row in rows]
    path = [sum(math.dist(rows[at], rows[at - 1]) for at in range(1, end + 1)) / unit for end in range(len(rows))]
    return gone, path


@pytest.mark.parametrize("relative", [True, False])
def test_drift_and_path_against_loops(relative: bool) -> None:
    values = 1 + np.cumsum(np.random.default_rng(0).normal(size=(20, 7)), axis=0).astype(np.float32)
    gone, path = naive(values, relative=relative)
    found = drift(values, relative=relative)
    length = path_length(values, relative=relative)
    assert found is not None
    assert length is not None
    assert np.allclose(found, gone, rtol=1e-12)
    assert np.allclose(length, path, rtol=1e-12)
    assert (length >= found - 1e-12).all()


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=30))
def test_the_settling_step_against_a_search(way: list[int]) -> None:
    values = np.array([0, *way], np.float32)[:, None]
    steps = 5 * np.arange(len(values))
    last = abs(way[-1])
    naive_step = next((at for at in range(len(values)) if all(abs(value) >= 0.9 * last for value in values[at:, 0])), None)
    expected = None if last == 0 or naive_step is None else 5 * naive_step
    assert settled_at(values, steps) == expected


def test_what_is_fixed_or_starts_at_zero_is_absent() -> None:
    fixed = np.ones((4, 3), np.float32)
    steps = np.arange(4)
    assert drift(fixed, relative=True) is None
    assert path_length(fixed, relative=False) is None
    assert settled_at(fixed, steps) is None
    from_zero = np.arange(4, dtype=np.float32)[:, None]
    assert drift(from_zero, relative=True) is None
    assert settled_at(from_zero, steps) == 3
    assert drift(from_zero[:1], relative=False) is None
    assert settled_at(np.array([[0.0], [1.0], [0.0]]), steps[:3]) is None
    assert settled_at(np.array([[0.0], [1.0], [np.nan]]), steps[:3]) is None
