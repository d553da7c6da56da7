"""How a probe looks at a network and leaves it as it was; what the probes share.

In a probe all modules stand in evaluation mode, so that dropout and whatever else draws random numbers is off, but for
BatchNorm, which normalises as in training: by the batch, unless its statistics are frozen (or running ones are what is
probed). It computes in float32, eager, outside any autocast. Buffers are copies: a forward pass moves no running statistic.
Gradients are taken by `torch.autograd.grad`, which touches no `.grad`. Parameters with `requires_grad` False (a fixed gamma)
are no direction.
Module modes and torch's default generators are put back, after an error too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

from batchnorm.norms import OF_BATCH, has_frozen_statistics

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits and labels, the mean loss of the batch."""
Vector = Sequence[torch.Tensor]
"""A direction in the space of the trained parameters: one tensor each."""


@contextmanager
def probing(net: nn.Module, *, batch_statistics: bool | None = None) -> Iterator[None]:
    """Put a network into the probes' state, and back.

    Args:
        net: the network.
        batch_statistics: whether BatchNorm normalises by the batch; None: as in training.
    """
    modes = [(module, module.training) for module in net.modules()]
    device = next((value.device for value in net.parameters()), torch.device("cpu"))
    generators = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(generators, device_type=device.type if generators else "cuda"), torch.enable_grad():
        try:
            net.eval()
            for module, _ in modes:
                if isinstance(module, OF_BATCH):
                    module.training = not has_frozen_statistics(module) if batch_statistics is None else batch_statistics
            with torch.autocast(device.type, enabled=False):
                yield
        finally:
            for module, training in modes:
                module.training = training


def trained_parameters(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters that are trained, by name."""
    return {name: value for name, value in net.named_parameters() if value.requires_grad}


def contiguous_parameters(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters by name in the contiguous layout, those that are trained as leaves of their own.

    For second derivatives: over channels_last activations their reductions take twice as long on a CPU.
    """
    return {name: contiguous(value.detach()).requires_grad_(value.requires_grad) for name, value in net.named_parameters()}


def contiguous(values: torch.Tensor) -> torch.Tensor:
    """Return a copy in the contiguous layout, in its strides too.

    Where there is one channel, `Tensor.contiguous` leaves the strides of channels_last, and convolutions then choose that.
    """
    return values.clone(memory_format=torch.contiguous_format)


def copied_buffers(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of all buffers, by name."""
    return {name: value.clone() for name, value in net.named_buffers()}


def forward(net: nn.Module, images: torch.Tensor, values: Mapping[str, torch.Tensor] | None = None) -> torch.Tensor:
    """Return the network's logits, with other values of parameters or buffers where they are given; nothing of it changes."""
    logits: torch.Tensor = functional_call(net, {**copied_buffers(net), **(values or {})}, (images,))
    return logits


def gradient(loss: torch.Tensor, parameters: Vector, *, create_graph: bool = False) -> list[torch.Tensor]:
    """Return the gradient of a loss; 0 where it does not depend on a parameter."""
    taken = torch.autograd.grad(loss, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    return list(taken)


def hessian_product(slope: Vector, parameters: Vector, direction: Vector, *, keep_graph: bool = False) -> list[torch.Tensor]:
    """Return the Hessian times a direction, from a gradient that was made with `create_graph`."""
    pairs = [(one, along) for one, along in zip(slope, direction, strict=True) if one.requires_grad]
    if not pairs:
        return [torch.zeros_like(parameter) for parameter in parameters]
    product = torch.autograd.grad(
        [one for one, _ in pairs],
        parameters,
        [along for _, along in pairs],
        retain_graph=keep_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return list(product)


def inner(one: Vector, other: Vector) -> torch.Tensor:
    """Return the inner product of two directions, summed over parameters in float64."""
    parts = [torch.dot(left.flatten(), right.flatten()).double() for left, right in zip(one, other, strict=True)]
    return torch.stack(parts).sum()


def norm(direction: Vector) -> torch.Tensor:
    """Return the length of a direction, summed over parameters in float64."""
    return torch.stack([torch.linalg.vector_norm(part).double().square() for part in direction]).sum().sqrt()
