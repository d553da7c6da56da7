"""Writes a run's record: rows by axis, in whole blocks, with a mark behind which a resumed run goes on."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from batchnorm.config import RunConfig, RunLength
from batchnorm.errors import RunError
from batchnorm.quantities import Quantity, chosen
from batchnorm.store.compressed import compress
from batchnorm.store.hdf5 import bad_or_unreadable, damaged, new_file, open_for_reading, sync, writing
from batchnorm.store.layout import MARKS, STATUS, Column, SlotParts, attributes, chunk_rows, columns, index_datasets
from batchnorm.store.status import Status

Mark = dict[str, list[int]]
"""How far a record goes: for each dataset the number of rows and the CRC-32 of their bytes."""
_COPY_ROWS = 1024


class RunWriter:
    """Appends to a run's record. Rows count as recorded once `flush` has returned.

    Raises, from each method:
        OSError: the disk is full or cannot be written.
    """

    def __init__(
        self, path: Path, file: h5py.File, mark: Mark, *, quantities: Sequence[Quantity], slots: Sequence[SlotParts]
    ) -> None:
        """Use `create` or `resume`."""
        self._path = path
        self._file = file
        self.quantities = tuple(quantities)
        self.axes = axes = columns(slots, quantities)
        self._datasets: dict[str, h5py.Dataset] = {name: file[name] for name in _datasets(axes)}
        self._mark = mark

    @classmethod
    def create(
        cls,
        path: Path,
        config: RunConfig,
        *,
        fingerprint: Mapping[str, Any],
        slots: Sequence[SlotParts],
        length: RunLength,
        versions: Mapping[str, Any],
        quantities: Sequence[Quantity] = chosen(()),
    ) -> RunWriter:
        """Start an empty record in place of what lies at `path`.

        Args:
            path: the file.
            config: the run.
            fingerprint: what decides its result, the images' digest among it.
            slots: what each slot of the network has.
            length: how long the whole run is.
            versions: what the run runs on.
            quantities: what is recorded.
        """
        axes = columns(slots, quantities)
        temporary = path.with_suffix(".h5.new")
        with new_file(temporary) as file:
            facts = attributes(config, fingerprint=fingerprint, slots=slots, length=length, versions=versions)
            _make_datasets(file, axes, facts, {axis: chunk_rows(axis, config, length) for axis in axes})
        temporary.replace(path)
        return cls._open(path, {name: [0, 0] for name in _datasets(axes)}, quantities=quantities, slots=slots)

    @classmethod
    def resume(
        cls,
        path: Path,
        config: RunConfig,
        mark: Mark,
        *,
        fingerprint: Mapping[str, Any],
        slots: Sequence[SlotParts],
        length: RunLength,
        versions: Mapping[str, Any],
        quantities: Sequence[Quantity] = chosen(()),
    ) -> RunWriter:
        """Go on with a record from a mark; rows after it are dropped. The other arguments are those of `create`.

        The rows are copied to a new file that takes the old one's place when it is complete.

        Raises:
            RunError: the record cannot be read, or it is damaged: its rows are not those that the mark was made of.
        """
        kept = [quantity for quantity in quantities if _is_marked(quantity, slots, mark)]
        axes = columns(slots, kept)
        if unknown := sorted(mark.keys() - set(_datasets(axes))):
            raise RunError(f"{path}: records what this version does not know ({', '.join(unknown)}); update the package")
        facts = attributes(config, fingerprint=fingerprint, slots=slots, length=length, versions=versions)
        temporary = path.with_suffix(".h5.new")
        try:
            with open_for_reading(path) as old, new_file(temporary) as new:
                _make_datasets(new, axes, facts, {axis: chunk_rows(axis, config, length) for axis in axes})
                for name, (rows, crc) in mark.items():
                    if _copy_rows(path, old[name], new[name], rows) != crc:
                        raise damaged(path, name)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise bad_or_unreadable(path, error) from None
        temporary.replace(path)
        return cls._open(path, {name: list(state) for name, state in mark.items()}, quantities=kept, slots=slots)

    @classmethod
    def _open(cls, path: Path, mark: Mark, *, quantities: Sequence[Quantity], slots: Sequence[SlotParts]) -> RunWriter:
        file = h5py.File(path, "r+", libver="latest", locking=False)
        writer = cls(path, file, mark, quantities=quantities, slots=slots)
        file.swmr_mode = True
        return writer

    def append(self, axis: str, rows: Mapping[str, Any]) -> None:
        """Append rows to an axis.

        Args:
            axis: its name.
            rows: for each name of its index and each key of its quantities (`Quantity.key`) an array, shape (rows,) or
                (rows, channels); as many rows in each.

        Raises:
            LookupError: a mistake of ours: a dataset is declared and not filled, or the other way round.
        """
        wanted = self.axes[axis]
        if rows.keys() != wanted.keys():
            missing, unknown = sorted(wanted.keys() - rows.keys()), sorted(rows.keys() - wanted.keys())
            raise LookupError(
                f"rows of {axis}: declared and not filled: {missing or 'none'}; not declared: {unknown or 'none'}"
            )
        blocks = {name: np.ascontiguousarray(values, dtype=wanted[name].dtype) for name, values in rows.items()}
        shapes = {name: (len(block), *wanted[name].row_shape) for name, block in blocks.items()}
        if wrong := [name for name, block in blocks.items() if block.shape != shapes[name]]:
            raise LookupError(f"{wrong[0]}: rows of shape {blocks[wrong[0]].shape}, wants {shapes[wrong[0]]}")
        if len({len(block) for block in blocks.values()}) > 1:
            raise LookupError(f"rows of {axis}: { ({name: len(block) for name, block in blocks.items()}) }")
        for name, block in blocks.items():
            if not len(block):
                continue
            dataset, state = self._datasets[wanted[name].dataset], self._mark[wanted[name].dataset]
            with writing(self._file):
                dataset.resize(state[0] + len(block), axis=0)
                dataset[state[0] :] = block
            state[0] += len(block)
            state[1] = zlib.crc32(block.data, state[1])

    def rows(self, axis: str) -> int:
        """Return how many rows an axis has."""
        return self._mark[next(iter(self.axes[axis].values())).dataset][0]

    def flush(self) -> Mark:
        """Bring all rows to the disk and return the mark that stands after them."""
        with writing(self._file):
            self._write_marks()
            self._file.flush()
        sync(self._path)
        return {name: list(state) for name, state in self._mark.items()}

    def finish(self, status: Status) -> None:
        """Write how the run ended, close, and compress the record; without room for a copy it stays as it is."""
        with writing(self._file):
            self._write_marks()
            self._file[STATUS][()] = status.stored
        self.close()
        with contextlib.suppress(OSError, RunError):
            compress(self._path)

    def _write_marks(self) -> None:
        for name, state in self._mark.items():
            self._file[f"{MARKS}/{name}"][...] = state

    def close(self) -> None:
        """Flush and close; the record can be read and resumed."""
        if self._file:
            with writing(self._file):
                self._file.flush()
                self._file.close()


def _datasets(axes: Mapping[str, Mapping[str, Column]]) -> list[str]:
    return [column.dataset for axis in axes.values() for column in axis.values()]


def _is_marked(quantity: Quantity, slots: Sequence[SlotParts], mark: Mark) -> bool:
    """Say whether a record that is resumed holds a quantity: it keeps what it began with.

    A quantity that no slot has leaves its axis behind, whose steps are recorded all the same.
    """
    if quantity.per == "run":
        return quantity.dataset in mark
    datasets = {quantity.dataset_of(slot.name) for slot in slots if quantity.is_in(slot.parts)}
    return not (datasets or {*index_datasets(quantity.axis)}).isdisjoint(mark)


def _make_datasets(
    file: h5py.File, axes: Mapping[str, Mapping[str, Column]], facts: Mapping[str, Any], rows: Mapping[str, int]
) -> None:
    for name, value in facts.items():
        file.attrs[name] = value
    file.create_dataset(STATUS, data=np.int8(Status.RUNNING.stored))
    for axis, datasets in axes.items():
        for column in datasets.values():
            shape = column.row_shape
            file.create_dataset(f"{MARKS}/{column.dataset}", data=np.zeros(2, np.int64))
            file.create_dataset(column.dataset, (0, *shape), column.dtype, chunks=(rows[axis], *shape), maxshape=(None, *shape))


def _copy_rows(path: Path, source: h5py.Dataset, target: h5py.Dataset, rows: int) -> int | None:
    """Copy the first rows and return their CRC-32, or None where there are too few; the source may be longer."""
    if len(source) < rows:
        return None
    target.resize(rows, axis=0)
    crc = 0
    for start in range(0, rows, _COPY_ROWS):
        try:
            block = source[start : min(start + _COPY_ROWS, rows)]
        except OSError as error:
            raise bad_or_unreadable(path, error) from None
        target[start : start + len(block)] = block
        crc = zlib.crc32(np.ascontiguousarray(block).data, crc)
    return crc
