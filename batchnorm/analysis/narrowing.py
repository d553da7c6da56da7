"""Which options of the shell choose runs that can be drawn together: `--optimizer Adam --seed 11-13`. Draws nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, groupby, product
from typing import Any

from batchnorm.analysis.settings import flat_settings, has_setting, optimizer_tells_hyperparameters, varying_settings
from batchnorm.store import Run

_OPTIONS: Mapping[str, Callable[[Run], Any]] = {
    "optimizer": lambda run: run.config.optimizer,
    "epochs": lambda run: run.length.epochs,
    "seed": lambda run: run.config.random_seed,
    "lr": lambda run: run.config.lr,
}
"""By option, what it looks at. Seeds are chosen together: after tuning, those that tuning has not seen have one rate each."""
_OF_OPTIONS = ("OPTIMIZER", "NUM_EPOCHS", "LR", "images")
"""Settings that these options choose by, and what no option does."""
_MOST = 4
"""So many ways are named."""
Fits = Callable[[Sequence[Run]], bool]


def options_for(runs: Sequence[Run], fits: Fits) -> str:
    """Name options that choose runs which fit, and leave most variants: `by --lr 0.1, or --lr 0.5`.

    Ways by seeds come first, then those that leave most runs.

    Args:
        runs: those that do not fit as they are.
        fits: whether some of them do.

    Returns:
        The words, or nothing where no options help.
    """
    found: dict[frozenset[str], list[Run]] = {}
    ways = [*_OPTIONS, *_keys(runs)]
    for names in (names for size in (1, 2, 3) for names in combinations(ways, size) if not {"seed", "lr"} <= set(names)):
        for options, kept in _choices(runs, names, fits):
            if not any(simpler <= options for simpler in found) and fits(kept):
                found[options] = kept
    variants = {options: len({(run.mask, run.mode) for run in kept}) for options, kept in found.items()}
    best = [options for options in found if variants[options] == max(variants.values())]
    best.sort(key=lambda options: (not any(option.startswith("--seed") for option in options), -len(found[options])))
    typed = [" ".join(sorted(options, key=_place)) for options in best[:_MOST]]
    return f"by {', or '.join(typed)}" if typed else ""


def _choices(runs: Sequence[Run], names: Sequence[str], fits: Fits) -> Iterator[tuple[frozenset[str], list[Run]]]:
    """Return each choice by some options: as it is typed, and the runs that it leaves."""
    plain = [name for name in names if name != "seed"]
    for values in product(*(_values(runs, name) for name in plain)):
        wanted = list(zip(plain, values, strict=True))
        kept = [run for run in runs if all(_has(run, name, value) for name, value in wanted)]
        typed = {_typed(name, value) for name, value in wanted}
        if "seed" not in names:
            yield frozenset(typed), kept
            continue
        for seeds in _seeds_that_fit(kept, fits):
            yield frozenset({*typed, f"--seed {seed_ranges(seeds)}"}), [run for run in kept if run.config.random_seed in seeds]


def _seeds_that_fit(runs: Sequence[Run], fits: Fits) -> list[list[int]]:
    """Sort the seeds whose runs fit into lists of seeds that fit together."""
    by_seed: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config.random_seed):
        by_seed.setdefault(run.config.random_seed, []).append(run)
    together: list[tuple[list[int], list[Run]]] = []
    for seed, own in by_seed.items():
        if not fits(own):
            continue
        for seeds, members in together:
            if fits([*members, *own]):
                seeds.append(seed)
                members.extend(own)
                break
        else:
            together.append(([seed], list(own)))
    return [seeds for seeds, _ in together]


def seed_ranges(seeds: Sequence[int]) -> str:
    """Write seeds as `--seed` takes them.

    >>> seed_ranges([1, 2, 3, 7])
    '1-3 7'
    """
    runs = [[seed for _, seed in run] for _, run in groupby(enumerate(sorted(seeds)), lambda each: each[1] - each[0])]
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _keys(runs: Sequence[Run]) -> list[str]:
    """Return the keys in which runs differ and that have no option of their own here."""
    each = [run.settings for run in runs]
    keys = varying_settings(("", flat_settings(settings)) for settings in each)
    tells = optimizer_tells_hyperparameters(each)
    return [key for key in keys if key not in _OF_OPTIONS and not (tells and key.startswith("OPT_HPARS."))]


def _values(runs: Sequence[Run], name: str) -> list[Any]:
    """Return what runs have of an option of its own, or of a key; a key's values as they are typed."""
    if name in _OPTIONS:
        return sorted({_OPTIONS[name](run) for run in runs})
    each = (flat_settings(run.settings) for run in runs)
    return sorted({"none" if settings[name] is None else str(settings[name]) for settings in each if name in settings})


def _has(run: Run, name: str, value: Any) -> bool:
    return bool(_OPTIONS[name](run) == value) if name in _OPTIONS else has_setting(run.settings, f"{name}={value}")


def _typed(name: str, value: Any) -> str:
    if name in _OPTIONS:
        return f"--{name} {value}"
    if name == "NORM":
        return f"--norm {value}"
    setting = f"{name.removesuffix('.name')}={value}"
    return f"--where {shlex.quote(setting)}"


def _place(option: str) -> int:
    """Return where an option stands among others: those of `_OPTIONS` as they are there, then the others."""
    name = option.removeprefix("--").partition(" ")[0]
    return list(_OPTIONS).index(name) if name in _OPTIONS else len(_OPTIONS)
