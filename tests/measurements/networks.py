"""Small networks that the tests of measurements look at, and steps of them that are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from batchnorm.feeds import SlotModules, positions, slot_modules
from batchnorm.modes import treatments
from batchnorm.probing import SlotUpdate, begin_update
from batchnorm.slots import Slot, find_slots, read_slots, treat_

SLOTS = ("0", "4")


def small(mask: tuple[int, int] = (1, 1), *, dropout: float = 0.0, smooth: bool = False, wide: bool = True) -> nn.Sequential:
    """A conv and two dense layers, 180 parameters, float64 for finite differences where `wide` is on; in training mode."""
    torch.manual_seed(0)
    activation = nn.Tanh if smooth else nn.ReLU
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.AvgPool2d(2), activation(), nn.Flatten(), nn.Linear(12, 6), activation(), nn.Dropout(dropout),
        nn.Linear(6, 3),
    )  # fmt: skip
    assert find_slots(net) == SLOTS
    treat_(net, treatments(mask, "trained_bn"))
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return (net.double() if wide else net).train()


def slots_of(net: nn.Module) -> dict[str, SlotModules]:
    return slot_modules(net, SLOTS)


def batch(size: int = 16, seed: int = 1, *, wide: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(size, 1, 6, 6, generator=generator, dtype=torch.float64 if wide else torch.float32)
    return images, torch.randint(3, (size,), generator=generator)


def live_slots(net: nn.Module, names: Sequence[str], image: torch.Tensor) -> tuple[Slot, ...]:
    """Read slots with their neighbours, as a training does."""
    around = slot_modules(net, names)
    sizes = positions(net, image, around)
    return tuple(
        replace(slot, layer=around[slot.name].layer, consumer=around[slot.name].consumer, positions=sizes[slot.name])
        for slot in read_slots(net, names)
    )


def measured_step(
    net: nn.Module, slots: Sequence[Slot], images: torch.Tensor, labels: torch.Tensor, optimizer: Optimizer
) -> dict[str, SlotUpdate]:
    """Make a step, and return both sides of its update of each slot whose layer is trained, as the recorder does."""
    measured = [slot for slot in slots if "trained_layer" in slot.parts]
    optimizer.zero_grad()
    running = {slot.name: slot.running_var.clone() for slot in measured if slot.running_var is not None}
    cross_entropy(net(images), labels).backward()
    lr = optimizer.param_groups[0]["lr"]
    begun = {slot.name: begin_update(slot, lr, images=len(images), running_var=running.get(slot.name)) for slot in measured}
    optimizer.step()
    return begun


def flat_gradient(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the gradient over what is trained by `backward`, on a copy's `.grad`."""
    net.zero_grad()
    cross_entropy(net(images), labels).backward()
    grads = [value.grad for value in net.parameters() if value.requires_grad]
    return torch.cat([grad.flatten() for grad in grads if grad is not None]).clone()


def move_(net: nn.Module, direction: torch.Tensor, size: float) -> None:
    """Add `size * direction` to what is trained."""
    trained = [value for value in net.parameters() if value.requires_grad]
    with torch.no_grad():
        for value, part in zip(trained, direction.split([value.numel() for value in trained]), strict=True):
            value.add_(size * part.view_as(value))


def dense_hessian(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, step: float = 1e-5) -> torch.Tensor:
    """Return the Hessian by central differences of the gradient, column by column; the network is moved and moved back."""
    size = sum(value.numel() for value in net.parameters() if value.requires_grad)
    columns = []
    for unit in torch.eye(size, dtype=torch.float64):
        move_(net, unit, step)
        ahead = flat_gradient(net, images, labels)
        move_(net, unit, -2 * step)
        behind = flat_gradient(net, images, labels)
        move_(net, unit, step)
        columns.append((ahead - behind) / (2 * step))
    dense = torch.stack(columns)
    return (dense + dense.T) / 2
