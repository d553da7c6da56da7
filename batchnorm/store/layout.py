"""What lies where in `run.h5`: datasets from quantities, and the attributes of the whole file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from batchnorm.config import RunConfig, RunLength
from batchnorm.modes import format_mask
from batchnorm.quantities import AXES, RECORDED, Quantity

FORMAT_VERSION = 2
"""Version 1 has no `length`, and nothing about what feeds what."""
STATUS = "status"
_CHUNK_ROWS = 64
"""Of a dataset of a running record, at most: as many as the recorder brings at a time."""
MARKS = "marks"
"""Group of one small dataset for each that grows: its rows and the CRC-32 of their bytes at the last flush."""


@dataclass(frozen=True)
class SlotParts:
    """What a slot of a run has.

    Attributes:
        name: the slot.
        channels: how many there are.
        parts: what it has: of `gamma`, `beta`, `running_mean`, `running_var`, `bias`, ... (`Quantity.needs`).
        layer: path of the weight layer that alone feeds it, if there is one.
        weights: how many weights that layer has.
        consumer: the slot, or the path of the weight layer outside of all slots, that alone takes what it gives, if any.
        homogeneous: whether all that lies between it and its consumer is positively homogeneous.
    """

    name: str
    channels: int
    parts: frozenset[str]
    layer: str | None = None
    weights: int = 0
    consumer: str | None = None
    homogeneous: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as the record holds it."""
        return {**asdict(self), "parts": sorted(self.parts)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> SlotParts:
        """Take back what `to_dict` returned."""
        return cls(**{**stored, "parts": frozenset(stored["parts"])})


@dataclass(frozen=True)
class Column:
    """One growing dataset: where it lies, and its rows' type and shape, () for plain numbers."""

    dataset: str
    dtype: str
    row_shape: tuple[int, ...] = ()


def columns(slots: Sequence[SlotParts], quantities: Iterable[Quantity] = RECORDED) -> dict[str, dict[str, Column]]:
    """Return the datasets of each axis on which something is recorded, by axis and by `Quantity.key`."""
    found: dict[str, dict[str, Column]] = {}
    for quantity in quantities:
        index = {name: Column(f"{quantity.axis}/{name}", "i8") for name in AXES[quantity.axis].index}
        on_axis = found.setdefault(quantity.axis, index)
        if quantity.per == "run":
            on_axis[quantity.key()] = Column(quantity.dataset, quantity.dtype)
            continue
        for slot in slots:
            if quantity.is_in(slot.parts):
                shape = (slot.channels,) if quantity.per == "channel" else ()
                on_axis[quantity.key(slot.name)] = Column(quantity.dataset_of(slot.name), quantity.dtype, shape)
    return found


def chunk_rows(axis: str, config: RunConfig, length: RunLength) -> int:
    """Return the rows of an axis that a running record has room for at a time: no more than the run will record."""
    recorded = -(-length.steps // config.log_every_steps) if config.log_every_steps else 0
    rows = {
        "epochs": length.epochs + 1,
        "batches": recorded,
        "snapshots": recorded + 1,
        "updates": -(-length.steps // config.measure_steps),
        "probes": length.epochs // config.measure_every + 2,  # epoch 0, and the last one
    }
    return min(max(rows.get(axis, _CHUNK_ROWS), 1), _CHUNK_ROWS)


def index_datasets(axis: str) -> list[str]:
    """Return where the columns lie that say when each row of an axis was recorded."""
    return [f"{axis}/{name}" for name in AXES[axis].index]


def attributes(
    config: RunConfig,
    *,
    fingerprint: Mapping[str, Any],
    slots: Sequence[SlotParts],
    length: RunLength,
    versions: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the attributes of a record's file."""
    return {
        "format_version": np.int64(FORMAT_VERSION),
        "config": text(config.to_dict()),
        "fingerprint": text(fingerprint),
        "layers": np.array([slot.name.encode() for slot in slots], dtype="S"),
        "mask": np.bytes_(format_mask(config.mask).encode()),
        "length": text(asdict(length)),
        "slots": text({"slots": [slot.to_dict() for slot in slots]}),
        "versions": text(versions),
    }


def text(value: Mapping[str, Any]) -> np.bytes_:
    """Encode as JSON in a fixed-size string: SWMR knows no variable-length ones."""
    return np.bytes_(json.dumps(value, sort_keys=True).encode())
