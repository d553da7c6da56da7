"""What the intervals and tests promise, kept in 2,000 simulated studies with known effects, complete and incomplete."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from batchnorm.analysis.effects.contrasts import GAMMA_BETA
from batchnorm.analysis.effects.inference import Estimates
from batchnorm.analysis.effects.table import family_sizes, holm_within
from tests.analysis.effects.designs import MODE_EFFECTS, PREFIXES, design_of, drop, runs, simulate, truth

REPEATS = 2_000
COMPLETE = runs()
INCOMPLETE = drop(drop(runs(seeds=[1, 2, 3]), mask="0,1,1", mode="fixed_bn", seed=2), mask="1,0,0", mode="fixed_beta")
DESIGNS = pytest.mark.parametrize(
    "table",
    [COMPLETE, INCOMPLETE, runs(masks=PREFIXES), runs(seeds=[1, 2])],
    ids=["complete", "incomplete", "prefixes", "two seeds"],
)


def known_effects() -> dict[str, float]:
    """Return the true effects that hold for any choice of masks."""
    both, gamma, beta, none = (MODE_EFFECTS[mode] for mode in GAMMA_BETA)
    return {
        **{f"{mode} - trained_bn": effect for mode, effect in MODE_EFFECTS.items()},
        "gamma": (both - beta + gamma - none) / 2,
        "beta": (both - gamma + beta - none) / 2,
        "gamma x beta": both - gamma - beta + none,
    }


@DESIGNS
def test_intervals_cover_the_truth(table: pd.DataFrame) -> None:
    design = design_of(table)
    found = Estimates.over_seeds(design.differences(simulate(design, REPEATS)))
    known = known_effects()
    low, high = found.interval(0.05)
    checked = 0
    for number, effect in enumerate(design.contrasts):
        if not effect.weights:
            continue
        # What a slot does depends on which of its pairs there are; the other effects are the same in each design.
        mean = known.get(effect.name, sum(weight * truth(*cell) for cell, weight in effect.weights.items()))
        covered = np.mean((low[:, number] <= mean) & (mean <= high[:, number]))
        assert 0.93 <= covered <= 0.97, (effect.name, covered)
        checked += 1
    assert checked >= 8


@DESIGNS
def test_false_alarms_of_a_family(table: pd.DataFrame) -> None:
    design = design_of(table)
    found = Estimates.over_seeds(design.differences(simulate(design, REPEATS, null=True)))
    families = np.array([effect.family for effect in design.contrasts])
    p = found.p()
    alarms = holm_within(families, p) <= 0.05
    low, high = found.interval(0.05 / family_sizes(families, p[0]))
    outside = (low > 0) | (high < 0)
    for family in np.unique(families):
        assert np.mean(alarms[:, families == family].any(axis=1)) <= 0.06
        assert np.mean(outside[:, families == family].any(axis=1)) <= 0.06


def test_equivalence_is_rarely_claimed_at_the_margin() -> None:
    design = design_of(COMPLETE)
    found = Estimates.over_seeds(design.differences(simulate(design, REPEATS)))
    names = [effect.name for effect in design.contrasts]
    p = found.equivalence_p(abs(MODE_EFFECTS["fixed_bn"]))[:, names.index("fixed_bn - trained_bn")]
    assert 0.03 <= np.mean(p <= 0.05) <= 0.06
