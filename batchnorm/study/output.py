"""Standard output and error that may go away: a reader that has ended, a full disk, a terminal that was closed.

What works goes on without them (`outlast_output`); what only informs ends quietly, or says why it cannot (`tell`).
"""

from __future__ import annotations

import io
import sys
from typing import Any, TextIO

from batchnorm.errors import StudyError, one_line
from batchnorm.streams import fill_closed_descriptors, send_to_nowhere


class _Lasting(io.FileIO):
    """A file in which what cannot be written is lost, without an error."""

    def write(self, data: Any, /) -> int:
        """Write, or seem to."""
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def open_streams() -> None:
    """Make the three standard streams usable, whatever was closed before this process began.

    A closed one becomes the null device.
    """
    fill_closed_descriptors()
    sys.stdout = sys.stdout or _lasting(1)
    sys.stderr = _lasting(2, sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_errors(sys.stdout.encoding))


def outlast_output() -> None:
    """From now on go on where standard output is gone; a stream that somebody else has put in its place stays."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lasting(1, sys.stdout)


def tell(text: str) -> bool:
    """Print text that was asked for, and say whether it is read: one who has seen enough, as in `list ... | head`, is no error.

    Raises:
        StudyError: it cannot be written, as on a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        send_to_nowhere(sys.stdout)  # or the interpreter tries once more at its end
        if not isinstance(error, BrokenPipeError):
            raise StudyError(f"standard output: cannot be written: {error.strerror or one_line(error)}") from None
        return False
    return True


def _lasting(number: int, before: TextIO | None = None) -> io.TextIOWrapper:
    encoding = before.encoding if before else "utf-8"
    raw = io.BufferedWriter(_Lasting(number, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding=encoding, errors=_errors(encoding), line_buffering=True)


def _errors(encoding: str) -> str:
    """Say what becomes of text that the encoding lacks: file names keep their bytes, the rest is spelt out."""
    return "surrogateescape" if encoding.lower().replace("-", "") == "utf8" else "backslashreplace"
