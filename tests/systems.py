"""File systems, users and terminals that are not at hand, for commands in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import shim
from tests.ready import ready

ROOT = Path(__file__).parent.parent
TRAIN = [sys.executable, str(ROOT / "run_trainingLoop.py")]
PYTHON = [sys.executable, "-c"]
STRANGER = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]


def environment(**more: object) -> dict[str, str]:
    """Return this process's environment, in which the package is found from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in more.items()}}


def trains_at_once(**more: object) -> dict[str, str]:
    """Return such an environment in which what trains a run has torch loaded."""
    return ready(environment(**more))


def failing(**calls: object) -> dict[str, str]:
    """Return an environment in which system calls fail, by the names in `errno_shim.c`."""
    if (library := shim.library()) is None:
        pytest.skip("needs gcc")
    return environment(LD_PRELOAD=library, **calls)


def as_stranger(code: str, *arguments: object) -> str:
    """Run Python code as a user who owns nothing here, and return what it prints."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root, to be another user")
    command = [*STRANGER, *PYTHON, code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that every user can look into; pytest's own are closed to others."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Mount a folder a second time, read-only, as root can."""
    seen = folder.with_name(folder.name + "-read-only")
    seen.mkdir()
    mounted = subprocess.run(["mount", "--bind", "-o", "ro", folder, seen], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs to mount a folder: {mounted.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", seen], check=True)
        yield seen
    finally:
        subprocess.run(["umount", seen], check=True)
