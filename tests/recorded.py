"""Records made without training, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from batchnorm.config import RunConfig, resolve
from batchnorm.problems import find_problem
from batchnorm.quantities import AXES, PARAMETERS, chosen
from batchnorm.store import RunDirectory, RunLength, RunWriter, SlotParts, Status
from batchnorm.tuning import read_tuning, tuning_file

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
    measured: bool = False,
    wandering: bool = False,
    **keys: object,
) -> RunConfig:
    """Write a run's record with invented but plausible numbers, and return its configuration.

    `last_loss` stands in for the last losses, as a run that diverges has them. `recorded_epochs=-1` records nothing.
    What MEASURE chooses is recorded, as ones, where it is `measured`.
    Where it is `wandering`, parameters, statistics and measurements are random walks, which deflate as little as real ones.
    The numbers differ between seeds, masks, modes and learning rates; train, validation and test ones differ too.
    """
    config = resolve({"random_seed": 1, "output_dir": str(output), "num_epochs": epochs, **keys}, read_tuning=_read_tuning)
    directory = RunDirectory(config.directory)
    directory.path.mkdir(parents=True, exist_ok=True)
    config.save(directory.config)
    steps = min(epochs * steps_per_epoch, config.max_steps or epochs * steps_per_epoch)
    length = RunLength(steps, -(-steps // steps_per_epoch), steps_per_epoch)
    slots = slot_parts(config)
    rng = np.random.default_rng([config.random_seed, *config.mask, *config.ablation.encode(), int(1e6 * config.lr)])
    writer = RunWriter.create(
        directory.record,
        config,
        fingerprint=config.fingerprint(),
        slots=slots,
        length=length,
        versions={"device": "cpu"},
        quantities=chosen(config.measurements if measured else ()),
    )
    done = length.epochs if recorded_epochs is None else recorded_epochs
    epoch = np.arange(done + 1)
    epoch_steps = np.minimum(epoch * steps_per_epoch, steps)
    columns: dict[str, Any] = {}
    pace = rng.uniform(2, 5)
    for split, noise in (("train", 0.01), ("valid", 0.03), ("test", 0.03)):
        floor = rng.uniform(0.1, 0.3) + 3 * noise
        falling = floor + (2.3 - floor) * np.exp(-epoch / pace) + noise * rng.random(done + 1)
        if last_loss is not None:
            falling[-1] = last_loss
        columns |= {f"{split}_loss": falling, f"{split}_acc": 1 - falling / 2.6}
    columns |= {"lr": np.full(done + 1, config.lr), "train_seconds": (epoch > 0) * 9.0, "eval_seconds": np.ones(done + 1)}
    last = int(epoch_steps[-1]) if done >= 0 else -steps_per_epoch
    batch_steps = np.arange(0, last, config.log_every_steps or last)[int(config.log_every_steps == 0) :]
    loss = 2.3 * np.exp(-batch_steps / (3 * steps_per_epoch)) + 0.1 * rng.random(len(batch_steps))
    snapshot_steps = np.append(batch_steps, last) if done >= 0 else batch_steps
    rows: dict[str, Any] = dict(columns)
    rows |= {"batch_loss": loss, "batch_lr": np.full(len(batch_steps), config.lr)}
    for slot, treatment in zip(slots, config.treatments, strict=True):
        for parameter in (name for name in PARAMETERS if name in slot.parts):
            affine = getattr(treatment, parameter, None)
            start, trained = (affine.value, affine.trained) if affine else (0.05, True)
            start = rng.random(slot.channels) if isinstance(start, str) else start
            goals, noise = rng.normal(0, 0.3 * trained, slot.channels), rng.normal(0, 0.01 * trained)
            grown = 1 - np.exp(-snapshot_steps[:, None] / (2 * steps_per_epoch))
            values = start + goals * grown + noise * _noise(rng, (len(snapshot_steps), slot.channels), walk=wandering)
            for planted in spikes:
                if (planted.parameter, planted.slot) == (parameter, slot.name):
                    values[planted.first : planted.first + planted.rows, planted.channel] = planted.value
            rows[f"{parameter} of {slot.name}"] = values
        ones = np.ones((done + 1, slot.channels))
        if wandering:
            ones = np.exp(0.1 * _noise(rng, ones.shape, walk=True))
        rows |= {f"running_mean of {slot.name}": ones - 1, f"running_var of {slot.name}": ones}
    for axis, datasets in writer.axes.items():
        index = {"epoch": epoch, "step": epoch_steps if "epoch" in AXES[axis].index else batch_steps}
        if axis == "snapshots":
            index["step"] = snapshot_steps
        rows |= {name: index[name] for name in AXES[axis].index}
        for name, column in datasets.items():
            if name not in rows:
                rows[name] = np.ones((len(index["step"]), *column.row_shape))
                if wandering:
                    rows[name] *= np.exp(0.1 * _noise(rng, rows[name].shape, walk=True))
        writer.append(axis, {name: rows[name] for name in datasets})
    writer.flush()
    writer.finish(status) if status.has_ended else writer.close()
    return config


def _read_tuning(path: Path) -> dict[str, Any]:
    """Read hyperparameters once as long as the file does not change: it takes longer than all else of a small record."""
    file = tuning_file(path).absolute()
    return _read_once(file, file.stat().st_mtime_ns) if file.exists() else read_tuning(path)


@cache
def _read_once(file: Path, _changed: int) -> dict[str, Any]:
    return read_tuning(file)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], *, walk: bool) -> NDArray[np.float64]:
    steps = rng.standard_normal(shape)
    return steps.cumsum(0) if walk else steps


def slot_parts(config: RunConfig) -> list[SlotParts]:
    """Return what the slots of a run have, as its network would say."""
    parts = []
    widths = WIDTHS[config.problem]
    for name, treatment in zip(find_problem(config.problem).slots, config.treatments, strict=True):
        affine = {part for part in ("gamma", "beta") if getattr(treatment, part) is not None}
        has = {"norm", "divided", "running_mean", "running_var", *affine} if treatment.norm else affine or {"bias"}
        has |= ({"ghost"} if treatment.ghost else set()) | ({"activation"} if treatment.after else set())
        has |= {"name", "channels", "layer", "trained_layer"}
        parts.append(SlotParts(name, widths[name], frozenset(has), layer=f"{name}.layer", weights=widths[name]))
    return parts


def as_version_1(path: Path) -> Path:
    """Turn an invented record into one of format version 1: no length, and all deciding keys in its fingerprint."""
    record = RunDirectory(path).record
    config = RunConfig.load(RunDirectory(path).config)
    with h5py.File(record, "r+") as file:
        del file.attrs["length"]
        file.attrs["format_version"] = 1
        file.attrs["fingerprint"] = np.bytes_(json.dumps(config.deciding_keys()).encode())
        kept = {key: value for key, value in config.to_dict().items() if key != "NAMED_KEYS"}
        file.attrs["config"] = np.bytes_(json.dumps(kept).encode())
    return path
