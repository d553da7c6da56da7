"""Standard output and error of a command: either may be closed, full, gone, or of an encoding that lacks a sign."""

from __future__ import annotations

import codecs
import io
import locale
import os
import shutil
import sys
from pathlib import Path

from batchnorm.streams import fill_closed_descriptors, send_to_nowhere

PLUS_MINUS = "±"
_ERRORS = "batchnorm.as_far_as_possible"


class Output:
    """Standard output. Once it takes no more, what is written is dropped, so that the work goes on.

    Attributes:
        error: why it took no more, if so.
    """

    error: OSError | None = None

    def write(self, text: str) -> None:
        """Write at once."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            self.error = self.error or error
            send_to_nowhere(sys.stdout)


def tell(line: str) -> None:
    """Write a line to standard error, if it takes it."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        send_to_nowhere(sys.stderr)


def prepare() -> None:
    """Let the null device stand in for streams that are closed, and let no text fail for its letters."""
    fill_closed_descriptors()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  (it stays open)
    codecs.register_error(_ERRORS, _as_far_as_possible)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ERRORS)


def plus_minus() -> str:
    """Return the sign that standard output can show."""
    encodings = [sys.stdout.encoding or "ascii"]
    if hasattr(locale, "nl_langinfo"):  # in the locale C Python writes UTF-8, which nobody may read there
        encodings.append(locale.nl_langinfo(locale.CODESET))
    try:
        for encoding in encodings:
            PLUS_MINUS.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return "+/-"
    return PLUS_MINUS


def terminal_width() -> int | None:
    """Return how many letters a line has room for where standard output is a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _as_far_as_possible(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write the bytes of file names that are no text as they are, and other letters that the encoding lacks as escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)
