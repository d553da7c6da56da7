"""Which options of the shell choose runs that can be drawn together: `--optimizer Adam --seed 11-13`. Draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, groupby, product
from typing import Any

from batchnorm.store import Run

_OPTIONS: Mapping[str, Callable[[Run], Any]] = {
    "optimizer": lambda run: run.config.optimizer,
    "epochs": lambda run: run.length.epochs,
    "seed": lambda run: run.config.random_seed,
    "lr": lambda run: run.config.lr,
}
"""By option, what it looks at. Seeds are chosen together: after tuning, those that tuning has not seen have one rate each."""
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
    for names in (names for size in (1, 2, 3) for names in combinations(_OPTIONS, size) if not {"seed", "lr"} <= set(names)):
        for options, kept in _choices(runs, names, fits):
            if not any(simpler <= options for simpler in found) and fits(kept):
                found[options] = kept
    variants = {options: len({(run.mask, run.mode) for run in kept}) for options, kept in found.items()}
    best = [options for options in found if variants[options] == max(variants.values())]
    best.sort(key=lambda options: (not any(option.startswith("--seed") for option in options), -len(found[options])))
    ways = [" ".join(sorted(options, key=_place)) for options in best[:_MOST]]
    return f"by {', or '.join(ways)}" if ways else ""


def _choices(runs: Sequence[Run], names: Sequence[str], fits: Fits) -> Iterator[tuple[frozenset[str], list[Run]]]:
    """Return each choice by some options: as it is typed, and the runs that it leaves."""
    plain = [name for name in names if name != "seed"]
    each = [sorted({_OPTIONS[name](run) for run in runs}) for name in plain]
    for values in product(*each):
        wanted = dict(zip(plain, values, strict=True))
        kept = [run for run in runs if all(_OPTIONS[name](run) == value for name, value in wanted.items())]
        typed = {f"--{name} {value}" for name, value in wanted.items()}
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


def _place(option: str) -> int:
    return list(_OPTIONS).index(option.removeprefix("--").partition(" ")[0])
