"""Computes all that docs/findings.md says from the tables beside this file; no run is needed.

    python docs/findings/recompute.py

It writes docs/findings.md, from the text in `text.md`, and the figures docs/images/findings_*.png. Each number of the text is a
field in braces there, which `fields()` fills in. So no number in the text can differ from the data.

- `seed_N.csv.gz`: a block, the 29 runs of a seed, as `python -m batchnorm.analysis export output --seed N --lr 0.15849`
  writes it. Of the same runs, with `--columns mask mode seed step slot QUANTITY`:
  `seed_N_spread.csv.gz`, the spread of their thresholds: `--quantity threshold_spread --every 26`;
  `seed_N_first.csv.gz`, the size of their first update: `--quantity relative_update --every 1000`;
  `seed_N_gradients.csv.gz`, norms of their gradients: `--quantity gradient_norm --every 8`.
- `seed_N_off.csv.gz`: what each activation stops after training, for the masks under which a run got stuck: `measure output
  --seed N --mask 1,0,0 --what representations`, then `--quantity share_off --columns mask mode seed slot share_off`.
- `pilots.csv.gz`: the two pilot seeds. `rates.csv.gz`: the runs at other learning rates, `--lr 0.05283 0.47547`.
- `blocks.csv`: on which machine, with which versions and at which commit each of them ran.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from batchnorm.analysis.effects import Hypothesis, confirm, effects, plan
from batchnorm.analysis.effects.inference import Estimates
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
WITHIN = "shown to be within the margin"
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
    "modes": "mode, mean over masks",
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
    """Return one row a run: its accuracy at the end of the last epoch, and that of chance where it diverged."""
    last = runs[(runs["epoch"] == EPOCHS) | (runs["status"] == "diverged")].groupby("run").tail(1)
    diverged = last["status"] == "diverged"
    return last.assign(value=last[metric].where(~diverged, CHANCE), diverged=diverged)


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


def with_dense1(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that have BatchNorm in the dense layer, the last slot."""
    return runs[runs["mask"].str.endswith("1")]


def without_dense1(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that have none there, of masks under which all learn."""
    learning = of_masks_that_learn(runs)
    return learning[learning["mask"].str.endswith("0")]


def effects_of(runs: pd.DataFrame, metric: str = "test_acc") -> pd.DataFrame:
    """Return the table of all effects, the margin of equivalence with it."""
    return effects(outcomes(runs, metric), slots=SLOTS, margin=margin())


def in_trained_bn(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs in which gamma and beta are trained, and the vanilla ones."""
    return runs[runs["mode"].isin(["trained_bn", "vanilla"])]


def within_margin(table: pd.DataFrame) -> dict[str, str]:
    """Return the verdicts of two one-sided tests on a table's slots, modes, gamma and beta, corrected together after Holm.

    For each effect "yes" or "no". What cannot be estimated is left out.
    """
    tested = table[table["family"].isin(["slots", "modes", "gamma_beta"]) & np.isfinite(table["estimate"])]
    claims = [Hypothesis(name, name, "equivalent", margin=margin()) for name in tested["name"]]
    verdicts = confirm(table, claims)["verdict"]
    return {claim.name: "yes" if verdict == "shown" else "no" for claim, verdict in zip(claims, verdicts, strict=True)}


def against_vanilla(runs: pd.DataFrame) -> pd.DataFrame:
    """Return by how much each mask differs from the vanilla network, with 95 % intervals over the seeds.

    A row a mask; `estimate`, `low`, `high`, of the mean over the modes and, with `_trained`, of `trained_bn` alone.
    """
    by_variant = outcomes(runs).pivot_table(index=["mask", "seed"], columns="mode", values="value")
    vanilla = by_variant["vanilla"].dropna().droplevel("mask")
    with_norm = by_variant.drop(columns="vanilla").dropna()
    rows = {}
    for mask, of_mask in with_norm.groupby("mask"):
        by_seed = of_mask.droplevel("mask").sub(vanilla, axis="index")
        found = Estimates.over_seeds(np.array([by_seed.mean(axis="columns"), by_seed["trained_bn"]]))
        rows[mask] = np.stack([found.mean, *found.interval(0.05)]).T.ravel()
    kinds = ["estimate", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*kinds, *(f"{kind}_trained" for kind in kinds)])


def confirmed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the verdicts on the five hypotheses that were fixed before the first block."""
    claims = [
        Hypothesis("1: gamma need not be trained", "fixed_gamma - trained_bn", "equivalent", margin=margin()),
        Hypothesis("2: beta must be trained", "fixed_beta - trained_bn", "less"),
        *(Hypothesis(f"{number}: BatchNorm in {slot} matters", slot, "different") for number, slot in enumerate(SLOTS, 3)),
    ]
    return confirm(table, claims)


def at_other_rates() -> pd.DataFrame:
    """Return what differs at each learning rate, for the seeds that ran at all of them: one row for each rate and seed.

    Columns: `lr`, `seed`, and shares of 1: the accuracy of `vanilla` and of `trained_bn`, `trained_bn - vanilla` and
    `fixed_gamma - trained_bn`, with BatchNorm in all slots.
    """
    others = stored("rates.csv.gz")
    tuned = blocks()
    runs = outcomes(pd.concat([others, tuned[tuned["seed"].isin(others["seed"])]]))
    wide = runs[runs["mask"].isin(["0,0,0", "1,1,1"])].pivot_table(index=["lr", "seed"], columns="mode", values="value")
    differences = {
        "vanilla": wide["vanilla"],
        "trained_bn": wide["trained_bn"],
        "trained_bn - vanilla": wide["trained_bn"] - wide["vanilla"],
        "fixed_gamma - trained_bn": wide["fixed_gamma"] - wide["trained_bn"],
    }
    return pd.DataFrame(differences).reset_index()


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


def late_gradients(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the norms of gradients that each run recorded, the first step left out: of stuck runs, and of all others.

    A row a run and slot: what tells the run apart, `slot`, `median`, `recorded`: how many, `not_zero`: how many of these.
    """
    norms = stored("seed_?_gradients.csv.gz")
    late = norms[norms["step"] > 0].groupby([*RUN, "slot"])["gradient_norm"]
    found = late.agg(median="median", recorded="count", not_zero=lambda norm: (norm != 0).sum())
    return split(found.reset_index(), runs)


def off(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the share of a slot's channels that are off for all images: of stuck runs, of others under the same masks.

    A row a run: what tells it apart, and a column a slot. A channel is off where the activation stops each of its outputs.
    """
    share = stored("seed_?_off.csv.gz")
    is_off = share.assign(is_off=share["share_off"] >= 1).pivot_table(index=RUN, columns="slot", values="is_off")
    return split(is_off.reset_index(), runs)


def most_off(shares: pd.DataFrame, digit: str) -> pd.Series:
    """Return, for each run, the largest share of channels that are off in a slot with ("1") or without ("0") BatchNorm."""
    digits = shares["mask"].str.split(",", expand=True).set_axis(SLOTS, axis="columns")
    return shares[list(SLOTS)].where(digits == digit).max(axis="columns")


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


def with_interval(row: pd.Series, ending: str = "") -> str:
    """Return an estimate in points with its interval, where there is one; of the columns whose names have this ending."""
    estimate, low, high = (row[f"{name}{ending}"] for name in ("estimate", "low", "high"))
    return f"{signed(estimate)} [{signed(low)}, {signed(high)}]" if np.isfinite(low) else signed(estimate)


def p_value(value: float) -> str:
    """Return a p-value for a text."""
    return "-" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def table_of_effects(table: pd.DataFrame, learning: pd.DataFrame) -> str:
    """Return the effects as Markdown, family by family, over all masks and over those that learn.

    The effects that were fixed beforehand have their p in a table of their own.
    """
    rows = [["effect", "all masks: points [95 % interval]", "p (Holm)", "masks under which all runs learn", "p (Holm)"]]
    fixed_beforehand = set(confirmed(table)["contrast"])
    for family, title in TITLES.items():
        rows.append([f"*{title}*", "", "", "", ""])
        beside = learning[learning["family"] == family].set_index("name")
        for _, row in table[table["family"] == family].iterrows():
            name, other = row["name"], beside.loc[row["name"]]
            p = "in the table above" if name in fixed_beforehand else p_value(row["p_holm"])
            rows.append([name, with_interval(row), p, with_interval(other), p_value(other["p_holm"])])
    return marked_up(rows, "markdown").strip()


def table_of_dense1(runs: pd.DataFrame) -> str:
    """Return the effects where the dense layer has BatchNorm and where it has none as Markdown, with the verdicts of TOST.

    The effects of slots twice: the mean over the modes, and in `trained_bn` alone.
    """
    cells: list[list[list[str]]] = []
    for chosen in (with_dense1(runs), without_dense1(runs)):
        column = []
        for label, table in (("", effects_of(chosen)), (" in `trained_bn` alone", effects_of(in_trained_bn(chosen)))):
            within = within_margin(table)
            column += [
                [f"{row['name']}{label}", with_interval(row), within[row["name"]]]
                for _, row in table[table["name"].isin(within)].iterrows()
            ]
        cells.append(column)
    rows = [["effect", "with BatchNorm in `dense1`: points [95 % interval]", WITHIN, "without it", WITHIN]]
    rows += [[*with_it, *without[1:]] for with_it, without in zip(*cells, strict=True)]
    return marked_up(rows, "markdown").strip()


def table_of_rates() -> str:
    """Return what differs at each learning rate as Markdown: a number for each seed."""
    found = at_other_rates()
    seeds = ", ".join(map(str, sorted(set(found["seed"]))))
    differences = ["trained_bn - vanilla", "fixed_gamma - trained_bn"]
    heading = [f"{name}, %" for name in ("vanilla", "trained_bn")] + [f"{name}, points" for name in differences]
    rows = [["rate", *(f"{name}: seeds {seeds}" for name in heading)]]
    for rate, of_rate in found.sort_values(["lr", "seed"]).groupby("lr"):
        reached = (", ".join(f"{POINTS * value:.2f}" for value in of_rate[name]) for name in ("vanilla", "trained_bn"))
        rows.append([f"{rate:.3f}", *reached, *(", ".join(map(signed, of_rate[name])) for name in differences)])
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
    """Return, for each stuck run, which share of a slot's channels is off at its end, in per cent, as Markdown."""
    shares, _ = off(runs)
    rows = [["mask", "mode", "seed", *(f"channels off in {slot}, %" for slot in SLOTS)]]
    for _, run in shares.iterrows():
        rows.append([*(str(run[name]) for name in RUN), *(f"{100 * run[slot]:.1f}" for slot in SLOTS)])
    return marked_up(rows, "markdown").strip()


def table_of_variants(runs: pd.DataFrame) -> str:
    """Return the mean test accuracy of each variant as Markdown: masks by modes, in per cent, and masks against vanilla."""
    ended = outcomes(runs)
    modes = ["trained_bn", *MODES]
    differences = against_vanilla(runs)
    rows = [["mask", *modes, "minus vanilla, mean over modes", "minus vanilla, `trained_bn`"]]
    for mask in sorted(set(ended["mask"]), key=lambda mask: (mask.count("1"), mask)):
        reached = ended[ended["mask"] == mask].groupby("mode")["value"].mean()
        if "vanilla" in reached:
            rows.append([f"{mask}, vanilla", f"{POINTS * reached['vanilla']:.2f}", *[""] * (len(modes) + 1)])
            continue
        cells = [f"{POINTS * reached[mode]:.2f}" for mode in modes]
        rows.append([mask, *cells, *(with_interval(differences.loc[mask], ending) for ending in ("", "_trained"))])
    return marked_up(rows, "markdown").strip()


def table_of_verdicts(table: pd.DataFrame) -> str:
    """Return the five hypotheses as Markdown."""
    heading = ["hypothesis", "claim", "points [95 % interval]", "p (Holm, of five)", "one seed left out", "p (sign flips)"]
    rows = [[*heading, "verdict"]]
    said = {"equivalent": f"within {POINTS * margin():.2f} of 0", "less": "less than 0", "different": "not 0"}
    by_name = table.set_index("name")
    for _, row in confirmed(table).iterrows():
        effect = by_name.loc[row["contrast"]]
        minus = row["contrast"] if effect["family"] == "modes" else f"with {row['contrast']} - without"
        p_holm = np.nan if np.isnan(row["p"]) else row["p_holm"]
        left_out = f"{signed(effect['leave_one_out_low'])} to {signed(effect['leave_one_out_high'])}"
        cells = [with_interval(effect), p_value(p_holm), left_out, f"{effect['sign_flip_p']:.3g}", row["verdict"]]
        rows.append([row["name"], f"{minus}: {said[row['kind']]}", *cells])
    return marked_up(rows, "markdown").strip()


def table_of_blocks() -> str:
    """Return where each block ran, as Markdown."""
    ran = pd.read_csv(FOLDER / "blocks.csv", dtype=str)
    return marked_up([list(ran.columns), *ran.to_numpy().tolist()], "markdown").strip()


def table_of_rank_correlations(runs: pd.DataFrame) -> str:
    """Return the correlations of modes' effects with how differently channels cut, as Markdown: mean and range over seeds."""
    rows = [["effect", "rank correlation over masks: mean [range] over seeds", "over masks with BatchNorm in `dense1`"]]
    over = [rank_correlations(chosen) for chosen in (runs, with_dense1(runs))]
    for mode in MODES:
        by_seed = [np.asarray(found.loc[mode], dtype=float) for found in over]
        cells = [f"{with_sign(r.mean())} [{with_sign(r.min())}, {with_sign(r.max())}]" for r in by_seed]
        rows.append([f"{mode} - trained_bn", *cells])
    return marked_up(rows, "markdown").strip()


def fields() -> dict[str, str]:
    """Return what stands in braces in the text: counts, margins, effects and tables."""
    runs = blocks()
    learning_runs = of_masks_that_learn(runs)
    table, learning = effects_of(runs), effects_of(learning_runs)
    tables = {
        "all masks": table,
        "learning": learning,
        "trained_bn": effects_of(in_trained_bn(runs)),
        "validation": effects_of(learning_runs, "valid_acc"),
        "with dense1": effects_of(with_dense1(runs)),
        "without dense1": effects_of(without_dense1(runs)),
    }
    each_effect = {
        f"{row['name']}, {over}": with_interval(row) for over, found in tables.items() for _, row in found.iterrows()
    }
    each_mask = {
        f"{mask} - vanilla{over}": with_interval(row, ending)
        for mask, row in against_vanilla(runs).iterrows()
        for over, ending in (("", ""), (", trained_bn", "_trained"))
    }
    ended = outcomes(runs)
    return (
        each_effect
        | each_mask
        | fields_of_stuck_runs(runs)
        | {
            "blocks": str(ended["seed"].nunique()),
            "runs": str(len(ended)),
            "diverged": str(int(ended["diverged"].sum())),
            "wanted_margin": f"{POINTS * wanted_margin():.2f}",
            "margin": f"{POINTS * margin():.2f}",
            "stuck_pilots": str(len(stuck(stored("pilots.csv.gz")))),
            "pilots": str(len(outcomes(stored("pilots.csv.gz")))),
            "least_sign_flip_p": f"{table['sign_flip_p_min'].min():.3g}",
            "table_of_blocks": table_of_blocks(),
            "table_of_verdicts": table_of_verdicts(table),
            "table_of_verdicts_learning": table_of_verdicts(learning),
            "table_of_effects": table_of_effects(table, learning),
            "table_of_dense1": table_of_dense1(runs),
            "rate_runs": str(len(outcomes(stored("rates.csv.gz")))),
            "rates_gamma": f"{POINTS * at_other_rates()['fixed_gamma - trained_bn'].abs().max():.2f}",
            "table_of_rates": table_of_rates(),
            "table_of_variants": table_of_variants(runs),
            "table_of_rank_correlations": table_of_rank_correlations(learning_runs),
        }
    )


def fields_of_stuck_runs(runs: pd.DataFrame) -> dict[str, str]:
    """Return what the text says of the runs that learned nothing. Bounds are rounded outwards."""
    ended = outcomes(runs)
    under = ended[ended["mask"].isin(stuck(runs)["mask"])]
    under = under.assign(stuck=under["value"] <= STUCK, beta_fixed=under["mode"].isin(["fixed_beta", "fixed_bn"]))
    by_seed = under.pivot_table(index="seed", columns="beta_fixed", values="stuck", aggfunc="sum")
    updates = first_updates()["conv1"]
    times = (updates / updates["0,0,0"]).drop("0,0,0")
    with_norm = times.index.str.endswith("1")
    stuck_gradients, other_gradients = late_gradients(runs)
    stuck_off, other_off = off(runs)
    return {
        "stuck": str(len(stuck(runs))),
        "stuck_masks": " and ".join(f"`{mask}`" for mask in sorted(set(stuck(runs)["mask"]))) or "none",
        "runs_of_stuck_masks": str(len(under)),
        "stuck_by_seed": ", ".join(str(int(count)) for count in by_seed.sum(axis="columns")),
        "runs_beta_fixed": str(int(under["beta_fixed"].sum())),
        "runs_beta_trained": str(int((~under["beta_fixed"]).sum())),
        "stuck_beta_fixed": str(int(by_seed[True].sum())),
        "stuck_beta_trained": str(int(by_seed[False].sum())),
        "seeds_more_with_beta_fixed": str(int((by_seed[True] > by_seed[False]).sum())),
        "times_with_dense1": f"{times[with_norm].min():.1f} to {times[with_norm].max():.1f}",
        "times_without_dense1": f"{times[~with_norm].min():.1f} to {times[~with_norm].max():.1f}",
        "gradients": " or ".join(map(str, sorted(set(stuck_gradients["recorded"])))),
        "stray_gradients": str(stuck_gradients["not_zero"].max()),
        "stuck_gradient": f"{stuck_gradients['median'].max():.3g}",
        "other_gradient": f"{np.floor(1e3 * other_gradients['median'].min()) / 1e3:.3f}",
        "stuck_off": f"{np.floor(100 * most_off(stuck_off, '0').min()):.0f}",
        "other_off": f"{np.ceil(100 * most_off(other_off, '0').max()):.0f}",
        "other_off_with_norm": f"{np.ceil(100 * most_off(other_off, '1').max()):.0f}",
        "table_of_off": table_of_off(runs),
        "table_of_stuck": table_of_stuck(runs),
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
        "dense1": drawn_dense1(effects_of(with_dense1(blocks())), effects_of(without_dense1(blocks()))),
        "mechanism": drawn_mechanism(learning),
        "each_run": drawn_each_run(blocks()),
        "interactions_learning": draw_interactions(learning, scale=POINTS, label=LABEL),
    }
    for name, table in (("", everything), ("_learning", learning)):
        drawn[f"forest{name}"] = draw_effects(table, families=["slots", "modes", "gamma_beta"], scale=POINTS, label=LABEL)
    for name, figure in drawn.items():
        figure.savefig(images / f"findings_{name}.png", dpi=200)


def drawn_each_run(runs: pd.DataFrame) -> Figure:
    """Return what each run reaches, by mask; the masks in the order of how far their first update moves conv1.

    Modes stand side by side. The axis of accuracy is broken between the runs that learn and those that got stuck.
    """
    reached = outcomes(runs)
    updates = first_updates()["conv1"].sort_values()
    place = {mask: at for at, mask in enumerate(updates.index)}
    figure = Figure(figsize=(6.75, 3.2), layout="constrained")
    learned, at_chance = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    for axes in (learned, at_chance):
        for number, (mode, (marker, colour)) in enumerate(MARKS.items()):
            of_mode = reached[reached["mode"] == mode]
            at = of_mode["mask"].map(place) + (0 if mode == "vanilla" else 0.18 * (number - 2.5))
            axes.plot(at, POINTS * of_mode["value"], linestyle="", marker=marker, markersize=4.5, color=colour, label=mode)
        axes.tick_params(labelsize=7)
    lowest = POINTS * reached["value"][reached["value"] > STUCK].min()
    learned.set_ylim(np.floor(lowest), np.ceil(POINTS * reached["value"].max()))
    at_chance.set_ylim(0, 2 * POINTS * CHANCE)
    for mask, at_its_end in stuck(runs).groupby("mask"):
        at_chance.annotate(f"{len(at_its_end)} runs", (place[mask], POINTS * CHANCE), (-34, 0), textcoords="offset points",
                           fontsize=7, ha="right", va="center")  # fmt: skip
    at_chance.set_xticks(list(place.values()), [f"{mask}\n{update:.2f}" for mask, update in updates.items()])
    at_chance.set_xlabel("mask, and the first update of conv1 under it, in norms of its weights", fontsize=8)
    figure.supylabel("final test accuracy in per cent", fontsize=8)
    figure.legend(*learned.get_legend_handles_labels(), loc="outside right center", fontsize=7, frameon=False)
    return figure


def drawn_dense1(with_it: pd.DataFrame, without: pd.DataFrame) -> Figure:
    """Return the effects of the conv layers and the modes, where the dense layer has BatchNorm and where it has none."""
    rows = {slot: f"BatchNorm in {slot}" for slot in SLOTS[:-1]}
    rows |= {f"{mode} - trained_bn": f"{mode} in place of trained_bn" for mode in MODES}
    places = np.arange(len(rows), 0, -1)
    figure = Figure(figsize=(6.75, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-POINTS * margin(), POINTS * margin(), color="0.9", linewidth=0, label=f"margin {POINTS * margin():.2f}")
    axes.axvline(0, color="black", linewidth=0.6)
    for table, marker, colour, above, label in (
        (with_it, "o", "#0072B2", 0.15, "with BatchNorm in dense1"),
        (without, "s", "#D55E00", -0.15, "without it, where all runs learn"),
    ):
        chosen = POINTS * table.set_index("name").loc[list(rows), ["estimate", "low", "high"]]
        axes.hlines(places + above, chosen["low"], chosen["high"], color=colour, linewidth=1.5)
        axes.plot(chosen["estimate"], places + above, linestyle="", marker=marker, markersize=5, color=colour, label=label)
    axes.set_yticks(places, list(rows.values()))
    axes.tick_params(labelsize=7)
    axes.set_xlabel(f"{LABEL}, with 95 % intervals over seeds", fontsize=8)
    figure.legend(loc="outside lower center", ncols=3, fontsize=7, frameon=False)
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
