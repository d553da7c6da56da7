"""Which runs are compared with which: contrasts between the variants (masks and modes) of one seed. No statistics here."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from batchnorm.modes import DEFAULT_MODE, Mask, format_mask, variant_name

Cell = tuple[Mask, str]
"""A mask and a mode. Vanilla, the all-zero mask, has the mode `VANILLA`."""
Comparison = Mapping[Cell, float]
"""Coefficients of the runs of one matched pair (or quadruple) of one seed."""

REFERENCE = DEFAULT_MODE
GAMMA_BETA = ("trained_bn", "fixed_beta", "fixed_gamma", "fixed_bn")
"""The modes that train both, gamma alone, beta alone, and neither."""

FAMILIES = ("slots", "interactions", "modes", "modes_per_mask", "gamma_beta")


@dataclass(frozen=True)
class Contrast:
    """One effect, as a weighted sum of the runs of a seed.

    Attributes:
        family: one of `FAMILIES`: the effects that are corrected together.
        name: what tables call it; no two of a design have the same.
        subject: the slot, mode or parameter that the effect is of.
        partner: the other slot or parameter of an interaction; the mode that a mode is compared with.
        mask: of an effect at one mask, in comma form.
        weights: of each run; empty where the effect cannot be estimated.
        n_pairs: matched pairs within a seed; quadruples for interactions and gamma x beta.
        note: what was left out, or why the effect cannot be estimated.
    """

    family: str
    name: str
    subject: str
    partner: str
    mask: str
    weights: Comparison
    n_pairs: int
    note: str


def cell(mask: Mask, mode: str) -> Cell:
    """Return the variant that a run is; with an all-zero mask the modes that train all weights are one and the same."""
    return (mask, variant_name(mask, mode))


def contrasts(
    complete: Collection[Cell], seen: Collection[Cell], slots: Sequence[str], *, reference: str = REFERENCE
) -> list[Contrast]:
    """Return the effects of a design.

    Args:
        complete: the variants that every seed has; only these are compared.
        seen: the variants that at least one seed has; they tell which effects are listed, and what was left out.
        slots: their names, one for each digit of a mask.
        reference: the mode that the others are compared with.
    """
    found = _Builder(frozenset(complete), frozenset(seen), tuple(slots), reference)
    return [
        *(found.slot(slot) for slot in range(len(slots))),
        *(found.interaction(*pair) for pair in itertools.combinations(range(len(slots)), 2)),
        *(found.mode(mode) for mode in found.compared_modes),
        *(found.mode_at(mode, mask) for mask in found.masks for mode in found.compared_modes if (mask, mode) in seen),
        *found.gamma_beta(),
    ]


def weight_matrix(effects: Sequence[Contrast], cells: Sequence[Cell]) -> np.ndarray:
    """Return the contrasts' weights, one row per contrast and one column per cell."""
    place = {cell: column for column, cell in enumerate(cells)}
    matrix = np.zeros((len(effects), len(cells)))
    for row, effect in zip(matrix, effects, strict=True):
        for at, weight in effect.weights.items():
            row[place[at]] = weight
    return matrix


@dataclass(frozen=True)
class _Builder:
    complete: frozenset[Cell]
    seen: frozenset[Cell]
    slots: tuple[str, ...]
    reference: str

    @property
    def masks(self) -> list[Mask]:
        """The masks with BatchNorm somewhere."""
        return sorted({mask for mask, _ in self.seen if any(mask)})

    @property
    def modes(self) -> list[str]:
        """The modes, known ones first."""
        known = [self.reference, *GAMMA_BETA]
        seen = {mode for mask, mode in self.seen if any(mask)}
        return sorted(seen, key=lambda mode: (known.index(mode) if mode in known else len(known), mode))

    @property
    def compared_modes(self) -> list[str]:
        return [mode for mode in self.modes if mode != self.reference]

    def slot(self, slot: int) -> Contrast:
        groups = {
            mode: [{cell(mask, mode): 1.0, cell(_without(mask, slot), mode): -1.0} for mask in self.masks if mask[slot]]
            for mode in self.modes
        }
        name = self.slots[slot]
        return self._contrast("slots", name, groups, subject=name, lacking=f"no pair of masks that differ in {name} alone")

    def interaction(self, one: int, other: int) -> Contrast:
        groups = {
            mode: [
                {
                    cell(mask, mode): 1.0,
                    cell(_without(mask, one), mode): -1.0,
                    cell(_without(mask, other), mode): -1.0,
                    cell(_without(_without(mask, one), other), mode): 1.0,
                }
                for mask in self.masks
                if mask[one] and mask[other]
            ]
            for mode in self.modes
        }
        first, second = self.slots[one], self.slots[other]
        return self._contrast(
            "interactions",
            f"{first} x {second}",
            groups,
            subject=first,
            partner=second,
            lacking=f"no four masks that differ in {first} and {second} alone",
        )

    def mode(self, mode: str) -> Contrast:
        pairs = [{(mask, mode): 1.0, (mask, self.reference): -1.0} for mask in self.masks]
        return self._contrast(
            "modes",
            f"{mode} - {self.reference}",
            {"": pairs},
            subject=mode,
            partner=self.reference,
            lacking=f"no mask with both {mode} and {self.reference}",
        )

    def mode_at(self, mode: str, mask: Mask) -> Contrast:
        text = format_mask(mask)
        return self._contrast(
            "modes_per_mask",
            f"{mode} - {self.reference} at {text}",
            {"": [{(mask, mode): 1.0, (mask, self.reference): -1.0}]},
            subject=mode,
            partner=self.reference,
            mask=text,
            lacking=f"no {self.reference} to compare with at {text}",
        )

    def gamma_beta(self) -> list[Contrast]:
        # A main effect is the mean of the two pairs that differ in it alone, so it needs all four modes of a mask.
        signs: dict[tuple[str, str], tuple[float, ...]] = {
            ("gamma", ""): (0.5, 0.5, -0.5, -0.5),
            ("beta", ""): (0.5, -0.5, 0.5, -0.5),
            ("gamma", "beta"): (1.0, -1.0, -1.0, 1.0),
        }
        return [
            self._contrast(
                "gamma_beta",
                " x ".join(filter(None, (subject, partner))),
                {"": [{(mask, mode): sign for mode, sign in zip(GAMMA_BETA, signs_of, strict=True)} for mask in self.masks]},
                subject=subject,
                partner=partner,
                lacking="no mask with all four modes of gamma and beta",
            )
            for (subject, partner), signs_of in signs.items()
        ]

    def _contrast(
        self,
        family: str,
        name: str,
        groups: Mapping[str, Iterable[Comparison]],
        *,
        subject: str,
        partner: str = "",
        mask: str = "",
        lacking: str,
    ) -> Contrast:
        """Average comparisons within each group (a mode), then over the groups, which so weigh the same."""
        possible = {group: [pair for pair in pairs if pair.keys() <= self.seen] for group, pairs in groups.items()}
        usable = {group: [pair for pair in pairs if pair.keys() <= self.complete] for group, pairs in possible.items()}
        n_possible, n_usable = (sum(map(len, which.values())) for which in (possible, usable))
        filled = {group: pairs for group, pairs in usable.items() if pairs}
        weights: dict[Cell, float] = {}
        for pairs in filled.values():
            for pair in pairs:
                for at, sign in pair.items():
                    weights[at] = weights.get(at, 0.0) + sign / (len(filled) * len(pairs))
        notes = []
        if not filled:
            notes.append(f"not estimable: {'a run is missing in some seed' if n_possible else lacking}")
        elif n_usable < n_possible:
            what = "pairs" if family in ("slots", "modes") else "quadruples"
            notes.append(f"{n_possible - n_usable} of {n_possible} {what} left out: a run is missing in some seed")
        if filled and len(filled) < len(usable):
            notes.append(f"no pair in {', '.join(group for group, pairs in usable.items() if not pairs)}")
        return Contrast(family, name, subject, partner, mask, weights, n_usable, "; ".join(notes))


def _without(mask: Mask, slot: int) -> Mask:
    return (*mask[:slot], 0, *mask[slot + 1 :])
