from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.measurements.sharpness import sharpness
from tests.measurements.networks import batch, dense_hessian, small


@pytest.mark.parametrize("mask", [(1, 1), (0, 0)])
def test_within_one_percent_of_the_dense_hessians(mask: tuple[int, int]) -> None:
    images, labels = batch()
    expected = torch.linalg.eigvalsh(dense_hessian(small(mask, smooth=True), images, labels))[-1]
    found = sharpness(small(mask, smooth=True, wide=False), images.float(), labels, cross_entropy)
    assert math.isclose(found, expected, rel_tol=0.01)


def test_a_few_parameters_are_done_densely_and_none_has_no_curvature() -> None:
    net = nn.Linear(2, 1, bias=False)
    images = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert math.isclose(sharpness(net, images, images, lambda out, _: out.square().sum() / 2), 9, rel_tol=1e-6)
    net.requires_grad_(False)
    assert math.isnan(sharpness(net, images, images, lambda out, _: out.square().sum()))


def test_the_largest_is_not_the_largest_in_size() -> None:
    """f = x1^2 - 5 x2^2 has the eigenvalues 2 and -10 (and zeros that make it large enough for Lanczos)."""
    signs = torch.zeros(20)
    signs[:2] = torch.tensor([1.0, -5.0])

    def saddle(out: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return (signs * out.square()).sum()

    assert math.isclose(sharpness(_Diagonal(), torch.eye(20), torch.zeros(20), saddle), 2, rel_tol=1e-3)


class _Diagonal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(20))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images @ self.weight


def test_full_batch_gradient_descent_ends_near_two_over_its_rate() -> None:
    """Cohen et al., 2103.00065: the sharpness rises to 2 / lr and stays about there."""
    torch.manual_seed(0)
    images, labels = torch.randn(60, 8), torch.randn(60, 1)
    net = nn.Sequential(nn.Linear(8, 30), nn.Tanh(), nn.Linear(30, 1))

    def half_square(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (out - target).square().mean() / 2

    lr = 0.5
    assert sharpness(net, images, labels, half_square) < 0.6 * 2 / lr
    optimizer = torch.optim.SGD(net.parameters(), lr)
    late = []
    for step in range(3000):
        optimizer.zero_grad()
        half_square(net(images), labels).backward()
        optimizer.step()
        if step >= 2500 and step % 100 == 0:
            late.append(sharpness(net, images, labels, half_square))
    assert 0.9 < sum(late) / len(late) * lr / 2 < 1.1
