"""Where BatchNorm puts the zero of a ReLU: the threshold of each channel, and how often the channel should be off.

Definition: a normalised pre-activation z gives gamma z + beta, so a ReLU behind it is off where z lies below -t (gamma > 0)
or above t (gamma < 0), with the threshold t = beta / |gamma|. For z ~ N(0, 1) both have the probability P(off) = Phi(-t),
Phi being the normal distribution function.
Unit: t in standard deviations of the pre-activation, P(off) a probability.
Source: Ioffe and Szegedy, 1502.03167, section 3 (the normalised value and its affine map); what follows is arithmetic.
P(off) speaks of samples, not of dead units: compare it with the measured share of samples that are off (`representations`).
No torch here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from batchnorm.measurements import Read


def derived_threshold(read: Read) -> NDArray[np.float64]:
    """Return the threshold over the snapshots, shape (T, C)."""
    return threshold(read("gamma"), read("beta"))


def derived_probability(read: Read) -> NDArray[np.float64]:
    """Return P(off) over the snapshots, shape (T, C)."""
    return probability_off(derived_threshold(read))


def derived_share(read: Read, side: str, level: float) -> NDArray[np.float64]:
    """Return the share of channels with P(off) `above` or `below` a level, shape (T,)."""
    probabilities = derived_probability(read)
    return share_above(probabilities, level) if side == "above" else share_below(probabilities, level)


def derived_spread(read: Read) -> NDArray[np.float64]:
    """Return the distance between the quartiles of the thresholds over a slot's channels, shape (T,)."""
    return spread(derived_threshold(read))


def threshold(gamma: NDArray[np.floating], beta: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return t = beta / |gamma|, elementwise, as shapes (T, C) come in.

    Where gamma is 0 the output is beta whatever the input: t is inf for beta > 0 (never off), and -inf for beta <= 0
    (always off: a ReLU at 0 passes nothing on).
    """
    scale, shift = np.abs(np.asarray(gamma, np.float64)), np.asarray(beta, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = shift / scale
    return np.where((scale == 0) & (shift == 0), -np.inf, ratio)


def probability_off(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P(off) = Phi(-t), elementwise."""
    probability: NDArray[np.float64] = ndtr(-thresholds)
    return probability


def share_above(probabilities: NDArray[np.float64], level: float = 0.99) -> NDArray[np.float64]:
    """Return the share of channels with P(off) > level, per snapshot: shape (T, C) gives (T,); NaN where a channel is NaN."""
    return _share(probabilities > level, probabilities)


def share_below(probabilities: NDArray[np.float64], level: float = 0.01) -> NDArray[np.float64]:
    """Return the share of channels with P(off) < level, per snapshot: shape (T, C) gives (T,); NaN where a channel is NaN."""
    return _share(probabilities < level, probabilities)


def spread(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance between the quartiles, per snapshot: shape (T, C) gives (T,); NaN where a channel is NaN.

    Quartiles, so that a few channels whose gamma is near 0 do not decide; NaN too where a quartile is infinite on both sides.
    """
    with np.errstate(invalid="ignore"):
        lower, upper = np.quantile(thresholds, (0.25, 0.75), axis=-1, method="inverted_cdf")  # no 0 * inf
        distance: NDArray[np.float64] = upper - lower
    return distance


def _share(chosen: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.where(np.isnan(probabilities).any(axis=-1), np.nan, chosen.mean(axis=-1))
    return share
