"""What `study run` shows while it works: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from batchnorm.study.grid import StudyRun
from batchnorm.study.status import RunStanding, format_seconds, seconds_left

_SECONDS_BETWEEN_LINES = 60.0


class Lines:
    """Plain lines: what happens, and once a minute how far the study is."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _SECONDS_BETWEEN_LINES

    def say(self, line: str) -> None:
        """Print one line."""
        print(line, flush=True)

    def show(self, found: Sequence[RunStanding], at_work: Sequence[StudyRun | None]) -> None:
        """Print how far the study is, if it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_LINES
            progress = {each.run.index: each.progress for each in found}
            runs = [(run.index, progress[run.index]) for run in at_work if run]
            parts = [f"{index}: {far.epochs_done}/{far.epochs} epochs" for index, far in runs]
            self.say(f"{summary(found, at_work)}; at {', '.join(parts) or 'none'}")

    def close(self) -> None:
        """Nothing is left to do."""


class Bars:
    """One bar for the study, and one for each worker."""

    def __init__(self, *, workers: int, runs: int) -> None:
        layout = "{desc} {bar} {n_fmt}/{total_fmt} {unit}{postfix}"
        self._study = tqdm(total=runs, desc="study", unit="runs", position=0, bar_format=layout, dynamic_ncols=True)
        self._workers = [
            tqdm(total=1, desc="starting", unit="epochs", position=place, bar_format=layout, dynamic_ncols=True, leave=False)
            for place in range(1, workers + 1)
        ]

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        tqdm.write(line)

    def show(self, found: Sequence[RunStanding], at_work: Sequence[StudyRun | None]) -> None:
        """Bring all bars up to date."""
        standing = {each.run.index: each for each in found}
        self._study.n = sum(each.status.has_ended for each in found)
        self._study.set_postfix_str(_left(found, at_work))
        for bar, run in zip(self._workers, at_work, strict=True):
            progress = standing[run.index].progress if run else None
            bar.total = progress.epochs if progress else 1
            bar.n = progress.epochs_done if progress else 0
            bar.set_description_str(f"{run.index:>5} {run.variant}" if run else "idle")

    def close(self) -> None:
        """Take the workers' bars away; the study's stays."""
        for bar in self._workers:
            bar.close()
        self._study.close()


Display = Bars | Lines


def open_display(*, workers: int, runs: int) -> Display:
    """Return bars where standard error is a terminal, and plain lines elsewhere."""
    return Bars(workers=workers, runs=runs) if sys.stderr.isatty() else Lines()


def summary(found: Sequence[RunStanding], at_work: Sequence[StudyRun | None]) -> str:
    """Say how many runs have ended and what time is left: `3/5 runs, about 0:00:20 left`."""
    ended = sum(each.status.has_ended for each in found)
    left = _left(found, at_work)
    return f"{ended}/{len(found)} runs" + (f", {left}" if left else "")


def _left(found: Sequence[RunStanding], at_work: Sequence[StudyRun | None]) -> str:
    left, busy = seconds_left(found), sum(run is not None for run in at_work)
    return f"about {format_seconds(left / busy)} left" if left and busy else ""
