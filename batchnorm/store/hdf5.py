"""HDF5 files that survive a crash at any moment and a disk that fails: SWMR mode, whole blocks, errors of one kind."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from batchnorm.errors import MISSING_HERE, START_AGAIN, RunError, cannot_be_read, one_line


def sync(path: Path) -> None:
    """Have a file, or a folder with its names, survive a power cut, where the file system has that (some have it not).

    Raises:
        OSError: the disk fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder in which one may write and which one may not list
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (*MISSING_HERE, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """Make a file and close it behind the block.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    file = h5py.File(path, "w", libver="latest", locking=False)
    try:
        with writing(file):
            yield file
            file.flush()
    except Abandoned:
        raise
    except BaseException:
        file.close()
        raise
    file.close()


class Abandoned(OSError):
    """A file could not be written, and has been let go of: it must not be closed again."""


@contextmanager
def writing(file: h5py.File) -> Iterator[None]:
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
        raise Abandoned(one_line(error)) from None


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


def damaged(path: Path, detail: str) -> RunError:
    """Say that a record's content is bad."""
    return RunError(f"{path}: is damaged ({detail}); {START_AGAIN}")


def bad_or_unreadable(path: Path, error: BaseException) -> RunError:
    """Tell a record whose content is bad from one that the system did not let us read: that one may be whole.

    h5py hands on the system's error number only where a file is opened; HDF5's text has it everywhere.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (told := re.search(r"errno = ([1-9]\d*)", str(error))):
        number = int(told[1])
    if number is not None:
        return RunError(cannot_be_read(path, OSError(number, os.strerror(number))))
    return damaged(path, one_line(error))


@cache
def _reading_properties(*, locking: bool = False, ignore_when_disabled: bool = True) -> h5py.h5p.PropFAID:
    """Return what a file is opened with for SWMR reading.

    Where a block's checksum does not fit, such a reader tries again, 100 times by default, and waits 2**n ns before the
    nth time: a damaged file would make it wait for ever. 25 times wait 70 ms in all. h5py has no call for that; the
    HDF5 library that it has loaded has.
    """
    properties = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    properties.set_file_locking(locking, ignore_when_disabled)
    _hdf5().H5Pset_metadata_read_attempts(ctypes.c_int64(properties.id), ctypes.c_uint(25))
    return properties


@cache
def _hdf5() -> ctypes.CDLL:
    return ctypes.CDLL(h5py.h5p.__file__)


def attributes_of(file: h5py.File) -> dict[str, Any]:
    """Return the attributes of a whole file, texts as bytes.

    Here and below h5py's lower level is called: its upper one takes several times as long, and there are many records.
    """
    found: dict[str, Any] = {}
    names: list[bytes] = []
    h5py.h5a.iterate(file.id, names.append)
    for name in names:
        attribute = h5py.h5a.open(file.id, name)
        stored = attribute.get_type()
        plain = isinstance(stored, h5py.h5t.TypeStringID) and not stored.is_variable_str()
        value = np.empty(attribute.shape, f"S{stored.get_size()}" if plain else attribute.dtype)
        attribute.read(value, stored if plain else None)
        found[name.decode()] = value[()]
    return found


def read_number(file: h5py.File, name: str) -> Any:
    """Read a dataset that is one number."""
    dataset = h5py.h5d.open(file.id, name.encode())
    value = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, value)
    return value[()]


def open_group(file: h5py.File, name: str) -> h5py.h5g.GroupID:
    """Return a group of a file."""
    return h5py.h5g.open(file.id, name.encode())


def open_dataset(group: h5py.h5g.GroupID, name: str) -> h5py.h5d.DatasetID | None:
    """Return a group's dataset; None where it has none of that name."""
    return h5py.h5d.open(group, name.encode()) if name.encode() in group else None


def common_rows(group: h5py.h5g.GroupID) -> int:
    """Return the rows that all datasets of a time axis have: while a block is written, some are ahead of others."""
    return min(_lengths(group))


def _lengths(group: h5py.h5g.GroupID) -> Iterator[int]:
    for name in group:
        item = h5py.h5o.open(group, name)
        if isinstance(item, h5py.h5d.DatasetID):
            yield int(item.shape[0])
        elif isinstance(item, h5py.h5g.GroupID):
            yield from _lengths(item)


_END_IN_HEADER = slice(28, 36)
"""Where the header of a file (version 2 and 3) says at which byte the file ends."""


def is_whole(file: h5py.File) -> bool:
    """Say whether a file is known to have all of its bytes: it was closed, and ends where its header says.

    Of one that grows, or whose writer was killed, the header says less.
    """
    handle = file.id.get_vfd_handle()
    header = os.pread(handle, _END_IN_HEADER.stop, 0) if hasattr(os, "pread") else b""
    return header[8:9] in (b"\2", b"\3") and int.from_bytes(header[_END_IN_HEADER], "little") == os.fstat(handle).st_size


def read_rows(dataset: h5py.h5d.DatasetID, rows: int, *, whole_file: bool = False) -> NDArray[Any]:
    """Read the first rows of a growing dataset.

    Args:
        dataset: whose rows.
        rows: how many.
        whole_file: its file has all of its bytes; else it is looked for each block of the dataset, which takes as long again.

    Raises:
        OSError: they cannot be read, or the file ends before them; HDF5 itself would read zeros there.
    """
    ends: list[int] = []
    if not whole_file and dataset.get_create_plist().get_layout() == h5py.h5d.CHUNKED:
        dataset.chunk_iter(lambda chunk: ends.append(chunk.byte_offset + chunk.size))
    if ends and max(ends) > (size := os.fstat(h5py.h5i.get_file_id(dataset).get_vfd_handle()).st_size):
        name = h5py.h5i.get_name(dataset).decode()
        raise OSError(f"{name}: the file ends at byte {size}, before rows that it should hold")
    whole = dataset.shape
    shape = (min(rows, whole[0]), *whole[1:])
    values = np.empty(shape, dataset.dtype)
    if shape == whole:
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    elif values.size:
        there = dataset.get_space()
        there.select_hyperslab((0,) * len(shape), shape)
        dataset.read(h5py.h5s.create_simple(shape), there, values)
    return values


@contextmanager
def open_for_reading(path: Path) -> Iterator[h5py.File]:
    """Open a record that may be growing, or may have been cut off.

    Raises:
        RunError: there is none, it is damaged, or it cannot be read.
    """
    try:
        path.open("rb").close()
        identifier = _open_beside_others(path)
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (OSError, RuntimeError) as error:
        raise bad_or_unreadable(path, error) from None
    with h5py.File(identifier) as file:
        yield file


_SWMR = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
_WAYS_TO_OPEN = [
    (flags, locking, ignore) for flags in (_SWMR, h5py.h5f.ACC_RDONLY) for locking in (False, True) for ignore in (True, False)
]
"""The first is ours. The others are those of a handle that this process holds already: HDF5 wants them to be the same."""
_OTHERS_DIFFER = ("flag values don't match", "flag not the same")


def _open_beside_others(path: Path) -> h5py.h5f.FileID:
    """Open for reading, whatever this process has opened the file with (a notebook's own `h5py.File`)."""
    for flags, locking, ignore in _WAYS_TO_OPEN:
        properties = _reading_properties(locking=locking, ignore_when_disabled=ignore)
        try:
            return h5py.h5f.open(os.fsencode(path), flags, properties)
        except (OSError, RuntimeError) as error:
            if not any(words in str(error) for words in _OTHERS_DIFFER):
                raise
            refused = error
    raise refused
