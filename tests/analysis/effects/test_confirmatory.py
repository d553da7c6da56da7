"""A family that was fixed before the runs."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from batchnorm.analysis.effects import Hypothesis, confirm, effects
from batchnorm.analysis.effects.inference import Estimates, holm
from batchnorm.errors import UserError
from tests.analysis.effects.designs import PREFIXES, SLOTS, by_name, design_of, runs, simulate

FAMILY = (
    Hypothesis("gamma need not be trained", "fixed_gamma - trained_bn", "equivalent", margin=0.3),
    Hypothesis("beta must be", "fixed_beta - trained_bn", "less"),
    *(Hypothesis(f"{slot} matters", slot, "different") for slot in SLOTS),
)


def test_p_values_and_verdicts() -> None:
    table = effects(runs(noise=0.3), slots=SLOTS)
    found = confirm(table, FAMILY)
    values = runs(noise=0.3).pivot(index="seed", columns=["mask", "mode"], values="value")
    masks = sorted(set(runs()["mask"]) - {"0,0,0"})
    assert list(found["name"]) == [hypothesis.name for hypothesis in FAMILY]
    for row, mode in ((0, "fixed_gamma"), (1, "fixed_beta")):
        by_seed = np.mean([values[mask, mode] - values[mask, "trained_bn"] for mask in masks], axis=0)
        estimates = Estimates.over_seeds(by_seed)
        expected = estimates.equivalence_p(0.3) if row == 0 else estimates.p("less")
        assert found["p"].iloc[row] == pytest.approx(float(expected))
    np.testing.assert_allclose(found["p"].iloc[2:], table["p"].iloc[:3])
    np.testing.assert_allclose(found["p_holm"], multipletests(found["p"], method="holm")[1])
    np.testing.assert_array_equal(found["verdict"] == "shown", found["p_holm"] <= 0.05)
    assert set(found["verdict"]) == {"shown", "not shown"}


def test_each_interval_decides_its_uncorrected_test() -> None:
    found = confirm(effects(runs(noise=0.3), slots=SLOTS), FAMILY)
    equivalent, less, *different = found.to_dict("records")
    assert (equivalent["p"] < 0.05) == (equivalent["low"] > -0.3 and equivalent["high"] < 0.3)
    assert (less["p"] < 0.05) == (less["high"] < 0)
    for row in different:
        assert (row["p"] < 0.05) == (row["low"] > 0 or row["high"] < 0)


def test_what_cannot_be_tested_stays_in_the_family() -> None:
    table = effects(runs(masks=PREFIXES[:3], noise=0.3), slots=SLOTS)
    found = confirm(table, FAMILY)
    last = by_name(found, "dense1 matters")
    assert (last["p_holm"], last["verdict"]) == (1.0, "not shown")
    assert np.isnan(last["p"])
    assert last["note"].startswith("not estimable")
    np.testing.assert_allclose(found["p_holm"], multipletests(found["p"].fillna(1), method="holm")[1])
    alone = confirm(effects(runs(seeds=[1]), slots=SLOTS), FAMILY)
    assert set(alone["verdict"]) == {"not shown"}


def test_false_alarms_of_the_whole_family() -> None:
    design = design_of(runs())
    found = Estimates.over_seeds(design.differences(simulate(design, 2_000, null=True)))
    names = [effect.name for effect in design.contrasts]
    columns = []
    for hypothesis in FAMILY[1:]:
        at = names.index(hypothesis.contrast)
        columns.append(hypothesis.p(Estimates(found.mean[:, at], found.std[:, at], found.n[:, at])))
    assert np.mean((holm(np.stack(columns, axis=1)) <= 0.05).any(axis=1)) <= 0.06


def test_messages() -> None:
    table = effects(runs(noise=0.3), slots=SLOTS)
    with pytest.raises(UserError, match="hypothesis a: kind=lesser: no such kind; did you mean less"):
        Hypothesis("a", "conv1", "lesser")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="equivalent needs a margin above 0"):
        Hypothesis("a", "conv1", "equivalent")
    with pytest.raises(UserError, match="less takes no margin"):
        Hypothesis("a", "conv1", "less", margin=1.0)
    with pytest.raises(UserError, match="hypothesis a: conv9: no such effect; did you mean conv"):
        confirm(table, [Hypothesis("a", "conv9", "different")])
    with pytest.raises(UserError, match="two have the same name"):
        confirm(table, [FAMILY[0], FAMILY[0]])
    with pytest.raises(UserError, match="hypotheses: none given"):
        confirm(table, [])
