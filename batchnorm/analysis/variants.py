"""What a variant of the network is called, and the one colour and the one line style that it has in all figures."""

from __future__ import annotations

from dataclasses import dataclass

from batchnorm.masks import Ablation, Mask

Dashes = tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Variant:
    """A network with or without parts of BatchNorm.

    Attributes:
        name: what tables call it.
        label: the same with Greek letters (mathtext), as legends show it.
        colour: from the palette of Okabe and Ito ("Color Universal Design", 2008), made for colour-blind readers.
        dashes: its line style, as matplotlib takes it: offset, and lengths of dash and gap in line widths.
    """

    name: str
    label: str
    colour: str
    dashes: Dashes | str


VANILLA = Variant("vanilla", "vanilla", "#000000", (0, (4, 2)))
FULL = Variant("full BN", "full BN", "#E69F00", (0, (7, 2)))
"""BatchNorm in every slot, all of it trained: the second reference, beside other masks."""

OF_MODE = {
    Ablation.FIXED_BN: Variant("BN", "BN", "#CC79A7", (0, (5, 1, 1, 1, 1, 1))),
    Ablation.FIXED_BETA: Variant("BN gamma", r"BN $\gamma$", "#D55E00", (0, (5, 1, 1, 1))),
    Ablation.FIXED_GAMMA: Variant("BN beta", r"BN $\beta$", "#009E73", (0, (1.5, 1))),
    Ablation.TRAINED_BN: Variant("BN gamma beta", r"BN $\gamma\beta$", "#0072B2", "-"),
}
ORDER = (VANILLA, *OF_MODE.values(), FULL)
"""How legends list them."""

SYMBOLS = {"gamma": r"$\gamma$", "beta": r"$\beta$", "bias": "bias"}
CENTRES = {"gamma": 1.0, "beta": 0.0, "bias": 0.0}
"""The value at which a parameter does nothing."""


def variant_of(mask: Mask, mode: Ablation) -> Variant:
    """Return what a run is; with an all-zero mask the modes are one and the same."""
    return OF_MODE[mode] if any(mask) else VANILLA
