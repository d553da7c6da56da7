"""What a run tells: coloured lines on the console, the same lines in run.log, and a progress bar on a terminal."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import coloredlogs
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

Item = TypeVar("Item")
LINE = "%(asctime)s %(message)s"
DATE = "%H:%M:%S"
logger = logging.getLogger("batchnorm")


def log_to_console() -> None:
    """Show the package's log lines on standard error, in colours where it is a terminal that has them."""
    logging.raiseExceptions = False  # a full disk must not add a traceback for each log line
    colours = False if os.environ.get("TERM") == "dumb" else None
    coloredlogs.install(level="INFO", logger=logger, fmt=LINE, datefmt=DATE, isatty=colours)


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append the package's log lines to a file while the block runs, and keep them clear of the progress bar."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        with logging_redirect_tqdm([logger]):
            yield
    finally:
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):  # the disk is full; the run says so itself
            handler.close()


def progress(steps: Iterable[Item], *, total: int, done: int, title: str) -> Iterator[Item]:
    """Pass steps through and show a bar on a terminal; elsewhere nothing."""
    yield from tqdm(steps, desc=title, total=total, initial=done, unit="step", leave=False, disable=None, dynamic_ncols=True)
