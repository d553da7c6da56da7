"""How a run stands: one word, and the exit code that follows from it."""

from __future__ import annotations

from enum import Enum

from batchnorm.errors import ExitCode


class Status(str, Enum):
    """How a run stands. Its value is the word that tables and messages print."""

    MISSING = "missing"
    """Nothing is recorded."""
    RUNNING = "running"
    """A process is at it now."""
    CUT_OFF = "interrupted"
    """It has not ended, and no process is at it: the same command continues."""
    UNKNOWN = "unknown"
    """It has not ended, and whether a process is at it cannot be known: its lock cannot be looked at, or is another host's."""
    FINISHED = "finished"
    DIVERGED = "diverged"
    UNUSABLE = "unusable"
    """Its directory holds another run, a damaged one, or one that cannot be read."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do: a run that diverged does so again."""
        return self in (Status.FINISHED, Status.DIVERGED)

    @property
    def stored(self) -> int:
        """The number that its record holds; whether a process is at an unfinished run, its directory's lock says."""
        return _STORED.get(self, 0)

    @property
    def exit_code(self) -> ExitCode:
        """What a command returns for a run that stands so."""
        return _EXIT_CODES.get(self, ExitCode.FAILED)

    @classmethod
    def recorded(cls, stored: int) -> Status | None:
        """Return how a run ended by its record's number; None where it has not ended."""
        return next((status for status, number in _STORED.items() if number == stored), None)


_STORED = {Status.FINISHED: 1, Status.DIVERGED: 2}
_EXIT_CODES = {
    Status.FINISHED: ExitCode.FINISHED,
    Status.DIVERGED: ExitCode.DIVERGED,
    Status.CUT_OFF: ExitCode.INTERRUPTED,
    Status.UNUSABLE: ExitCode.BAD_INPUT,
}
