from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from batchnorm.measurements.landscape import SIZES, landscape
from tests.measurements.networks import batch, flat_gradient, move_, small


@pytest.mark.parametrize("mask", [(1, 1), (0, 0)])
def test_against_a_network_that_is_moved(mask: tuple[int, int]) -> None:
    images, labels = batch()
    found = landscape(small(mask), images, labels, cross_entropy, lr=0.3)
    assert SIZES[0] == 0.5
    assert SIZES[-1] == 4
    start = flat_gradient(small(mask), images, labels)
    assert math.isclose(found.gradient_norm, start.norm(), rel_tol=1e-10)
    assert math.isclose(found.start, cross_entropy(small(mask)(images), labels).item(), rel_tol=1e-10)
    losses, changes, ratios = [], [], []
    for size in SIZES:
        net = small(mask)
        move_(net, start, -0.3 * size)
        losses.append(cross_entropy(net(images), labels).item())
        changes.append(float((flat_gradient(net, images, labels) - start).norm()))
        ratios.append(changes[-1] / float(0.3 * size * start.norm()))
    assert torch.allclose(found.losses, torch.tensor(losses, dtype=torch.float64), rtol=1e-9)
    assert torch.allclose(found.gradient_changes, torch.tensor(changes, dtype=torch.float64), rtol=1e-9)
    assert math.isclose(found.loss_variation, max(losses) - min(losses), rel_tol=1e-9)
    assert math.isclose(found.gradient_predictiveness, max(changes) - min(changes), rel_tol=1e-9)
    assert math.isclose(found.effective_smoothness, max(ratios), rel_tol=1e-9)


def test_a_quadratic_has_its_curvature() -> None:
    """f = (3 x)^2 / 2 has the gradient 9 x and the curvature 9 everywhere."""
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.weight, 2.0)
    found = landscape(net, torch.full((4, 1), 3.0), torch.zeros(4), lambda out, _: out.square().mean() / 2, lr=0.01)
    assert math.isclose(found.gradient_norm, 18, rel_tol=1e-6)
    assert math.isclose(found.effective_smoothness, 9, rel_tol=1e-5)


def test_a_frozen_parameter_is_no_direction() -> None:
    net = small()
    for name, value in net.named_parameters():
        value.requires_grad_(name == "7.bias")
    images, labels = batch()
    found = landscape(net, images, labels, cross_entropy, lr=0.3)
    assert math.isclose(found.gradient_norm, flat_gradient(net, images, labels).norm(), rel_tol=1e-10)
