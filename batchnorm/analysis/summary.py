"""What each variant reached over its seeds, and how variants differ seed by seed, as data frames; `tables` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from batchnorm.analysis.outcome import Outcome
from batchnorm.analysis.runs import Group, RunPaths, distinct, find_runs, group_seeds, problem_of, read_each
from batchnorm.errors import RunError, nearest_first
from batchnorm.modes import DEFAULT_MODE, MODES, VANILLA, format_mask
from batchnorm.store import Run, Status

LAST_EPOCHS = 10
MEASURES = (
    "test_acc_final",
    "valid_acc_final",
    "test_acc_best",
    "test_acc_last10",
    "valid_acc_best",
    "train_loss_final",
    "seconds",
)
"""What a finished run reached; the tables hold mean and standard deviation of each.

Nothing is chosen by the test set: `test_acc_best` is the test accuracy at the first epoch of best validation accuracy.
"""

_KEYS = {"LR": "lr", "NUM_EPOCHS": "epochs", "OPTIMIZER": "optimizer"}


def summary(root: RunPaths, *, measurements: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row per problem, mask, mode, optimizer, learning rate and epochs, over the finished runs of all seeds.

    Args:
        root: a folder with runs below it, or several folders, runs or glob patterns.
        measurements: measurements with one number a run, as `sharpness`, to stand beside: the last one of each run.

    Returns:
        Columns `problem`, `mask`, `mode`, `variant`, `optimizer`, `lr`, `epochs`, and any other key in which these runs
        differ; `seeds`: how many finished, `diverged` and `unfinished`: how many did not, and are left out; then
        `*_mean` and `*_std` (n - 1; none for one seed) of final and last-10-epochs test accuracy, of the test accuracy at
        the epoch of best validation accuracy (`test_acc_best`), of final and best validation accuracy (shares of 1), of the
        final train loss (nats per image), and of the time for training and evaluation (seconds).

    A run that cannot be read is left out, with a warning (log `batchnorm.analysis.runs.left_out`).

    Raises:
        RunError: no run lies there, or none can be read.
    """
    outcomes = [Outcome(name) for name in measurements]
    groups, reached = _sorted_groups(root, outcomes)
    more = _differing_keys(groups)
    rows = []
    for group in groups:
        standing = [reached[run].status for run in group.runs]
        finished = [reached[run].values for run in group.runs if reached[run].status == Status.FINISHED]
        counts = {
            "seeds": len(finished),
            "diverged": standing.count(Status.DIVERGED),
            "unfinished": sum(not status.has_ended for status in standing),
        }
        rows.append({**_facts(group, more), **counts, **_statistics(finished, [*MEASURES, *measurements])})
    return pd.DataFrame(rows)


def paired_difference(root: RunPaths, reference: str = DEFAULT_MODE, *, measure: str = "test_acc_final") -> pd.DataFrame:
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

    A run that cannot be read is left out, as in `summary`.

    Raises:
        RunError: no run lies there, none can be read, or none is the reference.
    """
    if measure not in MEASURES:
        raise RunError(f"measure={measure}: no such measure; {nearest_first(measure, MEASURES)}")
    groups, reached = _sorted_groups(root)
    modes = dict.fromkeys([*MODES, VANILLA, *(group.mode for group in groups)])
    if reference not in modes:
        raise RunError(f"reference={reference}: no such mode; {nearest_first(reference, modes)}")
    references = [group for group in groups if group.mode == reference]
    if not references:
        raise RunError(f"{_first_path(root)}: holds no run of the reference {reference}")
    more = _differing_keys(groups)
    values = {id(group): _finished_by_seed(group, reached, measure) for group in groups}
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
    epochs = run.of_epochs("epoch", "test_acc", "valid_acc", "train_loss", "train_seconds", "eval_seconds")
    evaluated = {name: values[~np.isnan(epochs["test_acc"])] for name, values in epochs.items()}
    accuracy, validation = (evaluated[name][evaluated["epoch"] > 0] for name in ("test_acc", "valid_acc"))
    if not len(accuracy):
        return dict.fromkeys(MEASURES, np.nan)
    return {
        "test_acc_final": float(accuracy[-1]),
        "test_acc_best": float(accuracy[validation.argmax()]),
        "test_acc_last10": float(accuracy[-LAST_EPOCHS:].mean()),
        "valid_acc_final": float(validation[-1]),
        "valid_acc_best": float(validation.max()),
        "train_loss_final": float(evaluated["train_loss"][-1]),
        "seconds": float(epochs["train_seconds"].sum() + epochs["eval_seconds"].sum()),
    }


@dataclass(frozen=True)
class _Reached:
    """How a run stood when it was read, and the measures of what it had reached."""

    status: Status
    values: Mapping[str, float]


def _sorted_groups(root: RunPaths, more: Sequence[Outcome] = ()) -> tuple[list[Group], dict[Run, _Reached]]:
    def reach(run: Run) -> _Reached:
        return _Reached(run.status, measures(run) | {each.metric: _number(each, run) for each in more})

    reached = dict(read_each(find_runs(root), reach, keep_open=True))
    if not reached:
        raise RunError("no runs given: the list of paths is empty")
    groups = group_seeds(distinct(reached))
    order = sorted(groups, key=lambda group: (problem_of(group.runs[0]), group.mask, group.config.optimizer, group.config.lr))
    return order, reached


def _number(outcome: Outcome, run: Run) -> float:
    """Return a run's number; NaN where it has not measured it, or not yet."""
    try:
        return outcome.of(run).value
    except RunError:
        return float("nan")


def _first_path(root: RunPaths) -> object:
    return root if isinstance(root, (str, Path)) else find_runs(root)[0]


def _facts(group: Group, more: Sequence[str]) -> dict[str, Any]:
    config = group.config
    return {
        "problem": problem_of(group.runs[0]),
        "mask": format_mask(group.mask),
        "mode": group.mode,
        "variant": group.row.title,
        "optimizer": config.optimizer,
        "lr": config.lr,
        "epochs": group.epochs,
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
        alike.setdefault((group.settings["PROBLEM"], config.optimizer, config.lr, group.epochs), []).append(group.settings)
    keys = {
        key
        for family in alike.values()
        for settings in family
        for key in settings
        if any(other.get(key) != settings[key] for other in family)
    }
    return sorted(keys - {*_KEYS, "PROBLEM"})


def _statistics(finished: Sequence[Mapping[str, float]], names: Iterable[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for measure in names:
        values = np.array([run[measure] for run in finished])
        found[f"{measure}_mean"] = _mean(values)
        found[f"{measure}_std"] = _deviation(values)
    return found


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean; of equal values it is that value, to the last bit. NaN of none."""
    return float(values[0] + (values - values[0]).mean()) if len(values) else np.nan


def _deviation(values: NDArray[np.float64]) -> float:
    """Return the standard deviation (n - 1); 0 of equal values, NaN of fewer than two."""
    return float(np.std(values - values[0], ddof=1)) if len(values) > 1 else np.nan


def _finished_by_seed(group: Group, reached: Mapping[Run, _Reached], measure: str) -> dict[int, float]:
    finished = [run for run in group.runs if reached[run].status == Status.FINISHED]
    return {run.config.random_seed: reached[run].values[measure] for run in finished}


def _are_comparable(group: Group, reference: Group) -> bool:
    same_mask = group.mask == reference.mask or not any(group.mask) or not any(reference.mask)
    return same_mask and group.settings == reference.settings


def _interval(differences: Sequence[float]) -> dict[str, Any]:
    """Return mean and 95 % confidence interval of paired differences."""
    from scipy import stats  # which takes half a second to import, and most tables have no interval

    n = len(differences)
    mean, deviation = _mean(np.array(differences)), _deviation(np.array(differences))
    note = {0: "no seed in common", 1: "one seed: no interval"}.get(n, "")
    half = float(stats.t.ppf(0.975, n - 1) * deviation / np.sqrt(n)) if n > 1 else np.nan
    return {"n": n, "difference": mean, "low": mean - half, "high": mean + half, "note": note}
