"""One HTML page to explore runs, offline, in any browser: curves, parameters, effects and paired differences.

`data` gathers what it holds, `blobs` packs numbers, `page` puts the file together. What stands in a page is told to its scripts
in manifest.d.ts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchnorm.analysis.files import whole_file
from batchnorm.analysis.outcome import ARGUMENTS, Outcome, outcome_of
from batchnorm.analysis.runs import LEFT_OUT, RunPath, RunPaths, find_runs, paths_of, read_or_refused
from batchnorm.analysis.shell import Command, asked_for, chosen_paths
from batchnorm.errors import UserError
from batchnorm.store import Run
from batchnorm.streams import shown_while_it_lasts

if TYPE_CHECKING:
    from batchnorm.analysis.report.data import Sorted

__all__ = ["report"]
MOST_RUNS = 200
"""With more runs a page has the parameters of those alone that are asked for."""


def report(
    paths: RunPaths,
    out: RunPath | None = None,
    *,
    title: str | None = None,
    parameters: Sequence[str] | str | None = None,
    metric: str = "test_acc",
    last: int = 1,
    epochs_to: float | None = None,
) -> Path:
    """Write one HTML page that shows all runs, and return its path.

    Args:
        paths: a folder with runs below it, or several folders, runs or glob patterns.
        out: the file; None stands for `report.html` in the folder that holds the runs.
        title: of the page; None names the folder.
        parameters: which runs' gamma, beta and so on the page has: `all`, `none`, or patterns of their paths, as
            `*fixed_gamma*`. None stands for all up to 200 runs, and none of more.
        metric: by which runs are compared, as `batchnorm.analysis.effects.table_of` takes it.
        last: see there.
        epochs_to: see there.

    Raises:
        RunError: no run lies there, none can be read, or the file cannot be written.
    """
    roots = paths_of(paths)
    patterns = [parameters] if isinstance(parameters, str) else parameters
    return _write(find_runs(roots), roots, _Asked(out, title, patterns, Outcome(metric, last, epochs_to)))


@dataclass(frozen=True)
class _Asked:
    """How a page is asked for; None: as it is by default."""

    out: RunPath | None
    title: str | None
    parameters: Sequence[str] | None
    outcome: Outcome


def _write(paths: Sequence[Path], roots: Sequence[RunPath], asked: _Asked) -> Path:
    """Write the page of some runs, and return its path."""
    from batchnorm.analysis.report import data
    from batchnorm.analysis.report.compared import compare
    from batchnorm.analysis.report.page import page

    patterns = asked.parameters or ["all" if len(paths) <= MOST_RUNS else "none"]
    read = partial(data.reach, outcome=asked.outcome, parameters=list(patterns) != ["none"])
    done, refused = read_or_refused(paths, read, keep_open=True)
    for reason in refused.values():
        LEFT_OUT.warning("%s", reason)
    found = data.sort(dict(done))
    manifest, blobs = data.manifest_of(found, title=asked.title or data.default_title(roots), roots=roots)
    manifest["unreadable"] = [
        {"path": data.below(Path(path), roots), "reason": str(reason).removeprefix(f"{path}: ")}
        for path, reason in refused.items()
    ]
    if asked.parameters is None and len(paths) > MOST_RUNS:
        manifest["notes"].append(
            f"No parameters: a page of more than {MOST_RUNS} runs has those alone that --parameters asks for (all, or "
            "patterns of runs' paths)."
        )
    blobs |= _parameters(found, manifest, patterns)
    comparisons = compare(found, asked.outcome)
    manifest |= {"effects": comparisons.effects, "pairs": comparisons.pairs}
    manifest["notes"] += comparisons.notes
    place = Path(asked.out) if asked.out is not None else data.home_of(found.runs, roots) / "report.html"
    pieces = page(manifest, blobs)
    with whole_file(place) as file:
        file.writelines(pieces)
    return place


def _parameters(found: Sorted, manifest: dict[str, Any], patterns: Sequence[str]) -> dict[str, str]:
    """Put parameters into the manifest's runs, and return their blobs."""
    from batchnorm.analysis.report.parameters import chosen_runs, gather, size_for

    entries = manifest["runs"]
    chosen = chosen_runs([entry["path"] for entry in entries], patterns)
    asked = [pair for pair, is_chosen in zip(zip(found.runs, entries, strict=True), chosen, strict=True) if is_chosen]
    if asked and len(asked) < len(entries):
        manifest["notes"].append(f"Parameters of {len(asked)} of {len(entries)} runs: {' '.join(patterns)}.")
    size = size_for([place for run, _ in asked for place in found.reached[run].parameters])
    blobs: dict[str, str] = {}
    reduced = 0
    for run, entry in shown_while_it_lasts(asked, "parameters"):
        try:
            with Run.opened(run.directory) as opened:
                gathered = gather(opened, found.reached[run].parameters, size, first=len(blobs))
        except UserError as error:
            LEFT_OUT.warning("%s", error)
            manifest["notes"].append(f"{entry['path']}: its parameters cannot be read.")
            continue
        entry["parameters"] = gathered.entries
        blobs |= gathered.blobs
        reduced += gathered.reduced
    if reduced:
        manifest["notes"].append(
            f"Parameters are shown on at most {size.columns} spans of steps and {size.rows} groups of neighbouring channels; "
            "of several values the one furthest from its surroundings stays."
        )
    return blobs


def _run(given: argparse.Namespace) -> str:
    paths = [Path(path) for path in chosen_paths(given)] if asked_for(given) else find_runs(given.paths)
    return f"{_write(paths, given.paths, _Asked(given.out, given.title, given.parameters, outcome_of(given)))}\n"


COMMAND = Command(
    "report",
    "one HTML page to explore all runs in a browser, offline",
    "output --out report.html",
    _run,
    {
        "--out": {"type": Path, "metavar": "FILE", "help": "the page (default: report.html in the folder that holds the runs)"},
        "--parameters": {
            "nargs": "+",
            "metavar": "PATTERN",
            "help": "runs with gamma, beta, ...: all | none | patterns of paths (default: all up to 200 runs, else none)",
        },
        **ARGUMENTS,
        "--title": {"metavar": "TEXT", "help": "of the page (default: the folder's name)"},
    },
    draws=False,
)
