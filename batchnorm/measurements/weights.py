"""What one update does to the weights of a slot's own layer: sums taken on the device, at both states of the same step.

With w the weights before the update, w+ those after it, g the gradient of the training loss at w, c an output channel:

    weight_squared    ||w||^2                 gradient_squared  ||g||^2
    weight_gradient   <w, g>                  updated_squared   ||w+||^2
    change_squared    ||w+ - w||^2            weight_change     <w, w+ - w>
    channel_inner     <w_c, g_c>, shape (C,)
    channel_eps       eps / (sigma_c^2 + eps) * gamma_c * dL/dgamma_c, shape (C,): what <w_c, g_c> is under BatchNorm

All in float64, computed from the float32 values: of a difference such as ||w+||^2 - ||w||^2 = lr^2 ||g||^2, a millionth of
||w||^2, float32 sums would leave one digit. `geometry` turns them into norms, angles and rates, without torch.
Unit: squares of weights and gradients. Source: Arora et al., 1812.03981, section 2 (scale invariance); the eps term is exact
arithmetic: (z - mean) / sqrt(sigma^2 + eps) grows by eps / (sigma^2 + eps) of itself with the logarithm of the scale of w_c.

sigma^2, the batch's variance, is read off the running variance: r+ = (1 - m) r + m sigma^2 n / (n - 1), with momentum m and n
values a channel. This needs a copy of C numbers before the forward pass and nothing else: no hook (which `torch.compile`
would have to see), no pass over the activations, no private attribute of autograd, and the bits of the training stay.
Its error is about 2^-24 r / m, 1e-6 of sigma^2 once r has followed it, beside that of the kernel's own sigma^2, which it reads.
It is not measured under GHOST, where a channel has several variances, nor under PLACEMENT=after: of a channel that hardly ever
is positive, sigma^2 is as small as its error.
There is no host sync here. Cost: see docs/measurements.md.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from batchnorm.probing import SlotUpdate

SUMS = ("weight_squared", "gradient_squared", "weight_gradient", "updated_squared", "change_squared", "weight_change")
_WEIGHTS_AT_ONCE = 2**16
"""Weights that are widened to float64 at once on a CPU: they stay in its cache."""


def sum_of(update: SlotUpdate, place: int) -> torch.Tensor:
    """Return one of the sums, by its place in `SUMS`: float64, shape (), on the device."""
    return update.result(all_sums)[0][place]


def channel_inner(update: SlotUpdate) -> torch.Tensor:
    """Return <w_c, g_c>, float64, shape (C,)."""
    return update.result(all_sums)[1]


def channel_eps(update: SlotUpdate) -> torch.Tensor:
    """Return eps / (sigma^2 + eps) * gamma * dL/dgamma per channel, float64, shape (C,); of a slot whose gamma is trained."""
    norm, before = update.slot.norm, update.running_var_before
    assert norm is not None
    assert update.gamma_before is not None
    assert update.gamma_gradient is not None
    assert before is not None
    assert isinstance(norm.eps, float)
    variance = batch_variance(norm, before, update.values)
    share: torch.Tensor = norm.eps / (variance + norm.eps)
    return share * update.gamma_before.double() * update.gamma_gradient.double()


def all_sums(update: SlotUpdate) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `update_sums` finds at an update."""
    return update_sums(update.weight_before, update.gradient, update.weight.detach())


@torch.no_grad()
def update_sums(weight: torch.Tensor, gradient: torch.Tensor, updated: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums in the order of `SUMS`, shape (6,), and `channel_inner`, shape (C,): float64, on the device.

    Args:
        weight: before the update, shape (C, ...).
        gradient: of the training loss at `weight`.
        updated: after the update.
    """
    channels = weight.shape[0]
    rows = max(1, _WEIGHTS_AT_ONCE * channels // weight.numel()) if weight.device.type == "cpu" else channels
    parts, inner = [], []
    for part in range(0, channels, rows):
        w, g, w_plus = (tensor[part : part + rows].double() for tensor in (weight, gradient, updated))
        change = w_plus - w
        by_channel = _inner_by_channel(w, g)
        inner.append(by_channel)
        parts.append(
            torch.stack([_square(w), _square(g), by_channel.sum(), _square(w_plus), _square(change), _inner(w, change)])
        )
    return torch.stack(parts).sum(0), torch.cat(inner)


@torch.no_grad()
def batch_variance(norm: nn.Module, running_variance: torch.Tensor, values: int) -> torch.Tensor:
    """Return the variance of the last batch per channel (over n, as BatchNorm divides by it), float64, shape (C,).

    Args:
        norm: a BatchNorm layer that tracks its statistics, after the forward pass.
        running_variance: its running variance before the forward pass.
        values: how many values a channel had: images times positions.
    """
    after, momentum = norm.running_var, cast("float | None", norm.momentum)
    assert isinstance(after, torch.Tensor)
    weight: float | torch.Tensor | None = momentum
    if weight is None:  # the mean over all batches
        assert isinstance(norm.num_batches_tracked, torch.Tensor)
        weight = norm.num_batches_tracked.double().reciprocal()
    unbiased = (after.double() - (1 - weight) * running_variance.double()) / weight
    return unbiased.clamp_min(0) * ((values - 1) / values)


def _square(values: torch.Tensor) -> torch.Tensor:
    return _inner(values, values)


def _inner(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.linalg.vecdot(one.reshape(-1), other.reshape(-1))
    return product


def _inner_by_channel(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    products: torch.Tensor = torch.linalg.vecdot(one.reshape(len(one), -1), other.reshape(len(other), -1))
    return products
