"""The errors a user can cause or meet, each one clear line, and the exit codes of the commands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What the commands return to the shell."""

    FINISHED = 0
    FAILED = 1
    """Some runs of a study failed, or Python met a mistake of ours."""
    BAD_INPUT = 2
    DIVERGED = 3
    INTERRUPTED = 75
    """The run was asked to stop, wrote its checkpoint and can go on (EX_TEMPFAIL of sysexits.h)."""


class UserError(Exception):
    """Something the user can put right. Its text is one line; commands print it and exit with `ExitCode.BAD_INPUT`."""


class ConfigError(UserError):
    """A key, a value or a configuration file is wrong."""


class DataError(UserError):
    """Images are absent or damaged."""


class RunError(UserError):
    """A run directory or one of its files cannot be used."""


class RunClaimedError(RunError):
    """Another process is at this run."""


class StudyError(UserError):
    """A study cannot be worked on as it is asked for."""


def nearest_first(word: str, valid: Iterable[str]) -> str:
    """List the valid choices for a message, with the nearest spelling in front.

    >>> nearest_first("fixd_bn", ["trained_bn", "fixed_bn"])
    'did you mean fixed_bn? Valid: trained_bn, fixed_bn'
    """
    choices = list(valid)
    near = difflib.get_close_matches(word, choices, n=1) or difflib.get_close_matches(word.upper(), choices, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}Valid: {', '.join(choices)}" if hint else f"valid: {', '.join(choices)}"


def one_line(error: BaseException) -> str:
    """Return an exception's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__
