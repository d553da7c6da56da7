"""The errors a user can cause or meet, each one clear line, and the exit codes of the commands."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

MISSING_HERE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What a file system answers that does not have a call: a lock, or writing through to the disk."""


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
    """Something the user can put right. Its text is one line; commands print it and exit with `ExitCode.BAD_INPUT`.

    Attributes:
        in_shell: what commands print: the same, where options and commands are called otherwise than in Python.
    """

    def __init__(self, text: str = "", *, in_shell: str | None = None) -> None:
        super().__init__(text)
        self.in_shell = text if in_shell is None else in_shell


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


START_AGAIN = "OUTPUT_DIR=... trains it in another directory; OVERWRITE=true starts the run again from the beginning"
"""What can be done with a directory that cannot be used: what deletes nothing comes first."""


def wrong_argument(name: str, value: object, why: str, *, option: str | None = None) -> RunError:
    """Return the error of an argument: `style=nips: ...`, and in the shell `--style nips: ...`.

    >>> wrong_argument("epochs_to", 90, "must be a share of 1").in_shell
    '--epochs-to 90: must be a share of 1'
    """
    in_shell = f"--{option or name.replace('_', '-')} {value}: {why}"
    return RunError(f"{name}={value}: {why}", in_shell=in_shell)


def nearest_first(word: str, valid: Iterable[str]) -> str:
    """List the valid choices for a message, with the nearest spelling in front.

    >>> nearest_first("fixd_bn", ["trained_bn", "fixed_bn"])
    'did you mean fixed_bn? Valid: trained_bn, fixed_bn'
    """
    choices = list(valid)
    near = difflib.get_close_matches(word, choices, n=1) or difflib.get_close_matches(word.upper(), choices, n=1)
    near = near or [choice for choice in choices if len(word) > 2 and word.upper() in choice.upper()]
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}Valid: {', '.join(choices)}" if hint else f"valid: {', '.join(choices)}"


def one_line(error: BaseException) -> str:
    """Return an exception's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def reason_of(error: BaseException) -> str:
    """Return why something failed in the system's words, `Permission denied`; the whole text where it has none."""
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory, of the machine or of a GPU, has run out; torch and the loader have words of their own."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    told = ("can't allocate memory", "failed to map segment", "Cannot allocate memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in str(error) for words in told)
    )


def what_is_short(error: Exception) -> str | None:
    """Say what the machine lacks where that is why something failed; None for any other error."""
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN):
        return "too many processes" if error.errno == errno.EAGAIN else "too many open files"
    return "too many threads" if "can't start new thread" in str(error) else None


def out_of_memory(error: BaseException) -> str:
    """Say that memory ran out, what was asked for, and what needs less."""
    asked = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
    wanted = f" ({asked[1]} more were wanted)" if asked else ""
    return f"out of memory{wanted}; a smaller BATCH_SIZE or fewer runs at a time need less"


def cannot_be_read(path: Path, error: BaseException) -> str:
    """Say that a file may be whole and cannot be read; where its content is bad, a message says `damaged`."""
    return f"{path}: cannot be read ({reason_of(error)})"


def command_that_goes_on(*, overwrite: bool) -> str:
    """Name the command that goes on with a run that has begun: OVERWRITE=true would start it afresh once more."""
    return "the same command without OVERWRITE=true continues" if overwrite else "the same command continues"
