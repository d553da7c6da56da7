from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchnorm.measurements.thresholds import probability_off, share_above, share_below, spread, threshold

values = st.floats(-10, 10, width=32)


@given(values, values)
def test_probability_off_is_the_share_of_normal_numbers_that_a_relu_stops(gamma: float, beta: float) -> None:
    normal = np.sort(np.random.default_rng(0).standard_normal(4000))
    share = np.mean(gamma * normal + beta <= 0)
    found = probability_off(threshold(np.array([[gamma]]), np.array([[beta]])))
    assert abs(found[0, 0] - share) < 0.03


@given(values, values)
def test_probability_off_against_the_error_function(gamma: float, beta: float) -> None:
    if abs(gamma) > 1e-30:
        expected = 0.5 * math.erfc(beta / abs(gamma) / math.sqrt(2))
        assert math.isclose(
            probability_off(threshold(np.array(gamma), np.array(beta))).item(), expected, rel_tol=1e-9, abs_tol=1e-300
        )


def test_where_gamma_is_zero_beta_decides() -> None:
    gamma, beta = np.array([[0.0, 0.0, 0.0, -0.0]], np.float32), np.array([[1.0, -1.0, 0.0, -0.0]], np.float32)
    assert threshold(gamma, beta).tolist() == [[np.inf, -np.inf, -np.inf, -np.inf]]
    assert probability_off(threshold(gamma, beta)).tolist() == [[0.0, 1.0, 1.0, 1.0]]


def test_shares_count_channels_beyond_the_levels() -> None:
    probabilities = np.array([[0.995, 0.5, 0.001, 0.99], [1.0, 1.0, 0.0, 0.01], [np.nan, 1.0, 1.0, 1.0]])
    assert np.array_equal(share_above(probabilities), [0.25, 0.5, np.nan], equal_nan=True)
    assert np.array_equal(share_below(probabilities), [0.25, 0.25, np.nan], equal_nan=True)


def test_the_spread_is_that_of_the_middle_half() -> None:
    thresholds = np.array([[0.0, 1.0, 2.0, 3.0, 4.0], [-np.inf, 1.0, 2.0, 3.0, np.inf], [5.0] * 5])
    assert spread(thresholds).tolist() == [2.0, 2.0, 0.0]
    assert np.isnan(spread(np.array([0.0, np.nan, 1.0])))
    assert np.isnan(spread(np.full(4, np.inf)))
