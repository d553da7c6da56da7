from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.measurements import geometry
from batchnorm.measurements.weights import SUMS, all_sums, batch_variance, channel_eps, channel_inner, sum_of
from batchnorm.modes import treatments
from batchnorm.probing import SlotUpdate, weight_of
from batchnorm.quantities import QUANTITIES
from batchnorm.slots import Slot, find_slots, treat_
from tests import command
from tests.measurements.networks import live_slots, measured_step
from tests.test_feeds import chain


def network(mask: tuple[int, ...] = (1, 1), mode: str = "trained_bn") -> nn.Module:
    torch.manual_seed(0)
    net = chain(nn.ReLU())
    treat_(net, treatments(mask, mode))
    return net.train()


def slots_of(net: nn.Module) -> tuple[Slot, ...]:
    return live_slots(net, find_slots(chain(nn.ReLU())), torch.rand(1, 3, 8, 8, dtype=next(net.parameters()).dtype))


def step_of(net: nn.Module, slots: tuple[Slot, ...], images: torch.Tensor) -> dict[str, SlotUpdate]:
    optimizer = torch.optim.SGD([value for value in net.parameters() if value.requires_grad], 0.1)
    return measured_step(net, slots, images, torch.arange(len(images)) % 2, optimizer)


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
    slots = slots_of(net)
    before = {slot.name: weight_of(slot).detach().clone() for slot in slots}
    found = step_of(net, slots, images)
    assert set(found) == {"conv1", "dense1"}
    for slot in slots:
        weight, gradient, updated = before[slot.name], weight_of(slot).grad, weight_of(slot).detach()
        assert gradient is not None
        expected = naive_sums(weight, gradient, updated)
        update = found[slot.name]
        assert update.lr == 0.1
        assert update.result(all_sums)[0].dtype == torch.float64
        for place, name in enumerate(SUMS):
            read = QUANTITIES[name].read
            assert read is not None
            assert sum_of(update, place) == read(update) == update.result(all_sums)[0][place]
            assert math.isclose(sum_of(update, place), expected[name], rel_tol=1e-11, abs_tol=1e-16), name
        for channel, value in enumerate(channel_inner(update).tolist()):
            one = naive_sums(weight[channel], gradient[channel], weight[channel])["weight_gradient"]
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


@pytest.mark.parametrize("momentum", [0.1, None])
def test_the_batchs_variance_is_read_off_the_running_one(momentum: float | None) -> None:
    """Without a momentum the running variance is the mean over all batches."""
    torch.manual_seed(0)
    net, images = network(), 3 * torch.randn(16, 3, 8, 8)
    slots = slots_of(net)
    inputs: dict[str, torch.Tensor] = {}
    for slot in slots:
        assert slot.norm is not None
        slot.norm.momentum = momentum  # type: ignore[assignment]
        slot.norm.register_forward_hook(lambda _, taken, __, name=slot.name: inputs.update({name: taken[0].detach()}))
    for batch in range(1, 4):  # the first batch meets a running variance of 1
        before = {slot.name: slot.running_var.clone() for slot in slots if slot.running_var is not None}
        assert set(before) == {"conv1", "dense1"}
        net(images)
        for slot in slots:
            values, running = inputs[slot.name].transpose(0, 1).flatten(1).double(), before[slot.name]
            assert slot.norm is not None
            assert slot.running_var is not None
            found = batch_variance(slot.norm, running, values.shape[1])
            error = (found - values.var(dim=1, correction=0)).abs()
            assert (error <= 2**-22 * torch.maximum(running, slot.running_var) / (momentum or 1 / batch)).all()


@pytest.mark.parametrize("scale", [1.0, 3e-3])
def test_what_scales_a_normalised_layer_changes_nothing_but_eps(scale: float) -> None:
    """Law 2 holds where eps is not felt, and where it is nearly all: weights 300 times smaller."""
    net = network().double()
    with torch.no_grad():
        net.get_submodule("conv1.layer").weight.mul_(scale)  # type: ignore[operator]
    updates = step_of(net, slots_of(net), torch.rand(12, 3, 8, 8, dtype=torch.float64))
    assert list(updates) == ["conv1", "dense1"]
    for update in updates.values():
        assert torch.allclose(channel_inner(update), channel_eps(update), rtol=1e-6, atol=1e-14)
        assert channel_eps(update).abs().max() > 1e-9


def test_what_cannot_be_said_is_absent() -> None:
    eps, sums = QUANTITIES["channel_eps"], QUANTITIES["weight_squared"]
    bare, fixed = network((0, 1)), network((0, 1), "fixed_gamma")
    assert [eps.is_in(slot.parts) for slot in slots_of(bare)] == [False, True]
    assert [eps.is_in(slot.parts) for slot in slots_of(fixed)] == [False, False]
    found = step_of(fixed, slots_of(fixed), torch.rand(12, 3, 8, 8))
    assert [update.gamma_gradient for update in found.values()] == [None, None]
    assert [slot.running_var is None for slot in slots_of(bare)] == [True, False]
    frozen = network()
    frozen.get_submodule("conv1.layer").requires_grad_(False)
    slots = slots_of(frozen)
    assert [sums.is_in(slot.parts) for slot in slots] == [eps.is_in(slot.parts) for slot in slots] == [False, True]
    assert list(step_of(frozen, slots, torch.rand(12, 3, 8, 8))) == ["dense1"]


def test_a_gradient_that_the_optimizer_adds_to_is_the_loss_s_own() -> None:
    """torch's NAG does, where it updates all parameters at once, as on a GPU."""
    images, labels = torch.rand(12, 3, 8, 8), torch.arange(12) % 2
    found = []
    for foreach in (False, True):
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True, foreach=foreach)
        found.append(measured_step(net, slots_of(net), images, labels, optimizer)["conv1"])
    assert torch.equal(found[0].result(all_sums)[0], found[1].result(all_sums)[0])
    assert torch.equal(channel_inner(found[0]), channel_inner(found[1]))
    assert torch.equal(channel_eps(found[0]), channel_eps(found[1]))


def test_measuring_changes_no_bit_of_the_training() -> None:
    images = torch.rand(12, 3, 8, 8)
    measured, plain = network(), network()
    for _ in range(3):
        for update in step_of(measured, slots_of(measured), images).values():
            update.result(all_sums)
            channel_eps(update)
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
        turned = geometry.angle(values["weight_squared"], values["change_squared"], values["weight_change"])
        assert math.isclose(turned, 2 * math.asin(half_chord), rel_tol=1e-8)
        cosine = geometry.cosine(values["weight_gradient"], values["weight_squared"], values["gradient_squared"])
        assert math.isclose(cosine, w @ g / np.linalg.norm(w) / np.linalg.norm(g), rel_tol=1e-12)
        relative = geometry.relative_size(values["weight_squared"], values["change_squared"])
        assert math.isclose(relative, np.linalg.norm(w_plus - w) / np.linalg.norm(w), rel_tol=1e-9)
        assert math.isclose(geometry.norm(values["weight_squared"]), np.linalg.norm(w), rel_tol=1e-12)
        rate = geometry.effective_rate(np.array(0.1), values["weight_squared"])
        assert math.isclose(rate, 0.1 / (w @ w), rel_tol=1e-12)
    assert np.isnan(geometry.cosine(np.array(0.0), np.array(1.0), np.array(0.0)))


def test_measuring_an_update_makes_no_host_wait(tmp_path: Path) -> None:
    """In a process of its own, which the fake accelerator changes for good."""
    code, printed = command.python(["-m", "tests.measurements.no_wait"], tmp_path / "printed")
    assert (code, printed.split()) == (0, ["measured", "noticed"])
