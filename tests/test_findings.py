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
    assert (DOCS / "findings.md").read_text(encoding="utf-8") == recompute.text()


def in_short(page: str) -> list[str]:
    """Return the main sentences, each on one line: the points of the findings' first section."""
    points = page.partition("## In short")[2].partition("\n- ")[2].partition("\n\n")[0]
    return [" ".join(point.split()) for point in points.split("\n- ")]


def test_readme_carries_the_main_sentences(recompute: ModuleType) -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    sentences = in_short(recompute.text())
    assert len(sentences) == 3
    for sentence in sentences:
        assert f"- {sentence}" in readme


def test_the_tables_carry_what_the_text_says(recompute: ModuleType) -> None:
    runs = recompute.blocks()
    everything, learning = (recompute.effects_of(chosen) for chosen in (runs, recompute.of_masks_that_learn(runs)))
    assert recompute.outcomes(runs)["seed"].nunique() == recompute.SEEDS  # "five were planned and five ran"
    assert recompute.confirmed(everything)["verdict"].tolist() == ["not shown"] * 2 + ["shown"] * 3
    of_slots = [table[table["family"] == "slots"]["estimate"].abs() for table in (everything, learning)]
    assert (of_slots[1] < of_slots[0] / 2).all()  # "most of it comes from" runs under the mask that is left out
    by_mask = recompute.against_vanilla(runs)
    assert (by_mask.loc[["0,0,1", "1,1,1"], "low"] > 0).all() and (by_mask.loc[["0,1,0", "1,1,0"], "high"] < 0).all()
    assert by_mask.loc["1,1,0", "low_trained"] < 0 < by_mask.loc["1,1,0", "high_trained"]  # "not shown to differ from none"
    trained = recompute.effects_of(recompute.in_trained_bn(runs)).set_index("name").loc[list(recompute.SLOTS)]
    assert (trained["low"] * trained["high"] < 0).all()  # "none of the three is shown"
    for slot in ("conv1", "conv2"):  # "have the other sign": both intervals exclude 0
        over_all, where_all_learn = (table.set_index("name").loc[slot, ["low", "high"]] for table in (everything, learning))
        assert (over_all * where_all_learn < 0).all()
    cost = recompute.mechanism(learning).set_index("mask")
    wide = cost.index.str.endswith("0")
    assert cost["spread"][wide].min() > cost["spread"][~wide].max()
    inside = recompute.rank_correlations(recompute.with_dense1(runs))
    assert (inside.mean(axis="columns") >= 0).all()  # "no such relation": it would be below 0


def test_the_tables_carry_what_the_text_says_of_stuck_runs(recompute: ModuleType) -> None:
    runs = recompute.blocks()
    stuck = recompute.stuck(runs)
    assert set(stuck["mask"]) == {"1,0,0"}
    of_stuck = runs[runs["run"].isin(stuck["run"]) & (runs["epoch"] >= 1)]
    assert (of_stuck["test_acc"] <= recompute.STUCK).all()  # "from the first epoch on"
    assert (recompute.outcomes(recompute.stored("pilots.csv.gz"))["value"] > recompute.STUCK).all()
    recorded = recompute.stored("seed_?_gradients.csv.gz")["step"]
    assert recorded[recorded > 0].min() == 200  # "from step 200 on"
    first = recompute.stored("seed_?_first.csv.gz")
    assert (first.groupby(["mask", "slot", "seed"])["relative_update"].nunique() == 1).all()  # "the same in all modes"
    updates = recompute.first_updates()
    assert (updates.idxmax() == "1,0,0").all()
    assert updates["conv1"]["1,1,0"] == pytest.approx(updates["conv1"]["1,0,0"], rel=0.05)
    ended = recompute.outcomes(runs).set_index("seed")
    learned = ended[(ended["mask"] == "1,0,0") & (ended["value"] > recompute.STUCK)]["value"]
    assert (learned < ended[ended["mode"] == "vanilla"]["value"].reindex(learned.index)).all()


def test_the_tables_carry_what_the_text_says_of_rates(recompute: ModuleType) -> None:
    by_rate = recompute.at_other_rates().set_index(["lr", "seed"]).sort_index()
    highest = max(rate for rate, _ in by_rate.index)
    assert (by_rate.loc[highest, "vanilla"] <= recompute.STUCK).all()
    assert (by_rate["trained_bn - vanilla"] > 0).all()
    for seed in (1, 2):
        assert by_rate["trained_bn"].xs(seed, level="seed").idxmax() == highest


def test_bounds_are_rounded_outwards(recompute: ModuleType) -> None:
    runs = recompute.blocks()
    found = recompute.fields_of_stuck_runs(runs)
    (_, gradients), (stuck_off, other_off) = recompute.late_gradients(runs), recompute.off(runs)
    assert 0 < float(found["other_gradient"]) <= gradients["median"].min()
    assert float(found["stuck_off"]) <= 100 * recompute.most_off(stuck_off, "0").min()
    assert 100 * recompute.most_off(other_off, "0").max() <= float(found["other_off"]) < float(found["stuck_off"])


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


def test_the_runs_at_other_rates_are_whole(recompute: ModuleType) -> None:
    study = read_study(ROOT / "configs" / "studies" / "findings_fmnist_2c2d_rates.yaml", {})
    ended = recompute.outcomes(recompute.stored("rates.csv.gz"))
    planned = [
        (run.lr, run.random_seed, run.position, run.ablation if "1" in run.position else "vanilla")
        for run in (planned.config for planned in study.runs)
    ]
    assert sorted(zip(ended["lr"], ended["seed"], ended["mask"], ended["mode"], strict=True)) == sorted(planned)


def test_what_explains_stuck_runs_is_there_for_each_of_them(recompute: ModuleType) -> None:
    runs = recompute.blocks()
    stuck = set(recompute.stuck(runs)[recompute.RUN].itertuples(index=False, name=None))
    gradients_of_stuck, gradients_of_others = recompute.late_gradients(runs)
    assert len(gradients_of_stuck) == len(stuck) * len(recompute.SLOTS)
    assert len(gradients_of_others) == (len(recompute.outcomes(runs)) - len(stuck)) * len(recompute.SLOTS)
    shares_of_stuck, _ = recompute.off(runs)
    assert set(shares_of_stuck[recompute.RUN].itertuples(index=False, name=None)) == stuck


def test_the_margin_is_the_one_that_was_fixed(recompute: ModuleType) -> None:
    """The study's file names it, from before the first block on."""
    header = (ROOT / "configs" / "studies" / "findings_fmnist_2c2d.yaml").read_text(encoding="utf-8")
    fixed = re.search(r"margin: (\d\.\d+) points", header)
    assert fixed is not None and float(fixed[1]) == pytest.approx(recompute.POINTS * recompute.margin())
