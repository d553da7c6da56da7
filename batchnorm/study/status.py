"""How a study stands: the state of each run as its directory tells it, what is missing, and the time that is left."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from itertools import groupby
from statistics import fmean

from batchnorm.config import RunConfig
from batchnorm.errors import RunError
from batchnorm.rundir import RunDirectory
from batchnorm.store import Run, Status, check_same_run
from batchnorm.study.grid import Study, StudyRun


class State(str, Enum):
    """How one run stands."""

    FINISHED = "finished"
    RUNNING = "running"
    CUT_OFF = "cut off"
    DIVERGED = "diverged"
    MISSING = "missing"
    UNUSABLE = "unusable"
    """Its directory holds another run, or a damaged one."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do: a run that diverged does so again."""
        return self in (State.FINISHED, State.DIVERGED)


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
class Standing:
    """How one run of a study stands, and why where it is unusable."""

    run: StudyRun
    state: State
    progress: Progress
    reason: str = ""


def standings(study: Study) -> list[Standing]:
    """Look at every run's directory."""
    return [standing(run) for run in study.runs]


def standing(run: StudyRun) -> Standing:
    """Look at one run's directory; nothing in it is changed."""
    config = run.config
    directory = RunDirectory(config.directory)
    progress = Progress(0, config.num_epochs, None)
    try:
        recorded = Run(directory.path) if directory.record.exists() else None
        if recorded is not None:
            check_same_run(recorded, config.fingerprint())
            progress = progress_of(recorded)
            ended = {Status.FINISHED: State.FINISHED, Status.DIVERGED: State.DIVERGED}.get(recorded.status)
            if ended:
                return Standing(run, ended, progress)
    except RunError as error:
        state = State.RUNNING if directory.is_claimed() else State.UNUSABLE  # a claimed one may be on its way to a new record
        return Standing(run, state, progress, reason=str(error))
    if directory.is_claimed():
        return Standing(run, State.RUNNING, progress)
    return Standing(run, State.MISSING if recorded is None else State.CUT_OFF, progress)


def progress_of(run: Run) -> Progress:
    """Read how far a record goes."""
    rows = run.epochs
    steps, seconds = rows["step"], rows["train_seconds"] + rows["eval_seconds"]
    epochs = run.config.num_epochs
    if len(steps) < 2:
        return Progress(0, epochs, None)
    steps_per_epoch = int(steps[1] - steps[0])
    if run.config.max_steps is not None and steps_per_epoch:
        epochs = min(epochs, -(-run.config.max_steps // steps_per_epoch))
    return Progress(len(steps) - 1, epochs, float(seconds[1:].mean()))


def check_no_other_runs(study: Study) -> None:
    """See that no directory of the study holds another run, before the first one starts.

    Raises:
        RunError: one does. Damaged runs pass: they are reported when their turn comes.
    """
    for run in study.runs:
        if run.config.overwrite:
            continue
        try:
            recorded = Run(run.config.directory)
        except RunError:
            continue
        check_same_run(recorded, run.config.fingerprint())


def to_do(found: Iterable[Standing]) -> list[StudyRun]:
    """Return the runs that have not ended and that no process is at; all of those with OVERWRITE=true."""
    return [
        each.run for each in found if each.state != State.RUNNING and (each.run.config.overwrite or not each.state.has_ended)
    ]


def seconds_left(found: Sequence[Standing]) -> float | None:
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

    def left(each: Standing) -> float:
        of_problem = known.get(each.run.config.problem)
        per_epoch = each.progress.seconds_per_epoch or (fmean(of_problem) if of_problem else anywhere)
        return (each.progress.epochs - each.progress.epochs_done) * per_epoch

    return sum(left(each) for each in found if not each.state.has_ended and each.state != State.UNUSABLE)


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


def format_status(study: Study, found: Sequence[Standing]) -> str:
    """Write how a study stands: how many runs are in each state, those under way or in trouble, and the time left."""
    counts = Counter(each.state for each in found)
    lines = [f"{study.name}: {len(found)} runs"]
    for state in State:
        if counts[state] or state != State.UNUSABLE:
            indices = format_array([each.run.index for each in found if each.state == state])
            lines.append(f"  {state.value:<8} {counts[state]:>5}  {indices}".rstrip())
    for each in found:
        if each.state not in (State.FINISHED, State.MISSING):
            detail = each.reason or f"epoch {each.progress.epochs_done}/{each.progress.epochs}"
            lines.append(f"  {each.run.index:>5} {each.state.value}: {each.run.variant}  {detail}")
    done = sum(_share_done(each) for each in found) / len(found)
    lines.append(f"  {done:.1%} done; {_format_left(found, at_work=counts[State.RUNNING])}")
    return "\n".join(lines)


def _share_done(each: Standing) -> float:
    return 1.0 if each.state.has_ended else each.progress.epochs_done / each.progress.epochs


def _format_left(found: Sequence[Standing], *, at_work: int) -> str:
    left = seconds_left(found)
    if left == 0:
        return "nothing is left"
    if left is None:
        return "time left: unknown, no epoch is recorded yet"
    shared = f", {format_seconds(left / at_work)} for the {at_work} now at work" if at_work else ""
    return f"time left: about {format_seconds(left)} for one process{shared}"


def epochs_of(config: RunConfig) -> Progress | None:
    """Return how far a run is that goes on now, or None where nothing can be read yet."""
    try:
        return progress_of(Run(config.directory))
    except RunError:
        return None
