from __future__ import annotations

import re
from pathlib import Path

import pytest

from batchnorm.analysis.__main__ import main
from batchnorm.analysis.commands import _parser
from batchnorm.analysis.narrowing import seed_ranges
from batchnorm.analysis.runs import group_seeds, open_runs, require_one_setting
from batchnorm.analysis.shell import chosen_paths
from batchnorm.config import SLOT_KEYS
from tests.analysis.conftest import record


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return runs of two optimizers: two rates on seed 1, as tuning tries them, one on the seeds 11 and 12."""
    folder = tmp_path_factory.mktemp("tuned") / "output"
    for optimizer, rates in {"SGD": (0.1, 0.5), "Adam": (0.001, 0.01)}.items():
        for position, pick in zip(("none", "all"), rates, strict=True):
            for lr, seed in [*((lr, 1) for lr in rates), (pick, 11), (pick, 12)]:
                record(folder, optimizer=optimizer, position=position, lr=lr, random_seed=seed, epochs=1)
    return folder


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), ["--optimizer Adam --seed 11-12", "--optimizer SGD --seed 11-12"]),
        (("--optimizer", "SGD"), ["--seed 11-12", "--lr 0.1", "--lr 0.5"]),
        (("--seed", "11-12"), ["--optimizer Adam", "--optimizer SGD"]),
    ],
)
def test_each_way_that_a_message_names_leaves_one_setting(
    tuned: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: list[str]
) -> None:
    assert main(["performance", str(tuned), *arguments]) == 2
    (told,) = re.findall(r"choose one setting of each variant by (.*); rates --by KEY", capsys.readouterr().err)
    ways = told.split(", or ")
    assert set(named) <= set(ways)
    for way in ways:
        given = _parser("analysis").parse_args(["performance", str(tuned), *arguments, *way.split()])
        groups = group_seeds(open_runs(chosen_paths(given)))
        require_one_setting(groups)
        assert len(groups) == 2


def test_values_of_a_key_that_have_several_settings(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rates", str(tuned), "--mask", "all", "--by", "OPTIMIZER"]) == 2
    assert capsys.readouterr().err.endswith("choose one setting of each OPTIMIZER by --seed 11-12\n")
    assert main(["effects", str(tuned), "--optimizer", "SGD"]) == 2
    assert "alone: choose one setting by --lr 0.1, or --lr 0.5\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "values", "ways"),
    [
        ("norm", ("batch", "group:4"), "--norm batch, or --norm group:4"),
        ("batch_size", (32, 64), "--where BATCH_SIZE=32, or --where BATCH_SIZE=64"),
        ("lr_schedule", (None, {"name": "cosine"}), "--where LR_SCHEDULE=cosine, or --where LR_SCHEDULE=none"),
        ("gamma_init", ("mode", 0.1), "--where GAMMA_INIT=0.1, or --where GAMMA_INIT=mode"),
    ],
)
def test_any_key_may_choose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, values: tuple[object, object], ways: str
) -> None:
    for value in values:
        record(tmp_path, **{key: value}, epochs=1)
    if key.upper() in SLOT_KEYS:
        record(tmp_path, position="none", epochs=1)  # goes with each value
    assert main(["performance", str(tmp_path)]) == 2
    assert f"choose one setting of each variant by {ways}; rates --by KEY" in capsys.readouterr().err
    for way in ways.split(", or "):
        given = _parser("analysis").parse_args(["performance", str(tmp_path), *way.split()])
        require_one_setting(group_seeds(open_runs(chosen_paths(given))))


def test_seeds_are_chosen_by_ranges(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert seed_ranges([3, 7, 1, 2]) == "1-3 7"
    rows = {}
    for seeds in ("11-12", "11 12", "1,12,11"):
        assert main(["runs", str(tuned), "--seed", *seeds.split()]) == 0
        rows[seeds] = capsys.readouterr().out.count("\n") - 1
    assert rows == {"11-12": 8, "11 12": 8, "1,12,11": 16}
    for wrong in ("11-", "x", "13-11"):
        with pytest.raises(SystemExit, match="^2$"):
            main(["runs", str(tuned), "--seed", wrong])
        told = capsys.readouterr().err
        assert told.startswith("error: argument --seed: ") and told.count("\n") == 1
