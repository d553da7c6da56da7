"""One HTML page to explore runs, offline, in any browser: curves, parameters, effects and paired differences.

`data` gathers what it holds, `blobs` packs numbers, `page` puts the file together. What stands in a page is told to its scripts
in manifest.d.ts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from batchnorm.analysis.files import whole_file
from batchnorm.analysis.runs import LEFT_OUT, RunPath, RunPaths, as_list, find_runs, read_or_refused
from batchnorm.analysis.shell import Command, asked_for, chosen_paths

__all__ = ["report"]


def report(paths: RunPaths, out: RunPath | None = None, *, title: str | None = None) -> Path:
    """Write one HTML page that shows all runs, and return its path.

    Args:
        paths: a folder with runs below it, or several folders, runs or glob patterns.
        out: the file; None stands for `report.html` in the folder that holds the runs.
        title: of the page; None names the folder.

    Raises:
        RunError: no run lies there, none can be read, or the file cannot be written.
    """
    roots = as_list(paths)
    return _write(find_runs(roots), roots, out, title)


def _write(paths: list[Path], roots: list[RunPath], out: RunPath | None, title: str | None) -> Path:
    from batchnorm.analysis.report import data
    from batchnorm.analysis.report.page import page

    done, refused = read_or_refused(paths, data.reach, keep_open=True)
    for reason in refused.values():
        LEFT_OUT.warning("%s", reason)
    found = data.sort(dict(done))
    manifest, blobs = data.manifest_of(found, title=title or data.default_title(roots), roots=roots)
    place = Path(out) if out is not None else Path(roots[0]) / "report.html"
    manifest["unreadable"] = [
        {"path": data.below(Path(path), roots), "reason": reason.removeprefix(f"{path}: ")} for path, reason in refused.items()
    ]
    pieces = page(manifest, blobs)
    with whole_file(place) as file:
        file.writelines(pieces)
    return place


def _run(given: argparse.Namespace) -> str:
    paths = [Path(path) for path in chosen_paths(given)] if asked_for(given) else find_runs(given.paths)
    return f"{_write(paths, given.paths, given.out, given.title)}\n"


COMMAND = Command(
    "report",
    "one HTML page to explore all runs in a browser, offline",
    "output --out report.html",
    _run,
    {
        "--out": {"type": Path, "metavar": "FILE", "help": "the page (default: report.html in the folder that holds the runs)"},
        "--title": {"metavar": "TEXT", "help": "of the page (default: the folder's name)"},
    },
    draws=False,
)
