from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from batchnorm.measurements.batch_sharpness import batch_sharpness
from tests.measurements.networks import batch, dense_hessian, flat_gradient, move_, small


@pytest.mark.parametrize("mask", [(1, 1), (0, 0)])
@pytest.mark.parametrize("smooth", [True, False])
def test_against_finite_differences_of_the_gradient(mask: tuple[int, int], smooth: bool) -> None:
    batches = [batch(seed=seed) for seed in (1, 2, 3)]
    found = batch_sharpness(small(mask, smooth=smooth), batches, cross_entropy)
    assert found.shape == (3,)
    for (images, labels), value in zip(batches, found, strict=True):
        net = small(mask, smooth=smooth)
        slope = flat_gradient(net, images, labels)
        step = 1e-6
        move_(net, slope, step)
        ahead = flat_gradient(net, images, labels)
        move_(net, slope, -2 * step)
        behind = flat_gradient(net, images, labels)
        assert math.isclose(value, float(slope @ (ahead - behind) / (2 * step) / (slope @ slope)), rel_tol=1e-5)


def test_against_a_dense_hessian() -> None:
    images, labels = batch()
    net = small()
    slope = flat_gradient(net, images, labels)
    dense = dense_hessian(net, images, labels)
    (found,) = batch_sharpness(net, [(images, labels)], cross_entropy)
    assert math.isclose(found, float(slope @ dense @ slope / (slope @ slope)), rel_tol=1e-4)


def test_a_linear_loss_is_flat_and_a_zero_gradient_has_no_direction() -> None:
    net = torch.nn.Linear(2, 1, bias=False)
    images, labels = torch.ones(4, 2), torch.zeros(4)
    assert batch_sharpness(net, [(images, labels)], lambda out, _: out.mean()).tolist() == [0.0]
    assert torch.isnan(batch_sharpness(net, [(images, labels)], lambda out, _: 0 * out.mean())).all()


def test_the_networks_layout_is_left_and_makes_no_difference() -> None:
    images, labels = batch()
    net = small().to(memory_format=torch.channels_last)
    (expected,) = batch_sharpness(small(), [(images, labels)], cross_entropy)
    (found,) = batch_sharpness(net, [(images.contiguous(memory_format=torch.channels_last), labels)], cross_entropy)
    assert math.isclose(found, expected, rel_tol=1e-10)
