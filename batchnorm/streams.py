"""Standard output and error that may go away while the work goes on: a closed pipe or terminal, a full disk under a log."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from batchnorm.errors import reason_of

T = TypeVar("T")
_GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ESTALE)
"""Nobody will read it any more; what else fails, as a full disk, may pass."""


class LastingStream:
    """A text stream whose reader may go away: what cannot be written is dropped, and told once.

    Args:
        stream: where text goes.
        name: how `tell` is told of it.
        tell: called once, when text could not be written, with the reason.
    """

    def __init__(self, stream: TextIO, name: str, tell: Callable[[str], None]) -> None:
        self._stream = stream
        self._name = name
        self._tell = tell
        self._told = False

    def __getattr__(self, attribute: str) -> Any:
        """Be the stream in all else."""
        return getattr(self._stream, attribute)

    def write(self, text: str) -> int:
        """Write; a character that the encoding lacks is escaped."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self._lost(error)
            return len(text)
        except ValueError:  # closed by who gave it
            return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lost(error)
        except ValueError:
            pass

    def _lost(self, error: OSError) -> None:
        if error.errno in _GONE:
            send_to_nowhere(self._stream)
        if not self._told:
            self._told = True
            self._tell(f"{self._name} cannot be written ({reason_of(error)}); the run continues without it")


def shown_while_it_lasts(items: Collection[T], what: str) -> Generator[T]:
    """Go through items. On a terminal a bar of standard error shows how far that is, once it takes longer than a second."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    terminal = LastingStream(sys.stderr, "standard error", lambda _: None)
    yield from tqdm(items, desc=what, unit="run", file=cast(TextIO, terminal), delay=1, leave=False, dynamic_ncols=True)


def tell_log(line: str) -> None:
    """Log a line where the package logs already; a command that only informs ends quietly."""
    log = logging.getLogger("batchnorm")
    if log.handlers:
        log.warning(line)


@contextmanager
def lasting_output(tell: Callable[[str], None] = tell_log) -> Iterator[None]:
    """Let the block survive the loss of standard output and error; both exist in it, though they were closed before.

    Args:
        tell: called once for each of them that is lost, with a line that says so.
    """
    fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    given = [stream if stream is not None else _nowhere() for stream in before]
    lasting = [
        LastingStream(stream, name, tell) for stream, name in zip(given, ("standard output", "standard error"), strict=True)
    ]
    sys.stdout, sys.stderr = cast("list[TextIO]", lasting)
    try:
        yield
    finally:
        for stream in lasting:
            stream.flush()
        sys.stdout, sys.stderr = before
        for text in given:
            _forget_what_is_left(text)


def fill_closed_descriptors() -> None:
    """Let the null device stand in for standard streams that are closed: the next file to be opened would get their number."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def send_to_nowhere(stream: TextIO) -> None:
    """Point a stream's descriptor at nothing, so that neither Python nor a library meets its end again."""
    with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _forget_what_is_left(stream: TextIO) -> None:
    """Drop what still cannot be written: Python would complain of it at its end, and exit with 120."""
    try:
        stream.flush()
    except (OSError, ValueError):
        send_to_nowhere(stream)
