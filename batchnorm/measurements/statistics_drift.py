"""How fast BatchNorm's running statistics move from one epoch to the next.

Definition, per channel and epoch e: |mean(e) - mean(e-1)| / sigma(e-1) and |log sigma(e) - log sigma(e-1)|, with
sigma = sqrt(running variance). From epoch 1 on: before it the statistics are (0, 1), which says nothing of the network.
Unit: standard deviations of the pre-activation; none for the logarithm.
Source: internal covariate shift as Ioffe and Szegedy, 1502.03167, section 2 have it: a change of a layer's input distribution.
No torch here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchnorm.measurements import Read


def derived(read: Read, place: int) -> NDArray[np.float64]:
    """Return the change of the mean (place 0) or of log sigma (1) over the epochs, shape (E, C)."""
    return statistics_drift(read("running_mean"), read("running_var"), read("epoch"))[place]


def statistics_drift(
    mean: NDArray[np.floating], variance: NDArray[np.floating], epochs: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the change of the mean and of log sigma, each of shape (E, C), in the rows of the epochs that end it.

    Args:
        mean: running means at the ends of the epochs, shape (E, C).
        variance: running variances, shape (E, C).
        epochs: their numbers, shape (E,), rising; row 0 mostly is epoch 0.

    Returns:
        NaN in the rows without an epoch >= 1 in the row before. A variance of 0 gives inf or NaN.
    """
    center = np.asarray(mean, np.float64)
    sigma = np.sqrt(np.asarray(variance, np.float64))
    moved, widened = np.full(center.shape, np.nan), np.full(center.shape, np.nan)
    rows = np.flatnonzero(np.asarray(epochs[:-1]) >= 1) + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        moved[rows] = np.abs(center[rows] - center[rows - 1]) / sigma[rows - 1]
        widened[rows] = np.abs(np.log(sigma[rows]) - np.log(sigma[rows - 1]))
    return moved, widened
