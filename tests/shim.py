"""The library of `errno_shim.c`, which lets system calls fail as file systems do that are not at hand."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

_built = TemporaryDirectory()


@cache
def library() -> Path | None:
    """Compile it, where there is a compiler."""
    if shutil.which("gcc") is None:
        return None
    path = Path(_built.name) / "errno_shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, Path(__file__).parent / "errno_shim.c", "-ldl"], check=True)
    return path
