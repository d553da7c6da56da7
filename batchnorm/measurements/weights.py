"""What one update does to the weights of a slot's own layer: sums taken on the device, at both states of the same step.

With w the weights before the update, w+ those after it, g the gradient of the training loss at w, c an output channel:

    weight_squared    ||w||^2                 gradient_squared  ||g||^2
    inner             <w, g>                  updated_squared   ||w+||^2
    change_squared    ||w+ - w||^2            change_inner      <w, w+ - w>
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
There is no host sync here. Cost: see docs/measurements.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from batchnorm.feeds import SlotModules

SUMS = ("weight_squared", "gradient_squared", "inner", "updated_squared", "change_squared", "change_inner")
_WEIGHTS_AT_ONCE = 2**16
"""Weights that are widened to float64 at once on a CPU: they stay in its cache."""


@dataclass(frozen=True)
class StateBefore:
    """What is kept of the state before an update, by slot.

    Attributes:
        weight: copies of the weights, for slots with a layer of their own.
        channel_eps: see the module, for normalised ones of them whose gamma has a gradient.
    """

    weight: Mapping[str, torch.Tensor]
    channel_eps: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class UpdateSums:
    """What one update did to one slot's weights: float64, on the device.

    Attributes:
        sums: in the order of `SUMS`, shape (6,).
        channel_inner: shape (C,).
        channel_eps: shape (C,); None where the slot is not normalised, its statistics are not tracked or its gamma is fixed.
    """

    sums: torch.Tensor
    channel_inner: torch.Tensor
    channel_eps: torch.Tensor | None


@torch.no_grad()
def before_forward(slots: Mapping[str, SlotModules]) -> dict[str, torch.Tensor]:
    """Copy the running variances, shape (C,) each, before the forward pass of a step that is measured."""
    norms = {slot: modules.norm for slot, modules in slots.items() if modules.layer is not None}
    return {slot: norm.running_var.clone() for slot, norm in norms.items() if norm is not None and _tracks(norm)}  # type: ignore[operator]


@torch.no_grad()
def before_update(
    slots: Mapping[str, SlotModules], running_variances: Mapping[str, torch.Tensor], values: Mapping[str, int]
) -> StateBefore:
    """Copy the weights, and take what hangs on gamma, between the backward pass and the update.

    Args:
        slots: of the network.
        running_variances: what `before_forward` returned.
        values: how many values a channel has in the batch, by slot: images times `feeds.positions`.
    """
    weight = {slot: modules.layer.weight.detach().clone() for slot, modules in slots.items() if modules.layer is not None}
    eps_terms = {}
    for slot, running_variance in running_variances.items():
        norm = slots[slot].norm
        assert norm is not None
        term = channel_eps(norm, batch_variance(norm, running_variance, values[slot]))
        if term is not None:
            eps_terms[slot] = term
    return StateBefore(weight, eps_terms)


@torch.no_grad()
def after_update(slots: Mapping[str, SlotModules], before: StateBefore) -> dict[str, UpdateSums]:
    """Take the sums after the update, while the gradients still are there; slots whose layer is not trained are absent."""
    found = {}
    for slot, weight in before.weight.items():
        layer = slots[slot].layer
        assert layer is not None
        if layer.weight.grad is not None:
            sums, channel_inner = update_sums(weight, layer.weight.grad, layer.weight.detach())
            found[slot] = UpdateSums(sums, channel_inner, before.channel_eps.get(slot))
    return found


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
        norm: a BatchNorm layer that tracks its statistics with a momentum, after the forward pass.
        running_variance: its running variance before the forward pass.
        values: how many values a channel had: images times positions.
    """
    momentum, after = norm.momentum, norm.running_var
    assert isinstance(momentum, float)
    assert isinstance(after, torch.Tensor)
    unbiased = (after.double() - (1 - momentum) * running_variance.double()) / momentum
    return unbiased.clamp_min(0) * ((values - 1) / values)


@torch.no_grad()
def channel_eps(norm: nn.Module, variance: torch.Tensor) -> torch.Tensor | None:
    """Return eps / (sigma^2 + eps) * gamma * dL/dgamma per channel, float64; None where gamma has no gradient (fixed).

    Args:
        norm: a BatchNorm layer after the backward pass, before the update: gamma is the one that its gradient belongs to.
        variance: the batch's, shape (C,).
    """
    gamma, eps = norm.weight, norm.eps
    assert isinstance(eps, float)
    if not isinstance(gamma, torch.Tensor) or gamma.grad is None:
        return None
    return eps / (variance + eps) * gamma.double() * gamma.grad.double()


def _tracks(norm: nn.Module) -> bool:
    return isinstance(getattr(norm, "running_var", None), torch.Tensor) and isinstance(getattr(norm, "momentum", None), float)


def _square(values: torch.Tensor) -> torch.Tensor:
    return _inner(values, values)


def _inner(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.linalg.vecdot(one.reshape(-1), other.reshape(-1))
    return product


def _inner_by_channel(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    products: torch.Tensor = torch.linalg.vecdot(one.reshape(len(one), -1), other.reshape(len(other), -1))
    return products
