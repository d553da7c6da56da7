from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from batchnorm.analysis.variants import FULL_ROW, ROWS, VANILLA_ROW, legend_place, row_of, under
from batchnorm.modes import MODES, VANILLA, Trains, variant_name

# Machado, Oliveira, Fernandes: "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("mode", MODES)
def test_the_all_zero_mask_is_vanilla_in_each_mode(mode: str) -> None:
    row = row_of(variant_name((0, 0, 0), mode))
    assert row is (MODES[mode] if MODES[mode].trains is not Trains.ALL else VANILLA_ROW)


def test_a_list_of_modes_has_one_look_in_every_figure() -> None:
    row = row_of("fixed_gamma,trained_bn")
    assert (row.title, row.label) == ("BN beta, BN gamma beta", r"BN $\beta$, BN $\gamma\beta$")
    assert (row.colour, row.dashes) == (row_of("fixed_gamma,trained_bn").colour, row.dashes)
    assert row.colour not in {other.colour for other in ROWS}
    assert row_of("fixed_gamma,tomorrow").title == "fixed_gamma,tomorrow"


def test_papers_names() -> None:
    names = {mode: row_of(variant_name((0, 1), mode)).title for mode in MODES}
    assert names == {
        "fixed_bn": "BN",
        "fixed_beta": "BN gamma",
        "fixed_gamma": "BN beta",
        "trained_bn": "BN gamma beta",
        "affine_only": "gamma beta",
        "bn_only": "BN gamma beta alone",
        "bn_and_head": "BN gamma beta and head",
    }


def test_legends_list_what_is_trained_less_first_and_references_at_the_ends() -> None:
    assert [row.name for row in ROWS] == [
        VANILLA,
        "affine_only",
        *("fixed_bn", "fixed_beta", "fixed_gamma", "trained_bn"),
        *("bn_and_head", "bn_only"),
        "full",
    ]


def test_a_mode_that_the_code_does_not_know_keeps_its_name() -> None:
    assert row_of("bn_of_tomorrow").title == row_of("bn_of_tomorrow").label == "bn_of_tomorrow"


def test_one_colour_and_one_line_style_each() -> None:
    assert len({row.colour for row in ROWS}) == len({row.dashes for row in ROWS}) == len(ROWS) == 9
    assert VANILLA_ROW.dashes != "-" and FULL_ROW.dashes != "-"


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colour_blind_readers_can_tell_variants_apart(blindness: str) -> None:
    seen = {row.title: np.clip(np.asarray(BLINDNESS[blindness]) @ _linear(to_rgb(row.colour)), 0, 1) for row in ROWS}
    for (one, first), (other, second) in itertools.combinations(seen.items(), 2):
        assert np.linalg.norm(_lab(first) - _lab(second)) > 15, (one, other)


def _linear(rgb: tuple[float, float, float]) -> np.ndarray:
    values = np.asarray(rgb)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.asarray(to_xyz) @ linear / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_another_norm_is_called_by_its_name() -> None:
    assert row_of("fixed_gamma", "layer").label == r"LN $\beta$"
    assert row_of("fixed_bn,trained_bn", "group:4").title == "GN(4), GN(4) gamma beta"
    assert row_of("trained_bn", "norm_of_tomorrow").title == "norm_of_tomorrow gamma beta"
    assert under("instance", FULL_ROW).label == "full IN" and under("layer", VANILLA_ROW) == VANILLA_ROW
    assert row_of("trained_bn", "batch") is MODES["trained_bn"]
    assert legend_place(row_of("fixed_bn", "layer")) == legend_place(row_of("fixed_bn"))
