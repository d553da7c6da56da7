"""The oldest versions that pyproject.toml names, for `make test-oldest`; run it from the repository's root.

`python -m tests.oldest` prints them as pip takes them, `python -m tests.oldest --check` says whether this Python has them.
torch and torchvision are left out: they are gigabytes, so the environment shares those of .venv. So are the programs that check
the code and run none of it.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

SHARED = ("torch", "torchvision", "mypy", "ruff")


def oldest() -> dict[str, str]:
    """Return package -> version, of what the project and its tests need and name a lower bound of."""
    import tomllib

    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    bounds = (re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement) for requirement in named)
    return {bound[1]: bound[2] for bound in bounds if bound and bound[1] not in SHARED}


def differing() -> list[str]:
    """Name the packages that this Python has in another version."""
    wrong = []
    for name, version in oldest().items():
        found = importlib.metadata.version(name)
        if not re.fullmatch(rf"{re.escape(version)}(\.0)*", found):
            wrong.append(f"{name} {found} is installed, not {version}")
    return wrong


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(differing()) or 0)
    print("\n".join(f"{name}=={version}" for name, version in oldest().items()))
