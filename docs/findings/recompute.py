"""Computes all that docs/findings.md says from the tables beside this file; no run is needed.

    python docs/findings/recompute.py

It writes docs/findings.md, from the text in `text.md`, and the figures docs/images/findings_*.png. Each number of the text is a
field in braces there, which `fields()` fills in. So no number in the text can differ from the data.

- `seed_N.csv.gz`: a block, the 29 runs of a seed, as `python -m batchnorm.analysis export output --seed N` writes it. Of the
  same runs, with `--columns mask mode seed step slot QUANTITY`:
  `seed_N_spread.csv.gz`, the spread of their thresholds: `--quantity threshold_spread --every 26`;
  `seed_N_first.csv.gz`, the size of their first update: `--quantity relative_update --every 1000`;
  `seed_N_gradients.csv.gz`, norms of their gradients: `--quantity gradient_norm --every 8`.
- `seed_N_off.csv.gz`: what each activation stops after training, for the masks under which a run got stuck: `measure output
  --seed N --mask 1,0,0 --what representations`, then `--quantity share_off --columns mask mode seed slot share_off`.
- `pilots.csv.gz`: the two pilot seeds.
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
CHANCE = 0.1
STUCK = 1.1 * CHANCE
"""A run that ends with at most this accuracy has learned nothing, as `effects` says it too."""
RUN = ["mask", "mode", "seed"]
"""What tells the runs of the study apart."""
MODES = ("fixed_bn", "fixed_gamma", "fixed_beta")
LABEL = "points of test accuracy"
MARKS = {
    "vanilla": ("D", "black"),
    "trained_bn": ("o", "#0072B2"),
    "fixed_gamma": ("^", "#009E73"),
    "fixed_beta": ("v", "#D55E00"),
    "fixed_bn": ("x", "#CC79A7"),
}
MASK_MARKS = [*MARKS.values(), ("s", "#E69F00"), ("P", "#56B4E9")]
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


def outcomes(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a run: its test accuracy at the end of the last epoch, and that of chance where it diverged."""
    last = runs[(runs["epoch"] == EPOCHS) | (runs["status"] == "diverged")].groupby("run").tail(1)
    diverged = last["status"] == "diverged"
    return last.assign(value=last["test_acc"].where(~diverged, CHANCE), diverged=diverged)


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


def stuck(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that ended at chance, one row each."""
    ended = outcomes(runs)
    return ended[ended["value"] <= STUCK]


def of_masks_that_learn(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of those masks under which none got stuck, in no mode and no seed."""
    return runs[~runs["mask"].isin(stuck(runs)["mask"])]


def effects_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the table of all effects, the margin of equivalence with it."""
    return effects(outcomes(runs), slots=SLOTS, margin=margin())


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

    Columns: `mask`, `mode`, `effect` with the ends of its interval, `low` and `high`, and `spread`: the quartiles' distance of
    beta / abs(gamma) at the end of `trained_bn`, the mean over the mask's slots and the seeds, in deviations of the
    pre-activation.
    """
    spread = stored("seed_?_spread.csv.gz")
    trained = spread[spread["mode"] == "trained_bn"]
    last = trained[trained["step"] == trained["step"].max()]
    by_mask = last.groupby("mask")["threshold_spread"].mean()
    rows = []
    for effect in table[table["family"] == "modes_per_mask"].to_dict("records"):
        difference, _, mask = effect["name"].partition(" at ")
        mode = difference.partition(" - ")[0]
        rows.append((mask, mode, effect["estimate"], effect["low"], effect["high"], by_mask[mask]))
    return pd.DataFrame(rows, columns=["mask", "mode", "effect", "low", "high", "spread"])


def rank_correlations(runs: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlation, over the masks, of a mode's effect with how differently channels cut.

    A row a mode, a column a seed: the effects are the seed's own, the spread is the mean over the seeds.
    """
    by_seed = {
        seed: {
            mode: of_mode["effect"].corr(of_mode["spread"], method="spearman")
            for mode, of_mode in mechanism(effects_of(of_seed)).groupby("mode")
        }
        for seed, of_seed in runs.groupby("seed")
    }
    return pd.DataFrame(by_seed).loc[list(MODES)]


def first_updates() -> pd.DataFrame:
    """Return how far the first update of a run moves each slot's weights, in norms of these weights: the mean over the seeds.

    It is the same in all modes, since gamma is 1 and beta 0 at the start. A row a mask, a column a slot.
    """
    stored_first = stored("seed_?_first.csv.gz")
    return stored_first.pivot_table(index="mask", columns="slot", values="relative_update")


def usual_gradients(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the median norm of a slot's gradient in each run, the first step left out: of stuck runs, and of all others.

    A row a run and slot: what tells the run apart, `slot`, `gradient_norm`.
    """
    recorded = stored("seed_?_gradients.csv.gz")
    return split(recorded[recorded["step"] > 0].groupby([*RUN, "slot"])["gradient_norm"].median().reset_index(), runs)


def off(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the share of outputs that the activation after a slot stops: of stuck runs, of others under the same masks.

    A row a run: what tells it apart, and a column a slot.
    """
    share = stored("seed_?_off.csv.gz").pivot_table(index=RUN, columns="slot", values="share_off")
    return split(share.reset_index(), runs)


def split(found: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of stuck runs, and those of others."""
    is_stuck = pd.MultiIndex.from_frame(found[RUN]).isin(pd.MultiIndex.from_frame(stuck(runs)[RUN]))
    return found[is_stuck], found[~is_stuck]


def signed(value: float) -> str:
    """Return a difference in points, with its sign."""
    return with_sign(POINTS * value)


def with_sign(number: float) -> str:
    """Return a number with its sign."""
    return f"{number:+.2f}".replace("-", "\N{MINUS SIGN}")


def with_interval(row: pd.Series) -> str:
    """Return an estimate in points with its interval, where there is one."""
    if not np.isfinite(row["low"]):
        return signed(row["estimate"])
    return f"{signed(row['estimate'])} [{signed(row['low'])}, {signed(row['high'])}]"


def p_value(value: float) -> str:
    """Return a p-value for a text."""
    return "-" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def table_of_effects(table: pd.DataFrame, learning: pd.DataFrame) -> str:
    """Return the effects as Markdown, family by family, over all masks and over those that learn."""
    rows = [["effect", "all masks: points [95 % interval]", "p (Holm)", "masks under which all runs learn", "p (Holm)"]]
    for family, title in TITLES.items():
        rows.append([f"*{title}*", "", "", "", ""])
        beside = learning[learning["family"] == family].set_index("name")
        for _, row in table[table["family"] == family].iterrows():
            other = beside.loc[row["name"]]
            rows.append(
                [row["name"], with_interval(row), p_value(row["p_holm"]), with_interval(other), p_value(other["p_holm"])]
            )
    return marked_up(rows, "markdown").strip()


def table_of_stuck(runs: pd.DataFrame) -> str:
    """Return the runs that got stuck as Markdown, and how large the first update of each mask was."""
    found = stuck(runs)
    updates = first_updates()
    rows = [["mask", *(f"first update, {slot}" for slot in SLOTS), "stuck runs: mode (seeds)"]]
    for mask in updates["conv1"].sort_values(ascending=False).index:
        of_mask = found[found["mask"] == mask]
        names = [f"{mode} ({', '.join(map(str, sorted(seeds)))})" for mode, seeds in of_mask.groupby("mode")["seed"]]
        rows.append([mask, *(f"{updates.loc[mask, slot]:.3f}" for slot in SLOTS), ", ".join(names) or "none"])
    return marked_up(rows, "markdown").strip()


def table_of_off(runs: pd.DataFrame) -> str:
    """Return, for each stuck run, which share of a slot's outputs is off at its end, in per cent, as Markdown."""
    shares, _ = off(runs)
    rows = [["mask", "mode", "seed", *(f"off after {slot}, %" for slot in SLOTS)]]
    for _, run in shares.iterrows():
        rows.append([*(str(run[name]) for name in RUN), *(f"{100 * run[slot]:.2f}" for slot in SLOTS)])
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


def table_of_rank_correlations(runs: pd.DataFrame) -> str:
    """Return the correlations of modes' effects with how differently channels cut, as Markdown: mean and range over seeds."""
    rows = [["effect", "rank correlation: mean over seeds", "smallest", "largest"]]
    for mode, of_mode in rank_correlations(runs).iterrows():
        rows.append([f"{mode} - trained_bn", *map(with_sign, (of_mode.mean(), of_mode.min(), of_mode.max()))])
    return marked_up(rows, "markdown").strip()


def fields() -> dict[str, str]:
    """Return what stands in braces in the text: counts, margins and tables."""
    runs = blocks()
    table = effects_of(runs)
    learning = effects_of(of_masks_that_learn(runs))
    ended = outcomes(runs)
    stuck_gradients, other_gradients = usual_gradients(runs)
    _, other_shares_off = off(runs)
    return {
        "blocks": str(ended["seed"].nunique()),
        "planned": str(SEEDS),
        "runs": str(len(ended)),
        "diverged": str(int(ended["diverged"].sum())),
        "wanted_margin": f"{POINTS * wanted_margin():.2f}",
        "margin": f"{POINTS * margin():.2f}",
        "table_of_blocks": table_of_blocks(),
        "table_of_verdicts": table_of_verdicts(table),
        "stuck": str(len(stuck(runs))),
        "stuck_masks": " and ".join(f"`{mask}`" for mask in sorted(set(stuck(runs)["mask"]))) or "none",
        "stuck_gradient": f"{stuck_gradients['gradient_norm'].max():.3g}",
        "other_gradient": f"{other_gradients['gradient_norm'].min():.2f}",
        "other_share_off": f"{100 * other_shares_off[list(SLOTS)].to_numpy().max():.1f}",
        "table_of_off": table_of_off(runs),
        "table_of_stuck": table_of_stuck(runs),
        "table_of_effects": table_of_effects(table, learning),
        "table_of_variants": table_of_variants(runs),
        "table_of_rank_correlations": table_of_rank_correlations(of_masks_that_learn(runs)),
    }


def text() -> str:
    """Return docs/findings.md: `text.md` with its fields filled in."""
    found = fields()
    template = (FOLDER / "text.md").read_text(encoding="utf-8")
    return re.sub(r"\{([^{}]+)\}", lambda field: found[field[1]], template)


def draw(images: Path) -> None:
    """Write the figures."""
    everything, learning = effects_of(blocks()), effects_of(of_masks_that_learn(blocks()))
    drawn = {
        "mechanism": drawn_mechanism(learning),
        "first_update": drawn_first_updates(blocks()),
        "interactions_learning": draw_interactions(learning, scale=POINTS, label=LABEL),
    }
    for name, table in (("", everything), ("_learning", learning)):
        drawn[f"forest{name}"] = draw_effects(table, families=["slots", "modes", "gamma_beta"], scale=POINTS, label=LABEL)
    for name, figure in drawn.items():
        figure.savefig(images / f"findings_{name}.png", dpi=200)


def drawn_first_updates(runs: pd.DataFrame) -> Figure:
    """Return what each run reaches against how far the first update under its mask moves conv1.

    Modes stand side by side. The axis of accuracy is broken between the runs that learn and those that got stuck.
    """
    reached = outcomes(runs)
    updates = first_updates()["conv1"]
    figure = Figure(figsize=(6.75, 3.2), layout="constrained")
    learned, at_chance = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    for axes in (learned, at_chance):
        for place, (mode, (marker, colour)) in enumerate(MARKS.items()):
            of_mode = reached[reached["mode"] == mode]
            at = of_mode["mask"].map(updates) * (1 if mode == "vanilla" else 1.02 ** (place - 2.5))
            axes.plot(at, POINTS * of_mode["value"], linestyle="", marker=marker, markersize=5, color=colour, label=mode)
        axes.tick_params(labelsize=7)
    lowest = POINTS * reached["value"][reached["value"] > STUCK].min()
    learned.set_ylim(np.floor(lowest), np.ceil(POINTS * reached["value"].max()))
    at_chance.set_ylim(0, 2 * POINTS * CHANCE)
    for place, (mask, update) in enumerate(updates.sort_values().items()):
        raised = 3 + 24 * (place % 2)  # neighbours stand close
        learned.annotate(mask, (update, 1), (0, raised), xycoords=("data", "axes fraction"), textcoords="offset points",
                         fontsize=7, ha="center", va="bottom", rotation=90)  # fmt: skip
    for mask, at_its_end in stuck(runs).groupby("mask"):
        at_chance.annotate(f"{len(at_its_end)} runs", (updates[mask], POINTS * CHANCE), (-14, 0), textcoords="offset points",
                           fontsize=7, ha="right", va="center")  # fmt: skip
    at_chance.set_xscale("log")
    at_chance.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    at_chance.minorticks_off()
    at_chance.set_xlabel("first update of conv1, in norms of its weights", fontsize=8)
    figure.supylabel("final test accuracy in per cent", fontsize=8)
    figure.legend(*learned.get_legend_handles_labels(), loc="outside right center", fontsize=7, frameon=False)
    return figure


def drawn_mechanism(table: pd.DataFrame) -> Figure:
    """Return each mode's effect by mask against the spread of beta / abs(gamma) there."""
    related = mechanism(table)
    figure = Figure(figsize=(6.75, 2.6), layout="constrained")
    panels = figure.subplots(1, len(MODES), sharex=True, sharey=True)
    for mode, axes in zip(MODES, panels, strict=True):
        axes.axhline(0, color="black", linewidth=0.6)
        of_mode = related[related["mode"] == mode].sort_values("mask")
        for (_, row), (marker, colour) in zip(of_mode.iterrows(), MASK_MARKS, strict=False):
            effect, low, high = POINTS * row[["effect", "low", "high"]]
            axes.plot([row["spread"]] * 2, [low, high], color=colour, linewidth=1)
            axes.plot(row["spread"], effect, linestyle="", marker=marker, markersize=5, color=colour, label=row["mask"])
        axes.set_title(f"{mode} - trained_bn", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.supxlabel("distance between the quartiles of beta / abs(gamma) in trained_bn", fontsize=8)
    panels[0].set_ylabel(LABEL, fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=7, frameon=False)
    return figure


def main() -> None:
    """Write the text and its figures."""
    docs = FOLDER.parent
    (docs / "findings.md").write_text(text(), encoding="utf-8")
    draw(docs / "images")


if __name__ == "__main__":
    main()
