"""How curved the loss of a batch is along the batch's own gradient.

Definition: the mean over batches of g' H g / ||g||^2, with g the gradient and H the Hessian of the batch's mean loss with
respect to the trained parameters; one Hessian-vector product a batch.
Unit: loss over parameter squared, as 2 / lr. Source: Andreyev and Beneventano, 2412.20553 (batch sharpness): near 2 / lr late
in plain SGD, while the largest eigenvalue of the full Hessian stays below.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.measurements.probing import (
    Loss,
    contiguous,
    contiguous_parameters,
    forward,
    gradient,
    hessian_product,
    inner,
    probing,
)
from batchnorm.probing import Probe

BATCHES = 8


def of_probe(probe: Probe) -> torch.Tensor:
    """Return the mean over fixed batches of the training's size, float64, shape ()."""
    return batch_sharpness(probe.net, probe.batches.probe_images(BATCHES, probe.batches.batch_size), cross_entropy).mean()


def batch_sharpness(net: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], loss: Loss) -> torch.Tensor:
    """Return g' H g / ||g||^2 of each batch, float64, shape (number of batches,); NaN where g is 0. Its mean is the quantity.

    Args:
        net: left as it is.
        batches: images and labels, 8 batches mostly, of the training's size.
        loss: see `probing.Loss`.
    """
    found = []
    with probing(net):
        values = contiguous_parameters(net)
        parameters = [value for value in values.values() if value.requires_grad]
        for images, labels in batches:
            slope = gradient(loss(forward(net, contiguous(images), values), labels), parameters, create_graph=True)
            along = [part.detach() for part in slope]
            found.append(inner(along, hessian_product(slope, parameters, along)) / inner(along, along))
    return torch.stack(found)
