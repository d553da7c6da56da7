from __future__ import annotations

import math

import pytest
import torch

from batchnorm.measurements.contribution import contribution


def naive(gamma: torch.Tensor, weight: torch.Tensor) -> list[float]:
    channels = len(gamma)
    columns = weight.reshape(len(weight), channels, -1).double().tolist()
    found = [0.0] * channels
    for row in columns:
        scaled = [[float(scale) * value for value in block] for scale, block in zip(gamma.abs(), row, strict=True)]
        length = math.sqrt(sum(value**2 for block in scaled for value in block))
        for channel, block in enumerate(scaled):
            found[channel] += sum((value / length) ** 2 for value in block)
    return [math.sqrt(value) for value in found]


@pytest.mark.parametrize("shape", [(5, 4), (5, 12), (5, 4, 3, 3)])
def test_contribution_against_loops(shape: tuple[int, ...]) -> None:
    gamma, weight = torch.randn(4), torch.randn(shape)
    found = contribution(gamma, weight)
    assert found is not None
    assert torch.allclose(found, torch.tensor(naive(gamma, weight)), rtol=1e-5)
    assert math.isclose(float(found.square().sum()), 5, rel_tol=1e-5)


def test_a_change_of_gauge_changes_nothing() -> None:
    gamma, weight = torch.randn(4), torch.randn(5, 12)
    channel_scale, row_scale = torch.rand(4) + 0.5, torch.rand(5, 1) + 0.5
    moved = weight / channel_scale.repeat_interleave(3) * row_scale
    one, other = contribution(gamma, weight), contribution(-gamma * channel_scale, moved)
    assert one is not None
    assert other is not None
    assert torch.allclose(one, other, rtol=1e-5)


def test_nothing_contributes_nothing_and_groups_are_absent() -> None:
    found = contribution(torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    assert found is not None
    assert found.tolist() == [1.0, 0.0]
    assert contribution(torch.ones(4), torch.ones(4, 1, 3, 3)) is None
    assert contribution(torch.ones(4), torch.ones(4, 6)) is None
