"""Runs for the analysis: invented ones of all shapes, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm.config import RunConfig, resolve
from batchnorm.store import Status
from tests.recorded import record_run

MODES = ("trained_bn", "fixed_bn", "fixed_gamma", "fixed_beta")


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output folder with a study of 2c2d: vanilla, full, and two masks in four modes, two seeds each."""
    folder = tmp_path_factory.mktemp("study") / "output"
    for seed in (1, 2):
        for mask, modes in (("0,0,0", MODES[:1]), ("1,1,1", MODES[:1]), ("0,0,1", MODES), ("1,0,0", MODES)):
            for mode in modes:
                record(folder, position=mask, ablation=mode, random_seed=seed)
    return folder


@pytest.fixture
def at(output: Path) -> Callable[..., Path]:
    """Return a function that finds one run of the study."""

    def find(mask: str, mode: str = "trained_bn", seed: int = 1) -> Path:
        (found,) = output.glob(f"{seed}__digits_2c2d_bn__{mask}/*/*/{mode}")
        return found

    return find


def record(folder: Path, **keys: object) -> Path:
    """Invent a run and return its directory."""
    config: RunConfig = record_run(folder, **{"problem": "digits_2c2d_bn", "steps_per_epoch": 20, **keys})  # type: ignore[arg-type]
    return config.directory


def cut_off(folder: Path, **keys: object) -> Path:
    """Invent a run that was cut off after two of four epochs."""
    return record(folder, recorded_epochs=2, status=Status.CUT_OFF, **keys)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> Path:
    """Return an output folder with short runs of the real runner: vanilla, full, one mask in four modes; two seeds of one."""
    from batchnorm.training import train

    folder = tmp_path_factory.mktemp("trained") / "output"
    root = Path(__file__).parent.parent.parent
    runs = [("none", MODES[0], 1), ("all", MODES[0], 1), *(("0,0,1", mode, 1) for mode in MODES), ("0,0,1", MODES[0], 2)]
    for mask, mode, seed in runs:
        keys: dict[str, object] = {
            "problem": "fmnist_2c2d_bn",
            "num_epochs": 2,
            "threads": 1,
            "batch_size": 32,
        }
        keys |= {
            "tuning_conf": str(root / "configs/basic_config.yaml"),
            "output_dir": str(folder),
            "obs_datasets": str(few_images),
        }
        train(resolve({**keys, "position": mask, "ablation": mode, "random_seed": seed}))
    return folder
