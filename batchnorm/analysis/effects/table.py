"""The table of effects, and the same as text for printing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from batchnorm.analysis.effects.contrasts import FAMILIES, REFERENCE
from batchnorm.analysis.effects.design import Design, read
from batchnorm.analysis.effects.inference import Estimates, Side, holm, leave_one_out, sign_flip_p, smallest_sign_flip_p
from batchnorm.analysis.variants import norm_in_words
from batchnorm.errors import UserError, nearest_first, wrong_argument
from batchnorm.modes import DEFAULT_NORM


def titles(norm: str = DEFAULT_NORM) -> dict[str, str]:
    """Return what tables and figures call the families, of runs with a norm."""
    return {
        "slots": f"slots: with {norm_in_words(norm)} minus without",
        "interactions": "slot x slot",
        "modes": "modes, mean over masks",
        "modes_per_mask": "modes, mask by mask",
        "gamma_beta": "gamma and beta: trained minus fixed",
    }


def effects(
    table: pd.DataFrame,
    *,
    slots: Sequence[str] | None = None,
    alpha: float = 0.05,
    margin: float | None = None,
    one_sided: Literal["greater", "less"] | None = None,
    reference: str = REFERENCE,
) -> pd.DataFrame:
    """Return what slots, modes, and the training of gamma and beta do, with intervals over seeds.

    The unit is the seed: within a seed an effect is a mean over matched pairs of runs; test and interval are those of
    Student's t over one number per seed (n_seeds - 1 degrees of freedom). Only runs that all seeds have are compared: a
    pair that lacks a run in one seed is left out in all seeds, and the note says so.

    Args:
        table: one row per run: `seed`; `mask` ("0,0,1"); `mode`, which is ignored for the all-zero mask (vanilla stands in
            each mode); `value`, NaN for a run without one, which counts as absent. `diverged`: whether the run diverged;
            its value is that of chance. `capped`: whether the value is a cap that was not reached. Both may lack.
        slots: the slots' names, one per digit of a mask.
        alpha: intervals have a level of 1 - alpha; also the level of the equivalence test.
        margin: of the equivalence test, in the unit of `value`; None for no such test.
        one_sided: test against this side only (t test and sign-flip test); intervals stay two-sided.
        reference: the mode that the others are compared with.

    Returns:
        One row per effect, NaN where there is no number:
        `family`: slots, interactions, modes, modes_per_mask, gamma_beta; corrections are within a family, over the effects
        that have a p-value. `name`, `subject`, `partner`, `mask`: what the effect is of. `estimate`, `std`: mean and deviation
        over seeds. `low`, `high`: the interval; `low_simultaneous`, `high_simultaneous`: with Bonferroni's correction, which
        may disagree with `p_holm`, that rejects more. `p`, `p_holm`: of the t test. `n_seeds`; `n_pairs`: matched pairs
        (quadruples) in each seed; `diverged`, `capped`: how many of the runs that go in were so. `leave_one_out_low`,
        `leave_one_out_high`: range of the estimate over all seeds but one. `sign_flip_p`, `sign_flip_p_min`: of the exact
        test, and the smallest that it can give; it decides nothing. `margin`, `equivalence_low`, `equivalence_high` (the
        1 - 2 alpha interval), `equivalence_p`, `equivalent` ("yes": that interval lies within the margin; "not shown"): not
        corrected for the family. `alpha`; `note`.

    Raises:
        UserError: the table lacks a column, a mask or a value is unusable, a seed has two runs of one variant, or alpha or
            margin is out of range.
    """
    if not 0 < alpha < 0.5:
        raise wrong_argument("alpha", alpha, "must be between 0 and 0.5")
    if margin is not None and not margin > 0:
        raise wrong_argument("margin", margin, "must be above 0")
    design, runs = read(table, slots=slots, reference=reference)
    shape = (len(design.seeds), len(design.cells))
    differences = design.differences(runs["value"].to_numpy().reshape(shape))
    side: Side = one_sided or "two-sided"
    found = Estimates.over_seeds(differences)
    families = np.array([effect.family for effect in design.contrasts])
    p = found.p(side)
    low, high = found.interval(alpha)
    family_low, family_high = found.interval(alpha / family_sizes(families, p))
    lowest, highest = leave_one_out(differences)
    columns = {
        **{name: [getattr(effect, name) for effect in design.contrasts] for name in ("family", "name", "subject", "partner")},
        "mask": [effect.mask for effect in design.contrasts],
        "estimate": found.mean,
        "std": found.std,
        "low": low,
        "high": high,
        "low_simultaneous": family_low,
        "high_simultaneous": family_high,
        "p": p,
        "p_holm": holm_within(families, p),
        "n_seeds": len(design.seeds),
        "n_pairs": [effect.n_pairs for effect in design.contrasts],
        "diverged": _counted(design, runs["diverged"].to_numpy().reshape(shape)),
        "capped": _counted(design, runs["capped"].to_numpy().reshape(shape)),
        "leave_one_out_low": lowest,
        "leave_one_out_high": highest,
        "sign_flip_p": sign_flip_p(differences, side),
        "sign_flip_p_min": smallest_sign_flip_p(len(design.seeds), side),
        **_equivalence(found, margin, alpha),
        "alpha": alpha,
        "note": _notes(design, found),
    }
    return pd.DataFrame(columns)


def chosen_families(table: pd.DataFrame, families: Sequence[str] | None = None) -> list[str]:
    """Return the families that are asked for; none given, all that the table has, in their order.

    Raises:
        UserError: the table lacks one, or is empty.
    """
    there = [family for family in FAMILIES if (table["family"] == family).any()]
    if not there:
        raise UserError("the table of effects is empty")
    for family in families or []:
        if family not in there:
            raise UserError(f"family {family}: not in the table of effects; {nearest_first(family, there)}")
    return list(families) if families else there


def family_sizes(families: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return for each effect how many of its family have a p-value, at least 1."""
    return np.array([max(1, np.sum(~np.isnan(p[..., families == family]))) for family in families])


def holm_within(families: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return p-values, effects along the last axis, corrected after Holm within each family."""
    corrected = np.full(p.shape, np.nan)
    for family in np.unique(families):
        corrected[..., families == family] = holm(p[..., families == family])
    return corrected


def _counted(design: Design, flags: np.ndarray) -> np.ndarray:
    """Count the flagged runs, seeds x cells, that go into each effect."""
    return np.asarray((design.weights != 0).astype(int) @ flags.sum(axis=0).astype(int))


def _equivalence(found: Estimates, margin: float | None, alpha: float) -> dict[str, object]:
    low, high = found.interval(2 * alpha)
    tested = ~np.isnan(low) if margin is not None else np.zeros(low.shape, dtype=bool)
    within = (low > -margin) & (high < margin) if margin is not None else tested
    p = found.equivalence_p(margin) if margin is not None else np.full(low.shape, np.nan)
    return {
        "margin": np.nan if margin is None else margin,
        "equivalence_low": np.where(tested, low, np.nan),
        "equivalence_high": np.where(tested, high, np.nan),
        "equivalence_p": p,
        "equivalent": np.where(tested, np.where(within, "yes", "not shown"), ""),
    }


def _notes(design: Design, found: Estimates) -> list[str]:
    notes = []
    for effect, mean, std in zip(design.contrasts, found.mean, found.std, strict=True):
        parts = [effect.note]
        if not np.isnan(mean) and len(design.seeds) == 1:
            parts.append("one seed: no interval")
        if std == 0:
            parts.append("all seeds give the same number: the t test says nothing")
        notes.append("; ".join(filter(None, parts)))
    return notes


def readable(table: pd.DataFrame, *, scale: float = 1.0) -> pd.DataFrame:
    """Return the table of `effects` as text, with the columns that a page has room for.

    Decimals go by the intervals' widths, and are equal down a column. Columns that say nothing here are left out: of the
    equivalence test without a margin, of caps and notes where there are none.

    Args:
        table: of `effects`, or some rows of it.
        scale: values are shown times this: 100 for accuracies in points.
    """
    alpha = float(table["alpha"].iloc[0]) if len(table) else 0.05
    digits = _decimals(table, scale)
    columns = {
        "family": table["family"],
        "effect": table["name"],
        "estimate": [number(scale * value, digits) for value in table["estimate"]],
        f"{100 * (1 - alpha):g} % interval": _ranges(table, "low", "high", scale, digits),
        "simultaneous": _ranges(table, "low_simultaneous", "high_simultaneous", scale, digits),
        "p": table["p"].map(p_text),
        "p (Holm)": table["p_holm"].map(p_text),
        "seeds": table["n_seeds"].map(str),
        "pairs": table["n_pairs"].map(str),
        "diverged": table["diverged"].map(str),
        "leave one out": _ranges(table, "leave_one_out_low", "leave_one_out_high", scale, digits),
        "sign flip p": [_of_minimum(*pair) for pair in zip(table["sign_flip_p"], table["sign_flip_p_min"], strict=True)],
    }
    if table["margin"].notna().any():
        level = f"{100 * (1 - 2 * alpha):g} % interval"
        columns[level] = _ranges(table, "equivalence_low", "equivalence_high", scale, digits)
        columns["margin"] = [f"{scale * value:.4g}" for value in table["margin"]]
        columns["equivalence p"] = table["equivalence_p"].map(p_text)
        columns["equivalent"] = table["equivalent"]
    if table["capped"].any():
        columns["capped"] = table["capped"].map(str)
    if (table["note"] != "").any():
        columns["note"] = table["note"]
    return pd.DataFrame(columns)


def _decimals(table: pd.DataFrame, scale: float) -> int:
    """Return the decimals that give a middling interval's half width two digits; without intervals, the estimates three."""
    for sizes, digits in ((scale * (table["high"] - table["low"]) / 2, 2), (scale * table["estimate"].abs(), 3)):
        known = sizes[np.isfinite(sizes) & (sizes > 0)]
        if len(known):
            return max(0, digits - 1 - int(np.floor(np.log10(known.median()))))
    return 2


def number(value: float, digits: int) -> str:
    """Return a number with so many decimals, never a negative zero; a dash where there is none."""
    if not np.isfinite(value):
        return "-"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _ranges(table: pd.DataFrame, low: str, high: str, scale: float, digits: int) -> list[str]:
    ends = zip(scale * table[low], scale * table[high], strict=True)
    return [f"{number(first, digits)} to {number(last, digits)}" if np.isfinite(first) else "-" for first, last in ends]


def p_text(p: float) -> str:
    """Print a p-value as papers do."""
    if not np.isfinite(p):
        return "-"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _of_minimum(p: float, smallest: float) -> str:
    return f"{p:.3g} (min {smallest:.3g})" if np.isfinite(p) else "-"
