from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from batchnorm.config import resolve
from batchnorm.store import RunLength, RunWriter, SlotParts
from tests.recorded import WIDTHS

SLOTS = ("conv1", "conv2", "dense1")
NORM = frozenset({"gamma", "beta", "running_mean", "running_var"})


def facts_of(**keys: object) -> dict[str, Any]:
    """Return what a writer is told of a run of 2c2d with a norm in its last two slots."""
    config = resolve({"problem": "digits_2c2d_bn", "random_seed": 1, "position": "011", **keys})
    widths = WIDTHS[config.problem]
    slots = [
        SlotParts(slot, widths[slot], NORM if digit else frozenset({"bias"}))
        for slot, digit in zip(SLOTS, config.mask, strict=True)
    ]
    return {"config": config, "fingerprint": config.fingerprint(), "slots": slots, "length": RunLength(400, 2, 200)}


def new_writer(path: Path, **keys: object) -> RunWriter:
    return RunWriter.create(path, **facts_of(**keys), versions={"torch": "2"})


def append_steps(writer: RunWriter, start: int, stop: int) -> None:
    steps = np.arange(start, stop)
    writer.append("batches", {"step": steps, "batch_loss": steps / 3, "batch_lr": steps * 0 + 0.1})
    widths = {"bias of conv1": 32, "gamma of conv2": 64, "beta of conv2": 64, "gamma of dense1": 1024, "beta of dense1": 1024}
    parameters = {name: np.add.outer(steps, np.arange(width) / width) for name, width in widths.items()}
    writer.append("snapshots", {"step": steps, **parameters})
