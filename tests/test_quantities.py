from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from batchnorm.assembly import Training, assemble
from batchnorm.config import RunConfig
from batchnorm.probing import Probe, SlotUpdate
from batchnorm.quantities import AXES, METRICS, PARAMETERS, QUANTITIES, RECORDED, ROWS, Quantity, chosen, of_axis
from batchnorm.recording import Recorder
from batchnorm.slots import Slot
from batchnorm.store import RunWriter, SlotParts
from batchnorm.training import step


def test_each_quantity_is_declared_whole() -> None:
    for name, quantity in QUANTITIES.items():
        assert quantity.name == name
        assert quantity.axis in AXES
        assert quantity.meaning
        assert (quantity.derive is None) == bool(quantity.dataset)
        assert quantity.derive or ("{slot}" in quantity.dataset) == (quantity.per != "run")
        assert quantity.read or quantity.derive or quantity.per == "run"
    assert len(ROWS) == len(QUANTITIES)
    assert len({quantity.dataset for quantity in RECORDED}) == len(RECORDED)
    assert PARAMETERS == ("gamma", "beta", "bias")
    assert METRICS == ("train_loss", "train_acc", "valid_loss", "valid_acc", "test_loss", "test_acc")


def norm_of_weight(slot: Slot) -> torch.Tensor:
    assert slot.layer is not None
    weight = slot.layer.weight
    assert isinstance(weight, torch.Tensor)
    norm: torch.Tensor = torch.linalg.vector_norm(weight)
    return norm


def length_of_update(update: SlotUpdate) -> torch.Tensor:
    length: torch.Tensor = torch.linalg.vector_norm(update.weight - update.weight_before)
    return length


def longest_step(update: SlotUpdate) -> torch.Tensor:
    length: torch.Tensor = update.lr * torch.linalg.vector_norm(update.gradient)
    return length


def shares(probe: Probe) -> dict[str, torch.Tensor]:
    calls.append(probe)
    return {slot.name: torch.full((slot.channels,), 0.5) for slot in probe.slots}


calls: list[Probe] = []
MORE = (
    Quantity("w_norm", "snapshots", "snapshots/w_norm/{slot}", "norm", per="slot", needs=("layer",), read=norm_of_weight),
    Quantity("move", "updates", "updates/move/{slot}", "length", per="slot", needs=("layer",), read=length_of_update),
    Quantity("reach", "updates", "updates/reach/{slot}", "lr |g|", per="slot", needs=("layer",), read=longest_step),
    Quantity("w_end", "epochs", "weights/{slot}", "norm", per="slot", needs=("layer",), read=norm_of_weight),
    Quantity("depth", "probes", "probes/depth", "slots", read=lambda probe: torch.tensor(len(probe.slots))),
    Quantity(
        "share", "probes", "probes/share/{slot}", "a share", per="channel", needs=("gamma",), dtype="f4",
        read=lambda probe, slot: probe.result(shares)[slot.name],
    ),
)  # fmt: skip


def record(training: Training, path: Path, quantities: tuple[Quantity, ...], steps: int) -> dict[str, np.ndarray]:
    """Record steps and one epoch's end as the loop does, and return all datasets."""
    slots = [SlotParts(slot.name, slot.channels, slot.parts) for slot in training.slots]
    facts: dict[str, Any] = {"fingerprint": training.fingerprint, "slots": slots, "length": training.length, "versions": {}}
    writer = RunWriter.create(path, training.config, quantities=quantities, **facts)
    recorder = Recorder(writer, training.slots, device=training.device, every=2, measure_every=2, images=32)
    for (images, labels), _ in zip(training.training_batches(1), range(steps), strict=False):
        step(training, images, labels, recorder)
    recorder.training_ended(training.step, training.lr)
    recorder.probe(1, training.step, training.probe)
    metrics = dict.fromkeys((*METRICS, "train_seconds", "eval_seconds"), 0.5)
    recorder.epoch(1, training.step, training.lr, metrics)
    recorder.close()
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_a_quantity_is_read_at_each_moment(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    calls.clear()
    training = assemble(configure(position="011"))
    start = {slot.name: norm_of_weight(slot).item() for slot in training.slots}
    found = record(training, tmp_path / "run.h5", (*chosen(()), *MORE), steps=5)
    plain = record(assemble(configure(position="011")), tmp_path / "plain.h5", chosen(()), steps=5)
    for name, values in plain.items():  # what is recorded besides changes no bit
        assert found[name].tobytes() == values.tobytes(), name
    assert found["snapshots/step"].tolist() == [0, 2, 4, 5]
    assert found["updates/step"].tolist() == [0, 2, 4]
    assert found["probes/epoch"].tolist() == [1]
    assert found["probes/step"].tolist() == [5]
    assert found["probes/depth"].tolist() == [3]
    for slot in training.slots:
        assert found[f"snapshots/w_norm/{slot.name}"][0] == pytest.approx(start[slot.name])
        assert found[f"weights/{slot.name}"][0] == pytest.approx(norm_of_weight(slot).item())
        assert found[f"updates/move/{slot.name}"] == pytest.approx(found[f"updates/reach/{slot.name}"], rel=1e-3)
        assert (found[f"updates/move/{slot.name}"] > 0).all()
    assert "probes/share/dense1" not in found  # it has no gamma
    assert (found["probes/share/dense2"] == 0.5).all()
    assert len(calls) == 1  # one measurement, however many slots read from it


def test_what_is_declared_and_not_filled_is_told_at_once(tmp_path: Path) -> None:
    from tests.store.records import facts_of

    lost = Quantity("lost", "batches", "batches/lost", "declared, and handed over by nobody")
    writer = RunWriter.create(tmp_path / "run.h5", **facts_of(), versions={}, quantities=[*chosen(()), lost])
    rows = {"step": [0], "batch_loss": [1.0], "batch_lr": [0.1]}
    with pytest.raises(LookupError, match=r"rows of batches: declared and not filled: \['lost'\]"):
        writer.append("batches", rows)
    with pytest.raises(LookupError, match=r"not declared: \['found'\]"):
        writer.append("batches", {**rows, "lost": [1], "found": [1]})
    with pytest.raises(LookupError, match=r"lost: rows of shape \(1, 2\), wants \(1,\)"):
        writer.append("batches", {**rows, "lost": [[1, 2]]})
    with pytest.raises(LookupError, match="rows of batches"):
        writer.append("batches", {**rows, "lost": [1, 2]})
    writer.close()


def test_quantities_of_an_axis_stand_in_the_order_of_their_declaration() -> None:
    assert [quantity.name for quantity in of_axis("snapshots", chosen(()))] == ["gamma", "beta", "bias"]
