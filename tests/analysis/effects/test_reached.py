"""Epochs to an accuracy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchnorm.analysis.effects import epochs_to


def one_run(level: float, epochs: list[int], accuracy: list[float], *, length: int) -> tuple[int, bool]:
    first, capped = epochs_to(level, epochs, accuracy, length=length)
    return int(first), bool(capped)


def test_the_first_epoch_counts_and_epoch_0_does_not() -> None:
    first, capped = epochs_to(0.5, [0, 1, 2, 3], [[0.9, 0.1, 0.5, 0.4], [0.9, 0.1, 0.2, 0.3]], length=8)
    np.testing.assert_array_equal(first, [2, 8])
    np.testing.assert_array_equal(capped, [False, True])


def test_a_run_that_reaches_it_at_its_end_is_not_capped() -> None:
    assert one_run(0.5, [0, 1, 2], [0.1, 0.2, 0.6], length=2) == (2, False)


def test_a_run_without_an_epoch_is_capped() -> None:
    assert one_run(0.5, [], [], length=6) == (6, True)


@given(st.lists(st.floats(0, 1) | st.just(np.nan), max_size=8), st.floats(0, 1))
def test_equals_a_loop(accuracy: list[float], level: float) -> None:
    expected = next(((epoch, False) for epoch, value in enumerate(accuracy) if epoch and value >= level), (8, True))
    assert one_run(level, list(range(len(accuracy))), accuracy, length=8) == expected
