"""A short soak. SOAK_MINUTES in the environment makes it longer; `python -m benchmarks soak` is the real one."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from benchmarks.soak import soak
from tests.study.commands import loaded


def test_a_study_survives_signals_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in loaded().items():  # its workers have torch loaded: signals come while they train
        monkeypatch.setenv(name, value)
    minutes = float(os.environ.get("SOAK_MINUTES", "0.3"))
    result = soak(tmp_path, runs=4, epochs=15, seconds=60 * minutes, pause=1.5, chance=random.Random(1))
    assert not result.wrong, result
    assert result.signals
    assert result.equal == 4 * result.rounds > 0
