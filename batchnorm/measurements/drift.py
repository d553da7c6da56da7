"""How far a slot's gamma, beta or bias went, and when it had gone most of the way.

Definition, for a slot's values v(0), ..., v(T-1), each a vector over channels: drift |v(t) - v(0)|, path length
sum over s <= t of |v(s) - v(s-1)|, both Euclidean, and the step from which on the drift is never again below 90 % of its
last value. Gamma is taken relative to its start (both lengths over |v(0)|), beta and bias absolute: they may start at 0.
Unit: none for gamma, that of the parameter for beta and bias; steps.
Source: distance from initialization as in Hoffer et al., 1705.08741, section 3; the path length depends on how far apart the
snapshots stand.
Absent (None) where there is nothing to measure: one snapshot, a value that never moves (fixed), a relative start of 0.
No torch here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchnorm.measurements import Read


def derived_drift(read: Read, parameter: str) -> NDArray[np.float64] | None:
    """Return a parameter's drift over the snapshots, shape (T,)."""
    return drift(read(parameter), relative=parameter == "gamma")


def derived_path(read: Read, parameter: str) -> NDArray[np.float64] | None:
    """Return a parameter's path length over the snapshots, shape (T,)."""
    return path_length(read(parameter), relative=parameter == "gamma")


def drift(values: NDArray[np.floating], *, relative: bool) -> NDArray[np.float64] | None:
    """Return the distance from the first snapshot: shape (T, C) gives (T,)."""
    unit = _unit(values, relative=relative)
    wide = np.asarray(values, np.float64)
    return None if unit is None else np.linalg.norm(wide - wide[0], axis=1) / unit


def path_length(values: NDArray[np.floating], *, relative: bool) -> NDArray[np.float64] | None:
    """Return the length of the way from snapshot to snapshot: shape (T, C) gives (T,), rising from 0."""
    unit = _unit(values, relative=relative)
    if unit is None:
        return None
    steps = np.linalg.norm(np.diff(np.asarray(values, np.float64), axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)]) / unit


def settled_at(values: NDArray[np.floating], steps: NDArray[np.integer], *, share: float = 0.9) -> int | None:
    """Return the first of the steps, shape (T,), from which on the drift stays at or above a share of its last value.

    Absent too where the last value is the first one, or a value is not finite.
    """
    gone = drift(values, relative=False)
    if gone is None or not np.isfinite(gone).all() or gone[-1] == 0:
        return None
    below = np.flatnonzero(gone < share * gone[-1])
    return int(steps[below[-1] + 1])  # below[-1] exists: the drift begins at 0


def _unit(values: NDArray[np.floating], *, relative: bool) -> float | None:
    """Return what lengths are divided by, or None where the drift is absent."""
    if len(values) < 2 or bool((values == values[0]).all()):
        return None
    start = float(np.linalg.norm(np.asarray(values[0], np.float64))) if relative else 1.0
    return start or None
