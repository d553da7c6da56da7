"""How large a slot's affine part is.

Definition: the Euclidean norm of all gamma and beta of a slot, sqrt(sum over channels of gamma^2 + beta^2), in float64.
Unit: that of gamma (none). Under plain SGD it does not fall where the slot's only consumer is normalised (`laws`, law 4).
Source: the invariance under the scale of a normalised consumer's input, van Laarhoven, 1706.05350, section 2.
No torch here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchnorm.measurements import Read


def derived(read: Read) -> NDArray[np.float64]:
    """Return the norm over the snapshots, shape (T,)."""
    return affine_norm(read("gamma"), read("beta"))


def affine_norm(gamma: NDArray[np.floating], beta: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the norm of (gamma, beta) per snapshot: shapes (T, C) give (T,)."""
    squares = np.square(np.asarray(gamma, np.float64)) + np.square(np.asarray(beta, np.float64))
    norm: NDArray[np.float64] = np.sqrt(squares.sum(axis=-1))
    return norm
