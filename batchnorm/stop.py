"""Asking a run to stop: SIGTERM, SIGINT and SIGUSR1 are noted, and the run obeys between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Interrupted(Exception):
    """The run was asked to stop, and has written its checkpoint. Its text names the signal."""


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note stop signals while the block runs; outside the main thread, where Python allows no handlers, do nothing.

    A second SIGINT interrupts at once, as it does elsewhere; the last checkpoint stays whole.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        request.signal = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
