"""Which file of a run's directory is what, how large it is, and what may be deleted."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py

from batchnorm.store.directory import RunDirectory
from batchnorm.store.hdf5 import open_for_reading
from batchnorm.store.layout import MARKS, STATUS
from batchnorm.store.run import Run

RECORD, FINAL, KEPT, CHECKPOINT = "record", "final weights", "kept weights", "checkpoint"
MEASURED, LOG, LEFT_OVER, OTHER = "measured", "log", "left over", "other"
PARTS = (RECORD, FINAL, KEPT, CHECKPOINT, MEASURED, LOG, LEFT_OVER, OTHER)
"""What a run's directory may hold. Left over is what a killed process had not finished writing."""
MAY_GO: Mapping[str, bool] = {FINAL: True, KEPT: True, CHECKPOINT: True, LEFT_OVER: False}
"""What may be deleted where no process is at the run, and whether the run must have ended for that."""
STRUCTURE = "structure"


@dataclass(frozen=True)
class File:
    """One file.

    Attributes:
        path: where it lies.
        size: in bytes; of a link its own.
        is_link: whether it leads elsewhere.
        identity: the same for all names of one file.
        part: what it is of a run, one of `PARTS`.
    """

    path: Path
    size: int
    is_link: bool
    identity: tuple[int, int]
    part: str = OTHER


def files_below(folder: Path, *, leave_out: Callable[[Path], bool]) -> Iterator[File]:
    """Return the files below a folder; links are not followed, and what cannot be looked at is passed over.

    Args:
        folder: where to begin.
        leave_out: says which folders below it are not entered.
    """
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        folders[:] = [name for name in sorted(folders) if name not in links and not leave_out(Path(place, name))]
        for path in (Path(place, name) for name in sorted([*names, *links])):
            try:
                about = path.lstat()
            except OSError:  # it has gone meanwhile
                continue
            yield File(path, about.st_size, path.is_symlink(), (about.st_dev, about.st_ino))


def files_of(directory: RunDirectory) -> list[File]:
    """Return a run's files; runs that lie below its directory are not its own."""
    found = files_below(directory.path, leave_out=lambda folder: RunDirectory(folder).record.exists())
    return [File(each.path, each.size, each.is_link, each.identity, _part(directory, each.path)) for each in found]


def _part(directory: RunDirectory, path: Path) -> str:
    known = {
        directory.record: RECORD,
        directory.final_model: FINAL,
        directory.checkpoint: CHECKPOINT,
        directory.measured: MEASURED,
        directory.log: LOG,
    }
    begun = path.suffix == ".new"
    whole = path.with_name(re.sub(r"(\.[0-9a-f]{12})?\.new$", "", path.name))
    kept = whole.parent == directory.weights(0).parent and re.fullmatch(r"epoch_\d+\.pth", whole.name)
    part = KEPT if kept else known.get(whole, OTHER)
    return LEFT_OVER if begun and part != OTHER else part


def may_go(run: Run) -> list[File]:
    """Return the files of a run that may be deleted while no process is at it.

    A run that has not ended keeps its checkpoint and its weights.

    Raises:
        RunError: the record cannot be read.
    """
    ended = run.ended is not None
    parts = {part for part, only_ended in MAY_GO.items() if ended or not only_ended}
    return [each for each in files_of(RunDirectory(run.directory)) if each.part in parts]


def inside(record: Path) -> dict[str, int]:
    """Return how many bytes the numbers of each group of a record take, and what HDF5 needs beside them.

    Raises:
        RunError: it cannot be read.
    """
    sizes: Counter[str] = Counter()

    def add(name: str, item: object) -> None:
        group = name.partition("/")[0]
        if isinstance(item, h5py.Dataset) and group not in (MARKS, STATUS):
            sizes[group] += item.id.get_storage_size()

    with open_for_reading(record) as file:
        file.visititems(add)
    sizes[STRUCTURE] = record.stat().st_size - sizes.total()
    return dict(sizes)
