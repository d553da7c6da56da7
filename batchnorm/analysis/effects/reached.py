"""How long training takes to reach an accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def epochs_to(level: float, epochs: ArrayLike, accuracy: ArrayLike, *, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first epoch that reaches an accuracy, and whether there is none: then the run's length stands for it.

    Epoch 0 stands before training and never counts.

    Args:
        level: the accuracy, in the unit of `accuracy`.
        epochs: the numbers of the recorded epochs, rising.
        accuracy: one for each of these epochs along the last axis, for one run or many; NaN reaches nothing.
        length: of the whole run in epochs; a run that diverged or was cut off has fewer.
    """
    numbers = np.asarray(epochs)
    reached = (np.asarray(accuracy) >= level) & (numbers > 0)
    first = np.asarray(np.where(reached, numbers, length).min(axis=-1, initial=length))
    return first, np.asarray(~reached.any(axis=-1))
