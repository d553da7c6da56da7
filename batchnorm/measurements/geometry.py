"""Norms, angles and rates of an update, from the sums that `weights` takes; numpy alone, elementwise over any shape.

With the names of `weights.SUMS` (w before, w+ after the update, g the gradient at w):

    norm            ||w|| = sqrt(weight_squared), and alike of g
    cosine          <w, g> / (||w|| ||g||)
    angle           between w and w+, radians: atan2 of sqrt(||w||^2 ||w+ - w||^2 - <w, w+ - w>^2) and ||w||^2 + <w, w+ - w>,
                    which keeps its digits where the angle is small
    relative_size   ||w+ - w|| / ||w||
    effective_rate  lr / ||w||^2, where the slot is normalised: the learning rate of the direction w / ||w||

Source: the effective learning rate, van Laarhoven, 1706.05350, section 3; the angle of an update, Wan et al., 2006.08419,
section 3 (its limit under weight decay lambda and momentum mu is sqrt(2 lr lambda / (1 + mu)), after about 1 / (2 lr lambda)
steps; `L2_REG` is torch's weight_decay, the lambda there); the relative size, You et al., 1708.03888.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchnorm.measurements import Read

Array = NDArray[np.float64]


def derived_weight_norm(read: Read) -> Array:
    """Return ||w|| over the updates, shape (N,)."""
    return norm(read("weight_squared"))


def derived_gradient_norm(read: Read) -> Array:
    """Return ||g|| over the updates, shape (N,)."""
    return norm(read("gradient_squared"))


def derived_cosine(read: Read) -> Array:
    """Return the cosine of w and g over the updates, shape (N,)."""
    return cosine(read("weight_gradient"), read("weight_squared"), read("gradient_squared"))


def derived_angle(read: Read) -> Array:
    """Return the angle of each update, shape (N,), in radians."""
    return angle(read("weight_squared"), read("change_squared"), read("weight_change"))


def derived_relative_update(read: Read) -> Array:
    """Return ||w+ - w|| / ||w|| over the updates, shape (N,)."""
    return relative_size(read("weight_squared"), read("change_squared"))


def derived_effective_rate(read: Read) -> Array:
    """Return lr / ||w||^2 over the updates, shape (N,)."""
    return effective_rate(read("update_lr"), read("weight_squared"))


def norm(squared: Array) -> Array:
    """Return the length of a vector from its square."""
    length: Array = np.sqrt(squared)
    return length


def cosine(inner: Array, weight_squared: Array, gradient_squared: Array) -> Array:
    """Return the cosine between weights and gradient; NaN where one of them is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = inner / np.sqrt(weight_squared * gradient_squared)
    return ratio


def angle(weight_squared: Array, change_squared: Array, change_inner: Array) -> Array:
    """Return the angle between the weights before and after the update, in radians from 0 to pi."""
    across = np.sqrt(np.maximum(weight_squared * change_squared - np.square(change_inner), 0))
    turned: Array = np.arctan2(across, weight_squared + change_inner)
    return turned


def relative_size(weight_squared: Array, change_squared: Array) -> Array:
    """Return the length of the update over that of the weights."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = np.sqrt(change_squared / weight_squared)
    return ratio


def effective_rate(lr: Array, weight_squared: Array) -> Array:
    """Return lr / ||w||^2."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate: Array = lr / weight_squared
    return rate
