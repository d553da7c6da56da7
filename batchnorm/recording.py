"""What a run records while it trains: rows gather on the device and go to the record by block.

The training loop calls it and knows nothing of files. A step makes the host wait for the device only where a block is full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from batchnorm.probing import Probe, SlotUpdate, begin_update
from batchnorm.quantities import Quantity, of_axis
from batchnorm.slots import Slot
from batchnorm.store import Mark, RunWriter, Status

BLOCK_ROWS = 64


class Diverged(Exception):
    """A loss is not finite; all rows up to it are recorded."""


class Recorder:
    """Records one run, on the axes of `batchnorm.quantities`.

    Args:
        writer: the record; it says what is recorded.
        slots: what stands in the network's slots.
        device: where the network is.
        every: record each so many steps; 0: only the last snapshot.
        measure_every: measure each so many updates.
        images: in a training batch.
    """

    def __init__(
        self,
        writer: RunWriter,
        slots: Sequence[Slot],
        *,
        device: torch.device,
        every: int,
        measure_every: int,
        images: int,
    ) -> None:
        self._writer = writer
        self._every = every
        self._measure_every = measure_every
        self._images = images
        self._slots = {slot.name: slot for slot in slots}
        parts = {axis: _parts(of_axis(axis, writer.quantities), slots) for axis in ("epochs", "snapshots", "updates", "probes")}
        self._epoch_end, self._probes = parts["epochs"], parts["probes"]
        self._snapshots = _Block(parts["snapshots"], device, more=1)  # and the loss
        self._updates = _Block(parts["updates"], device, dtype=torch.float64)
        self._measured = {part.slot: self._slots[part.slot] for part in parts["updates"]}
        self._running_vars: dict[str, torch.Tensor] = {}
        self._begun: dict[str, SlotUpdate] = {}

    @property
    def epochs(self) -> int:
        """How many epochs are recorded, epoch 0 among them."""
        return self._writer.rows("epochs")

    def before_step(self, step: int) -> None:
        """Note what the forward pass of a step changes, if its update is to be measured."""
        if self._measures(step):
            running = {name: slot.running_var for name, slot in self._measured.items()}
            self._running_vars = {name: value.clone() for name, value in running.items() if value is not None}

    def before_update(self, step: int, lr: float, loss: torch.Tensor) -> None:
        """Note the loss of the step, and what stands before its update, if it is a step to record."""
        if self._every and step % self._every == 0:
            if self._snapshots.is_full:
                self.write_block()
            self._snapshots.note((step, lr), [loss, *self._read_slots()])
        if self._measures(step):
            self._begun = {
                name: begin_update(slot, lr, images=self._images, running_var=self._running_vars.get(name))
                for name, slot in self._measured.items()
            }

    def after_update(self, step: int, lr: float) -> None:
        """Note what both sides of the update tell, if it is to be measured."""
        if self._measures(step):
            if self._updates.is_full:
                self.write_block()
            self._updates.note((step, lr), [part.read(self._begun[part.slot]) for part in self._updates.parts])
            self._begun = {}  # copies as large as the network

    def _measures(self, step: int) -> bool:
        return bool(self._measured) and step % self._measure_every == 0

    def training_ended(self, step: int, lr: float) -> None:
        """Add the snapshot after the last update, once.

        Raises:
            Diverged: a recorded loss is not finite.
        """
        self.write_block()
        if self._writer.rows("snapshots") == self._writer.rows("batches"):
            self._snapshots.note((step, lr), [torch.zeros((), device=self._snapshots.rows.device), *self._read_slots()])
            index, rows = self._snapshots.take()
            self._write_snapshots(index, rows)

    def probe(self, epoch: int, step: int, probe: Callable[[], Probe]) -> None:
        """Measure the network beside the evaluation, if there is anything to measure."""
        if self._probes:
            self._writer.append("probes", {"epoch": [epoch], "step": [step]} | _probe(self._probes, probe()))

    def epoch(self, epoch: int, step: int, lr: float, metrics: Mapping[str, float], *, evaluated: bool = True) -> None:
        """Record an epoch's metrics and times, and what stands at its end; the metrics are NaN where it was not evaluated.

        Raises:
            Diverged: the training loss is not finite.
        """
        given = {"epoch": epoch, "step": step, "lr": lr, **metrics}
        rows = {name: np.array([value]) for name, value in given.items()}
        values = _fetch([part.read(self._slots[part.slot]) for part in self._epoch_end])
        self._writer.append("epochs", rows | _split(values[None], self._epoch_end))
        if evaluated and not np.isfinite(metrics["train_loss"]):
            raise Diverged(f"train loss {metrics['train_loss']} after epoch {epoch}, step {step}")

    def write_block(self) -> None:
        """Bring the noted rows to the record.

        Raises:
            Diverged: a loss is not finite; the rows after it are dropped.
        """
        index, rows = self._snapshots.take()
        finite = np.isfinite(rows[:, 0])
        kept = len(rows) if finite.all() else int(np.argmin(finite)) + 1
        index, rows = index[:kept], rows[:kept]
        if kept:
            steps, rates = zip(*index, strict=True)
            self._writer.append("batches", {"step": steps, "batch_loss": rows[:, 0], "batch_lr": rates})
            self._write_snapshots(index, rows)
        if self._updates.parts:
            index, updates = self._updates.take()
            if not finite.all():
                index = [(step, lr) for step, lr in index if step < steps[-1]]
            given = {"step": [step for step, _ in index], "update_lr": [lr for _, lr in index]}
            known = {name: values for name, values in given.items() if name in self._writer.axes["updates"]}
            self._writer.append("updates", known | _split(updates[: len(index)], self._updates.parts))
        if not finite.all():
            raise Diverged(f"loss {rows[-1, 0]} at step {steps[-1]}")

    def flush(self) -> Mark:
        """Bring all to the disk, and return how far the record goes."""
        self.write_block()
        return self._writer.flush()

    def finish(self, status: Status) -> None:
        """Record how the run ended."""
        self._writer.finish(status)

    def close(self) -> None:
        """Close the record of a run that is resumed another time."""
        self._writer.close()

    def _read_slots(self) -> list[torch.Tensor]:
        return [part.read(self._slots[part.slot]) for part in self._snapshots.parts]

    def _write_snapshots(self, index: Sequence[tuple[int, float]], rows: np.ndarray) -> None:
        steps = {"step": [step for step, _ in index]}
        self._writer.append("snapshots", steps | _split(rows[:, 1:], self._snapshots.parts))


@dataclass(frozen=True)
class _Part:
    """One quantity's share of a row, of one slot if it has slots: how it is read, and its shape."""

    key: str
    read: Callable[..., Any]
    slot: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))


class _Block:
    """Rows that gather on the device: step and rate of each, and in one row its parts' values after `more` others."""

    def __init__(
        self, parts: Sequence[_Part], device: torch.device, *, more: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        self.parts = parts
        width = more + sum(part.size for part in parts)
        self.rows = torch.empty(BLOCK_ROWS, width, device=device, dtype=dtype)
        self.index: list[tuple[int, float]] = []

    @property
    def is_full(self) -> bool:
        return len(self.index) == BLOCK_ROWS

    @torch.no_grad()
    def note(self, index: tuple[int, float], values: Sequence[torch.Tensor]) -> None:
        flat = [value.detach().reshape(-1).to(self.rows.dtype) for value in values]
        torch.cat(flat, out=self.rows[len(self.index)])
        self.index.append(index)

    def take(self) -> tuple[list[tuple[int, float]], np.ndarray]:
        """Bring the rows over from the device, where the host waits for it, and begin anew."""
        rows: np.ndarray = self.rows[: len(self.index)].cpu().numpy()
        index, self.index = self.index, []
        return index, rows.copy()


def _parts(quantities: Sequence[Quantity], slots: Sequence[Slot]) -> list[_Part]:
    """Return how the quantities of one axis are read, and where they go; not those that the loop hands over."""
    parts = []
    for quantity in quantities:
        if quantity.read is None:
            continue
        if quantity.per == "run":
            parts.append(_Part(quantity.key(), quantity.read, "", ()))
            continue
        for slot in slots:
            if quantity.is_in(slot.parts):
                shape = (slot.channels,) if quantity.per == "channel" else ()
                parts.append(_Part(quantity.key(slot.name), quantity.read, slot.name, shape))
    return parts


def probe_values(quantities: Sequence[Quantity], probe: Probe) -> dict[str, np.ndarray]:
    """Measure a network, and return one row for each of the quantities and slots, by `Quantity.key`."""
    return _probe(_parts(of_axis("probes", quantities), probe.slots), probe)


def _probe(parts: Sequence[_Part], probe: Probe) -> dict[str, np.ndarray]:
    slots = {slot.name: slot for slot in probe.slots}
    values = [part.read(probe, slots[part.slot]) if part.slot else part.read(probe) for part in parts]
    return _split(_fetch(values)[None], parts)


def _fetch(values: Sequence[torch.Tensor]) -> np.ndarray:
    """Bring values over from the device in one transfer, as one row."""
    flat = [torch.as_tensor(value).detach().view(-1).double() for value in values]
    fetched: np.ndarray = torch.cat(flat).cpu().numpy() if flat else np.empty(0, dtype=np.float32)
    return fetched


def _split(rows: np.ndarray, parts: Sequence[_Part]) -> dict[str, np.ndarray]:
    """Cut rows of concatenated values into one array for each part."""
    ends = np.cumsum([part.size for part in parts], dtype=int)
    pieces = np.split(rows, ends[:-1], axis=1) if parts else []
    return {part.key: piece.reshape(len(rows), *part.shape) for part, piece in zip(parts, pieces, strict=True)}
