from __future__ import annotations

import math

import numpy as np

from batchnorm.measurements.statistics_drift import statistics_drift


def test_the_drift_of_statistics_against_loops() -> None:
    generator = np.random.default_rng(0)
    mean, variance = generator.normal(size=(5, 3)).astype(np.float32), generator.uniform(0.1, 4, (5, 3)).astype(np.float32)
    moved, widened = statistics_drift(mean, variance, np.arange(5))
    assert np.isnan(moved[:2]).all()  # nothing stands before epoch 0, and before epoch 1 nothing but (0, 1)
    assert np.isnan(widened[:2]).all()
    for epoch in range(2, 5):
        for channel in range(3):
            before, after = float(variance[epoch - 1, channel]), float(variance[epoch, channel])
            change = abs(float(mean[epoch, channel]) - float(mean[epoch - 1, channel])) / math.sqrt(before)
            assert math.isclose(moved[epoch, channel], change, rel_tol=1e-12)
            assert math.isclose(widened[epoch, channel], abs(math.log(after / before)) / 2, rel_tol=1e-9)


def test_a_record_that_begins_later_counts_from_its_first_epoch() -> None:
    moved, _ = statistics_drift(np.array([[0.0], [1.0], [3.0]]), np.ones((3, 1)), np.array([4, 5, 6]))
    assert np.array_equal(moved, [[np.nan], [1.0], [2.0]], equal_nan=True)


def test_no_epochs_give_no_rows() -> None:
    moved, widened = statistics_drift(np.zeros((0, 3)), np.ones((0, 3)), np.zeros(0, np.int64))
    assert moved.shape == widened.shape == (0, 3)
