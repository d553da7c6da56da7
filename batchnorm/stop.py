"""Asking a run to stop: SIGTERM, SIGINT, SIGHUP and SIGUSR1 are noted, and the run obeys between two steps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from batchnorm.errors import ExitCode

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Those of them that the system has; Windows lacks the last two."""


def leave_on_interrupt() -> None:
    """End the process at once on SIGINT, without a traceback: while a command loads, nothing of it has begun.

    Libraries that are being imported may swallow a KeyboardInterrupt, or turn it into another error.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        os._exit(ExitCode.INTERRUPTED)

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, leave)


def end_on_interrupt() -> None:
    """Let SIGINT end the process at once as a signal does, and say nothing, where Python would raise KeyboardInterrupt."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


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

    A second SIGINT interrupts at once, as it does elsewhere; the last checkpoint stays whole. A signal that the process
    was started to ignore stays ignored: SIGHUP under nohup, SIGINT in a script's background.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        request.signal = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    noted = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in noted}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
