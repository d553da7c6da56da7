"""How a study stands, again and again (`study status --watch`). It reads; all that it writes is what it shows."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from batchnorm.store import Status
from batchnorm.study.grid import Study
from batchnorm.study.output import tell
from batchnorm.study.status import RunStanding, format_status, standing

_SECONDS_BETWEEN = 2.0
_WAIT_FOR_EACH_LOOK = 4
"""How many times as long as looking at all runs took, the next look waits: of hundreds on a shared disk it takes a while."""


def watch(study: Study, *, wait: Callable[[float], object] = time.sleep) -> None:
    """Show how a study stands until all of its runs have ended or are unusable, or Ctrl-C.

    A terminal is refreshed in place. Elsewhere, text is printed where a run has got further or stands otherwise.

    Args:
        study: whose runs are looked at; its file is not read again.
        wait: waits so many seconds.

    Raises:
        StudyError: standard output cannot be written, as on a full disk.
    """
    view = _InPlace() if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" else _WhereItChanges()
    try:
        while True:
            began = time.monotonic()
            found = [standing(run) for run in study.runs]
            took = time.monotonic() - began
            is_read = view.show(study, found)
            if not is_read or all(each.status.has_ended or each.status == Status.UNUSABLE for each in found):
                return
            wait(max(_SECONDS_BETWEEN, _WAIT_FOR_EACH_LOOK * took))
    except KeyboardInterrupt:
        return


class _InPlace:
    """Writes over what it wrote before, with a terminal's plain control sequences: cursor up, clear what is below."""

    def __init__(self) -> None:
        self._lines = 0

    def show(self, study: Study, found: Sequence[RunStanding]) -> bool:
        """Show it, and say whether somebody still reads."""
        lines = [*format_status(study, found).splitlines(), f"  {datetime.now():%H:%M:%S}, Ctrl-C ends this"]
        lines = _fitting(lines, *shutil.get_terminal_size())
        back = f"\x1b[{self._lines}A\r\x1b[J" if self._lines else ""
        self._lines = len(lines)
        return tell(back + "\n".join(lines))


def _fitting(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """Return lines that a terminal shows whole: the cursor gets no further up than its first row."""
    room = max(rows - 1, 4)
    if len(lines) > room:
        lines = [*lines[: room - 3], f"  ... and {len(lines) - room + 1} lines more", *lines[-2:]]
    return [line[: max(columns - 1, 1)] for line in lines]


class _WhereItChanges:
    """Prints it where a run has got further or stands otherwise."""

    def __init__(self) -> None:
        self._before: list[tuple[Status, int]] = []

    def show(self, study: Study, found: Sequence[RunStanding]) -> bool:
        """Show it, and say whether somebody still reads."""
        now = [(each.status, each.progress.epochs_done) for each in found]
        if now == self._before:
            return True
        self._before = now
        return tell(format_status(study, found))
