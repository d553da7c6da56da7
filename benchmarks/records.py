"""How large records are, and what recording takes: real short runs, of which gamma, beta and bias wander on for a whole run."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchnorm.store import Run, RunLength, RunWriter, Status
from benchmarks.images import accept_invented_cifar, few_fashion_mnist, make_cifar
from benchmarks.loops import Task
from benchmarks.measuring import table

EVERY = 5
"""LOG_EVERY_STEPS of the long runs."""
BLOCK_ROWS = 64
"""How many rows a recorder brings at a time."""


@dataclass(frozen=True)
class Long:
    """A long run, and how many real steps it is made of."""

    name: str
    task: Task
    real_steps: int
    length: RunLength


def records(folder: Path) -> str:
    """Measure records of whole runs: changes of gamma, beta and bias are drawn from those of a real run of a few steps."""
    fashion, cifar = few_fashion_mnist(folder, train=6400, test=640), make_cifar(folder, "cifar100", train=1280, test=640)
    longs = (
        Long("2c2d, 3 epochs", Task("fmnist_2c2d_bn", fashion), 100, RunLength(3 * 390, 3, 390)),
        Long("2c2d, 100 epochs", Task("fmnist_2c2d_bn", fashion), 200, RunLength(100 * 390, 100, 390)),
        Long("All-CNN-C, 350 epochs", Task("cifar100_allcnnc_bn", cifar), 60, RunLength(350 * 156, 350, 156)),
    )
    header = [
        *("run", "MB while it grows", "MB when it has ended", "times smaller", "to reach"),
        *("CPU ms an epoch to record", "CPU s to compress"),
    ]
    return table(header, [_measure(long, folder / "records") for long in longs])


def _measure(long: Long, folder: Path) -> tuple[str, ...]:
    real = _train(long, folder)
    rows = _wander(real, long.length)
    path = folder / "run.h5"
    config = replace(real.config, measure="none", num_epochs=long.length.epochs, log_every_steps=EVERY)
    facts: dict[str, Any] = {"fingerprint": real.fingerprint, "slots": real.slots, "length": long.length, "versions": {}}
    writer = RunWriter.create(path, config, **facts)
    started = time.process_time()
    for epoch in range(long.length.epochs + 1):
        _record_epoch(writer, rows, epoch, long.length)
    recorded = time.process_time()
    growing = path.stat().st_size / 1e6
    writer.finish(Status.FINISHED)
    compressed = time.process_time() - recorded
    ended = path.stat().st_size / 1e6
    each = 1e3 * (recorded - started) / long.length.epochs
    smaller = growing / ended
    return long.name, f"{growing:.2f}", f"{ended:.2f}", f"{smaller:.2f}", "1.5", f"{each:.1f}", f"{compressed:.2f}"


def _train(long: Long, folder: Path) -> Run:
    """Train the first steps, and record each."""
    from batchnorm.training import train

    accept_invented_cifar()
    keys = {"max_steps": long.real_steps, "log_every_steps": 1, "measure": "none", "evaluate_every": 1000}
    config = long.task.config(**keys, output_dir=str(folder), named_keys="MAX_STEPS")
    train(config)
    return Run(config.directory)


def _wander(real: Run, length: RunLength) -> dict[str, NDArray[Any]]:
    """Go on from a real run's trajectories: each row changes as the real one did over some EVERY steps of its second half."""
    rng = np.random.default_rng(1)
    rows = length.steps // EVERY + 1
    found: dict[str, NDArray[Any]] = {}
    starts = rng.integers(len(real.snapshot_steps) // 2, len(real.snapshot_steps) - EVERY, rows)
    for name in ("gamma", "beta", "bias"):
        for slot in real.slots_with(name):
            values = real.read(name, slot)
            changes = (values[EVERY:] - values[:-EVERY])[starts]
            found[f"{name} of {slot}"] = values[-1] + changes.cumsum(0, dtype=np.float32)
    for name in ("running_mean", "running_var"):
        for slot in real.slots_with(name):
            spread = 1 + 0.01 * rng.standard_normal((length.epochs + 1, real.read(name, slot).shape[1]))
            found[f"{name} of {slot}"] = real.read(name, slot)[-1] * spread
    return found


def _record_epoch(writer: RunWriter, rows: dict[str, NDArray[Any]], epoch: int, length: RunLength) -> None:
    """Append as a recorder does: whole blocks, the rest at the epoch's end, and all of it to the disk."""
    last = epoch == length.epochs
    end = length.steps // EVERY if last else -(-epoch * length.steps_per_epoch // EVERY)
    while (start := writer.rows("batches")) < end:
        steps = EVERY * np.arange(start, min(start + BLOCK_ROWS, end))
        writer.append("batches", {"step": steps, "batch_loss": np.sin(steps), "batch_lr": 0 * steps + 0.1})
        _append_snapshots(writer, rows, steps)
    if last:
        _append_snapshots(writer, rows, np.array([length.steps]))
    values = {name: rows[name][[epoch]] if name in rows else [np.sin(epoch)] for name in writer.axes["epochs"]}
    writer.append("epochs", {**values, "epoch": [epoch], "step": [epoch * length.steps_per_epoch]})
    writer.flush()


def _append_snapshots(writer: RunWriter, rows: dict[str, NDArray[Any]], steps: NDArray[Any]) -> None:
    wanted = [name for name in writer.axes["snapshots"] if name != "step"]
    writer.append("snapshots", {"step": steps, **{name: rows[name][steps // EVERY] for name in wanted}})
