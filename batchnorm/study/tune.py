"""Fair tuning, the protocol of DeepOBS: each variant gets its own best rate, by validation, and is compared on new seeds.

What is picked here, and how the second study is written; `commands` runs both. The test set is not read. No torch here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from batchnorm.config import RunConfig, optimizer_tells_all, override_name, split_arguments
from batchnorm.errors import StudyError, nearest_first, reason_of
from batchnorm.modes import variant_of
from batchnorm.store import Run, Status
from batchnorm.study.grid import Study, StudyRun
from batchnorm.study.status import standings
from batchnorm.study.values import spelled_out

BY: Mapping[str, str] = {"valid_acc": "largest", "valid_loss": "smallest"}
"""What a pick may go by, and which of its values is the best."""
_MARK = "# Picked by `python -m batchnorm.study tune`"
_WHEN = "# when: "
_NOT_CHOSEN = ("PROBLEM", "RANDOM_SEED", "POSITION", "ABLATION", "OUTPUT_DIR", "NAMED_KEYS", "OVERWRITE")
"""Keys that tuning cannot choose: what a variant is, and what does not decide a result."""
_FOLLOWS = ("RANDOM_SEED", "NAMED_KEYS")
"""Keys in which runs of one variant may differ."""


@dataclass(frozen=True)
class Candidate:
    """One choice of values for a variant: the runs that tried it, and what came out.

    Attributes:
        values: of the keys that tuning chooses.
        runs: one a seed.
        scores: the final metric of each run; None where it diverged.
    """

    values: Mapping[str, Any]
    runs: tuple[StudyRun, ...]
    scores: tuple[float | None, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Which seeds it was tried on."""
        return sorted(run.config.random_seed for run in self.runs)

    @property
    def diverged(self) -> int:
        """How many of its runs diverged."""
        return sum(score is None for score in self.scores)

    @property
    def mean(self) -> float:
        """The mean over the seeds that did not diverge."""
        return fmean([score for score in self.scores if score is not None])

    def __str__(self) -> str:
        """Write its values as arguments."""
        return " ".join(f"{key}={value}" for key, value in self.values.items())


@dataclass(frozen=True)
class Plan:
    """What is tuned, by what, and on which seeds the picks are trained.

    Attributes:
        source: the study's file.
        over: the keys that tuning chooses.
        by: a key of `BY`.
        tuning_seeds, seeds: of the grid, and of the second study.
        variants: what each variant is called, and the values that it tries.
    """

    source: Path
    over: tuple[str, ...]
    by: str
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    variants: Mapping[str, tuple[Candidate, ...]]

    @property
    def rule(self) -> str:
        """How a pick is made, in words."""
        seeds = ",".join(map(str, self.tuning_seeds))
        return f"{','.join(self.over)} by the {BY[self.by]} final {self.by}, mean over RANDOM_SEED={seeds}"


@dataclass(frozen=True)
class Pick:
    """A variant's best values.

    Attributes:
        variant: what it is called.
        best: the values.
        by: the metric.
        tried: how many candidates there were.
        edges: where the best stands at the end of what was tried, as `LR=1.0 is the largest tried`.
    """

    variant: str
    best: Candidate
    by: str
    tried: int
    edges: tuple[str, ...]

    def __str__(self) -> str:
        """Write it on one line."""
        diverged = f"; diverged with {self.best.diverged} of {len(self.best.runs)} seeds" if self.best.diverged else ""
        edges = "".join(f"; at the edge of the grid: {edge}" for edge in self.edges)
        return f"{self.variant}: {self.best}, {self.by} {self.best.mean:.5g}, of {self.tried} tried{diverged}{edges}"


def plan(study: Study, source: Path, *, over: str, by: str, then: str | None) -> Plan:
    """Check what a study is to be tuned over.

    Args:
        study: the grid.
        source: its file.
        over: keys with commas.
        by: a key of `BY`.
        then: `RANDOM_SEED=11,12,13`, as the command line has it.

    Raises:
        ConfigError: there is no such key.
        StudyError: that cannot be tuned.
    """
    if by not in BY:
        raise StudyError(f"--by {by}: the validation set alone picks; {nearest_first(by, BY)}")
    keys = tuple(dict.fromkeys(_upper(override_name(key.strip())) for key in over.split(",")))
    for key in keys:
        if key in _NOT_CHOSEN:
            raise StudyError(f"--over {over}: {key} is not for tuning to choose; give keys such as LR or OPT_HPARS.momentum")
    if any(run.config.overwrite for run in study.runs):
        raise StudyError("OVERWRITE=true: tune continues what is there; give another OUTPUT_DIR to tune from the beginning")
    seeds = _seeds(then)
    tuning_seeds = tuple(dict.fromkeys(run.config.random_seed for run in study.runs))
    if seen := [str(seed) for seed in seeds if seed in tuning_seeds]:
        raise StudyError(f"--then {then}: tuning uses RANDOM_SEED={','.join(seen)} itself; give seeds that it has not seen")
    variants = _variants(study, keys)
    for variant, candidates in variants.items():
        for candidate in candidates:
            if candidate.seeds != candidates[0].seeds:
                others = f"{candidates[0].seeds} of {candidates[0]}"
                raise StudyError(f"{variant}: {candidate} has the seeds {candidate.seeds}, not {others}; give all the same")
    if all(len(candidates) == 1 for candidates in variants.values()):
        raise StudyError(f"--over {over}: {study.name} has one value of it for each variant; give a list of values")
    return Plan(source, keys, by, tuning_seeds, seeds, variants)


def _seeds(then: str | None) -> tuple[int, ...]:
    shown = "RANDOM_SEED=11,12,13"
    if then is None:
        raise StudyError(f"--then is missing; give seeds that tuning has not seen, as --then {shown}")
    given = split_arguments([then])
    texts = spelled_out("random_seed", given.get("random_seed", ""), shown="--then RANDOM_SEED")
    texts = texts if isinstance(texts, list) else [texts]
    if list(given) != ["random_seed"] or not all(text.strip().isdecimal() and int(text) < 2**63 for text in texts):
        raise StudyError(f"--then {then}: must be seeds, as {shown} or RANDOM_SEED=11-13")
    return tuple(dict.fromkeys(map(int, texts)))


def _variants(study: Study, over: Sequence[str]) -> dict[str, tuple[Candidate, ...]]:
    """Sort the runs of a grid: by variant, then by the values that tuning chooses from, each in the order of the study."""
    sorted_out: dict[tuple[str, ...], dict[str, Candidate]] = {}
    rests: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in study.runs:
        flat = _flat(run.config)
        values = {key: value for key, value in flat.items() if _is_in(key, over)}
        rest = {key: value for key, value in flat.items() if key not in values and key not in _FOLLOWS}
        variant = tuple(f"{key}={value!r}" for key, value in sorted(rest.items()))
        rests[variant] = rest
        tried = sorted_out.setdefault(variant, {})
        before = tried.get(repr(values), Candidate(values, ()))
        tried[repr(values)] = replace(before, runs=(*before.runs, run))
    keys = dict.fromkeys(key for rest in rests.values() for key in rest if key not in ("POSITION", "ABLATION"))
    if optimizer_tells_all((rest["OPTIMIZER"], _others(rest)) for rest in rests.values() if "OPTIMIZER" in rest):
        keys = {key: None for key in keys if not _is_in(key, ["OPT_HPARS"])}
    varying = [key for key in keys if len({repr(rest.get(key)) for rest in rests.values()}) > 1]

    def name(variant: tuple[str, ...]) -> str:
        config = next(iter(sorted_out[variant].values())).runs[0].config
        told = (f"{key}={rests[variant][key]}" for key in varying if key in rests[variant])
        return " ".join([variant_of(config.mask, config.ablation), *told])

    return {name(variant): tuple(tried.values()) for variant, tried in sorted_out.items()}


def _others(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optimizer's hyperparameters beside the rate."""
    return {key: value for key, value in flat.items() if _is_in(key, ["OPT_HPARS"])}


def _flat(config: RunConfig) -> dict[str, Any]:
    """Return all keys of a run, those of its mappings as `OPT_HPARS.momentum`."""
    flat: dict[str, Any] = {}
    for key, value in config.to_dict().items():
        flat |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _upper(name: str) -> str:
    group, dot, setting = name.partition(".")
    return group.upper() + dot + setting


def _is_in(key: str, names: Collection[str]) -> bool:
    return key in names or key.partition(".")[0] in names


def final(config: RunConfig, metric: str) -> float | None:
    """Return a run's metric at its last epoch; None where it diverged, or is not a finite number.

    Raises:
        RunError: there is no such run, or it is damaged.
    """
    run = Run(config.directory)
    if run.ended == Status.DIVERGED:
        return None
    value = float(run.read(metric)[-1])
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Picks:
    """What was picked, and the variants for which all that was tried diverged."""

    best: tuple[Pick, ...]
    lost: tuple[str, ...]


def pick(plan: Plan) -> Picks:
    """Pick each variant's best: fewest runs that diverged, then the best mean; of equals, the first of the study.

    Raises:
        RunError: a run cannot be read.
        StudyError: every run diverged.
    """
    best: list[Pick] = []
    lost: list[str] = []
    sign = 1 if BY[plan.by] == "smallest" else -1
    for variant, candidates in plan.variants.items():
        scored = [replace(each, scores=tuple(final(run.config, plan.by) for run in each.runs)) for each in candidates]
        alive = [each for each in scored if each.diverged < len(each.runs)]
        if not alive:
            lost.append(variant)
            continue
        winner = min(alive, key=lambda each: (each.diverged, sign * each.mean))
        best.append(Pick(variant, winner, plan.by, len(scored), tuple(_edges(winner, scored))))
    if not best:
        raise StudyError(f"{plan.source}: every run diverged, nothing can be picked; try other values of {','.join(plan.over)}")
    return Picks(tuple(best), tuple(lost))


def _edges(winner: Candidate, tried: Sequence[Candidate]) -> Iterable[str]:
    for key, value in winner.values.items():
        others = {each.values.get(key) for each in tried}
        numbers = [other for other in others if isinstance(other, (int, float)) and not isinstance(other, bool)]
        if len(others) == len(numbers) > 1:
            for word, edge in (("smallest", min(numbers)), ("largest", max(numbers))):
                if value == edge:
                    yield f"{key}={value} is the {word} tried"


def warnings(picks: Picks) -> list[str]:
    """Return a line for each pick at the edge of the grid, and for each variant without one."""
    at_edge = [f"at the edge of the grid: {each.variant}: {edge}" for each in picks.best for edge in each.edges]
    return at_edge + [f"left out: {variant}: all of its runs diverged" for variant in picks.lost]


def second_study(picks: Picks, plan: Plan, *, name: str) -> Study:
    """Return the study of the picks on seeds that tuning has not seen, seed by seed."""
    chosen = [(seed, each, each.best.runs[0]) for seed in plan.seeds for each in picks.best]
    runs = (
        StudyRun(
            index, f"{each.variant} {each.best} RANDOM_SEED={seed}", replace(run.config, random_seed=seed), run.threads_given
        )
        for index, (seed, each, run) in enumerate(chosen)
    )
    return Study(name, tuple(runs))


def usual_place(study: Study) -> Path:
    """Return where the second study is written: beside OUTPUT_DIR."""
    return Path(study.runs[0].config.output_dir).parent / f"{study.name}-tuned.yaml"


def check_place(out: Path) -> None:
    """See that what lies where the second study is to be written is none of the user's own files.

    Raises:
        StudyError: it is, or cannot be read.
    """
    there = _text(out)
    if there and not there.startswith(_MARK):
        raise StudyError(f"{out}: was not written by tune; give --out another file")


def _text(out: Path) -> str:
    try:
        return out.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{out}: cannot be read: {reason_of(error)}") from None


def write(second: Study, picks: Picks, plan: Plan, out: Path) -> None:
    """Write the second study, unless the same stands there.

    Raises:
        StudyError: it cannot be written.
    """
    body = "\n".join(
        [
            f"# study: {' '.join(str(plan.source).split())}; picked: {plan.rule}; the test set was not read",
            *(f"# {' '.join(str(each).split())}" for each in picks.best),
            *(f"# left out, all of its runs diverged: {variant}" for variant in picks.lost),
            second.to_text(),
        ]
    )
    body = body.encode(errors="backslashreplace").decode()  # a file's name may hold bytes that are no text
    first = f"{_MARK}; it may write this file again.\n"
    before = _text(out).splitlines(keepends=True)
    if "".join(line for line in before if not line.startswith(_WHEN)) == first + body:
        return
    when = f"{_WHEN}{datetime.now().astimezone().isoformat(timespec='seconds')}\n"
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(first + when + body, encoding="utf-8")
        unfinished.replace(out)
    except OSError as error:
        raise StudyError(f"{out}: cannot be written: {reason_of(error)}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def format_plan(study: Study, plan: Plan, out: Path) -> str:
    """Write what `tune` would do, and the picks where the grid has ended.

    Raises:
        StudyError: every run of the grid diverged.
        RunError: a run cannot be read.
    """
    left = [each for each in standings(study) if not each.status.has_ended]
    lines = [f"{study.name}: {len(study.runs)} runs, {len(left)} to do; {len(plan.variants)} variants; picks {plan.rule}"]
    seeds = ",".join(map(str, plan.seeds))
    if left:
        lines += [f"  {each.run.index:>5} {each.status.value}: {each.run.variant}" for each in left]
        told = f"{len(plan.variants) * len(plan.seeds)} runs, each variant's pick with RANDOM_SEED={seeds}"
        return "\n".join([*lines, f"{out.stem}: {told}; to be written: {out}"])
    picks = pick(plan)
    second = second_study(picks, plan, name=out.stem)
    lines += [f"  {each}" for each in (*picks.best, *warnings(Picks((), picks.lost)))]
    to_train = [each for each in standings(second) if not each.status.has_ended]
    lines.append(f"{second.name}: {len(second.runs)} runs, {len(to_train)} to do; RANDOM_SEED={seeds}; to be written: {out}")
    return "\n".join([*lines, *(f"  {each.run.index:>5} {each.status.value}: {each.run.variant}" for each in to_train)])
