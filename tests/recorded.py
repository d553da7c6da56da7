"""Records made without training, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchnorm.config import RunConfig, resolve
from batchnorm.problems import find_problem
from batchnorm.store import RunDirectory, RunLength, RunWriter, SlotParts, Status

WIDTHS = {
    "digits_2c2d_bn": {"conv1": 32, "conv2": 64, "dense1": 1024},
    "fmnist_2c2d_bn": {"conv1": 32, "conv2": 64, "dense1": 1024},
    "cifar100_3c3d_bn": {"conv1": 64, "conv2": 96, "conv3": 128, "dense1": 512, "dense2": 256},
    "cifar100_allcnnc_bn": dict(
        zip((f"conv{n}" for n in range(1, 10)), (96, 96, 96, 192, 192, 192, 192, 192, 100), strict=True)
    ),
}


@dataclass(frozen=True)
class Spike:
    """Snapshots in which one channel jumps away."""

    parameter: str
    slot: str
    first: int
    rows: int
    channel: int
    value: float


def record_run(
    output: Path,
    *,
    epochs: int = 4,
    recorded_epochs: int | None = None,
    steps_per_epoch: int = 20,
    status: Status = Status.FINISHED,
    spikes: Sequence[Spike] = (),
    last_loss: float | None = None,
    **keys: object,
) -> RunConfig:
    """Write a run's record with invented but plausible numbers, and return its configuration.

    `last_loss` stands in for the last losses, as a run that diverges has them. `recorded_epochs=-1` records nothing.
    The numbers differ between seeds, masks, modes and learning rates; train, validation and test ones differ too.
    """
    config = resolve({"random_seed": 1, "output_dir": str(output), "num_epochs": epochs, **keys})
    directory = RunDirectory(config.directory)
    directory.path.mkdir(parents=True, exist_ok=True)
    config.save(directory.config)
    layers, widths = find_problem(config.problem).slots, WIDTHS[config.problem]
    rng = np.random.default_rng([config.random_seed, *config.mask, *config.ablation.encode(), int(1e6 * config.lr)])
    steps = min(epochs * steps_per_epoch, config.max_steps or epochs * steps_per_epoch)
    writer = RunWriter.create(
        directory.record,
        config,
        fingerprint=config.fingerprint(),
        slots=[
            SlotParts(
                slot, widths[slot], frozenset({"gamma", "beta", "running_mean", "running_var"} if normalised else {"bias"})
            )
            for slot, normalised in zip(layers, config.mask, strict=True)
        ],
        length=RunLength(steps, -(-steps // steps_per_epoch), steps_per_epoch),
        versions={"device": "cpu"},
    )
    done = epochs if recorded_epochs is None else recorded_epochs
    epoch = np.arange(done + 1)
    columns: dict[str, Any] = {}
    pace = rng.uniform(2, 5)
    for split, noise in (("train", 0.01), ("valid", 0.03), ("test", 0.03)):
        floor = rng.uniform(0.1, 0.3) + 3 * noise
        falling = floor + (2.3 - floor) * np.exp(-epoch / pace) + noise * rng.random(done + 1)
        if last_loss is not None:
            falling[-1] = last_loss
        columns |= {f"{split}_loss": falling, f"{split}_acc": 1 - falling / 2.6}
    columns |= {"lr": np.full(done + 1, config.lr), "train_seconds": (epoch > 0) * 9.0, "eval_seconds": np.ones(done + 1)}
    at_epochs = {f"epochs/{name}": values for name, values in columns.items()}
    at_epochs |= {"epochs/epoch": epoch, "epochs/step": epoch * steps_per_epoch}
    last = done * steps_per_epoch
    batch_steps = np.arange(0, last, config.log_every_steps or last)[int(config.log_every_steps == 0) :]
    loss = 2.3 * np.exp(-batch_steps / (3 * steps_per_epoch)) + 0.1 * rng.random(len(batch_steps))
    lrs = np.full(len(batch_steps), config.lr)
    writer.append("batches", {"batches/step": batch_steps, "batches/loss": loss, "batches/lr": lrs})
    snapshot_steps = np.append(batch_steps, last) if done >= 0 else batch_steps
    at_snapshots = {"snapshots/step": snapshot_steps}
    for slot, normalised in zip(layers, config.mask, strict=True):
        for parameter, start in (("gamma", 1.0), ("beta", 0.0)) if normalised else (("bias", 0.05),):
            trained = parameter == "bias" or getattr(config.mode.treatment, parameter).trained
            goals, noise = rng.normal(0, 0.3 * trained, widths[slot]), rng.normal(0, 0.01 * trained)
            grown = 1 - np.exp(-snapshot_steps[:, None] / (2 * steps_per_epoch))
            values = start + goals * grown + noise * rng.standard_normal((len(snapshot_steps), widths[slot]))
            for planted in spikes:
                if (planted.parameter, planted.slot) == (parameter, slot):
                    values[planted.first : planted.first + planted.rows, planted.channel] = planted.value
            at_snapshots[f"snapshots/{parameter}/{slot}"] = values
        if normalised:
            ones = np.ones((done + 1, widths[slot]))
            at_epochs |= {f"running/mean/{slot}": 0 * ones, f"running/var/{slot}": ones}
    writer.append("snapshots", at_snapshots)
    writer.append("epochs", at_epochs)
    writer.flush()
    writer.finish(status) if status != Status.RUNNING else writer.close()
    return config
