"""What each variant reached over its seeds, and how variants differ seed by seed, as data frames; `tables` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy  # its parts are imported where they are used: stats takes half a second
from numpy.typing import NDArray

from batchnorm.analysis.best import VS_BEST, VS_REFERENCE, beside_best, beside_reference
from batchnorm.analysis.effects.inference import paired_differences
from batchnorm.analysis.outcome import CHOICES, Outcome
from batchnorm.analysis.pairing import COLUMNS, pairings
from batchnorm.analysis.runs import Group, RunPaths, distinct, find_runs, group_seeds, paths_of, problem_of, read_each
from batchnorm.analysis.settings import plain_setting, varying_settings
from batchnorm.errors import RunError, nearest_first, wrong_argument
from batchnorm.modes import DEFAULT_MODE, DEFAULT_NORM, format_mask
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

LOWEST_IS_BEST = ("train_loss_final",)
HAVE_NO_BEST = ("seconds",)
"""Measures of the machine rather than of the network."""


def summary(
    root: RunPaths, *, measures: Sequence[str] = MEASURES, measurements: Sequence[str] = (), mark_best: bool = False
) -> pd.DataFrame:
    """Return one row per problem, mask, mode, optimizer, learning rate and epochs, over the finished runs of all seeds.

    Args:
        root: a folder with runs below it, or several folders, runs or glob patterns.
        measures: which of `MEASURES` it tells, in this order.
        measurements: measurements with one number a run, as `sharpness`, to stand beside: the last one of each run.
        mark_best: say how each row stands beside the best one of its problem, measure by measure (`best.beside_best`).

    Returns:
        Columns `problem`, `mask`, `mode` (`vanilla` without a norm), `variant` (`Run.variant`), `optimizer`, `lr`, `epochs`,
        and any other key in which these runs differ; `seeds`: how many finished, `diverged` and `unfinished`: how many did
        not, and are left out; then `*_mean` and `*_std` (n - 1; none for one seed) of final and last-10-epochs test accuracy,
        of the test accuracy at the epoch of best validation accuracy (`test_acc_best`), of final and best validation accuracy
        (shares of 1), of the final train loss (nats per image), and of the time for training and evaluation (seconds). With
        `mark_best` also `*_vs_best` of each but the time and the measurements: `best`, `not different` from it, `different`,
        `not tested`, or nothing where no run finished.

    A run that cannot be read is left out, with a warning (log `batchnorm.analysis.runs.left_out`).

    Raises:
        RunError: no run lies there, none can be read, or there is no such measure.
    """
    for name in measures:
        _check_measure(name)
    outcomes = [Outcome(name) for name in measurements]
    groups, reached = _sorted_groups(root, outcomes)
    more = _differing_keys(groups)
    rows = []
    for group in groups:
        standing = [reached[run].status for run in group.runs]
        values = {name: _finished_by_seed(group, reached, name) for name in (*measures, *measurements)}
        counts = {
            "seeds": standing.count(Status.FINISHED),
            "diverged": standing.count(Status.DIVERGED),
            "unfinished": sum(not status.has_ended for status in standing),
        }
        rows.append({**_facts(group, more), **counts, **_statistics(values)})
    table = pd.DataFrame(rows)
    for name in measures if mark_best else ():
        if name not in HAVE_NO_BEST:
            marks = _marks(groups, reached, name)
            table.insert(list(table.columns).index(f"{name}_std") + 1, f"{name}{VS_BEST}", marks)
    return table


def paired_difference(
    root: RunPaths,
    reference: str = DEFAULT_MODE,
    *,
    measure: str = "test_acc_final",
    match: Sequence[str] | None = None,
    mark_different: bool = False,
) -> pd.DataFrame:
    """Return how each variant differs from the reference over the seeds that both have finished.

    Runs with one seed start from the same weights and see the same batches, so that their difference says more than two
    means.

    Args:
        root: as in `summary`.
        reference: a mode, or `vanilla`: a variant is compared with the reference of its own mask, vanilla with those of all
            masks. Or a variant, as `111 trained_bn` (the mask in any form that POSITION takes): each other one is compared
            with it.
        measure: one of `MEASURES`.
        match: keys that must agree, as `["BATCH_SIZE"]`; `["none"]`: seeds alone. None: all keys that decide a result, but
            mask, mode, and the rate where each side has one rate (given the other settings), as after tuning. The problem
            always agrees.
        mark_different: test which rows differ from their reference (`best.beside_reference`, over the rows of a problem).

    Returns:
        Columns as in `summary` up to the settings; `reference`, `reference_mask`, and `reference_lr`, `reference_epochs`, ...
        where a pair differs in a setting that need not agree: the reference's; `measure`; `n`: pairs; `difference`: variant
        minus reference, the mean over pairs; `low`, `high`: its 95 % confidence interval (Student's t, n - 1 degrees of
        freedom); `note`: why that is lacking. What cannot be paired has `n` 0, and the reason in `note`. With `mark_different`
        also `p_holm`, and `vs_reference`: `differs`, `not different`, or `not tested`.

    A run that cannot be read is left out, as in `summary`.

    Raises:
        RunError: no run lies there, none can be read, there is no such reference, measure or key, or no pair.
    """
    _check_measure(measure)
    root = paths_of(root)
    where = root[0] if root else "no runs"
    groups, reached = _sorted_groups(root)
    found = pairings(groups, reference, match, where=where)
    differing = list(dict.fromkeys(key for pairing in found for key in pairing.differing if key.isupper()))
    more = [*_differing_keys(groups), *(key for key in differing if key not in COLUMNS)]
    values = {id(group): _finished_by_seed(group, reached, measure) for group in groups}
    rows, differences = [], []
    for pairing in found:
        other = pairing.reference
        here, there = values[id(pairing.group)], values[id(other)] if other and not pairing.note else {}
        compared: dict[str, Any] = {"reference": pairing.mode, "reference_mask": pairing.mask}
        told = {key: plain_setting(other.settings.get(key)) if other else None for key in differing}
        compared |= {f"reference_{COLUMNS.get(key, key.lower())}": value for key, value in told.items()}
        differences.append(paired_differences(here, there).tolist())
        interval = _interval(differences[-1])
        note = {"note": pairing.note} if pairing.note else {}
        rows.append({**_facts(pairing.group, dict.fromkeys(more)), **compared, "measure": measure, **interval, **note})
    if not any(row["n"] for row in rows):
        why = next((pairing for pairing in found if pairing.note), None)
        hint = "; --match KEY ... (match= in Python) says what must agree" if why and why.reference else ""
        reason = f"{why.group.runs[0].variant}: {why.note}{hint}" if why else "no seed in common"
        raise RunError(f"{where}: nothing can be paired with {reference}; {reason}")
    table = pd.DataFrame(rows)
    if mark_different:
        place = list(table.columns).index("high") + 1
        corrected: dict[int, tuple[float, str]] = {}
        for places in table.groupby("problem").indices.values():
            corrected |= dict(
                zip(places, zip(*beside_reference([differences[row] for row in places]), strict=True), strict=True)
            )
        p, marks = zip(*(corrected[row] for row in range(len(table))), strict=True)
        table.insert(place, VS_REFERENCE, marks)
        table.insert(place, "p_holm", p)
    return table


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
    return _in_order(groups), reached


def _in_order(groups: Sequence[Group]) -> list[Group]:
    """Sort by problem, optimizer, mask and rate; by mode rather than rate where each variant has one, as after tuning."""
    rates: dict[tuple[Any, ...], set[float]] = {}
    for group in groups:
        rates.setdefault((group.settings["PROBLEM"], group.config.optimizer, group.mask, group.mode), set()).add(
            group.config.lr
        )
    several = any(len(each) > 1 for each in rates.values())

    def place(group: Group) -> tuple[Any, ...]:
        return problem_of(group.runs[0]), group.config.optimizer, group.mask, group.config.lr if several else 0

    return sorted(groups, key=place)


def _number(outcome: Outcome, run: Run) -> float:
    """Return a run's number; NaN where it has not measured it, or not yet."""
    try:
        return outcome.of(run).value
    except RunError:
        return float("nan")


def _check_measure(name: str) -> None:
    if name in MEASURES:
        return
    beside = f"; {name} is a measurement, which --add (measurements= in Python) puts beside" if name in CHOICES else ""
    raise wrong_argument("measure", name, f"no such measure; {nearest_first(name, MEASURES)}{beside}")


def _marks(groups: Sequence[Group], reached: Mapping[Run, _Reached], measure: str) -> list[str]:
    """Say how each group stands beside the best of its problem."""
    marks: dict[int, str] = {}
    for problem in dict.fromkeys(group.settings["PROBLEM"] for group in groups):
        family = [group for group in groups if group.settings["PROBLEM"] == problem]
        values = [_finished_by_seed(group, reached, measure) for group in family]
        found = beside_best(values, lowest=measure in LOWEST_IS_BEST)
        marks |= dict(zip(map(id, family), found, strict=True))
    return [marks[id(group)] for group in groups]


def _facts(group: Group, more: Iterable[str]) -> dict[str, Any]:
    config = group.config
    return {
        "problem": problem_of(group.runs[0]),
        "mask": format_mask(group.mask),
        "mode": group.mode,
        "variant": group.runs[0].variant,
        "optimizer": config.optimizer,
        "lr": config.lr,
        "epochs": group.epochs,
        **{key.lower(): plain_setting(group.settings.get(key)) for key in more},
    }


def _differing_keys(groups: Sequence[Group]) -> list[str]:
    """Return the settings in which runs of one problem, optimizer, rate and length differ nevertheless; another norm too."""
    each = (
        ((problem_of(group.runs[0]), group.config.optimizer, group.config.lr, group.epochs), group.settings) for group in groups
    )
    norms = {"NORM"} if any(group.config.norm != DEFAULT_NORM for group in groups) else set()
    return sorted({*varying_settings(each), *norms} - {*COLUMNS, "PROBLEM"})


def _statistics(finished: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for measure, by_seed in finished.items():
        values = np.array(list(by_seed.values()))
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


def _interval(differences: Sequence[float]) -> dict[str, Any]:
    """Return mean and 95 % confidence interval of paired differences."""
    n = len(differences)
    mean, deviation = _mean(np.array(differences)), _deviation(np.array(differences))
    note = {0: "no seed in common", 1: "one seed: no interval"}.get(n, "")
    half = float(scipy.stats.t.ppf(0.975, n - 1) * deviation / np.sqrt(n)) if n > 1 else np.nan
    return {"n": n, "difference": mean, "low": mean - half, "high": mean + half, "note": note}
