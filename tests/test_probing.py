from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from batchnorm import training
from batchnorm.assembly import Training, assemble
from batchnorm.config import RunConfig
from batchnorm.measurements.probing import contiguous
from batchnorm.probing import Probe, SlotUpdate, begin_update, weight_of
from batchnorm.quantities import Quantity, of_axis
from batchnorm.store import Run, RunDirectory
from batchnorm.training import step
from tests.test_recording import wide

Configure = Callable[..., RunConfig]
PROBED = of_axis("probes")


class Nothing:
    """Records nothing."""

    def before_step(self, *_: object) -> None: ...

    before_update = after_update = before_step


def values_of(quantity: Quantity, state: Training, probe: Probe) -> list[np.ndarray]:
    assert quantity.read is not None
    if quantity.per == "run":
        return [np.asarray(quantity.read(probe))]
    return [np.asarray(quantity.read(probe, slot)) for slot in state.slots]


def test_a_probe_measures_each_thing_once(configure: Configure) -> None:
    probe = assemble(configure()).probe()
    found: list[Probe] = []
    note = found.append
    probe.result(note)
    probe.result(note)
    assert found == [probe]


def test_the_recorded_probes_follow_from_kept_weights(configure: Configure) -> None:
    """Bit for bit: a probe is a function of the weights, the run's images and its seed."""
    config = configure(position="011", measure="full,sharpness", save_epochs="all")
    training.train(config)
    run = Run(config.directory)
    fresh = assemble(config)
    for row, epoch in enumerate(run.index("probes")["epoch"]):
        fresh.net.load_state_dict(torch.load(RunDirectory(config.directory).weights(int(epoch)), weights_only=True))
        probe = fresh.probe()
        for quantity in PROBED:
            names = [None] if quantity.per == "run" else [slot.name for slot in fresh.slots]
            for name, value in zip(names, values_of(quantity, fresh, probe), strict=True):
                recorded = run.read(quantity.name, name)[row]
                assert np.array_equal(recorded, value.astype(quantity.dtype), equal_nan=True), (quantity.name, epoch)
    assert run.index("probes")["epoch"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("keys", [{"position": "011", "precision": "bf16"}, {"position": "110", "ablation": "fixed_beta"}])
def test_a_probe_of_a_training_leaves_it_as_it_was(configure: Configure, keys: dict[str, Any]) -> None:
    state = assemble(configure(**keys, optimizer="Momentum"))
    state.net.train()
    images, labels = next(state.training_batches(1))
    step(state, images, labels, Nothing())  # type: ignore[arg-type]
    state.net.eval()

    def everything() -> list[torch.Tensor]:
        grads = [value.grad for value in state.net.parameters() if value.grad is not None]
        momenta = [each["momentum_buffer"] for each in state.optimizer.state.values()]
        return [value.clone() for value in (*state.net.state_dict().values(), *grads, *momenta, torch.get_rng_state())]

    before = everything()
    test_images = state.batches.first_test_images(60)[0].clone()
    for quantity in PROBED:
        values_of(quantity, state, state.probe())
        after = everything()
        assert len(after) == len(before)
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True)), quantity.name
        assert not any(module.training for module in state.net.modules())
    assert torch.equal(state.batches.first_test_images(60)[0], test_images)


def test_an_update_is_seen_from_both_sides(configure: Configure) -> None:
    state = assemble(configure(position="011"))
    images, labels = next(state.training_batches(1))
    state.loss(images, labels).backward()
    first, second, _ = state.slots
    assert second.running_var is not None
    assert second.gamma is not None
    before, gamma = wide(weight_of(second)), wide(second.gamma)
    seen = [begin_update(slot, 0.1, images=32, running_var=slot.running_var) for slot in (first, second)]
    gradient, gamma_gradient = wide(weight_of(second).grad), wide(second.gamma.grad)
    state.optimizer.step()
    state.optimizer.zero_grad()
    bare, update = seen
    assert (bare.gamma_before, bare.gamma_gradient, bare.running_var_before) == (None, None, None)
    assert update.values == 32
    assert np.array_equal(wide(update.weight_before), before)
    assert np.array_equal(wide(update.weight), wide(weight_of(second)))
    assert not np.array_equal(wide(update.weight), before)
    for found, expected in ((update.gamma_before, gamma), (update.gradient, gradient), (update.gamma_gradient, gamma_gradient)):
        assert np.array_equal(wide(found), expected)
    calls: list[SlotUpdate] = []
    note = calls.append
    update.result(note)
    update.result(note)
    assert calls == [update]


def test_probes_look_at_whole_batches(configure: Configure) -> None:
    """360 training images are 359 and a batch of one image, which BatchNorm does not take."""
    config = configure(batch_size=359, num_epochs=1, position="001", measure="full")
    batches = assemble(config).batches
    for count, size, expected in ((8, 359, [359]), (8, 32, [32] * 8), (20, 32, [32] * 11), (1, 512, [360])):
        assert [len(labels) for _, labels in batches.probe_images(count, size)] == expected
    training.train(config)
    assert np.isfinite(Run(config.directory).read("batch_sharpness")).all()


def test_contiguous_strides_where_there_is_one_channel() -> None:
    last = torch.rand(8, 5, 5, 1).permute(0, 3, 1, 2)
    assert last.contiguous().stride() == (25, 1, 5, 1)
    assert contiguous(last).stride() == (25, 25, 5, 1)
    assert torch.equal(contiguous(last), last)
