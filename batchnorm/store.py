"""The HDF5 record of a run: `RunWriter` writes it, `Run` reads it. The layout stands here and nowhere else. No torch here.

The file is written in SWMR mode, with all datasets made first, so that it can be read while the run goes on and after
any crash. Numbers only, fixed-size types.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from batchnorm.config import RunConfig, differing_keys
from batchnorm.errors import ConfigError, RunError, one_line
from batchnorm.masks import Mask, format_mask, parse_mask
from batchnorm.rundir import RunDirectory

FORMAT_VERSION = 1
SPLITS = ("train", "valid", "test")
EPOCH_COLUMNS = (
    *(f"{split}_{metric}" for split in SPLITS for metric in ("loss", "acc")),
    "lr",
    "train_seconds",
    "eval_seconds",
)
_CHUNK_ROWS = 64
_COPY_ROWS = 1024


class Status(IntEnum):
    """How a run stands, as its record says; whether a process is at it now is `RunDirectory.is_claimed`'s to say."""

    RUNNING = 0
    FINISHED = 1
    DIVERGED = 2


Mark = dict[str, list[int]]
"""How far a record goes: for each dataset the number of rows and the CRC-32 of their bytes."""


@dataclass(frozen=True)
class _Column:
    """One growing dataset: its rows' type and width (0: a plain number)."""

    dtype: str
    width: int = 0

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (self.width,) if self.width else ()


def _layout(layers: Sequence[str], mask: Mask, widths: Mapping[str, int]) -> dict[str, _Column]:
    """Return all growing datasets of a run. `widths` gives the channels of each slot; one without a bias has none."""
    columns = {"epochs/epoch": _Column("i8"), "epochs/step": _Column("i8")}
    columns |= {f"epochs/{name}": _Column("f8") for name in EPOCH_COLUMNS}
    columns |= {"batches/step": _Column("i8"), "batches/loss": _Column("f8"), "batches/lr": _Column("f8")}
    columns["snapshots/step"] = _Column("i8")
    for slot, normalised in zip(layers, mask, strict=True):
        if slot not in widths:
            continue
        for parameter in ("gamma", "beta") if normalised else ("bias",):
            columns[f"snapshots/{parameter}/{slot}"] = _Column("f4", widths[slot])
        for statistic in ("mean", "var") if normalised else ():
            columns[f"running/{statistic}/{slot}"] = _Column("f4", widths[slot])
    return columns


class RunWriter:
    """Appends to a run's record. Rows count as recorded once `flush` has returned.

    Raises, from each method:
        OSError: the disk is full or cannot be written.
    """

    def __init__(self, path: Path, file: h5py.File, columns: Mapping[str, _Column], mark: Mark) -> None:
        """Use `create` or `resume`."""
        self._path = path
        self._file = file
        self._columns = columns
        self._datasets: dict[str, h5py.Dataset] = {name: file[name] for name in columns}
        self._mark = mark

    @classmethod
    def create(
        cls,
        path: Path,
        config: RunConfig,
        *,
        fingerprint: Mapping[str, Any],
        layers: Sequence[str],
        widths: Mapping[str, int],
        versions: Mapping[str, Any],
    ) -> RunWriter:
        """Start an empty record in place of what lies at `path`.

        Args:
            path: the file.
            config: the run.
            fingerprint: what decides its result, the images' digest among it.
            layers: the slots' names.
            widths: channels of each slot whose parameters are recorded.
            versions: what the run runs on.
        """
        columns = _layout(layers, config.mask, widths)
        attributes = {
            "format_version": np.int64(FORMAT_VERSION),
            "config": _text(config.to_dict()),
            "fingerprint": _text(fingerprint),
            "layers": np.array([slot.encode() for slot in layers], dtype="S"),
            "mask": np.bytes_(format_mask(config.mask).encode()),
            "versions": _text(versions),
        }
        temporary = path.with_suffix(".h5.new")
        with _new_file(temporary) as file:
            _make_datasets(file, columns, attributes)
        temporary.replace(path)
        return cls._open(path, columns, {name: [0, 0] for name in columns})

    @classmethod
    def resume(cls, path: Path, mark: Mark, *, versions: Mapping[str, Any]) -> RunWriter:
        """Go on with a record from a mark; rows behind it are dropped.

        The rows are copied to a new file that takes the old one's place when it is complete.

        Raises:
            RunError: the record is damaged: it cannot be read, or its rows are not those that the mark was made of.
        """
        temporary = path.with_suffix(".h5.new")
        try:
            with _open_for_reading(path) as old:
                layout = {name: _Column(old[name].dtype.str, *old[name].shape[1:]) for name in mark}
                with _new_file(temporary) as new:
                    _make_datasets(new, layout, {**dict(old.attrs), "versions": _text(versions)})
                    for name, (rows, crc) in mark.items():
                        if _copy_rows(old[name], new[name], rows) != crc:
                            raise _damaged(path, name)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise _damaged(path, one_line(error)) from None
        temporary.replace(path)
        return cls._open(path, layout, {name: list(state) for name, state in mark.items()})

    @classmethod
    def _open(cls, path: Path, columns: Mapping[str, _Column], mark: Mark) -> RunWriter:
        file = h5py.File(path, "r+", libver="latest", locking=False)
        writer = cls(path, file, columns, mark)
        file.swmr_mode = True
        return writer

    def append(self, rows: Mapping[str, Any]) -> None:
        """Append to each named dataset its rows, shape (rows,) or (rows, channels)."""
        for name, values in rows.items():
            column, dataset, state = self._columns[name], self._datasets[name], self._mark[name]
            block = np.ascontiguousarray(values, dtype=column.dtype)
            assert block.shape[1:] == column.row_shape, f"{name}: rows of shape {block.shape[1:]}, wants {column.row_shape}"
            if not len(block):
                continue
            with _writing(self._file):
                dataset.resize(state[0] + len(block), axis=0)
                dataset[state[0] :] = block
            state[0] += len(block)
            state[1] = zlib.crc32(block.data, state[1])

    def rows(self, name: str) -> int:
        """Return how many rows a dataset has."""
        return self._mark[name][0]

    def flush(self) -> Mark:
        """Bring all rows to the disk and return the mark that stands behind them."""
        with _writing(self._file):
            self._file.flush()
        with self._path.open("rb") as handle:
            os.fsync(handle.fileno())
        return {name: list(state) for name, state in self._mark.items()}

    def finish(self, status: Status) -> None:
        """Write how the run ended, and close."""
        with _writing(self._file):
            self._file["status"][()] = int(status)
        self.close()

    def close(self) -> None:
        """Flush and close; the record can be read and resumed."""
        if self._file:
            with _writing(self._file):
                self._file.flush()
                self._file.close()


@contextmanager
def _new_file(path: Path) -> Iterator[h5py.File]:
    """Make a file and close it behind the block.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    file = h5py.File(path, "w", libver="latest", locking=False)
    try:
        with _writing(file):
            yield file
            file.flush()
    except _Abandoned:
        raise
    except BaseException:
        file.close()
        raise
    file.close()


class _Abandoned(OSError):
    """A file could not be written, and has been let go of: it must not be closed again."""


@contextmanager
def _writing(file: h5py.File) -> Iterator[None]:
    """Let go of a file that cannot be written; h5py tells some of HDF5's failing writes as RuntimeErrors.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if "write" not in str(error):
            raise
        _abandon(file)
        raise _Abandoned(one_line(error)) from None


def _abandon(file: h5py.File) -> None:
    """Close a file whose disk takes nothing more, and leave there what is there.

    HDF5 cannot close without writing the rest, fails at it, and h5py complains of that for each object, up to the end of
    the process. So its file descriptor is given a copy in memory to write to. Where that cannot be written either (a
    limit on file sizes holds there too), the objects are kept open for ever: HDF5 crashes where they are freed.
    """
    if hasattr(os, "memfd_create"):
        descriptor = file.id.get_vfd_handle()
        with contextlib.suppress(OSError), os.fdopen(os.memfd_create("abandoned"), "wb") as memory:
            memory.write(Path(file.filename).read_bytes())
            memory.flush()
            os.dup2(memory.fileno(), descriptor)
    try:
        file.flush()
        file.close()
    except (OSError, RuntimeError):
        for identifier in (file.id, *h5py.h5f.get_obj_ids(file.id)):
            h5py.h5i.inc_ref(identifier)


def _make_datasets(file: h5py.File, columns: Mapping[str, _Column], attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        file.attrs[name] = value
    file.create_dataset("status", data=np.int8(Status.RUNNING))
    for name, column in columns.items():
        shape = column.row_shape
        file.create_dataset(name, (0, *shape), column.dtype, chunks=(_CHUNK_ROWS, *shape), maxshape=(None, *shape))


def _copy_rows(source: h5py.Dataset, target: h5py.Dataset, rows: int) -> int | None:
    """Copy the first rows and return their CRC-32, or None where they cannot be read; the source may be longer."""
    if len(source) < rows:
        return None
    target.resize(rows, axis=0)
    crc = 0
    for start in range(0, rows, _COPY_ROWS):
        try:
            block = source[start : min(start + _COPY_ROWS, rows)]
        except OSError:
            return None
        target[start : start + len(block)] = block
        crc = zlib.crc32(np.ascontiguousarray(block).data, crc)
    return crc


def _damaged(path: Path, detail: str) -> RunError:
    return RunError(f"{path}: is damaged ({detail}); OVERWRITE=true starts the run afresh")


def _text(value: Mapping[str, Any]) -> np.bytes_:
    """Encode as JSON in a fixed-size string: SWMR knows no variable-length ones."""
    return np.bytes_(json.dumps(value, sort_keys=True).encode())


def _reading_properties() -> h5py.h5p.PropFAID:
    """Return what a file is opened with for SWMR reading.

    Where a block's checksum does not fit, such a reader tries again, 100 times by default, and waits 2**n ns before the
    nth time: a damaged file would make it wait for ever. 25 times wait 70 ms in all. h5py has no call for that; the
    HDF5 library that it has loaded has.
    """
    properties = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    properties.set_file_locking(False, True)
    set_read_attempts = ctypes.CDLL(h5py.h5p.__file__).H5Pset_metadata_read_attempts
    set_read_attempts.argtypes = [ctypes.c_int64, ctypes.c_uint]
    set_read_attempts(properties.id, 25)
    return properties


@contextmanager
def _open_for_reading(path: Path) -> Iterator[h5py.File]:
    """Open a record that may be growing, or may have been cut off.

    Raises:
        RunError: there is none, or it is damaged.
    """
    try:
        file = h5py.File(h5py.h5f.open(str(path).encode(), h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ, _reading_properties()))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (OSError, RuntimeError) as error:
        raise _damaged(path, one_line(error)) from None
    with file:
        yield file


class Run:
    """A recorded run, read-only: finished, cut off, or going on while it is read.

    Metrics and trajectories are read when asked for; an instance keeps no file open. A run that goes on is read as far
    as it has come at that call.

    Args:
        path: a run directory, or its `run.h5`.

    Raises:
        RunError: there is no run, it is damaged, or a newer version of this package wrote it.
    """

    def __init__(self, path: Path | str) -> None:
        """Read what the run is."""
        given = Path(path)
        self.path = given if given.suffix == ".h5" else RunDirectory(given).record
        self.directory = self.path.parent
        if not given.exists():
            raise RunError(f"{given}: no such run")
        if not self.path.exists():
            raise RunError(f"{given}: is no run: it holds no {self.path.name}")
        with self._open() as file:
            version = int(file.attrs["format_version"])
            if version > FORMAT_VERSION:
                raise RunError(
                    f"{self.path}: has format version {version}, this package reads up to {FORMAT_VERSION}; update the package"
                )
            try:
                self.config = RunConfig.from_dict(json.loads(file.attrs["config"]))
            except ConfigError as error:
                raise RunError(f"{self.path}: holds a configuration that cannot be read: {error}") from None
            self.fingerprint: dict[str, Any] = json.loads(file.attrs["fingerprint"])
            self.versions: dict[str, Any] = json.loads(file.attrs["versions"])
            self.layers = tuple(name.decode() for name in file.attrs["layers"])
            self.mask: Mask = parse_mask(file.attrs["mask"].decode(), self.layers)

    def __repr__(self) -> str:
        """Name the run by its directory."""
        return f"Run({str(self.directory)!r})"

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        with _open_for_reading(self.path) as file:
            try:
                yield file
            except (KeyError, OSError, ValueError, RuntimeError) as error:
                raise _damaged(self.path, one_line(error)) from None

    @property
    def status(self) -> Status:
        """How the run stands now."""
        with self._open() as file:
            return Status(int(file["status"][()]))

    @property
    def is_going(self) -> bool:
        """Whether a process is at the run now; one that is unfinished and has none was cut off."""
        return self.status == Status.RUNNING and RunDirectory(self.directory).is_claimed()

    @property
    def last_epoch(self) -> int:
        """The last epoch that is recorded: 0 stands before training, -1 says that there is none yet."""
        with self._open() as file:
            length = _length(file["epochs"])
            return int(file["epochs/epoch"][length - 1]) if length else -1

    @property
    def epochs(self) -> dict[str, NDArray[Any]]:
        """Metrics by name, each of shape (E,): epoch, step, {train,valid,test}_{loss,acc}, lr, train_seconds, eval_seconds.

        Losses are means per image, accuracies lie in [0, 1]; row 0 stands before training.
        """
        return self._axis("epochs", ("epoch", "step", *EPOCH_COLUMNS))

    @property
    def batches(self) -> dict[str, NDArray[Any]]:
        """Training batches by name, each of shape (B,): step, loss, lr."""
        return self._axis("batches", ("step", "loss", "lr"))

    @property
    def snapshot_steps(self) -> NDArray[np.int64]:
        """Steps of the snapshots, shape (T,): each stands before the update of its step, the last of a whole run after it."""
        with self._open() as file:
            return np.asarray(file["snapshots/step"][: _length(file["snapshots"])])

    def gamma(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's scale over the snapshots, shape (T, C).

        Raises:
            RunError: the slot has no BatchNorm in this run.
        """
        return self._slot("snapshots/gamma", slot)

    def beta(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's shift over the snapshots, shape (T, C).

        Raises:
            RunError: the slot has no BatchNorm in this run.
        """
        return self._slot("snapshots/beta", slot)

    def bias(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's bias over the snapshots, shape (T, C).

        Raises:
            RunError: the slot has BatchNorm in this run, or no bias.
        """
        return self._slot("snapshots/bias", slot)

    def running_mean(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's running mean per epoch, shape (E, C)."""
        return self._slot("running/mean", slot)

    def running_var(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's running variance per epoch, shape (E, C)."""
        return self._slot("running/var", slot)

    def slots_with(self, parameter: str) -> tuple[str, ...]:
        """Return the slots that have a `gamma`, `beta` or `bias` in this run, in the network's order."""
        with self._open() as file:
            group = file.get(f"snapshots/{parameter}", {})
            return tuple(slot for slot in self.layers if slot in group)

    @cached_property
    def total_epochs(self) -> int:
        """How many epochs the whole run has."""
        return self.config.num_epochs

    def _axis(self, group: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        with self._open() as file:
            length = _length(file[group])
            return {name: np.asarray(file[group][name][:length]) for name in names}

    def _slot(self, group: str, slot: str) -> NDArray[np.float32]:
        with self._open() as file:
            if f"{group}/{slot}" not in file:
                there = ", ".join(name for name in self.layers if f"{group}/{name}" in file) or "no slot"
                raise RunError(f"{self.directory}: has no {group.partition('/')[2]} of {slot}; {there} has one")
            axis = file["epochs"] if group.startswith("running") else file["snapshots"]
            dataset = file[f"{group}/{slot}"]
            return np.asarray(dataset[: min(_length(axis), len(dataset))])


def ended_status(directory: RunDirectory, fingerprint: Mapping[str, Any]) -> Status | None:
    """Return how the run of a directory ended, or None where it has not.

    Raises:
        RunError: the directory holds another run, or a damaged one.
    """
    if not directory.record.exists():
        return None
    run = Run(directory.path)
    check_same_run(run, fingerprint)
    status = run.status
    return None if status == Status.RUNNING else status


def check_same_run(run: Run, fingerprint: Mapping[str, Any]) -> None:
    """Hold a recorded run against the one that is asked for; keys that `fingerprint` lacks are not looked at.

    Raises:
        RunError: they differ.
    """
    stored = {key: value for key, value in run.fingerprint.items() if key in fingerprint}
    if differing := differing_keys(stored, fingerprint):
        raise RunError(f"{run.directory}: holds another run: {'; '.join(differing)}; OVERWRITE=true starts it afresh")


def _length(group: h5py.Group) -> int:
    """Return the rows that all datasets of a time axis have: while a block is written, some are ahead of others."""
    lengths: list[int] = []
    group.visititems(lambda _, item: lengths.append(len(item)) if isinstance(item, h5py.Dataset) else None)
    return min(lengths)
