from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from batchnorm.analysis.variants import FULL, ORDER, VANILLA, variant_of
from batchnorm.masks import Ablation

# Machado, Oliveira, Fernandes: "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("mode", list(Ablation))
def test_the_all_zero_mask_is_vanilla_in_each_mode(mode: Ablation) -> None:
    assert variant_of((0, 0, 0), mode) is VANILLA


def test_papers_names() -> None:
    names = {mode: variant_of((0, 1), mode).name for mode in Ablation}
    assert names == {
        Ablation.FIXED_BN: "BN",
        Ablation.FIXED_BETA: "BN gamma",
        Ablation.FIXED_GAMMA: "BN beta",
        Ablation.TRAINED_BN: "BN gamma beta",
    }


def test_one_colour_and_one_line_style_each() -> None:
    assert len({variant.colour for variant in ORDER}) == len({variant.dashes for variant in ORDER}) == len(ORDER) == 6
    assert VANILLA.dashes != "-" and FULL.dashes != "-"


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colour_blind_readers_can_tell_variants_apart(blindness: str) -> None:
    seen = {
        variant.name: np.clip(np.asarray(BLINDNESS[blindness]) @ _linear(to_rgb(variant.colour)), 0, 1) for variant in ORDER
    }
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
