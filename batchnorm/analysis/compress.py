"""Compresses the records of runs that ended before records were compressed."""

from __future__ import annotations

import argparse

from batchnorm.analysis.columns import aligned
from batchnorm.analysis.runs import read_each
from batchnorm.analysis.shell import Command
from batchnorm.analysis.usage import found_or_chosen, in_bytes
from batchnorm.errors import RunError, reason_of
from batchnorm.store import Run, RunDirectory
from batchnorm.store.compressed import compress, is_compressed


def _run(given: argparse.Namespace) -> str:
    done = read_each(found_or_chosen(given), _compress)
    rows = [(str(run.directory), *sizes) for run, sizes in done if sizes]
    if not rows:
        return "nothing to compress: each record that has ended is compressed\n"
    text = aligned([("run", "before", "after"), *((name, in_bytes(before), in_bytes(after)) for name, before, after in rows)])
    freed = in_bytes(sum(before - after for _, before, after in rows))
    return f"{text}freed {freed} in {len(rows)} record{'s' * (len(rows) != 1)}\n"


def _compress(run: Run) -> tuple[int, int] | None:
    """Compress a run's record, and return its size before and after; None where there is nothing to do.

    Raises:
        RunError: another process is at the run, the record is a link, damaged, or cannot be written.
    """
    if run.ended is None or is_compressed(run.path):
        return None
    if run.path.is_symlink():
        raise RunError(f"{run.path}: is a link; give the run's own path: {run.path.resolve().parent}")
    before = run.path.stat().st_size
    with RunDirectory(run.directory).claim():
        if not Run(run.directory).ended:  # it has been started afresh
            return None
        try:
            compress(run.path)
        except OSError as error:
            raise RunError(f"{run.path}: cannot be written ({reason_of(error)}); it stays as it is") from None
    return before, run.path.stat().st_size


COMMAND = Command(
    "compress",
    "compress records that ended before records were compressed; the numbers keep their bits",
    "output",
    _run,
    draws=False,
)
