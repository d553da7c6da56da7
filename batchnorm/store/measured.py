"""What was measured afterwards, from kept weights: a file beside the record, one group a measurement, read alike."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from batchnorm.errors import START_AGAIN, RunError
from batchnorm.quantities import Quantity
from batchnorm.store.hdf5 import new_file, open_for_reading, sync
from batchnorm.store.layout import SlotParts, columns

AXIS = "probes"


def write_measured(
    path: Path, measurement: str, quantities: Sequence[Quantity], slots: Sequence[SlotParts], rows: Mapping[str, Any]
) -> None:
    """Put a measurement's rows into the file; those of other measurements stay, earlier ones of this one go.

    Args:
        path: the file; it is replaced when the new one is complete.
        measurement: its name.
        quantities: those of the measurement.
        slots: of the network.
        rows: by the index's names and `Quantity.key`, one array each.

    Raises:
        OSError: the disk is full or cannot be written; nothing is left of it.
        RunError: the file that is there is damaged.
    """
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(6)}.new")  # two may measure at a time
    try:
        with new_file(unfinished) as file:
            if path.exists():
                with open_measured(path) as earlier:
                    for name in earlier:
                        if name != measurement:
                            earlier.copy(name, file)
            for key, column in columns(slots, quantities)[AXIS].items():
                file.create_dataset(f"{measurement}/{column.dataset}", data=np.asarray(rows[key], dtype=column.dtype))
        sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def open_measured(path: Path) -> Iterator[h5py.File]:
    """Open the file for reading.

    Raises:
        RunError: it cannot be read, or is damaged: then it may go, for its numbers can be measured again.
    """
    try:
        with open_for_reading(path) as file:
            yield file
    except RunError as error:
        if START_AGAIN in str(error):
            raise RunError(f"{path}: is damaged; delete it, and measure again") from None
        raise
