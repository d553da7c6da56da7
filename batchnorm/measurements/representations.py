"""What a slot sees and gives on a batch: one forward pass, BatchNorm in training mode.

With z the input of the slot's norm (in a bare slot: what the slot gives), a what the slot gives to the activation (after the
norm, before pooling and ReLU), both of B samples, C channels and P positions:

    mean, variance  of z per channel over samples and positions, shape (C,); the variance divides by B P
    off             share of samples and positions with a <= 0, per channel, shape (C,): what a ReLU stops
    dead            number of channels with a <= 0 throughout
    cosine          mean over pairs of different samples of the cosine between their a, each a vector of C P numbers
    stable_rank     ||A||_F^2 / ||A||_2^2 of the matrix A with one sample a row: from 1 to B

Unit: mean and variance those of the pre-activation; the others none.
Source: Lubana et al., 2106.05956 (cosine similarity of activations, stable rank), which take these at initialization; without
BatchNorm the cosine is expected to grow and the stable rank to fall with depth.
In a normalised linear slot with beta = 0 the samples' a sum to 0: the cosine is about -1 / (B - 1) whatever the weights, and
the stable rank is what tells. A sample whose a is 0 has the cosine 0 to all others; the stable rank of a zero matrix is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from batchnorm.feeds import SlotModules, slot_modules
from batchnorm.measurements.probing import forward, probing
from batchnorm.norms import axis_of
from batchnorm.probing import Probe
from batchnorm.slots import Slot

IMAGES = 512
"""That a probe looks at."""


def of_slot(probe: Probe, slot: Slot, part: str) -> torch.Tensor:
    """Return one part of a slot's `Representation` on the probe's images."""
    found: torch.Tensor = getattr(probe.result(on_probe_images)[slot.name], part)
    return found


def on_probe_images(probe: Probe) -> dict[str, Representation]:
    """Return what each slot sees and gives on the probe's images."""
    images, _ = next(iter(probe.batches.probe_images(1, IMAGES)))
    return representations(probe.net, images, slot_modules(probe.net, [slot.name for slot in probe.slots]))


@dataclass(frozen=True)
class Representation:
    """One slot on one batch; see the module for what the values are. Tensors on the device, scalars of shape ()."""

    mean: torch.Tensor
    variance: torch.Tensor
    off: torch.Tensor
    dead: torch.Tensor
    cosine: torch.Tensor
    stable_rank: torch.Tensor


def representations(net: nn.Module, images: torch.Tensor, slots: Mapping[str, SlotModules]) -> dict[str, Representation]:
    """Return what each slot sees and gives on a batch.

    Args:
        net: left as it is.
        images: shape (B, ...), B >= 2.
        slots: see `feeds.slot_modules`.
    """
    found: dict[str, Representation] = {}

    def look_at(slot: str, module: nn.Module, *, sees_input: bool) -> torch.utils.hooks.RemovableHandle:
        axis = axis_of(module)

        def look(_: nn.Module, taken: tuple[torch.Tensor, ...], given: torch.Tensor) -> None:
            found[slot] = describe(*(each.movedim(axis, 1) for each in (taken[0] if sees_input else given, given)))

        return module.register_forward_hook(look)

    hooks = [look_at(slot, modules.output, sees_input=modules.norm is not None) for slot, modules in slots.items()]
    try:
        with probing(net), torch.no_grad():
            forward(net, images)
    finally:
        for hook in hooks:
            hook.remove()
    return {slot: found[slot] for slot in slots}


def describe(pre_activation: torch.Tensor, given: torch.Tensor) -> Representation:
    """Return the quantities of one slot: input of its norm and output, each of shape (B, C, ...)."""
    others = [dim for dim in range(pre_activation.ndim) if dim != 1]
    mean = pre_activation.mean(dim=others, keepdim=True)
    variance = (pre_activation - mean).square_().mean(dim=others)  # on a CPU `torch.var_mean` takes ten times as long
    off = (given <= 0).float().mean(dim=others)
    samples = given.flatten(1)
    lengths = torch.linalg.vector_norm(samples, dim=1)
    inverse = torch.where(lengths > 0, 1 / lengths, 0)
    alike = (inverse @ samples).double().square().sum() - (lengths > 0).sum()  # |sum of directions|^2 - sum of |direction|^2
    pairs = len(samples) * (len(samples) - 1)
    wide = len(samples) <= samples.shape[1]  # both products have the same eigenvalues but for zeros
    products = (samples @ samples.T if wide else samples.T @ samples).double()
    return Representation(
        mean=mean.flatten(),
        variance=variance,
        off=off,
        dead=(off == 1).sum(),
        cosine=alike / pairs,
        stable_rank=products.trace() / torch.linalg.eigvalsh(products.nan_to_num(0, 0, 0))[-1],  # fails on what is not finite
    )
