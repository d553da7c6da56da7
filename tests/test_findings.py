"""Holds docs/findings.md against the tables of its runs: each number is computed again."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from batchnorm.study.grid import read_study

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def recompute() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recompute", DOCS / "findings" / "recompute.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_text_is_what_the_tables_give(recompute: ModuleType) -> None:
    page = DOCS / "findings.md"
    if not list((DOCS / "findings").glob("seed_?.csv.gz")):  # before the first block there is nothing to say
        assert not page.exists()
        return
    assert page.read_text(encoding="utf-8") == recompute.text()


def test_no_result_is_typed_by_hand() -> None:
    """What follows a decimal point and is no field is a setting of the study."""
    text = (DOCS / "findings" / "text.md").read_text(encoding="utf-8")
    assert re.findall(r"\d\.\d+", re.sub(r"\{[^{}]+\}", "", text)) == ["0.158"]


def test_each_block_is_whole(recompute: ModuleType) -> None:
    study = read_study(ROOT / "configs" / "studies" / "findings_fmnist_2c2d.yaml", {})
    for file in sorted((DOCS / "findings").glob("seed_?.csv.gz")):
        ended = recompute.outcomes(recompute.stored(file.name))
        planned = [run.config for run in study.runs if run.config.random_seed == int(file.name[5])]
        variants = sorted((run.position, run.ablation if "1" in run.position else "vanilla") for run in planned)
        assert sorted(zip(ended["mask"], ended["mode"], strict=True)) == variants, file.name


def test_what_explains_stuck_runs_is_there_for_each_of_them(recompute: ModuleType) -> None:
    runs = recompute.blocks()
    stuck = set(recompute.stuck(runs)[recompute.RUN].itertuples(index=False, name=None))
    gradients_of_stuck, gradients_of_others = recompute.usual_gradients(runs)
    assert len(gradients_of_stuck) == len(stuck) * len(recompute.SLOTS)
    assert len(gradients_of_others) == (len(recompute.outcomes(runs)) - len(stuck)) * len(recompute.SLOTS)
    shares_of_stuck, _ = recompute.off(runs)
    assert set(shares_of_stuck[recompute.RUN].itertuples(index=False, name=None)) == stuck


def test_the_margin_is_the_one_that_was_fixed(recompute: ModuleType) -> None:
    """The study's file names it, from before the first block on."""
    header = (ROOT / "configs" / "studies" / "findings_fmnist_2c2d.yaml").read_text(encoding="utf-8")
    fixed = re.search(r"margin: (\d\.\d+) points", header)
    assert fixed is not None and float(fixed[1]) == pytest.approx(recompute.POINTS * recompute.margin())
