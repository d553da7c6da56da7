"""Processes that have torch and pandas loaded already, for tests that start many: loading takes seconds of processor time.

A server (`server.py`) has everything imported. In an environment of `ready()`, a Python process that would train or analyse
hands this to the server (`sitecustomize.py`), which forks a process for it: with the same arguments, streams, pipes, folder,
environment, cores and ignored signals. The process that was started passes signals on, and ends as the forked one ends; where
it is killed, so is that one. System calls fail there too, as `systems.failing` says. Process ids differ, though, and limits of
resources do not travel.
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

from tests import shim

ROOT = Path(__file__).parents[2]
ADDRESS = "TESTS_READY"


def ready(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which runs, workers of studies and commands of the analysis have their libraries loaded."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [environment.get("PYTHONPATH")])])
    return {**environment, "PYTHONPATH": path, ADDRESS: _server().address}


def served() -> list[int]:
    """Return the processes that were forked, and go on."""
    server = _server().process.pid
    return [int(child) for child in Path(f"/proc/{server}/task/{server}/children").read_text().split()]


class _Server:
    """The server, which ends where this process ends, whatever ends it."""

    def __init__(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.address = str(Path(folder.name) / "socket")
        command = [sys.executable, "-m", "tests.ready.server", self.address]
        variables = {**os.environ, "LD_PRELOAD": str(shim.library() or "")}
        self.process = subprocess.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin and self.process.stdout
        assert self.process.stdout.readline() == b"ready\n"
        self.process.stdout.close()
        atexit.register(folder.cleanup)
        atexit.register(self.process.wait)
        atexit.register(self.process.stdin.close)


@cache
def _server() -> _Server:
    return _Server()
