"""Records made without training, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from batchnorm.config import RunConfig, resolve
from batchnorm.problems import find_problem
from batchnorm.rundir import RunDirectory
from batchnorm.store import EPOCH_COLUMNS, RunWriter, Status

WIDTHS = {
    "digits_2c2d_bn": {"conv1": 32, "conv2": 64, "dense1": 1024},
    "fmnist_2c2d_bn": {"conv1": 32, "conv2": 64, "dense1": 1024},
    "cifar100_3c3d_bn": {"conv1": 64, "conv2": 96, "conv3": 128, "dense1": 512, "dense2": 256},
    "cifar100_allcnnc_bn": dict(
        zip((f"conv{n}" for n in range(1, 10)), (96, 96, 96, 192, 192, 192, 192, 192, 100), strict=True)
    ),
}


def record_run(
    output: Path,
    *,
    epochs: int = 4,
    recorded_epochs: int | None = None,
    steps_per_epoch: int = 20,
    status: Status = Status.FINISHED,
    **keys: object,
) -> RunConfig:
    """Write a run's record with invented but plausible numbers, and return its configuration."""
    config = resolve({"random_seed": 1, "output_dir": str(output), "num_epochs": epochs, **keys})
    directory = RunDirectory(config.directory)
    directory.path.mkdir(parents=True, exist_ok=True)
    config.save(directory.config)
    layers, widths = find_problem(config.problem).slots, WIDTHS[config.problem]
    rng = np.random.default_rng([config.random_seed, *config.mask])
    writer = RunWriter.create(
        directory.record,
        config,
        fingerprint=config.fingerprint(),
        layers=layers,
        widths=widths,
        versions={"device": "cpu"},
    )
    done = epochs if recorded_epochs is None else recorded_epochs
    epoch = np.arange(done + 1)
    falling = 2.3 * np.exp(-epoch / 3) + 0.02 * rng.random(done + 1)
    columns: dict[str, Any] = {name: falling if name.endswith("loss") else 1 - falling / 2.6 for name in EPOCH_COLUMNS}
    columns |= {"lr": np.full(done + 1, config.lr), "train_seconds": (epoch > 0) * 9.0, "eval_seconds": np.ones(done + 1)}
    writer.append({f"epochs/{name}": values for name, values in columns.items()})
    writer.append({"epochs/epoch": epoch, "epochs/step": epoch * steps_per_epoch})
    last = done * steps_per_epoch
    batch_steps = np.arange(0, last, config.log_every_steps)
    loss = 2.3 * np.exp(-batch_steps / (3 * steps_per_epoch)) + 0.1 * rng.random(len(batch_steps))
    writer.append({"batches/step": batch_steps, "batches/loss": loss, "batches/lr": np.full(len(batch_steps), config.lr)})
    snapshot_steps = np.append(batch_steps, last)
    writer.append({"snapshots/step": snapshot_steps})
    for slot, normalised in zip(layers, config.mask, strict=True):
        for parameter, start in (("gamma", 1.0), ("beta", 0.0)) if normalised else (("bias", 0.05),):
            trained = parameter == "bias" or getattr(config.mode, f"trains_{parameter}")
            walk = rng.normal(0, 0.02 * trained, (len(snapshot_steps), widths[slot])).cumsum(axis=0)
            writer.append({f"snapshots/{parameter}/{slot}": start + walk})
        if normalised:
            ones = np.ones((done + 1, widths[slot]))
            writer.append({f"running/mean/{slot}": 0 * ones, f"running/var/{slot}": ones})
    writer.flush()
    writer.finish(status) if status != Status.RUNNING else writer.close()
    return config
