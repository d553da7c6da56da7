"""Invented tables of runs whose true effects are known."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from batchnorm.analysis.effects.design import Design, read

MODES = ("trained_bn", "fixed_bn", "fixed_gamma", "fixed_beta")
SLOTS = ("conv1", "conv2", "dense1")
SLOT_EFFECTS = np.array([0.4, 0.1, -0.3])
INTERACTION = 0.2
"""Of conv1 and conv2."""
MODE_EFFECTS = {"trained_bn": 0.0, "fixed_bn": -0.5, "fixed_gamma": 0.05, "fixed_beta": -0.4}
ALL_MASKS = tuple(itertools.product((0, 1), repeat=3))
PREFIXES = ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1))


def truth(mask: Sequence[int], mode: str) -> float:
    effect = float(SLOT_EFFECTS @ np.asarray(mask)) + INTERACTION * mask[0] * mask[1]
    return effect + (MODE_EFFECTS[mode] if any(mask) else 0.0)


def runs(
    masks: Iterable[Sequence[int]] = ALL_MASKS,
    modes: Sequence[str] = MODES,
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    noise: float = 0.0,
    null: bool = False,
) -> pd.DataFrame:
    """Return one row per run: all modes of each mask, vanilla once."""
    draw = np.random.default_rng(0)
    rows = [
        {
            "seed": seed,
            "mask": ",".join(map(str, mask)),
            "mode": mode if any(mask) else "vanilla",
            "value": (0.0 if null else truth(mask, mode)) + noise * draw.normal(),
        }
        for seed in seeds
        for mask in masks
        for mode in (modes if any(mask) else modes[:1])
    ]
    return pd.DataFrame(rows)


def drop(table: pd.DataFrame, *, mask: str, mode: str, seed: int | None = None) -> pd.DataFrame:
    gone = (table["mask"] == mask) & (table["mode"] == mode)
    return table[~(gone if seed is None else gone & (table["seed"] == seed))]


def simulate(design: Design, repeats: int, *, null: bool = False, seed: int = 0) -> np.ndarray:
    """Draw values, repeats x seeds x cells: the truth, a shift of each seed, effects that differ by seed, and noise."""
    draw = np.random.default_rng(seed)
    n_seeds, cells = len(design.seeds), design.cells
    masks = np.array([mask for mask, _ in cells], dtype=float)
    means = np.zeros(len(cells)) if null else np.array([truth(*cell) for cell in cells])
    shift = 2.0 * draw.normal(size=(repeats, n_seeds, 1))
    slots_by_seed = 0.1 * draw.normal(size=(repeats, n_seeds, masks.shape[1])) @ masks.T
    return np.asarray(means + shift + slots_by_seed + 0.5 * draw.normal(size=(repeats, n_seeds, len(cells))))


def design_of(table: pd.DataFrame) -> Design:
    return read(table, slots=SLOTS)[0]


def by_name(table: pd.DataFrame, name: str) -> pd.Series:
    rows = table[table["name"] == name]
    assert len(rows) == 1
    return rows.iloc[0]
