"""How smooth the loss is along the gradient.

Definition: with f the loss of one batch as a function of the trained parameters x, g its gradient at x, and the points
x - s lr g for 8 sizes s from 1/2 to 4:

    loss variation           the range of f over these points
    gradient predictiveness  the range of ||grad f(x - s lr g) - g||
    effective smoothness     the largest ||grad f(x - s lr g) - g|| / ||s lr g||

Unit: the loss's; the gradient's; gradient over parameter, as 2 / lr.
Source: Santurkar et al., 1805.11604, section 3.1 and figure 4: all three lower with BatchNorm in deep networks. No difference
in shallow ones is a finding, not a fault.
The direction is that of plain gradient descent, whatever the optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.measurements.probing import Loss, forward, gradient, norm, probing, trained_parameters
from batchnorm.probing import Probe

SIZES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""Steps along -g, in learning rates."""


def along_gradient(probe: Probe, name: str) -> torch.Tensor:
    """Return one of the three quantities on a fixed batch of the training's size."""
    found: torch.Tensor = getattr(probe.result(on_fixed_batch), name)
    return found


def on_fixed_batch(probe: Probe) -> Landscape:
    """Return the loss along -g on a fixed batch."""
    images, labels = next(iter(probe.batches.probe_images(1, probe.batches.batch_size)))
    return landscape(probe.net, images, labels, cross_entropy, lr=probe.lr)


@dataclass(frozen=True)
class Landscape:
    """The loss along -g; float64 on the device.

    Attributes:
        start: f(x), shape ().
        gradient_norm: ||g||, shape ().
        losses: f at the points, shape (8,).
        gradient_changes: ||grad f - g|| at the points, shape (8,).
        lengths: ||s lr g||, shape (8,).
    """

    start: torch.Tensor
    gradient_norm: torch.Tensor
    losses: torch.Tensor
    gradient_changes: torch.Tensor
    lengths: torch.Tensor

    @property
    def loss_variation(self) -> torch.Tensor:
        """The range of the loss."""
        return self.losses.max() - self.losses.min()

    @property
    def gradient_predictiveness(self) -> torch.Tensor:
        """The range of the gradient's change: the smaller, the better a gradient predicts the next ones."""
        return self.gradient_changes.max() - self.gradient_changes.min()

    @property
    def effective_smoothness(self) -> torch.Tensor:
        """The largest change of the gradient over the distance; NaN where the gradient is 0."""
        return (self.gradient_changes / self.lengths).max()


def landscape(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, loss: Loss, *, lr: float) -> Landscape:
    """Return the loss and its gradient along -g, on one batch; 9 forward and backward passes.

    Args:
        net: left as it is.
        images: a batch.
        labels: its labels.
        loss: see `probing.Loss`.
        lr: the learning rate of the next update, or after the last one of that.
    """
    with probing(net):
        here = trained_parameters(net)
        names, parameters = list(here), list(here.values())
        start = loss(forward(net, images), labels)
        slope = gradient(start, parameters)
        losses, changes = [], []
        for size in SIZES:
            moved = [(x.detach() - size * lr * g).requires_grad_() for x, g in zip(parameters, slope, strict=True)]
            value = loss(forward(net, images, dict(zip(names, moved, strict=True))), labels)
            changed = gradient(value, moved)
            losses.append(value.detach().double())
            changes.append(norm([one - other for one, other in zip(changed, slope, strict=True)]))
        length = norm(slope)
        sizes = torch.tensor(SIZES, dtype=torch.float64, device=length.device)
        return Landscape(start.detach().double(), length, torch.stack(losses), torch.stack(changes), sizes * lr * length)
