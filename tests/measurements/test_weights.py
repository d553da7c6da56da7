from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from batchnorm.ablation import apply_mode_, find_slots, insert_batchnorm_
from batchnorm.masks import Ablation
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.feeds import SlotModules, positions, slot_modules
from batchnorm.measurements import geometry
from batchnorm.measurements.weights import SUMS, UpdateSums, after_update, batch_variance, before_forward, before_update
from tests.test_feeds import chain


def network(mask: tuple[int, ...] = (1, 1), mode: Ablation = Ablation.TRAINED_BN) -> nn.Module:
    torch.manual_seed(0)
    net = chain(nn.ReLU())
    insert_batchnorm_(net, mask)
    apply_mode_(net, mode)
    return net.train()


def measured_step(
    net: nn.Module, slots: Mapping[str, SlotModules], images: torch.Tensor, lr: float = 0.1
) -> dict[str, UpdateSums]:
    optimizer = torch.optim.SGD([value for value in net.parameters() if value.requires_grad], lr)
    sizes = positions(net, images[:1], slots)
    variances = before_forward(slots)
    cross_entropy(net(images), torch.arange(len(images)) % 2).backward()
    before = before_update(slots, variances, {slot: len(images) * size for slot, size in sizes.items()})
    optimizer.step()
    return after_update(slots, before)


def naive_sums(weight: torch.Tensor, gradient: torch.Tensor, updated: torch.Tensor) -> dict[str, float]:
    w, g, w_plus = ([float(value) for value in tensor.flatten()] for tensor in (weight, gradient, updated))
    change = [after - before for before, after in zip(w, w_plus, strict=True)]

    def inner(one: list[float], other: list[float]) -> float:
        return math.fsum(a * b for a, b in zip(one, other, strict=True))

    return dict(
        zip(
            SUMS,
            (inner(w, w), inner(g, g), inner(w, g), inner(w_plus, w_plus), inner(change, change), inner(w, change)),
            strict=True,
        )
    )


def test_the_sums_of_an_update_against_loops() -> None:
    net, images = network(), torch.rand(12, 3, 8, 8)
    slots = slot_modules(net, find_slots(chain(nn.ReLU())))
    before = {slot: modules.layer.weight.detach().clone() for slot, modules in slots.items() if modules.layer is not None}
    found = measured_step(net, slots, images)
    assert set(found) == {"conv1", "dense1"}
    for slot, weight in before.items():
        layer = slots[slot].layer
        assert layer is not None
        assert layer.weight.grad is not None
        expected = naive_sums(weight, layer.weight.grad, layer.weight.detach())
        assert found[slot].sums.dtype == torch.float64
        for name, value in zip(SUMS, found[slot].sums.tolist(), strict=True):
            assert math.isclose(value, expected[name], rel_tol=1e-11, abs_tol=1e-16), name
        for channel, value in enumerate(found[slot].channel_inner.tolist()):
            one = naive_sums(weight[channel], layer.weight.grad[channel], weight[channel])["inner"]
            assert math.isclose(value, one, rel_tol=1e-9, abs_tol=1e-16)


def test_weights_in_another_layout_and_in_many_parts_give_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    from batchnorm.measurements import weights

    w, g = torch.randn(2, 6, 4, 3, 3)
    whole, by_channel = weights.update_sums(w, g, w - 0.1 * g)
    monkeypatch.setattr(weights, "_WEIGHTS_AT_ONCE", 40)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (w, g, w - 0.1 * g)]
    parts, parts_by_channel = weights.update_sums(*last)
    assert torch.allclose(whole, parts, rtol=1e-12)
    assert torch.allclose(by_channel, parts_by_channel, rtol=1e-12)


def test_the_batchs_variance_is_read_off_the_running_one() -> None:
    torch.manual_seed(0)
    net, images = network(), 3 * torch.randn(16, 3, 8, 8)
    slots = slot_modules(net, ("conv1", "dense1"))
    inputs: dict[str, torch.Tensor] = {}
    for slot, modules in slots.items():
        assert modules.norm is not None
        modules.norm.register_forward_hook(lambda _, taken, __, slot=slot: inputs.update({slot: taken[0].detach()}))
    for _ in range(3):  # the first batch meets a running variance of 1
        variances = before_forward(slots)
        net(images)
        for slot, running in variances.items():
            values = inputs[slot].transpose(0, 1).flatten(1).double()
            norm = slots[slot].norm
            assert norm is not None
            found = batch_variance(norm, running, values.shape[1])
            error = (found - values.var(dim=1, correction=0)).abs()
            assert (error <= 2**-22 * torch.maximum(running, norm.running_var) / 0.1).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1.0, 3e-3])
def test_what_scales_a_normalised_layer_changes_nothing_but_eps(scale: float) -> None:
    """Law 2 holds where eps is not felt, and where it is nearly all: weights 300 times smaller."""
    net = network().double()
    with torch.no_grad():
        net.get_submodule("conv1.layer").weight.mul_(scale)  # type: ignore[operator]
    slots = slot_modules(net, ("conv1", "dense1"))
    for update in measured_step(net, slots, torch.rand(12, 3, 8, 8, dtype=torch.float64)).values():
        assert update.channel_eps is not None
        assert torch.allclose(update.channel_inner, update.channel_eps, rtol=1e-6, atol=1e-14)
        assert update.channel_eps.abs().max() > 1e-9


def test_what_cannot_be_said_is_absent() -> None:
    bare = slot_modules(network((0, 1)), ("conv1", "dense1"))
    fixed = network((0, 1), Ablation.FIXED_GAMMA)
    found = measured_step(fixed, slot_modules(fixed, ("conv1", "dense1")), torch.rand(12, 3, 8, 8))
    assert list(before_forward(bare)) == ["dense1"]
    assert [update.channel_eps for update in found.values()] == [None, None]
    frozen = network()
    frozen.get_submodule("conv1.layer").requires_grad_(False)
    assert list(measured_step(frozen, slot_modules(frozen, ("conv1", "dense1")), torch.rand(12, 3, 8, 8))) == ["dense1"]


def test_measuring_changes_no_bit_of_the_training() -> None:
    images = torch.rand(12, 3, 8, 8)
    measured, plain = network(), network()
    for _ in range(3):
        measured_step(measured, slot_modules(measured, ("conv1", "dense1")), images)
        measured.zero_grad()
        optimizer = torch.optim.SGD(plain.parameters(), 0.1)
        cross_entropy(plain(images), torch.arange(12) % 2).backward()
        optimizer.step()
        plain.zero_grad()
    for name, value in measured.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name])


def test_geometry_against_vectors() -> None:
    generator = np.random.default_rng(0)
    for size in (1e-6, 1e-2, 3.0):
        w, g = generator.normal(size=(2, 50))
        w_plus = w - size * g
        sums = naive_sums(*map(torch.from_numpy, (w, g, w_plus)))
        values = {name: np.array(value) for name, value in sums.items()}
        unit, unit_plus = w / np.linalg.norm(w), w_plus / np.linalg.norm(w_plus)
        half_chord = np.linalg.norm(unit - unit_plus) / 2
        turned = geometry.angle(values["weight_squared"], values["change_squared"], values["change_inner"])
        assert math.isclose(turned, 2 * math.asin(half_chord), rel_tol=1e-8)
        cosine = geometry.cosine(values["inner"], values["weight_squared"], values["gradient_squared"])
        assert math.isclose(cosine, w @ g / np.linalg.norm(w) / np.linalg.norm(g), rel_tol=1e-12)
        relative = geometry.relative_size(values["weight_squared"], values["change_squared"])
        assert math.isclose(relative, np.linalg.norm(w_plus - w) / np.linalg.norm(w), rel_tol=1e-9)
        assert math.isclose(geometry.norm(values["weight_squared"]), np.linalg.norm(w), rel_tol=1e-12)
        rate = geometry.effective_rate(np.array(0.1), values["weight_squared"])
        assert math.isclose(rate, 0.1 / (w @ w), rel_tol=1e-12)
    assert np.isnan(geometry.cosine(np.array(0.0), np.array(1.0), np.array(0.0)))


def test_measuring_an_update_makes_no_host_wait() -> None:
    """In a process of its own, which the fake accelerator changes for good."""
    command = [sys.executable, "-m", "tests.measurements.no_wait"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["measured", "noticed"]
