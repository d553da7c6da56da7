"""A family of hypotheses that was fixed before the runs: its members are tested together, and nothing else counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from batchnorm.analysis.effects.inference import Estimates, holm
from batchnorm.errors import UserError, nearest_first

Kind = Literal["equivalent", "greater", "less", "different"]
KINDS: tuple[Kind, ...] = ("equivalent", "greater", "less", "different")


@dataclass(frozen=True)
class Hypothesis:
    """What is claimed of one effect.

    Attributes:
        name: what the result calls it.
        contrast: the effect's `name` in the table of effects.
        kind: `equivalent`: its mean lies between -margin and margin (TOST); `greater`, `less`: than 0, one-sided;
            `different` from 0, two-sided.
        margin: of `equivalent`, in the unit of the values.

    Raises:
        UserError: another kind, or a margin where none belongs, or none where one does.
    """

    name: str
    contrast: str
    kind: Kind
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"hypothesis {self.name}: kind={self.kind}: no such kind; {nearest_first(str(self.kind), KINDS)}")
        if self.kind == "equivalent" and not (self.margin is not None and self.margin > 0):
            raise UserError(f"hypothesis {self.name}: equivalent needs a margin above 0")
        if self.kind != "equivalent" and self.margin is not None:
            raise UserError(f"hypothesis {self.name}: {self.kind} takes no margin")

    def p(self, found: Estimates) -> np.ndarray:
        """Return the p-values of this claim for estimates of its effect."""
        if self.kind == "equivalent":
            assert self.margin is not None  # checked when made
            return found.equivalence_p(self.margin)
        return found.p("two-sided" if self.kind == "different" else self.kind)


def confirm(table: pd.DataFrame, hypotheses: Sequence[Hypothesis], *, alpha: float = 0.05) -> pd.DataFrame:
    """Return p-values of a fixed family, corrected together after Holm, and what is shown.

    A hypothesis that cannot be tested (its effect is not estimable, or there is one seed) stays in the family with p = 1.

    Args:
        table: of `effects`; its own alpha and margin do not matter here.
        hypotheses: the family.
        alpha: the chance that any claim of the family is shown though it is false is at most this.

    Returns:
        One row per hypothesis, in the given order: `name`, `contrast`, `kind`, `margin`, `estimate`, `std`, `n_seeds`;
        `low`, `high`: the interval that decides it before correction: 1 - 2 alpha for `equivalent`, `greater` and `less`
        (both ends are given, one decides), 1 - alpha for `different`; `p`; `p_holm`; `verdict`: "shown" or "not shown";
        `note`.

    Raises:
        UserError: an effect is not in the table, two hypotheses have one name, or there is none.
    """
    if not hypotheses:
        raise UserError("hypotheses: none given")
    names = [hypothesis.name for hypothesis in hypotheses]
    if len(set(names)) < len(names):
        raise UserError(f"hypotheses: two have the same name; names: {', '.join(names)}")
    rows = []
    for hypothesis in hypotheses:
        effect = table[table["name"] == hypothesis.contrast]
        if len(effect) != 1:
            valid = nearest_first(hypothesis.contrast, table["name"])
            raise UserError(f"hypothesis {hypothesis.name}: {hypothesis.contrast}: no such effect; {valid}")
        found = Estimates(*(effect[column].to_numpy() for column in ("estimate", "std", "n_seeds")))
        low, high = found.interval(alpha if hypothesis.kind == "different" else 2 * alpha)
        rows.append(
            {
                "name": hypothesis.name,
                "contrast": hypothesis.contrast,
                "kind": hypothesis.kind,
                "margin": np.nan if hypothesis.margin is None else hypothesis.margin,
                "estimate": found.mean[0],
                "std": found.std[0],
                "n_seeds": found.n[0],
                "low": low[0],
                "high": high[0],
                "p": hypothesis.p(found)[0],
                "note": effect["note"].iloc[0],
            }
        )
    result = pd.DataFrame(rows)
    p_holm = holm(result["p"].fillna(1.0).to_numpy())
    result.insert(len(result.columns) - 1, "p_holm", p_holm)
    result.insert(len(result.columns) - 1, "verdict", np.where(p_holm <= alpha, "shown", "not shown"))
    return result
