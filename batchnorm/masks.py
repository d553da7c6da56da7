"""Masks and modes as plain values: which slots have BatchNorm, and which of its parameters are trained. No torch here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from enum import Enum

from batchnorm.errors import ConfigError, nearest_first

Mask = tuple[int, ...]
"""One 0 or 1 per slot, in the network's order; 1 puts BatchNorm there."""


class Ablation(str, Enum):
    """What of BatchNorm's affine part is trained. Each mode normalises."""

    TRAINED_BN = "trained_bn"
    FIXED_BN = "fixed_bn"
    FIXED_GAMMA = "fixed_gamma"
    FIXED_BETA = "fixed_beta"

    @property
    def trains_gamma(self) -> bool:
        """Whether the scale is trained; it stays 1 otherwise."""
        return self in (Ablation.TRAINED_BN, Ablation.FIXED_BETA)

    @property
    def trains_beta(self) -> bool:
        """Whether the shift is trained; it stays 0 otherwise."""
        return self in (Ablation.TRAINED_BN, Ablation.FIXED_GAMMA)

    @classmethod
    def parse(cls, text: str) -> Ablation:
        """Read a mode's name.

        Raises:
            ConfigError: no such mode.
        """
        try:
            return cls(text)
        except ValueError:
            raise ConfigError(f"ABLATION={text}: unknown mode; {nearest_first(text, [mode.value for mode in cls])}") from None


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
    """Masks with BatchNorm in one slot."""
    return [tuple(int(slot == place) for slot in range(length)) for place in range(length)]


def all_masks(length: int) -> list[Mask]:
    """Every mask there is, the all-zero one first."""
    return list(itertools.product((0, 1), repeat=length))


MASK_SETS = {"prefixes": prefixes, "suffixes": suffixes, "singles": singles, "all_masks": all_masks}
"""Names that a study may write for a list of masks."""
