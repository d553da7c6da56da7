"""HDF5 files that survive a crash at any moment and a disk that fails: SWMR mode, whole blocks, errors of one kind."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from batchnorm.errors import RunError, one_line


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
    return RunError(f"{path}: is damaged ({detail}); OVERWRITE=true starts the run afresh")


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


def read_rows(dataset: h5py.Dataset, rows: int) -> NDArray[Any]:
    """Read the first rows of a growing dataset.

    Raises:
        OSError: they cannot be read, or the file ends before them; HDF5 itself would read zeros there.
    """
    size = os.fstat(dataset.file.id.get_vfd_handle()).st_size
    ends: list[int] = []
    if dataset.chunks:
        dataset.id.chunk_iter(lambda chunk: ends.append(chunk.byte_offset + chunk.size))
    if max(ends, default=0) > size:
        raise OSError(f"{dataset.name}: the file ends at byte {size}, before rows that it should hold")
    return np.asarray(dataset[:rows])


@contextmanager
def open_for_reading(path: Path) -> Iterator[h5py.File]:
    """Open a record that may be growing, or may have been cut off.

    Raises:
        RunError: there is none, or it is damaged.
    """
    try:
        file = h5py.File(h5py.h5f.open(str(path).encode(), h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ, _reading_properties()))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (OSError, RuntimeError) as error:
        raise damaged(path, one_line(error)) from None
    with file:
        yield file
