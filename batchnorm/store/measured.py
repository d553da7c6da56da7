"""What was measured afterwards, from kept weights: a file beside the record, one group a measurement, read alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batchnorm.quantities import Quantity
from batchnorm.store.hdf5 import new_file, open_for_reading
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
        OSError: the disk is full or cannot be written.
    """
    temporary = path.with_suffix(".h5.new")
    with new_file(temporary) as file:
        if path.exists():
            with open_for_reading(path) as earlier:
                for name in earlier:
                    if name != measurement:
                        earlier.copy(name, file)
        for key, column in columns(slots, quantities)[AXIS].items():
            file.create_dataset(f"{measurement}/{column.dataset}", data=np.asarray(rows[key], dtype=column.dtype))
    temporary.replace(path)
