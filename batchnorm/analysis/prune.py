"""Deletes what runs that have ended can do without: weights, and checkpoints that were left behind."""

from __future__ import annotations

import argparse
import contextlib
import glob
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from batchnorm.analysis import streams
from batchnorm.analysis.columns import aligned, fitted
from batchnorm.analysis.runs import LEFT_OUT, folders_of_study, read_each
from batchnorm.analysis.shell import Answer, Command
from batchnorm.analysis.usage import Room, found_or_chosen, in_bytes, table
from batchnorm.errors import ExitCode, RunError, UserError, nearest_first, reason_of
from batchnorm.store import Run, RunDirectory
from batchnorm.store.files import CHECKPOINT, FINAL, KEPT, LEFT_OVER, PARTS, File, may_go

WHAT: Mapping[str, str] = {"final": FINAL, "kept": KEPT, "checkpoints": CHECKPOINT, "leftovers": LEFT_OVER}
"""What may be chosen, and the part of a run that it is."""


def _run(given: argparse.Namespace) -> Answer:
    if unknown := [name for name in given.what if name not in WHAT]:
        raise RunError(f"--what {unknown[0]}: cannot be pruned; {nearest_first(unknown[0], WHAT)}")
    parts = {WHAT[name] for name in given.what}

    rooms: dict[tuple[str, ...], Room] = {}
    deleted, failed = 0, 0
    found = found_or_chosen(given)
    arguments = [str(part) for argument in given.paths for part in folders_of_study(argument) or [argument]]
    for run, files in read_each(found, lambda run: _to_delete(run, parts, arguments)):
        if files and given.yes:
            files, failures = _delete(run, parts)
            failed += failures
        if files:
            deleted += len(files)
            room = rooms.setdefault((str(run.directory),), Room())
            for file in files:
                room.sizes[file.part] += file.size
    width = None if given.wide else streams.terminal_width()
    rows = table(("run",), rooms, PARTS)
    size = in_bytes(sum(room.sizes.total() for room in rooms.values()))
    amount = f"{size} in {deleted} file{'s' * (deleted != 1)} of {len(rooms)} run{'s' * (len(rooms) != 1)}"
    last = f"freed {amount}\n" if given.yes else f"would free {amount}; --yes deletes them\n"
    if not rooms:
        last, rows = "nothing to free\n", []
    text = aligned(rows) if width is None else fitted(rows, width, counts=("total",), whole="--wide shows all columns")
    return Answer((text if rows else "") + last, ExitCode.FAILED if failed else ExitCode.FINISHED)


def _to_delete(run: Run, parts: Collection[str], arguments: Iterable[str]) -> list[File]:
    """Return the files of a run that go; why some stay is told in the log `LEFT_OUT`."""
    files = [file for file in may_go(run) if file.part in parts]
    if not files:
        return []
    if _is_behind_a_link(run.directory, arguments):
        LEFT_OUT.warning("%s: is reached by a link only; give its own path: %s", run.directory, os.path.realpath(run.directory))
        return []
    if (claimed := RunDirectory(run.directory).is_claimed()) is not False:
        LEFT_OUT.warning("%s: a process %s at this run", run.directory, "is" if claimed else "may be")
        return []
    for link in (file.path for file in files if file.is_link):
        LEFT_OUT.warning("%s: is a link", link)
    return [file for file in files if not file.is_link]


def _is_behind_a_link(directory: Path, arguments: Iterable[str]) -> bool:
    """Say whether a run was found through a link below what was given; the given path itself may lead through links."""
    for argument in arguments:
        base = Path(argument)
        if not os.path.lexists(base):  # a pattern: up to its first sign
            fixed = [part for part in base.parents if not glob.has_magic(str(part))]
            base = fixed[0]
        elif base.is_file():
            base = base.parent
        if directory.is_relative_to(base):
            below = directory.relative_to(base).parts
            if not any(base.joinpath(*below[: count + 1]).is_symlink() for count in range(len(below))):
                return False
    return True


def _delete(run: Run, parts: Collection[str]) -> tuple[list[File], int]:
    """Delete files of a run while no other process can be at it; return them, and how many could not be deleted."""
    directory = RunDirectory(run.directory)
    gone, failed = [], 0
    try:
        with directory.claim():
            for file in may_go(run):  # looked at again: it may have been started afresh
                if file.part not in parts or file.is_link:
                    continue
                try:
                    file.path.unlink()
                    gone.append(file)
                except OSError as error:
                    LEFT_OUT.warning("%s: cannot be deleted (%s)", file.path, reason_of(error))
                    failed += 1
            _remove_if_empty(directory.weights(0).parent)
    except UserError as error:
        LEFT_OUT.warning("%s", error)
        failed += 1
    return gone, failed


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


COMMAND = Command(
    "prune",
    "delete weights of finished runs and checkpoints of those that ended; shows what would go, deletes with --yes",
    "output --what final kept",
    _run,
    {
        "--what": {
            "nargs": "+",
            "default": tuple(WHAT),
            "metavar": "NAME",
            "help": "final: weights at the end; kept: those of SAVE_EPOCHS; checkpoints; leftovers of killed processes "
            "(default: all)",
        },
        "--yes": {"action": "store_true", "help": "delete"},
        "--wide": {"action": "store_true", "help": "whole rows on a terminal too, however wide"},
    },
    draws=False,
)
