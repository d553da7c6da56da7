"""Computes all that docs/findings.md says from the tables beside this file; no run is needed.

    python docs/findings/recompute.py

It writes docs/findings.md, from the text in `text.md`, and the figures docs/images/findings_*.png. Each number of the text is a
field in braces there, which `fields()` fills in. So no number in the text can differ from the data.

- `seed_N.csv.gz`: a block, the 29 runs of a seed; `seed_N_spread.csv.gz`: the spread of their thresholds.
- `pilots.csv.gz`: the two pilot seeds. `rates.csv.gz`: the runs at other learning rates.
- `blocks.csv`: on which machine, with which versions and at which commit each of them ran.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from batchnorm.analysis.effects import Hypothesis, confirm, effects, plan
from batchnorm.analysis.figures.effects import draw_effects
from batchnorm.analysis.figures.interactions import draw_interactions
from batchnorm.analysis.tables import marked_up

FOLDER = Path(__file__).parent
SLOTS = ("conv1", "conv2", "dense1")
EPOCHS = 6
SEEDS = 5
"""Planned blocks."""
LARGEST_MARGIN = 0.003
"""Of the first hypothesis, as a share of 1: 0.3 points."""
POINTS = 100
CHANCE = {"acc": 0.1, "loss": float(np.log(10))}
MODES = ("fixed_bn", "fixed_gamma", "fixed_beta")
TITLES = {
    "slots": "slot: with BatchNorm minus without",
    "modes": "mode, over all masks",
    "gamma_beta": "gamma and beta: trained minus fixed",
    "interactions": "slot x slot",
}


def stored(pattern: str) -> pd.DataFrame:
    """Return the tables whose names match, as one; empty where there is none."""
    tables = [pd.read_csv(file) for file in sorted(FOLDER.glob(pattern))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def blocks() -> pd.DataFrame:
    """Return all finished blocks, one row an epoch of a run."""
    return stored("seed_?.csv.gz")


def outcomes(runs: pd.DataFrame, metric: str = "test_acc") -> pd.DataFrame:
    """Return one row a run: its metric at the end of the last epoch, and that of chance where it diverged."""
    last = runs[(runs["epoch"] == EPOCHS) | (runs["status"] == "diverged")].groupby("run").tail(1)
    diverged = last["status"] == "diverged"
    chance = CHANCE[metric.rpartition("_")[2]]
    return last.assign(value=last[metric].where(~diverged, chance), diverged=diverged)


def wanted_margin() -> float:
    """Return the margin within which five seeds show equivalence with 80 % power, if the pilots' spread is the true one.

    The level is that of a family of five.
    """
    planned = plan(effects(outcomes(stored("pilots.csv.gz")), slots=SLOTS), planned_seeds=SEEDS, comparisons=5).set_index(
        "name"
    )
    return float(planned["shows"]["fixed_gamma - trained_bn"])


def margin() -> float:
    """Return the margin that was fixed before the first block: rounded up to hundredths of a point."""
    return min(float(np.ceil(1e4 * wanted_margin())) / 1e4, LARGEST_MARGIN)


def effects_of(runs: pd.DataFrame, metric: str = "test_acc") -> pd.DataFrame:
    """Return the table of all effects on a metric, the margin of equivalence with it."""
    return effects(outcomes(runs, metric), slots=SLOTS, margin=margin())


def confirmed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the verdicts on the five hypotheses that were fixed before the first block."""
    claims = [
        Hypothesis("1: gamma need not be trained", "fixed_gamma - trained_bn", "equivalent", margin=margin()),
        Hypothesis("2: beta must be trained", "fixed_beta - trained_bn", "less"),
        *(Hypothesis(f"{number}: BatchNorm in {slot} matters", slot, "different") for number, slot in enumerate(SLOTS, 3)),
    ]
    return confirm(table, claims)


def mechanism(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each mask and mode, the mode's effect and how differently the slots' channels cut where all is trained.

    Columns: `mask`, `mode`, `effect`, `spread`: the quartiles' distance of beta / abs(gamma) at the end of `trained_bn`, the
    mean over the mask's slots and the seeds, in deviations of the pre-activation.
    """
    spread = stored("seed_?_spread.csv.gz")
    trained = spread[spread["mode"] == "trained_bn"]
    last = trained[trained["step"] == trained["step"].max()]
    by_mask = last.groupby("mask")["threshold_spread"].mean()
    rows = []
    for effect in table[table["family"] == "modes_per_mask"].to_dict("records"):
        difference, _, mask = effect["name"].partition(" at ")
        rows.append((mask, difference.partition(" - ")[0], effect["estimate"], by_mask[mask]))
    return pd.DataFrame(rows, columns=["mask", "mode", "effect", "spread"])


def at_other_rates() -> pd.DataFrame:
    """Return the differences at each learning rate, by seed: `lr`, `seed`, vanilla's accuracy, and two differences."""
    runs = outcomes(pd.concat([stored("rates.csv.gz"), blocks()]))
    wide = runs[runs["mask"].isin(["0,0,0", "1,1,1"])].pivot_table(index=["lr", "seed"], columns="mode", values="value")
    wide = wide[["vanilla", "trained_bn", "fixed_gamma"]].dropna()
    differences = {
        "vanilla": wide["vanilla"],
        "trained_bn - vanilla": wide["trained_bn"] - wide["vanilla"],
        "fixed_gamma - trained_bn": wide["fixed_gamma"] - wide["trained_bn"],
    }
    return pd.DataFrame(differences).reset_index()


def signed(value: float) -> str:
    """Return a difference in points, with its sign."""
    return f"{POINTS * value:+.2f}".replace("-", "\N{MINUS SIGN}")


def with_interval(row: pd.Series) -> str:
    """Return an estimate in points with its interval, where there is one."""
    if not np.isfinite(row["low"]):
        return signed(row["estimate"])
    return f"{signed(row['estimate'])} [{signed(row['low'])}, {signed(row['high'])}]"


def p_value(value: float) -> str:
    """Return a p-value for a text."""
    return "-" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def table_of_effects(table: pd.DataFrame) -> str:
    """Return the effects as Markdown, family by family; `modes_per_mask` is left to the figure."""
    rows = [["effect", "points [95 % interval]", "p (Holm, in its family)", "pairs"]]
    for family, title in TITLES.items():
        rows.append([f"*{title}*", "", "", ""])
        for _, row in table[table["family"] == family].iterrows():
            rows.append([row["name"], with_interval(row), p_value(row["p_holm"]), str(row["n_pairs"])])
    return marked_up(rows, "markdown").strip()


def table_of_variants(runs: pd.DataFrame) -> str:
    """Return the mean test accuracy of each variant as Markdown: masks by modes, in per cent."""
    ended = outcomes(runs)
    modes = ["trained_bn", *MODES]
    rows = [["mask", *modes]]
    for mask in sorted(set(ended["mask"]), key=lambda mask: (mask.count("1"), mask)):
        of_mask = ended[ended["mask"] == mask].groupby("mode")["value"].mean()
        cells = [f"{POINTS * of_mask[mode]:.2f}" if mode in of_mask else "" for mode in modes]
        rows.append(
            [f"{mask}, vanilla", f"{POINTS * of_mask['vanilla']:.2f}", "", "", ""] if "vanilla" in of_mask else [mask, *cells]
        )
    return marked_up(rows, "markdown").strip()


def table_of_verdicts(table: pd.DataFrame) -> str:
    """Return the five hypotheses as Markdown."""
    rows = [["hypothesis", "points [95 % interval]", "p (Holm, of five)", "verdict"]]
    by_name = table.set_index("name")
    for _, row in confirmed(table).iterrows():
        p_holm = np.nan if np.isnan(row["p"]) else row["p_holm"]
        rows.append([row["name"], with_interval(by_name.loc[row["contrast"]]), p_value(p_holm), row["verdict"]])
    return marked_up(rows, "markdown").strip()


def table_of_blocks() -> str:
    """Return where each block ran, as Markdown."""
    ran = pd.read_csv(FOLDER / "blocks.csv", dtype=str)
    return marked_up([list(ran.columns), *ran.to_numpy().tolist()], "markdown").strip()


def table_of_rates() -> str:
    """Return the differences at each learning rate as Markdown, the mean over the seeds that each rate has."""
    found = at_other_rates()
    rows = [["rate", "seeds", "vanilla, %", "trained_bn - vanilla", "fixed_gamma - trained_bn"]]
    for rate, of_rate in found.groupby("lr"):
        mean = of_rate.mean()
        differences = [signed(mean[name]) for name in ("trained_bn - vanilla", "fixed_gamma - trained_bn")]
        rows.append([f"{rate:.3f}", ", ".join(map(str, of_rate["seed"])), f"{POINTS * mean['vanilla']:.2f}", *differences])
    return marked_up(rows, "markdown").strip()


def fields() -> dict[str, str]:
    """Return what stands in braces in the text: tables, and numbers of effects by their names."""
    runs = blocks()
    table = effects_of(runs)
    related = mechanism(table)
    ended = outcomes(runs)
    found = {
        "blocks": str(ended["seed"].nunique()),
        "planned": str(SEEDS),
        "runs": str(len(ended)),
        "diverged": str(int(ended["diverged"].sum())),
        "wanted_margin": f"{POINTS * wanted_margin():.2f}",
        "margin": f"{POINTS * margin():.2f}",
        "table_of_blocks": table_of_blocks(),
        "table_of_verdicts": table_of_verdicts(table),
        "table_of_effects": table_of_effects(table),
        "table_of_variants": table_of_variants(runs),
        "table_of_rates": table_of_rates(),
    }
    for _, row in table.iterrows():
        found[row["name"].removesuffix(" - trained_bn")] = with_interval(row)
    for mask, spread in related.groupby("mask")["spread"].first().items():
        found[f"spread at {mask}"] = f"{spread:.3g}"
    for mode, of_mode in related.groupby("mode"):
        found[f"rank correlation of {mode}"] = f"{of_mode['effect'].corr(of_mode['spread'], method='spearman'):.2f}"
    return found


def text() -> str:
    """Return docs/findings.md: `text.md` with its fields filled in."""
    found = fields()
    template = (FOLDER / "text.md").read_text(encoding="utf-8")
    return re.sub(r"\{([^{}]+)\}", lambda field: found[field[1]], template)


def draw(images: Path) -> None:
    """Write the figures."""
    table = effects_of(blocks())
    forest = draw_effects(table, families=["slots", "modes", "gamma_beta"], scale=POINTS, label="points of test accuracy")
    interactions = draw_interactions(table, scale=POINTS, label="points of test accuracy")
    for name, figure in (("forest", forest), ("interactions", interactions), ("mechanism", drawn_mechanism(table))):
        figure.savefig(images / f"findings_{name}.png", dpi=200)


def drawn_mechanism(table: pd.DataFrame) -> Figure:
    """Return each mode's effect by mask against the spread of beta / abs(gamma) there."""
    related = mechanism(table)
    figure = Figure(figsize=(6.75, 2.6), layout="constrained")
    panels = figure.subplots(1, len(MODES), sharex=True, sharey=True)
    for mode, axes in zip(MODES, panels, strict=True):
        of_mode = related[related["mode"] == mode]
        axes.axhline(0, color="black", linewidth=0.6)
        axes.plot(of_mode["spread"], POINTS * of_mode["effect"], linestyle="", marker="o", markersize=4, color="#0072B2")
        for mask, spread, effect in zip(of_mode["mask"], of_mode["spread"], of_mode["effect"], strict=True):
            axes.annotate(mask, (spread, POINTS * effect), (3, 3), textcoords="offset points", fontsize=6)
        axes.set_title(f"{mode} - trained_bn", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("spread of beta / abs(gamma)", fontsize=8)
    panels[0].set_ylabel("points of test accuracy", fontsize=8)
    return figure


def main() -> None:
    """Write the text and its figures."""
    docs = FOLDER.parent
    (docs / "findings.md").write_text(text(), encoding="utf-8")
    draw(docs / "images")


if __name__ == "__main__":
    main()
