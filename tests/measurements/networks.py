"""Small networks that the probes' tests look at."""

from __future__ import annotations

import torch
from batchnorm.ablation import find_slots, insert_batchnorm_
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.feeds import SlotModules, slot_modules

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
    insert_batchnorm_(net, mask)
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
