"""Rewrites a record that has ended, compressed and without slack. One that grows is not compressed.

A checkpoint flushes the record in the middle of a chunk. A compressed chunk that gets longer then needs a new place, and in
SWMR mode HDF5 never frees the old one, which a reader may be at: such a record becomes larger than one without compression.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from pathlib import Path

import h5py
import numpy as np

from batchnorm.store.hdf5 import damaged, new_file, open_for_reading, sync
from batchnorm.store.layout import MARKS

_CHUNK_BYTES = 64 * 1024
_CHANNELS = 32
_LEVEL = 4


def compress(path: Path) -> None:
    """Put a compressed copy in the place of a record that no process writes to; each number keeps its bits.

    At any moment the path leads to a whole record.

    Raises:
        RunError: the record cannot be read, or is damaged; it stays.
        OSError: the disk is full or cannot be written; it stays.
    """
    temporary = path.with_suffix(".h5.new")
    try:
        with open_for_reading(path) as old, new_file(temporary) as new:
            for name, value in old.attrs.items():
                new.attrs[name] = value
            for name, dataset in _datasets(old):
                if dataset.maxshape == dataset.shape:
                    old.copy(dataset, new, name)
                elif _crc(old, name) not in (_copy(dataset, new, name), None):
                    raise damaged(path, name)
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def is_compressed(path: Path) -> bool:
    """Say whether a record is compressed.

    Raises:
        RunError: it cannot be read.
    """
    with open_for_reading(path) as file:
        return all(dataset.compression for _, dataset in _datasets(file) if dataset.chunks)


def _chunk(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the shape of chunks: many rows of few channels, since a channel's numbers resemble each other over time."""
    if len(shape) == 1:
        return (max(1, min(shape[0], _CHUNK_BYTES // itemsize)),)
    rows, channels, *more = shape
    width = -(-channels // -(-channels // _CHANNELS))
    row_bytes = itemsize * width * math.prod(more)
    return max(1, min(rows, _CHUNK_BYTES // row_bytes)), width, *more


def _datasets(file: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    found: list[tuple[str, h5py.Dataset]] = []
    file.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    return found


def _crc(file: h5py.File, name: str) -> int | None:
    """Return the CRC-32 of a dataset's bytes as its writer counted it; None in format version 1, which has none."""
    mark = f"{MARKS}/{name}"
    return int(file[mark][1]) if mark in file else None


def _copy(source: h5py.Dataset, target: h5py.File, name: str) -> int:
    """Copy a growing dataset, and return the CRC-32 of its bytes."""
    chunk = _chunk(source.shape, source.dtype.itemsize)
    dataset = target.create_dataset(
        name, source.shape, source.dtype, chunks=chunk, maxshape=source.maxshape, shuffle=True, compression=_LEVEL
    )
    crc = 0
    for start in range(0, len(source), chunk[0]):
        block = source[start : start + chunk[0]]
        dataset[start : start + len(block)] = block
        crc = zlib.crc32(np.ascontiguousarray(block).data, crc)
    dataset.flush()  # here, where a disk that is full can be told
    return crc
