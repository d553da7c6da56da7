"""Tables of runs: what each variant reached over its seeds, and how variants differ seed by seed; CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from batchnorm.analysis.runs import Group, RunPaths, distinct, find_runs, group_seeds, state_of
from batchnorm.analysis.variants import ORDER
from batchnorm.errors import RunError, nearest_first
from batchnorm.masks import Ablation, format_mask
from batchnorm.store import Run

LAST_EPOCHS = 10
MEASURES = ("test_acc_final", "test_acc_best", "test_acc_last10", "train_loss_final", "seconds")
"""What a finished run reached; the tables hold mean and standard deviation of each."""

_HEADERS = {
    "test_acc_final": "final test accuracy (%)",
    "test_acc_best": "best test accuracy (%)",
    "test_acc_last10": f"test accuracy, last {LAST_EPOCHS} epochs (%)",
    "train_loss_final": "final train loss",
    "seconds": "time (s)",
}
_KEYS = {"LR": "lr", "NUM_EPOCHS": "epochs", "OPTIMIZER": "optimizer"}
_FORMATS = {".csv": "csv", ".md": "markdown", ".tex": "latex"}


def summary(root: RunPaths) -> pd.DataFrame:
    """Return one row per problem, mask, mode, optimizer, learning rate and epochs, over the finished runs of all seeds.

    Args:
        root: a folder with runs below it, or several folders, runs or glob patterns.

    Returns:
        Columns `problem`, `mask`, `mode`, `variant`, `optimizer`, `lr`, `epochs`, and any other key in which these runs
        differ; `seeds`: how many finished, `diverged` and `unfinished`: how many did not, and are left out; then
        `*_mean` and `*_std` (n - 1; none for one seed) of final, best and last-10-epochs test accuracy (shares of 1),
        of the final train loss (nats per image), and of the time for training and evaluation (seconds).

    Raises:
        RunError: no run lies there, or one cannot be read.
    """
    groups = _sorted_groups(root)
    more = _differing_keys(groups)
    rows = []
    for group in groups:
        states = [state_of(run) for run in group.runs]
        finished = [measures(run) for run, state in zip(group.runs, states, strict=True) if state == "finished"]
        counts = {
            "seeds": len(finished),
            "diverged": states.count("diverged"),
            "unfinished": states.count("running") + states.count("cut off"),
        }
        rows.append({**_facts(group, more), **counts, **_statistics(finished)})
    return pd.DataFrame(rows)


def paired_difference(root: RunPaths, reference: str = "trained_bn", *, measure: str = "test_acc_final") -> pd.DataFrame:
    """Return how each variant differs from the reference over the seeds that both have finished.

    Runs with one seed start from the same weights and see the same batches, so that their difference says more than two
    means. A variant is compared with the reference of its own mask; vanilla with those of all masks.

    Args:
        root: as in `summary`.
        reference: a mode, or `vanilla`.
        measure: one of `MEASURES`.

    Returns:
        Columns as in `summary` up to the settings; `reference`, `reference_mask`, `measure`; `n`: pairs; `difference`:
        variant minus reference, the mean over pairs; `low`, `high`: its 95 % confidence interval (Student's t); `note`:
        why that is lacking.

    Raises:
        RunError: no run lies there, one cannot be read, or none is the reference.
    """
    if measure not in MEASURES:
        raise RunError(f"measure={measure}: no such measure; {nearest_first(measure, MEASURES)}")
    modes = [*(mode.value for mode in Ablation), "vanilla"]
    if reference not in modes:
        raise RunError(f"reference={reference}: no such mode; {nearest_first(reference, modes)}")
    groups = _sorted_groups(root)
    references = [group for group in groups if _mode(group) == reference]
    if not references:
        raise RunError(f"{_first_path(root)}: holds no run of the reference {reference}")
    more = _differing_keys(groups)
    values = {id(group): _finished_by_seed(group, measure) for group in groups}
    rows = []
    for group in groups:
        for other in references:
            if group is other or not _are_comparable(group, other):
                continue
            pairs = values[id(group)].keys() & values[id(other)].keys()
            differences = [values[id(group)][seed] - values[id(other)][seed] for seed in sorted(pairs)]
            compared = {"reference": reference, "reference_mask": format_mask(other.mask), "measure": measure}
            rows.append({**_facts(group, more), **compared, **_interval(differences)})
    columns = [*_facts(groups[0], more), "reference", "reference_mask", "measure", *_interval([])]
    return pd.DataFrame(rows, columns=columns)


def measures(run: Run) -> dict[str, float]:
    """Return what a run reached, by the names of `MEASURES`; NaN where it has no epoch."""
    epochs = run.epochs
    accuracy = epochs["test_acc"][epochs["epoch"] > 0]
    if not len(accuracy):
        return dict.fromkeys(MEASURES, np.nan)
    return {
        "test_acc_final": float(accuracy[-1]),
        "test_acc_best": float(accuracy.max()),
        "test_acc_last10": float(accuracy[-LAST_EPOCHS:].mean()),
        "train_loss_final": float(epochs["train_loss"][-1]),
        "seconds": float(epochs["train_seconds"].sum() + epochs["eval_seconds"].sum()),
    }


def export(table: pd.DataFrame, path: Path | str) -> None:
    """Write a table as its file's suffix says: `.csv` (all digits), `.md` or `.tex` (as papers print it).

    Raises:
        RunError: another suffix, or it cannot be written.
    """
    target = Path(path)
    if target.suffix not in _FORMATS:
        raise RunError(f"{target}: a table is written as {', '.join(_FORMATS)}, by its suffix")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(render(table, _FORMATS[target.suffix]), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{target}: cannot be written: {error.strerror}") from None


def render(table: pd.DataFrame, form: str) -> str:
    """Return a table as text.

    Args:
        table: of `summary` or `paired_difference`.
        form: `csv` (all digits), `markdown`, `latex` (booktabs), or `text` (aligned, for a terminal).
    """
    return _RENDERERS[form](table)


def _sorted_groups(root: RunPaths) -> list[Group]:
    runs = distinct(Run(path) for path in find_runs(root))
    if not runs:
        raise RunError("no runs given: the list of paths is empty")
    groups = group_seeds(runs)
    return sorted(groups, key=lambda group: (group.config.problem, group.mask, group.config.optimizer, group.config.lr))


def _first_path(root: RunPaths) -> object:
    return root if isinstance(root, (str, Path)) else find_runs(root)[0]


def _mode(group: Group) -> str:
    return group.config.ablation if any(group.mask) else "vanilla"


def _facts(group: Group, more: Sequence[str]) -> dict[str, Any]:
    config = group.config
    return {
        "problem": config.problem,
        "mask": format_mask(group.mask),
        "mode": _mode(group),
        "variant": group.variant.name,
        "optimizer": config.optimizer,
        "lr": config.lr,
        "epochs": config.num_epochs,
        **{key.lower(): _plain(group.settings.get(key)) for key in more},
    }


def _plain(value: Any) -> Any:
    """Make a setting fit for a table's cell."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={setting}" for name, setting in sorted(value.items()))
    return value


def _differing_keys(groups: Iterable[Group]) -> list[str]:
    """Return the settings in which runs of one problem, optimizer, rate and length differ nevertheless."""
    alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for group in groups:
        config = group.config
        alike.setdefault((config.problem, config.optimizer, config.lr, config.num_epochs), []).append(group.settings)
    keys = {
        key
        for family in alike.values()
        for settings in family
        for key in settings
        if any(other.get(key) != settings[key] for other in family)
    }
    return sorted(keys - {*_KEYS, "PROBLEM"})


def _statistics(finished: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for measure in MEASURES:
        values = np.array([run[measure] for run in finished])
        found[f"{measure}_mean"] = float(values.mean()) if len(values) else np.nan
        found[f"{measure}_std"] = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    return found


def _finished_by_seed(group: Group, measure: str) -> dict[int, float]:
    return {run.config.random_seed: measures(run)[measure] for run in group.runs if state_of(run) == "finished"}


def _are_comparable(group: Group, reference: Group) -> bool:
    same_mask = group.mask == reference.mask or not any(group.mask) or not any(reference.mask)
    return same_mask and group.settings == reference.settings


def _interval(differences: Sequence[float]) -> dict[str, Any]:
    """Return mean and 95 % confidence interval of paired differences."""
    n = len(differences)
    mean = float(np.mean(differences)) if n else np.nan
    note = {0: "no seed in common", 1: "one seed: no interval"}.get(n, "")
    half = float(stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    return {"n": n, "difference": mean, "low": mean - half, "high": mean + half, "note": note}


@dataclass(frozen=True)
class _Cells:
    """A table as papers print it: mean and deviation in one cell, accuracies in per cent."""

    header: list[str]
    rows: list[list[str]]


def _cells(table: pd.DataFrame, plus_minus: str) -> _Cells:
    header, columns = [], []
    for name in table.columns:
        if name.endswith("_std") or name in ("low", "high"):
            continue
        stem = name.removesuffix("_mean")
        if stem in MEASURES:
            factor = _factor(stem)
            header.append(_HEADERS[stem])
            pairs = zip(factor * table[name], factor * table[f"{stem}_std"], strict=True)
            columns.append([_with_spread(mean, std, plus_minus) for mean, std in pairs])
        elif name == "measure":
            header.append(name)
            columns.append([_HEADERS[measure] for measure in table[name]])
        elif name == "difference":
            header += ["difference", "95 % interval"]
            factors = np.array([_factor(measure) for measure in table["measure"]])
            low, high = factors * table["low"], factors * table["high"]
            columns.append([_number(value) for value in factors * table[name]])
            columns.append([_range(*ends) for ends in zip(low, high, strict=True)])
        else:
            header.append(name.replace("_", " "))
            columns.append([_number(value) if isinstance(value, float) else str(value) for value in table[name]])
    return _Cells(header, [list(row) for row in zip(*columns, strict=True)])


def _factor(measure: str) -> float:
    return 100.0 if measure.startswith("test_acc") else 1.0


def _range(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}" if np.isfinite(low) else "-"


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "-"


def _with_spread(mean: float, std: float, plus_minus: str) -> str:
    """Print a mean with one digit more than its deviation begins with, at least two in all; without deviation, four digits."""
    if not np.isfinite(mean):
        return "-"
    if not np.isfinite(std) or std == 0:
        return f"{mean:.4g}" + (f" {plus_minus} 0" if std == 0 else "")
    digits = max(0, 1 - int(np.floor(np.log10(std))))
    return f"{mean:.{digits}f} {plus_minus} {std:.{digits}f}"


def _as_csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False))


def _as_markdown(table: pd.DataFrame) -> str:
    cells = _cells(table, "±")
    rows = [cells.header, ["---"] * len(cells.header), *cells.rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in rows)


def _as_latex(table: pd.DataFrame) -> str:
    cells = _cells(table, r"$\pm$")
    labels = {variant.name: variant.label for variant in ORDER}
    lines = [" & ".join(labels.get(cell) or _escaped(cell) for cell in row) + r" \\" for row in (cells.header, *cells.rows)]
    columns = "l" * len(cells.header)
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}", ""])


def _as_text(table: pd.DataFrame) -> str:
    cells = _cells(table, "±")
    widths = [max(len(row[column]) for row in (cells.header, *cells.rows)) for column in range(len(cells.header))]
    rows = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (cells.header, *cells.rows)
    ]
    return "".join(f"{row.rstrip()}\n" for row in rows)


def _escaped(cell: str) -> str:
    """Escape what LaTeX reads as its own; the plus-minus sign between numbers stays."""
    for symbol in "&%#_":
        cell = cell.replace(symbol, rf"\{symbol}")
    return cell


_RENDERERS: dict[str, Callable[[pd.DataFrame], str]] = {
    "text": _as_text,
    "csv": _as_csv,
    "markdown": _as_markdown,
    "latex": _as_latex,
}
FORMS = tuple(_RENDERERS)
