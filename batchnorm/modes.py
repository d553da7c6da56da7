"""Masks and modes as plain values: where a norm stands, and what becomes of its parts there. No torch here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchnorm.errors import ConfigError, nearest_first

Mask = tuple[int, ...]
"""One 0 or 1 per slot, in the network's order; 1 puts a norm there."""
Dashes = tuple[float, tuple[float, ...]]
"""A line style as matplotlib takes it: offset, and lengths of dash and gap in line widths."""


@dataclass(frozen=True)
class Affine:
    """What becomes of one of a norm's two parameters: it starts at a value, and is trained from there or stays."""

    value: float
    trained: bool

    def __str__(self) -> str:
        """Say it in a table's words."""
        return "trained" if self.trained else f"stays {self.value:g}"


@dataclass(frozen=True)
class Treatment:
    """What is done to one slot.

    Attributes:
        norm: what normalises it; None leaves the slot as the network has it, or puts a bias in its own norm's place.
        gamma: the scale; None where there is none.
        beta: the shift; None where there is none.
    """

    norm: str | None = None
    gamma: Affine | None = None
    beta: Affine | None = None


UNTREATED = Treatment()
"""A slot that the mask leaves out."""
_TRAINED_GAMMA, _FIXED_GAMMA = Affine(1.0, trained=True), Affine(1.0, trained=False)
_TRAINED_BETA, _FIXED_BETA = Affine(0.0, trained=True), Affine(0.0, trained=False)


@dataclass(frozen=True)
class Mode:
    """One row of the table of modes.

    Attributes:
        name: what `ABLATION=` takes.
        treatment: what is done to each slot under the mask.
        title: what tables call it.
        label: the same with Greek letters (mathtext), as legends show it.
        colour: from the palette of Okabe and Ito ("Color Universal Design", 2008), made for colour-blind readers.
        dashes: its line style.
    """

    name: str
    treatment: Treatment
    title: str
    label: str
    colour: str
    dashes: Dashes | str


MODES: Mapping[str, Mode] = {
    row.name: row
    for row in (
        Mode("trained_bn", Treatment("batch", _TRAINED_GAMMA, _TRAINED_BETA),
             "BN gamma beta", r"BN $\gamma\beta$", "#0072B2", "-"),
        Mode("fixed_bn", Treatment("batch", _FIXED_GAMMA, _FIXED_BETA),
             "BN", "BN", "#CC79A7", (0, (5, 1, 1, 1, 1, 1))),
        Mode("fixed_gamma", Treatment("batch", _FIXED_GAMMA, _TRAINED_BETA),
             r"BN beta", r"BN $\beta$", "#009E73", (0, (1.5, 1))),
        Mode("fixed_beta", Treatment("batch", _TRAINED_GAMMA, _FIXED_BETA),
             "BN gamma", r"BN $\gamma$", "#D55E00", (0, (5, 1, 1, 1))),
    )
}  # fmt: skip
"""What `ABLATION=` takes. `--help`, README's table, the choices of the shell, labels and colours follow from it."""
DEFAULT_MODE = "trained_bn"
VANILLA = "vanilla"
"""What a run with an all-zero mask is called; it is stored under `DEFAULT_MODE`, whatever mode was asked for."""


def find_mode(name: str) -> Mode:
    """Return one row of the table.

    Raises:
        ConfigError: no such mode.
    """
    if name not in MODES:
        raise ConfigError(f"ABLATION={name}: unknown mode; {nearest_first(name, MODES)}")
    return MODES[name]


def canonical_mode(mask: Mask, name: str) -> str:
    """Return the one name under which a mask and a mode are kept: without a norm, all modes are one run."""
    return find_mode(name).name if any(mask) else DEFAULT_MODE


def variant_name(mask: Mask, mode: str) -> str:
    """Return a mode's name as tables and listings show it: `vanilla` where the mask is all zero."""
    return mode if any(mask) else VANILLA


def treatments(mask: Mask, mode: str) -> tuple[Treatment, ...]:
    """Return what is done to each slot.

    Raises:
        ConfigError: no such mode.
    """
    treatment = find_mode(mode).treatment
    return tuple(treatment if normalised else UNTREATED for normalised in mask)


def parse_mask(text: str, slots: Sequence[str]) -> Mask:
    """Read a mask: `0,0,1,1,1`, `[0,0,1,1,1]`, `00111`, `all` or `none`, one digit per slot.

    Raises:
        ConfigError: another length than the slots', other digits, or nothing at all.
    """
    word = text.strip().lower()
    if word in ("all", "none"):
        return (int(word == "all"),) * len(slots)
    inner = word.removeprefix("[").removesuffix("]")
    digits = [digit.strip() for digit in inner.split(",")] if "," in inner else list(inner.strip())
    wanted = f"needs {len(slots)} digits 0 or 1, one per slot ({', '.join(slots)}), or all, or none"
    if not digits or any(digit not in ("0", "1") for digit in digits):
        raise ConfigError(f"POSITION={text}: not a mask; {wanted}")
    if len(digits) != len(slots):
        raise ConfigError(f"POSITION={text}: has {len(digits)} digits; {wanted}")
    return tuple(int(digit) for digit in digits)


def format_mask(mask: Mask) -> str:
    """Write a mask in comma form, as it stands in directory names."""
    return ",".join(str(digit) for digit in mask)


def prefixes(length: int) -> list[Mask]:
    """Masks that fill up from the first slot: 1,0,0 - 1,1,0 - 1,1,1."""
    return [(1,) * ones + (0,) * (length - ones) for ones in range(1, length + 1)]


def suffixes(length: int) -> list[Mask]:
    """Masks that fill up from the last slot: 1,1,1 - 0,1,1 - 0,0,1."""
    return [(0,) * zeros + (1,) * (length - zeros) for zeros in range(length)]


def singles(length: int) -> list[Mask]:
    """Masks with a norm in one slot."""
    return [tuple(int(slot == place) for slot in range(length)) for place in range(length)]


def all_masks(length: int) -> list[Mask]:
    """Every mask there is, the all-zero one first."""
    return list(itertools.product((0, 1), repeat=length))


MASK_SETS = {"prefixes": prefixes, "suffixes": suffixes, "singles": singles, "all_masks": all_masks}
"""Names that a study may write for a list of masks."""
