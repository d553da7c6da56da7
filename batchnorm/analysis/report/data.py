"""What a page holds, as manifest.d.ts says it: runs, metrics, variants and curves; plain values and blobs, no HTML."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchnorm import __version__
from batchnorm.analysis.outcome import Outcome, Result
from batchnorm.analysis.report.blobs import packed
from batchnorm.analysis.report.parameters import Place, places_in
from batchnorm.analysis.runs import RunPath, distinct, is_full, output_folder, problem_of
from batchnorm.analysis.settings import optimizer_tells_hyperparameters, plain_setting
from batchnorm.analysis.shell import LISTED_DIGITS
from batchnorm.analysis.variants import FULL_ROW, legend_place, row_of
from batchnorm.config import SLOT_KEYS, RunLength
from batchnorm.errors import RunError
from batchnorm.modes import Dashes, Mask, Mode, format_mask, variant_of
from batchnorm.quantities import METRICS, QUANTITIES, of_axis
from batchnorm.store import Run, RunDirectory, Status

Variant = tuple[str, Mask, str]
"""A problem, a mask and a mode."""
_ONCE_AN_EPOCH = (*METRICS, *(quantity.name for quantity in of_axis("probes") if quantity.per == "run"))
_SHARES = [name for name in _ONCE_AN_EPOCH if "_acc" in name]
_LINE_WIDTH = 2
_DOTS = [2, 4]
_LOGGED_WARNING = re.compile(r"^\S+ \S+ (?:WARNING|ERROR) ", re.MULTILINE)
_MOST_WARNINGS = 20
_LOG_BYTES = 1_000_000


@dataclass(frozen=True)
class Reached:
    """How a run stood when it was read, and what it had recorded once an epoch.

    Attributes:
        status: in one word.
        length: of the whole run.
        last_epoch: that it had reached; -1 before the first row.
        epochs: of the rows, shape (E,).
        curves: the metrics that it has, each of shape (E,); NaN at epochs without a value.
        warnings: a line each.
        parameters: the quantities and slots that it has a number for each channel of.
        result: the number by which runs are compared; None of a run that has not ended, or has none.
    """

    status: Status
    length: RunLength
    last_epoch: int
    epochs: NDArray[np.int64]
    curves: Mapping[str, NDArray[np.float64]]
    warnings: tuple[str, ...]
    parameters: tuple[Place, ...]
    result: Result | None

    def final(self, metric: str) -> float | None:
        """Return a metric at the last epoch that has a value, epoch 0 aside; None where there is none."""
        values = self.curves.get(metric, np.empty(0))
        there = values[(self.epochs[: len(values)] > 0) & np.isfinite(values)]
        return float(there[-1]) if len(there) else None


def reach(run: Run, outcome: Outcome, *, parameters: bool) -> Reached:
    """Read how a run stands, its curves, in the units that a page shows (accuracies in per cent), and its outcome.

    Which parameters there are takes time to find, and is left out where they are not asked for.
    """
    rows = run.of_epochs("epoch", *METRICS)
    epochs = rows["epoch"]
    curves = {name: np.asarray(rows[name], dtype=np.float64) for name in METRICS}
    for name in _ONCE_AN_EPOCH[len(METRICS) :]:
        if run.has(name):
            at = dict(zip(run.index(name)["epoch"].tolist(), run.read(name).tolist(), strict=False))
            curves[name] = np.array([at.get(epoch, np.nan) for epoch in epochs.tolist()], dtype=np.float64)
    curves = {name: 100 * values if name in _SHARES else values for name, values in curves.items()}
    last = int(epochs[-1]) if len(epochs) else -1
    status = run.status
    result = _result(run, status, outcome)
    places = tuple(places_in(run)) if parameters else ()
    return Reached(status, run.length, last, epochs, curves, tuple(_warnings(run)), places, result)


def _result(run: Run, status: Status, outcome: Outcome) -> Result | None:
    """Return a run's outcome; None where it has none."""
    try:
        if status == Status.FINISHED:
            return outcome.of(run)
        return outcome.of_chance(run) if status == Status.DIVERGED and outcome.has_chance else None
    except RunError:
        return None


def _warnings(run: Run) -> Iterable[str]:
    """Return what the run's log warned of."""
    try:
        with RunDirectory(run.directory).log.open("rb") as file:
            text = file.read(_LOG_BYTES).decode("utf-8", "replace")
    except OSError:  # it was deleted, or never written
        return []
    found = [line for line in text.split("\n") if _LOGGED_WARNING.match(line)]
    return found[-_MOST_WARNINGS:]


@dataclass(frozen=True)
class Sorted:
    """Runs in a page's order, and what their places refer to.

    Attributes:
        runs: each real one once.
        reached: by run.
        variants: problem, mask and mode.
        keys: settings in which the runs differ, with their values as text.
        metrics: those that a run has.
    """

    runs: tuple[Run, ...]
    reached: Mapping[Run, Reached]
    variants: tuple[Variant, ...]
    keys: Mapping[str, tuple[str, ...]]
    metrics: tuple[str, ...]

    def variant(self, run: Run) -> int:
        """Return a run's place in `variants`."""
        return self.variants.index(what_is_trained(run))


def what_is_trained(run: Run) -> Variant:
    """Return a run's problem, mask and mode."""
    return problem_of(run), run.mask, run.mode


def sort(reached: Mapping[Run, Reached]) -> Sorted:
    """Put runs in order: by problem, mask, mode, settings and seed. Of records of the same run the longest counts."""
    runs = distinct(reached)
    keys = _differing(runs)
    orders = {key: {text: place for place, text in enumerate(values)} for key, values in keys.items()}

    def place(run: Run) -> tuple[Any, ...]:
        settings = [orders[key].get(_text(run.settings.get(key)), -1) for key in keys]
        return problem_of(run), run.mask, legend_place(row_of(run.mode)), run.mode, settings, run.config.random_seed

    runs.sort(key=place)
    variants = tuple(dict.fromkeys(map(what_is_trained, runs)))
    metrics = tuple(name for name in _ONCE_AN_EPOCH if any(name in reached[run].curves for run in runs))
    return Sorted(tuple(runs), {run: reached[run] for run in runs}, variants, keys, metrics)


def _differing(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """Return the settings in which runs differ, and the values as text in the order of the values."""
    settings = [run.settings for run in runs]
    untold = {"PROBLEM", "OPT_HPARS"} if optimizer_tells_hyperparameters(settings) else {"PROBLEM"}
    keys = [key for key in dict.fromkeys(key for each in settings for key in each) if key not in untold]
    found = {}
    for key in keys:
        values = {json.dumps(each[key], sort_keys=True): each[key] for each in settings if key in each}
        if len(values) > 1 or (key not in SLOT_KEYS and any(key not in each for each in settings)):
            found[key] = tuple(dict.fromkeys(map(_text, sorted(values.values(), key=_by_size))))
    return found


def _by_size(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, (int, float))
    return not is_number, float(value) if is_number else 0.0, _text(value)


def _text(value: Any) -> str:
    """Write a setting as a table has it; numbers with all the digits that tell them apart."""
    value = plain_setting(value)
    if isinstance(value, float):
        short = f"{value:.{LISTED_DIGITS}g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None or value == "" else str(value)


def manifest_of(found: Sorted, *, title: str, roots: Sequence[RunPath]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a manifest without parameters and comparisons, and the blob of curves.

    Args:
        found: the runs.
        title: of the page.
        roots: the paths as they were given.
    """
    curves: list[NDArray[np.float32]] = []
    offset, runs = 0, []
    for run in found.runs:
        reached = found.reached[run]
        rows = len(reached.epochs)
        lacking = np.full(rows, np.nan)
        curves += [reached.curves.get(name, lacking)[:rows].astype(np.float32) for name in found.metrics]
        runs.append(_run(run, found, offset, roots))
        offset += rows * len(found.metrics)
    manifest = {
        "version": 1,
        "title": title,
        "root": ", ".join(map(str, roots)),
        "written": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "software": f"DissectBatchNorm {__version__}",
        "keys": [{"name": key, "values": list(values)} for key, values in found.keys.items()],
        "metrics": list(map(_metric, found.metrics)),
        "variants": _variants(found),
        "runs": runs,
        "effects": [],
        "pairs": [],
        "unreadable": [],
        "notes": [],
    }
    with np.errstate(over="ignore"):
        return manifest, {"curves": packed(np.concatenate([np.empty(0, np.float32), *curves]))}


def _run(run: Run, found: Sorted, offset: int, roots: Sequence[RunPath]) -> dict[str, Any]:
    reached = found.reached[run]
    rows = len(reached.epochs)
    settings = run.settings
    places = [values.index(_text(settings[key])) if key in settings else -1 for key, values in found.keys.items()]
    return {
        "path": below(run.directory, roots),
        "variant": found.variant(run),
        "seed": run.config.random_seed,
        "status": reached.status.value,
        "epochs": max(reached.last_epoch, 0),
        "of": reached.length.epochs,
        "settings": places,
        "config": [[key, _text(value)] for key, value in run.config.to_dict().items()],
        "versions": [[key, _text(value)] for key, value in run.versions.items() if key != "earlier_parts"],
        "warnings": [*reached.warnings],
        "final": [reached.final(name) for name in found.metrics],
        "curves": {"offset": offset, "rows": rows} if rows else None,
        "epochsOf": None if np.array_equal(reached.epochs, np.arange(rows)) else reached.epochs.tolist(),
        "parameters": [],
    }


def below(directory: Path, roots: Sequence[RunPath]) -> str:
    """Return a run's path below the one folder that was given; as it was found where there are several."""
    if len(roots) == 1 and Path(roots[0]) in directory.parents:
        return str(directory.relative_to(roots[0]))
    return str(directory)


def _metric(name: str) -> dict[str, Any]:
    quantity = QUANTITIES[name]
    share = name in _SHARES
    words = Outcome(name).words.removeprefix("final ").replace(" acc ", " accuracy ")
    better = "high" if share else "low" if "_loss" in name else ""
    steep = quantity.measurement in ("sharpness", "batch_sharpness", "landscape")
    return {"name": name, "label": words, "unit": "%" if share else quantity.unit, "better": better, "log": steep}


def _variants(found: Sorted) -> list[dict[str, Any]]:
    rows = _looks(found)
    return [
        {
            "name": variant_of(mask, mode),
            "problem": problem,
            "mask": format_mask(mask),
            "mode": mode,
            "color": row.colour,
            "colorDark": on_dark(row.colour),
            "dash": _pixels(row.dashes),
        }
        for (problem, mask, mode), row in zip(found.variants, rows, strict=True)
    ]


def _looks(found: Sorted) -> list[Mode]:
    """Return how each variant is drawn; full BatchNorm is a reference where it alone has its mask, beside others."""
    full = {what_is_trained(run) for run in found.runs if is_full(run)}
    rows = []
    for variant in found.variants:
        problem, mask, _ = variant
        others = [other for other in found.variants if other[0] == problem and any(other[1]) and other != variant]
        alone = bool(others) and all(other[1] != mask for other in others)
        rows.append(FULL_ROW if variant in full and alone else row_of(variant[2]))
    return rows


def _pixels(dashes: Dashes | str) -> list[float]:
    if isinstance(dashes, str):
        return [] if dashes == "-" else [float(length) for length in _DOTS]
    return [_LINE_WIDTH * float(length) for length in dashes[1]]


_DARK = (0x16, 0x18, 0x1C)
_CONTRAST = 4.5


def on_dark(colour: str) -> str:
    """Return a colour of figures as it stands on a dark page: mixed with white until it has WCAG's contrast; black is white.

    >>> on_dark("#000000"), on_dark("#E69F00")
    ('#ffffff', '#e69f00')
    """
    start = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)], dtype=np.float64)
    if np.ptp(start) == 0:
        start = 255 - start  # black becomes white
    for share in np.linspace(0, 1, 52):
        mixed = np.rint(start + share * (255 - start))
        if (_luminance(mixed) + 0.05) / (_luminance(np.array(_DARK, dtype=np.float64)) + 0.05) >= _CONTRAST:
            break
    return "#" + "".join(f"{int(part):02x}" for part in mixed)


def _luminance(colour: NDArray[np.float64]) -> float:
    """Return WCAG's relative luminance of an sRGB colour."""
    share = colour / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def home_of(runs: Sequence[Run], roots: Sequence[RunPath]) -> Path:
    """Return where a page of runs goes: into the folder that holds them, or into the one that was given above it."""
    folder, root = output_folder(runs[0]), Path(roots[0])
    real = Path(os.path.realpath(folder))
    return root if Path(os.path.realpath(root)) in (real, *real.parents) else folder


def default_title(roots: Sequence[RunPath]) -> str:
    """Name a page by the folders that it is of."""
    names = [Path(os.path.realpath(root)).name or str(root) for root in roots]
    return f"Report on {', '.join(names)}"
