"""How much room runs take on the disk: the files of each by part, or what is inside their records."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchnorm.analysis import streams
from batchnorm.analysis.columns import aligned, fitted
from batchnorm.analysis.runs import find_runs, problem_of, read_each
from batchnorm.analysis.settings import setting_text, varying_settings
from batchnorm.analysis.shell import Command, asked_for, chosen_paths
from batchnorm.config import SLOT_KEYS
from batchnorm.store import Run, RunDirectory
from batchnorm.store.files import OTHER, PARTS, File, files_below, files_of, inside

UNREADABLE, BESIDE = "unreadable", "beside the runs"


@dataclass
class Room:
    """What the runs of one row take: how many they are, and bytes by part."""

    runs: int = 0
    sizes: Counter[str] = field(default_factory=Counter)

    def add(self, sizes: Mapping[str, int]) -> None:
        """Count one run more."""
        self.runs += 1
        self.sizes.update(sizes)


def in_bytes(size: int) -> str:
    """Write a size with its unit: 1 kB is 1,000 bytes.

    >>> [in_bytes(size) for size in (0, 999, 1000, 109_400_000)]
    ['0 B', '999 B', '1.0 kB', '109.4 MB']
    """
    units = ("B", "kB", "MB", "GB", "TB")
    power = 0
    while power + 1 < len(units) and round(size / 1000**power, 1) >= 1000:
        power += 1
    return f"{size / 1000**power:.1f} {units[power]}" if power else f"{size} B"


def columns_of(rooms: Iterable[Room], order: Iterable[str]) -> list[str]:
    """Return the parts that take room in any of the rows, in their order."""
    taken = {part for room in rooms for part, size in room.sizes.items() if size}
    return [*(part for part in order if part in taken), *sorted(taken - {*order})]


def table(labels: tuple[str, ...], rooms: Mapping[tuple[str, ...], Room], order: Iterable[str]) -> list[list[str]]:
    """Return a row of text for each of `rooms`, and the total below; how many runs there are where a row may have several."""
    order = list(order)
    total = Room(sum(room.runs for room in rooms.values()))
    for room in rooms.values():
        total.sizes.update(room.sizes)
    parts = columns_of(rooms.values(), order)
    counted = len(labels) > 1
    rows = [[*labels, *(["runs"] if counted else []), "total", *parts]]
    for names, room in {**rooms, ("total", *[""] * (len(labels) - 1)): total}.items():
        sizes = [room.sizes.total(), *(room.sizes[part] for part in parts)]
        runs = [str(room.runs) if room.runs else ""] if counted else []
        rows.append([*names, *runs, *(in_bytes(size) if size else "" for size in sizes)])
    return rows


def _run(given: argparse.Namespace) -> str:
    paths = found_or_chosen(given)
    seen: set[tuple[int, int]] = set()

    def of_run(run: Run) -> tuple[tuple[str, ...], dict[str, Any], dict[str, int]]:
        names = (str(run.directory),) if given.each else (problem_of(run), run.config.position, run.mode)
        return names, run.settings, inside(run.path) if given.inside else _sum(files_of(RunDirectory(run.directory)), seen)

    read = {run.directory: found for run, found in read_each(paths, of_run)}
    kinds = ((names[0], settings) for names, settings, _ in read.values())
    more = [] if given.each else [key for key in varying_settings(kinds) if key in SLOT_KEYS]  # they make the variant too
    known = [
        ((*names, *(setting_text(settings, key) for key in more)), sizes)
        for names, settings, sizes in (read[path] for path in paths if path in read)
    ]
    rooms: dict[tuple[str, ...], Room] = {}
    for names, sizes in known if given.each else sorted(known, key=lambda found: found[0]):
        rooms.setdefault(names, Room()).add(sizes)
    if not given.inside:
        blank = () if given.each else ("", "", *[""] * len(more))
        for path in (path for path in paths if path not in read):  # its files have sizes all the same
            sizes = _sum(files_of(RunDirectory(path)), seen)
            rooms.setdefault((str(path) if given.each else UNREADABLE, *blank), Room()).add(sizes)
        if not asked_for(given) and (beside := _beside(given.paths, paths, seen)):
            rooms[(BESIDE, *blank)] = Room(0, Counter({OTHER: beside}))
    labels = ("run",) if given.each else ("problem", "mask", "mode", *map(str.lower, more))
    rows = table(labels, rooms, () if given.inside else PARTS)
    width = None if given.wide else streams.terminal_width()
    return aligned(rows) if width is None else fitted(rows, width, counts=("runs", "total"), whole="--wide shows all columns")


def found_or_chosen(given: argparse.Namespace) -> list[Path]:
    """Return the runs that were found, or those among them that were asked for.

    Raises:
        RunError: there is none.
    """
    return [Path(path) for path in chosen_paths(given, alone=True)] if asked_for(given) else find_runs(given.paths)


def _sum(files: Iterable[File], seen: set[tuple[int, int]]) -> dict[str, int]:
    """Return the bytes of files by part; one that has several names counts once."""
    sizes: Counter[str] = Counter()
    for file in files:
        if file.identity not in seen:
            seen.add(file.identity)
            sizes[file.part] += file.size
    return dict(sizes)


def _beside(arguments: Iterable[str], runs: Iterable[Path], seen: set[tuple[int, int]]) -> int:
    """Return the bytes of what lies below the folders that were given, and in no run: figures, SLURM's logs."""
    of_runs = {os.path.realpath(path) for path in runs}

    def is_run(folder: Path) -> bool:
        return os.path.realpath(folder) in of_runs

    folders = [Path(argument) for argument in arguments if Path(argument).is_dir() and not is_run(Path(argument))]
    return sum(sum(_sum(files_below(folder, leave_out=is_run), seen).values()) for folder in folders)


COMMAND = Command(
    "usage",
    "table of the room that runs take on the disk, by part",
    "output --each",
    _run,
    {
        "--each": {"action": "store_true", "help": "a row for each run instead of each variant"},
        "--inside": {"action": "store_true", "help": "what is inside the records instead, by group"},
        "--wide": {"action": "store_true", "help": "whole rows on a terminal too, however wide"},
    },
    draws=False,
)
