from __future__ import annotations

import math

import numpy as np

from batchnorm.measurements.norms import affine_norm


def test_the_norm_of_gamma_and_beta_against_a_loop() -> None:
    generator = np.random.default_rng(0)
    gamma, beta = generator.normal(size=(3, 5)).astype(np.float32), generator.normal(size=(3, 5)).astype(np.float32)
    for row, found in enumerate(affine_norm(gamma, beta)):
        assert math.isclose(found, math.hypot(*map(float, gamma[row]), *map(float, beta[row])), rel_tol=1e-14)
