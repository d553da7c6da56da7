"""Files that travel with the package, and which file a relative path means.

`configs/` and `sbatch/` stand at the top of the repository. setup.py puts them into a wheel as `batchnorm/configs/` and
`batchnorm/sbatch/`. A checkout that is not installed and an editable one (`pip install -e`) have no such copies: there they
are beside the package.
"""

from __future__ import annotations

from pathlib import Path

from batchnorm.errors import nearest_first

CONFIGS, STUDIES, SCRIPTS = Path("configs"), Path("configs/studies"), Path("sbatch")
_PACKAGE = Path(__file__).resolve().parent
ROOT = _PACKAGE if (_PACKAGE / CONFIGS).is_dir() else _PACKAGE.parent
"""The folder in which `configs/` and `sbatch/` are."""


def find(given: Path, *, among: Path) -> Path:
    """Return the file that a path means: the path itself, or a shipped file where it is relative and nothing is there.

    A shipped file is meant by its path in the repository, `configs/studies/modes.yaml`, or its name, `modes.yaml` or `modes`.
    Where there is none either, the path comes back, and who reads it says so.

    Args:
        given: the path, as a user writes it.
        among: the folder of the files that a name alone may mean.
    """
    if given.is_absolute() or ".." in given.parts or not given.name or _is_file(given):
        return given
    named = ROOT / among / given
    places = [ROOT / given] if given.is_relative_to(CONFIGS) or given.is_relative_to(SCRIPTS) else []
    return next((path for path in (*places, named, named.with_name(f"{given.name}.yaml")) if _is_file(path)), given)


def told(key: str, given: Path, found: Path) -> str | None:
    """Say in a line that a shipped file was taken; None where it was another."""
    return None if found == given else f"{key}={given}: the shipped file {found}"


def not_there(given: Path, *, among: Path) -> str:
    """Say that there is no such file; of a relative path, which shipped files there are."""
    if given.is_absolute():
        return "no such file"
    names = nearest_first(given.stem, [path.stem for path in files(among)])
    return f"no such file below {Path.cwd()}, nor among the shipped ones; {names}"


def files(among: Path) -> list[Path]:
    """Return the files in one of the shipped folders."""
    return sorted(path for path in (ROOT / among).iterdir() if path.is_file() and not path.name.startswith("."))


def is_missing(path: Path) -> bool:
    """Say whether it is certain that nothing is there; of a path that cannot be looked at, reading says why."""
    try:
        return not path.exists()
    except (OSError, ValueError):
        return False


def _is_file(path: Path) -> bool:
    """Say whether there is something to read: no folder; what cannot be looked at is for the reader to complain of."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return True
