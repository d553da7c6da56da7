"""How a study stands: the status and progress of each run as its directory tells them, what is missing, and the time left."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from batchnorm.errors import ConfigError, RunError, reason_of
from batchnorm.store import Run, Status, stand
from batchnorm.streams import shown_while_it_lasts
from batchnorm.study.grid import Study, StudyRun

_ALWAYS_SHOWN = (Status.FINISHED, Status.RUNNING, Status.CUT_OFF, Status.DIVERGED, Status.MISSING)
"""The first of `status`'s lines, in their order; the others stand where a run has them."""


@dataclass(frozen=True)
class Progress:
    """How far a run's record goes.

    Attributes:
        epochs_done: epochs of training that are recorded.
        epochs: epochs of the whole run.
        seconds_per_epoch: mean of the recorded ones; None where there is none yet.
    """

    epochs_done: int
    epochs: int
    seconds_per_epoch: float | None


@dataclass(frozen=True)
class RunStanding:
    """How one run of a study stands, how far it is, and why where it is unusable."""

    run: StudyRun
    status: Status
    progress: Progress
    reason: str = ""


def standings(study: Study) -> list[RunStanding]:
    """Look at every run's directory."""
    with closing(shown_while_it_lasts(study.runs, "looking")) as runs:
        return [standing(run) for run in runs]


def standing(run: StudyRun) -> RunStanding:
    """Look at one run's directory; nothing in it is changed."""
    found = stand(run.config.directory, run.config.fingerprint())
    status, reason, progress = found.status, found.reason, Progress(0, run.config.num_epochs, None)
    if found.run is not None:
        try:
            progress = progress_of(found.run)
        except RunError as error:
            status, reason = status if status == Status.RUNNING else Status.UNUSABLE, str(error)
    return RunStanding(run, status, progress, reason)


def progress_of(run: Run) -> Progress:
    """Read how far a record goes.

    Raises:
        RunError: the record is damaged.
    """
    rows = run.of_epochs("train_seconds", "eval_seconds")
    seconds = (rows["train_seconds"] + rows["eval_seconds"])[1:]
    return Progress(len(seconds), run.length.epochs, float(seconds.mean()) if len(seconds) else None)


def check_no_other_runs(study: Study) -> None:
    """See that no directory of the study holds another run, before the first one starts.

    Raises:
        RunError: one does. Damaged runs pass: they are reported when their turn comes.
    """
    for run in study.runs:
        if not run.config.overwrite:
            found = stand(run.config.directory, run.config.fingerprint())
            if found.reason and _is_readable(run.config.directory):
                raise RunError(f"{run}: {found.reason}")


def check_output_dirs(runs: Iterable[StudyRun]) -> None:
    """See that runs can be written where they are to go, before the first one starts; nothing is made.

    Raises:
        ConfigError: an OUTPUT_DIR cannot be made or written.
    """
    for folder in dict.fromkeys(Path(run.config.output_dir) for run in runs):
        try:
            there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        except OSError as error:
            raise ConfigError(f"OUTPUT_DIR={folder}: cannot be written: {reason_of(error)}") from None
        if not there.is_dir():
            raise ConfigError(f"OUTPUT_DIR={folder}: cannot be written: {there} is no directory")
        if not os.access(there, os.W_OK | os.X_OK):
            raise ConfigError(f"OUTPUT_DIR={folder}: cannot be written: no permission to write in {there}")


def _is_readable(directory: Path) -> bool:
    try:
        Run(directory)
    except RunError:
        return False
    return True


def to_do(found: Iterable[RunStanding]) -> list[StudyRun]:
    """Return the runs that have not ended and that no process is known to be at; all of those with OVERWRITE=true."""
    return [
        each.run for each in found if each.status != Status.RUNNING and (each.run.config.overwrite or not each.status.has_ended)
    ]


def skipped(found: Iterable[RunStanding]) -> list[RunStanding]:
    """Return the runs that are not to be done here, because another process is at them."""
    return [each for each in found if each.status == Status.RUNNING]


def seconds_left(found: Sequence[RunStanding]) -> float | None:
    """Estimate the work that is left for one process: epochs to do times the seconds that epochs of that problem took.

    None where no epoch of any run is recorded yet.
    """
    known: dict[str, list[float]] = defaultdict(list)
    for each in found:
        if each.progress.seconds_per_epoch is not None:
            known[each.run.config.problem].append(each.progress.seconds_per_epoch)
    if not known:
        return None
    anywhere = fmean(seconds for of_problem in known.values() for seconds in of_problem)

    def left(each: RunStanding) -> float:
        of_problem = known.get(each.run.config.problem)
        per_epoch = each.progress.seconds_per_epoch or (fmean(of_problem) if of_problem else anywhere)
        return (each.progress.epochs - each.progress.epochs_done) * per_epoch

    return sum(left(each) for each in found if not each.status.has_ended and each.status != Status.UNUSABLE)


def as_data(study: Study, found: Sequence[RunStanding]) -> dict[str, Any]:
    """Return how a study stands, for other programs.

    Returns:
        `study`: its name. `counts`: how many runs have each status, all statuses by name. `share_done`: of the epochs, from 0
        to 1; runs that have ended count as done. `seconds_left`: the work that is left, for one process; None where no epoch
        is recorded. `runs`: one mapping each, in the study's order: `index`, `variant`, `directory`, `status`, `epochs_done`,
        `epochs`, `seconds_per_epoch` (None where no epoch is recorded), `reason` (why it is unusable, or empty).
    """
    counts = Counter(each.status for each in found)
    return {
        "study": study.name,
        "counts": {status.value: counts[status] for status in Status},
        "share_done": _share_done(found),
        "seconds_left": seconds_left(found),
        "runs": [
            {
                "index": each.run.index,
                "variant": each.run.variant,
                "directory": str(each.run.config.directory),
                "status": each.status.value,
                **asdict(each.progress),
                "reason": each.reason,
            }
            for each in found
        ],
    }


def format_array(indices: Collection[int]) -> str:
    """Write indices as SLURM's `--array` takes them.

    >>> format_array([0, 1, 2, 3, 7, 9, 10])
    '0-3,7,9-10'
    """
    runs = [[index for _, index in group] for _, group in groupby(enumerate(sorted(indices)), lambda pair: pair[1] - pair[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def format_seconds(seconds: float) -> str:
    """Write a span of time as `1 day, 2:03:04`."""
    return str(timedelta(seconds=round(seconds)))


def format_list(study: Study) -> str:
    """Write index, variant and directory of each run, one a line."""
    width = max(len(run.variant) for run in study.runs)
    return "\n".join(f"{run.index:>5}  {run.variant:<{width}}  {run.config.directory}" for run in study.runs)


def format_status(study: Study, found: Sequence[RunStanding]) -> str:
    """Write how a study stands: how many runs have each status, those under way or in trouble, and the time left."""
    counts = Counter(each.status for each in found)
    lines = [f"{study.name}: {len(found)} runs"]
    for status in (*_ALWAYS_SHOWN, *(each for each in Status if each not in _ALWAYS_SHOWN)):
        if counts[status] or status in _ALWAYS_SHOWN:
            indices = format_array([each.run.index for each in found if each.status == status])
            lines.append(f"  {status.value:<11} {counts[status]:>5}  {indices}".rstrip())
    for each in found:
        if each.status not in (Status.FINISHED, Status.MISSING):
            detail = each.reason or f"epoch {each.progress.epochs_done}/{each.progress.epochs}"
            lines.append(f"  {each.run.index:>5} {each.status.value}: {each.run.variant}  {detail}")
    share = 1.0 if all(each.status.has_ended for each in found) else min(_share_done(found), 0.999)  # not 100.0% by rounding
    lines.append(f"  {share:.1%} done; {_format_left(found, at_work=counts[Status.RUNNING])}")
    return "\n".join(lines)


def _share_done(found: Sequence[RunStanding]) -> float:
    return fmean(1.0 if each.status.has_ended else each.progress.epochs_done / each.progress.epochs for each in found)


def _format_left(found: Sequence[RunStanding], *, at_work: int) -> str:
    unusable = sum(each.status == Status.UNUSABLE for each in found)
    if all(each.status.has_ended or each.status == Status.UNUSABLE for each in found):
        return f"nothing is left but what is unusable ({unusable})" if unusable else "nothing is left"
    left = seconds_left(found)
    if left is None:
        return "time left: unknown, no epoch is recorded yet"
    shared = f", {format_seconds(left / at_work)} for the {at_work} now at work" if at_work else ""
    return f"time left: about {format_seconds(left)} for one process{shared}"
