"""Processes that have torch loaded already, for tests that start many: loading takes seconds of processor time.

A server (`server.py`) has everything imported. In an environment of `ready()`, a Python process that would train a run hands
this to the server (`sitecustomize.py`), which forks a process for it: with the same arguments, streams, pipes, folder,
environment, cores and ignored signals. The process that was started passes signals on, and ends as the forked one ends; where
it is killed, so is that one. Process ids differ, though, and limits of resources do not travel.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESS = "TESTS_READY"


def ready(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which runs, and workers of studies, have torch loaded."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [environment.get("PYTHONPATH")])])
    return {**environment, "PYTHONPATH": path, ADDRESS: _server()}


@cache
def _server() -> str:
    """Start the server; it ends where this process ends, whatever ends it."""
    folder = tempfile.TemporaryDirectory()
    address = str(Path(folder.name) / "socket")
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.ready.server", address], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin and server.stdout
    assert server.stdout.readline() == b"ready\n"
    server.stdout.close()

    def end() -> None:
        server.stdin.close()  # type: ignore[union-attr]
        server.wait()
        folder.cleanup()

    atexit.register(end)
    return address
