from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from batchnorm.measurements.representations import describe, representations
from tests.measurements.networks import batch, slots_of, small


@pytest.mark.parametrize("mask", [(1, 1), (0, 0), (1, 0)])
def test_against_loops_over_samples_and_channels(mask: tuple[int, int]) -> None:
    net, images = small(mask), batch(7)[0]
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    copy = small(mask)
    for slot, modules in slots_of(copy).items():
        modules.output.register_forward_hook(lambda _, taken, given, slot=slot: seen.update({slot: (taken[0], given)}))
    copy(images)
    for slot, found in representations(net, images, slots_of(net)).items():
        taken, given = (tensor.detach().flatten(2) if tensor.ndim > 2 else tensor.detach()[..., None] for tensor in seen[slot])
        pre_activation = taken if mask[("0", "4").index(slot)] else given
        channels = given.shape[1]
        dead = 0
        for channel in range(channels):
            values = [float(value) for value in pre_activation[:, channel].flatten()]
            mean = math.fsum(values) / len(values)
            assert math.isclose(found.mean[channel], mean, rel_tol=1e-9, abs_tol=1e-12)
            variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
            assert math.isclose(found.variance[channel], variance, rel_tol=1e-9)
            off = [float(value) <= 0 for value in given[:, channel].flatten()]
            assert math.isclose(found.off[channel], sum(off) / len(off), rel_tol=1e-6)
            dead += all(off)
        assert found.dead == dead
        rows = given.flatten(1).numpy()
        cosines = [
            float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
            for at, one in enumerate(rows)
            for place, other in enumerate(rows)
            if at != place
        ]
        assert math.isclose(found.cosine, sum(cosines) / len(cosines), rel_tol=1e-9)
        singular = np.linalg.svd(rows, compute_uv=False)
        assert math.isclose(found.stable_rank, (singular**2).sum() / singular[0] ** 2, rel_tol=1e-9)


def test_known_cases() -> None:
    orthogonal = describe(torch.eye(4), torch.eye(4))
    assert float(orthogonal.cosine) == 0
    assert float(orthogonal.stable_rank) == pytest.approx(4)
    same = describe(torch.ones(4, 3), torch.ones(4, 3))
    assert float(same.cosine) == pytest.approx(1)
    assert float(same.stable_rank) == pytest.approx(1)
    nothing = describe(torch.zeros(4, 3), -torch.zeros(4, 3))
    assert (int(nothing.dead), float(nothing.cosine)) == (3, 0.0)
    assert torch.isnan(nothing.stable_rank)


def test_normalised_slots_have_the_share_off_that_their_threshold_tells_for_normal_input() -> None:
    from batchnorm.measurements.thresholds import probability_off, threshold

    generator = torch.Generator().manual_seed(0)
    norm = torch.nn.BatchNorm1d(5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 0.0, 0.0]))
        norm.bias.copy_(torch.tensor([0.5, 1.0, -1.0, 0.1, -0.1]))
    inputs = torch.randn(20000, 5, generator=generator)
    measured = describe(inputs, norm(inputs).detach()).off.numpy()
    expected = probability_off(threshold(norm.weight.detach().numpy(), norm.bias.detach().numpy()))
    assert np.abs(measured - expected).max() < 0.01
