"""What a page says of effects and of paired differences: the tables of `effects` and `pairing`, problem by problem."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from batchnorm.analysis.effects import effects
from batchnorm.analysis.effects.design import read
from batchnorm.analysis.effects.inference import Estimates, holm, paired_differences
from batchnorm.analysis.effects.of_records import Compared, compared
from batchnorm.analysis.effects.table import titles
from batchnorm.analysis.outcome import Outcome, Result
from batchnorm.analysis.pairing import Pairing, pairings
from batchnorm.analysis.report.data import Sorted, what_is_trained
from batchnorm.analysis.runs import Group, group_seeds, is_full, of_one_setting, problem_of
from batchnorm.analysis.settings import what_differs
from batchnorm.errors import RunError, UserError
from batchnorm.modes import DEFAULT_MODE, VANILLA, format_mask
from batchnorm.store import Run, Status

_ALPHA = 0.05


@dataclass
class Comparisons:
    """What a manifest has of them, and what its reader should know of settings that are not there."""

    effects: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(found: Sorted, outcome: Outcome) -> Comparisons:
    """Compare all runs of a page that have ended, where they can be."""
    made = Comparisons()
    by_problem: dict[str, list[Run]] = {}
    for run in found.runs:
        by_problem.setdefault(problem_of(run), []).append(run)
    for problem, runs in by_problem.items():
        groups = group_seeds(runs)
        _add_effects(made, problem, groups, found, outcome)
        _add_pairs(made, problem, groups, found, outcome)
    return made


def _add_effects(made: Comparisons, problem: str, groups: Sequence[Group], found: Sorted, outcome: Outcome) -> None:
    by_setting = of_one_setting(groups)
    alone = 0
    for members in by_setting:
        ended = {run: found.reached[run].result for group in members for run in group.runs}
        results = {run: result for run, result in ended.items() if result and math.isfinite(result.value)}
        heading = _heading(problem, max((group.settings for group in members), key=len), groups)
        if len({what_is_trained(run) for run in results}) < 2:
            alone += 1
            continue
        try:
            table, facts = _effects_of(results)
        except UserError as error:
            made.notes.append(f"Effects, {heading}: {error}.")
            continue
        if table.empty:
            made.notes.append(f"Effects, {heading}: no two runs of a seed differ in one slot, mode or parameter alone.")
            continue
        rows = [_effect(row, outcome.scale) for row in table.to_dict("records")]
        made.effects.append({"heading": heading, "metric": outcome.words, "unit": outcome.unit, "rows": rows, "note": facts})
    if alone and alone < len(by_setting):
        made.notes.append(f"Effects, {problem}: {alone} of {len(by_setting)} settings have fewer than two variants that ended.")


def _effects_of(results: Mapping[Run, Result]) -> tuple[pd.DataFrame, str]:
    """Return the effects that can be estimated, and how they were found."""
    whole = compared(results)
    seeds = _seeds_compared(whole)
    kept = compared({run: result for run, result in results.items() if run.config.random_seed in seeds})
    table = effects(kept.table, slots=kept.slots, alpha=_ALPHA)
    there, names = table["estimate"].notna(), titles(whole.norm)
    lacking = [title for family, title in names.items() if not there[table["family"] == family].any()]
    facts = [f"{_numbers('Seed', seeds)}; {kept.counted}."]
    if left := sorted(set(whole.table["seed"]) - set(seeds)):
        facts.append(f"{_numbers('Seed', left)} left out: runs are missing.")
    facts.append(
        f"Intervals: {100 * (1 - _ALPHA):g} %, Student's t over one number a seed (degrees of freedom: {len(seeds) - 1}); "
        "p after Holm within a family."
        if len(seeds) > 1
        else "One seed: no intervals."
    )
    if lacking:
        facts.append(f"Not estimable: {'; '.join(lacking)}.")
    shown = table[table["family"].map(lambda family: names[family] not in lacking)]
    return shown.assign(family=shown["family"].map(names)), " ".join(facts)


def _numbers(word: str, seeds: Sequence[int]) -> str:
    return f"{word}{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _seeds_compared(whole: Compared) -> list[int]:
    """Return the seeds that are compared: all, or those whose runs let most effects be estimated while a study goes on.

    Only variants that all seeds have are compared, so that one young seed would leave nothing. Among equals most seeds count;
    one seed alone, without an interval, is taken where there is no other.
    """
    table = whole.table
    counts = table.groupby("seed")["variant"].nunique().sort_values(ascending=False, kind="stable")
    seeds = sorted(counts.index)
    best, most = seeds, -1
    for least in sorted(set(counts)):
        kept = sorted(counts.index[counts >= least])
        if len(kept) < 2 <= len(seeds) and most > 0:
            break
        estimable = int(read(table[table["seed"].isin(kept)], slots=whole.slots)[0].estimable.sum())
        if estimable > most:
            best, most = kept, estimable
    return [int(seed) for seed in best]


def _effect(row: Mapping[Any, Any], scale: float) -> dict[str, Any]:
    return {
        "family": row["family"],
        "name": row["name"],
        **{name: number(scale * row[name]) for name in ("estimate", "low", "high")},
        "p": number(row["p_holm"]),
        "seeds": int(row["n_seeds"]),
        "pairs": int(row["n_pairs"]),
        "diverged": int(row["diverged"]),
        "note": row["note"],
    }


def _add_pairs(made: Comparisons, problem: str, groups: Sequence[Group], found: Sorted, outcome: Outcome) -> None:
    full = [f"{format_mask(group.mask)} {group.mode}" for group in groups if is_full(group.runs[0])][:1]
    words = {DEFAULT_MODE: f"{DEFAULT_MODE} at the same mask", VANILLA: VANILLA, **{name: name for name in full}}
    done: set[tuple[int, int]] = set()
    for reference, name in words.items():
        try:
            compared_with = pairings(groups, reference, where=problem)
        except RunError:  # there are no runs of it, or no others
            continue
        tuned = {key for pairing in compared_with for key in pairing.differing}
        by_heading: dict[str, list[dict[str, Any]]] = {}
        refused: dict[str, list[str]] = {}
        for pairing in compared_with:
            group, other = pairing.group, pairing.reference
            if group.mode == VANILLA:
                continue  # the other way round it stands under vanilla
            if other is None:
                refused.setdefault(pairing.note, []).append(group.runs[0].variant)
                continue
            pair = id(group), id(other)
            if pair in done or pair[::-1] in done:
                continue
            done.add(pair)
            heading = f"{_heading(problem, group.settings, groups, without=tuned)}: against {name}"
            by_heading.setdefault(heading, []).append(_pair(heading, pairing, other, found, outcome))
        for reason, variants in refused.items():
            made.notes.append(f"Paired differences, {problem}: {', '.join(dict.fromkeys(variants))}: {reason} {reference}.")
        for rows in by_heading.values():
            corrected = holm(np.array([np.nan if row["p"] is None else row["p"] for row in rows]))
            made.pairs += [{**row, "pHolm": number(p)} for row, p in zip(rows, corrected, strict=True)]


def _pair(heading: str, pairing: Pairing, other: Group, found: Sorted, outcome: Outcome) -> dict[str, Any]:
    row = {
        "heading": heading,
        "variant": found.variant(pairing.group.runs[0]),
        "reference": found.variant(other.runs[0]),
        "metric": outcome.words,
        "unit": outcome.unit,
        **dict.fromkeys(("difference", "low", "high", "p", "pHolm")),
        "seeds": 0,
        "note": pairing.note,
    }
    here, there = (_by_seed(group, found) for group in (pairing.group, other))
    differences = outcome.scale * paired_differences(here, there)
    if pairing.note:
        return row
    if not len(differences):
        return row | {"note": "no seed in common"}
    estimate = Estimates.over_seeds(differences)
    low, high = estimate.interval(_ALPHA)
    notes = {1: "one seed: no interval"}
    equal = "all seeds give the same number: the t test says nothing" if estimate.std == 0 else ""
    return row | {
        "difference": number(estimate.mean),
        "low": number(low),
        "high": number(high),
        "p": None if equal else number(estimate.p()),
        "seeds": len(differences),
        "note": notes.get(len(differences), equal),
    }


def _by_seed(group: Group, found: Sorted) -> dict[int, float]:
    """Return the numbers of a group's finished runs."""
    reached = {run.config.random_seed: found.reached[run] for run in group.runs}
    return {seed: each.result.value for seed, each in reached.items() if each.result and each.status == Status.FINISHED}


def _heading(problem: str, settings: Mapping[str, Any], groups: Sequence[Group], without: Iterable[str] = ()) -> str:
    """Name a problem, and a setting by what it has that others of the problem have not."""
    words = what_differs(settings, [group.settings for group in groups], but=set(without))
    return f"{problem}, {words}" if words else problem


def number(value: Any) -> float | None:
    """Return a number as JSON has it: none where it is not finite."""
    return float(value) if np.isfinite(value) else None
