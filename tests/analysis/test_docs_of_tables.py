"""The commands of docs/tables.md print what stands there, from invented runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import h5py
import pytest

from batchnorm.analysis.__main__ import main
from batchnorm.store import Status
from tests.recorded import record_run

GAINS = {"vanilla": 0.0, "fixed_bn": 0.006, "fixed_beta": 0.0085, "fixed_gamma": 0.0134, "trained_bn": 0.013}
PAGE = (Path(__file__).parent.parent.parent / "docs" / "tables.md").read_text(encoding="utf-8")


def commands() -> list[tuple[str, str]]:
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    shown = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, printed) for command, _, printed in (each.partition("\n") for each in shown)]


def make_up_runs(output: Path) -> None:
    """Record vanilla at rate 0.1 and four modes at 0.03, five seeds each, and one more seed of vanilla that diverged."""
    for seed in range(1, 6):
        for place, (mode, gain) in enumerate(GAINS.items()):
            keys = {"position": "none", "lr": 0.1} if mode == "vanilla" else {"position": "all", "ablation": mode, "lr": 0.03}
            config = record_run(output, problem="fmnist_2c2d_bn", random_seed=seed, **keys)  # type: ignore[arg-type]
            with h5py.File(config.directory / "run.h5", "r+") as file:
                file["epochs/test_acc"][-1] = 0.902 + gain + 0.0005 * ((29 * seed * seed + 7 * (place + 2) * seed) % 13 - 6)
    lost: dict[str, Any] = {"status": Status.DIVERGED, "recorded_epochs": 3, "last_loss": float("nan")}
    record_run(output, problem="fmnist_2c2d_bn", position="none", lr=0.1, random_seed=6, **lost)


def test_the_page_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make_up_runs(tmp_path / "output")
    monkeypatch.chdir(tmp_path)
    assert len(commands()) >= 4
    for command, expected in commands():
        main(shlex.split(command)[3:])
        printed, told = capfd.readouterr()
        assert (printed + told).replace("+/-", "±") == expected, command
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(code, "docs/tables.md", "exec"), {})
    assert (tmp_path / "table.tex").exists()
