"""Files that are whole or not there: they are written beside their place, and put there when they are complete."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from batchnorm.errors import RunError, reason_of


@contextmanager
def whole_file(path: Path | str, *, what: str | None = None) -> Iterator[BinaryIO]:
    """Give a file to write. It takes its place, with the folders above it, when the block has ended without an error.

    What stood there before stays until then. Ctrl-C, a full disk or an error leave nothing behind.

    Args:
        path: its place.
        what: what a message names instead of the path.

    Raises:
        RunError: it cannot be written.
    """
    place = Path(os.path.realpath(path))  # a link stays one
    unfinished = place.with_name(f".{secrets.token_hex(6)}.new")
    try:
        with _ctrl_c_unwinds():
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                with unfinished.open("xb") as file:
                    yield file
                unfinished.replace(place)
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{what or f'{path}:'} cannot be written: {reason_of(error)}") from None


@contextmanager
def _ctrl_c_unwinds() -> Iterator[None]:
    """Let Ctrl-C end the block before it ends the process, in a command that it would end at once."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
