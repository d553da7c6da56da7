"""From runs on disk to the table of one row a run, and on to the table of effects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from batchnorm.analysis.effects.table import effects
from batchnorm.analysis.narrowing import options_for
from batchnorm.analysis.outcome import Outcome, Result
from batchnorm.analysis.runs import (
    LEFT_OUT,
    Group,
    Hint,
    RunPaths,
    distinct,
    find_runs,
    problem_of,
    progress_mark,
    read_each,
    two_settings,
)
from batchnorm.analysis.settings import differing_settings
from batchnorm.errors import RunError
from batchnorm.modes import DEFAULT_NORM, VANILLA, format_mask
from batchnorm.store import Run, Status

_NAMED = 3
"""Variants that are named, of those that ended at chance."""


@dataclass(frozen=True)
class Compared:
    """The runs that are compared, and their numbers.

    Attributes:
        runs: those that finished or diverged.
        table: one row for each, as `table_of` returns it.
    """

    runs: tuple[Run, ...]
    table: pd.DataFrame

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots' names, one for each digit of a mask."""
        return self.runs[0].layers

    @property
    def norm(self) -> str:
        """What normalises their slots, as `NORM` takes it."""
        return next((run.config.norm for run in self.runs if "NORM" in run.settings), DEFAULT_NORM)

    @property
    def counted(self) -> str:
        """How many runs there are, and what a reader must know of their numbers."""
        counts = [f"{len(self.runs)} runs"]
        for column, words in (
            ("diverged", "diverged, counted as chance"),
            ("capped", "did not get there, counted as full length"),
        ):
            if number := int(self.table[column].sum()):
                counts.append(f"{number} {words}")
        if number := int(self.table["at_chance"].sum()):
            names = self.table["mask"].where(self.table["mode"] == VANILLA, self.table["mask"] + " " + self.table["mode"])
            which = list(dict.fromkeys(names[self.table["at_chance"]]))
            counts.append(f"{number} ended at chance ({'; '.join([*which[:_NAMED], *['...'] * (len(which) > _NAMED)])})")
        return ", ".join(counts)


def compare(paths: RunPaths, outcome: Outcome) -> Compared:
    """Read runs of one problem and one setting. Those that did not end are named in the log `LEFT_OUT`, and left out.

    Raises:
        RunError: there are none, none has ended, or they differ in more than seed, mask and mode.
    """

    def read(run: Run) -> tuple[Status, Result | None]:
        status = run.status
        return status, outcome.of(run) if status == Status.FINISHED else None

    found = dict(read_each(find_runs(paths), read))
    results: dict[Run, Result] = {}
    for run in distinct(found):
        status, result = found[run]
        if status == Status.DIVERGED and outcome.has_chance:
            result = outcome.of_chance(run)
        if result is None:
            LEFT_OUT.warning("%s: %s", run.directory, progress_mark(run))
        elif not math.isfinite(result.value):
            LEFT_OUT.warning("%s: its %s is not a finite number", run.directory, outcome.words)
        else:
            results[run] = result
    if not results:
        if not found:
            raise RunError("no runs given: the list of paths is empty")
        ended = any(result for _, result in found.values())
        raise RunError(f"no runs given: {f'none has a finite {outcome.words}' if ended else 'none of them has finished'}")
    _require_one_setting(list(results))
    return compared(results)


def compared(results: Mapping[Run, Result]) -> Compared:
    """Put the numbers of runs of one problem and one setting into a table."""
    return Compared(tuple(results), pd.DataFrame([_row(run, result) for run, result in results.items()]))


def table_of(paths: RunPaths, *, metric: str = "test_acc", last: int = 1, epochs_to: float | None = None) -> pd.DataFrame:
    """Return the table that `effects` takes: one row for each run that finished or diverged.

    Args:
        paths: folders with runs below them, runs, glob patterns, or opened runs; of one problem and one setting.
        metric: `test_acc`, `valid_acc`, `test_loss`, ..., or a measurement with one number a run, as `sharpness`.
        last: the mean over so many last epochs that were evaluated; epoch 0 never counts.
        epochs_to: instead: the first epoch at which the accuracy is this share, or the run's length (`capped`).

    Returns:
        Columns `seed`, `mask`, `mode` (`vanilla` for the all-zero mask), `variant` (`Run.variant`), `value` (accuracies as
        shares of 1), `diverged` (its value is that of chance), `capped`, `at_chance` (it finished with an accuracy of at most
        1.1 / classes), `run` (its directory).

    A run that is not finished, or that cannot be read, is left out with a warning (log
    `batchnorm.analysis.runs.left_out`).

    Raises:
        UserError: the runs differ in other settings than seed, mask and mode, or there is no such metric.
    """
    return compare(paths, Outcome(metric, last, epochs_to)).table


def of_runs(
    paths: RunPaths,
    *,
    metric: str = "test_acc",
    last: int = 1,
    epochs_to: float | None = None,
    **tests: Any,
) -> pd.DataFrame:
    """Return the table of effects of runs, with the names of their slots: `effects` of `table_of`.

    Args:
        paths: see `table_of`.
        metric: see `table_of`.
        last: see `table_of`.
        epochs_to: see `table_of`.
        tests: `alpha`, `margin` (in the unit of the values: 0.003 is 0.3 points of accuracy), `one_sided`, `reference`,
            as `effects` takes them.

    Raises:
        UserError: see `table_of` and `effects`.
    """
    found = compare(paths, Outcome(metric, last, epochs_to))
    return effects(found.table, slots=found.slots, **tests)


def _require_one_setting(runs: list[Run]) -> None:
    several = _of_two_settings(runs)
    if several is None:
        return
    other, run = several
    if problem_of(run) != problem_of(other):
        what = f"is a run of {problem_of(run)}, {other.directory} one of {problem_of(other)}; give runs of one problem"
        raise RunError(f"{run.directory}: {what}")
    options = options_for(runs, lambda some: _of_two_settings(some) is None and len({run.variant for run in some}) > 1)
    why = "effects are of runs that differ in seed, mask and mode alone"
    advice = Hint(f"{why}: give runs of one setting", f"{why}: choose one setting")
    raise two_settings(Group((other,)), Group((run,)), advice, options)


def _of_two_settings(runs: Sequence[Run]) -> tuple[Run, Run] | None:
    """Return the first two runs of different problems or settings."""
    kinds: list[Run] = []  # one of each setting: of keys that act in slots only, vanilla has none
    for run in runs:
        for other in kinds:
            if problem_of(run) != problem_of(other) or differing_settings(other.settings, run.settings):
                return other, run
        if all(other.settings != run.settings for other in kinds):
            kinds.append(run)
    return None


def _row(run: Run, result: Result) -> dict[str, Any]:
    return {
        "seed": run.config.random_seed,
        "mask": format_mask(run.mask),
        "mode": run.mode,
        "variant": run.variant,
        "value": result.value,
        "diverged": result.diverged,
        "capped": result.capped,
        "at_chance": result.at_chance,
        "run": str(run.directory),
    }
