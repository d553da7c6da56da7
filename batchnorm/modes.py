"""Masks and modes as plain values: where a norm stands, and what becomes of its parts there. No torch here."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from batchnorm.errors import ConfigError, nearest_first

if TYPE_CHECKING:
    from torch import nn

Mask = tuple[int, ...]
"""One 0 or 1 per slot, in the network's order; 1 puts a norm there."""
Dashes = tuple[float, tuple[float, ...]]
"""A line style as matplotlib takes it: offset, and lengths of dash and gap in line widths."""


UNIFORM = "uniform"
"""A start that is drawn for each channel, from U(0, 1)."""


@dataclass(frozen=True)
class Affine:
    """What becomes of one of a norm's two parameters: it starts at a value, and is trained from there or stays.

    Attributes:
        value: where it starts: a number, or `UNIFORM`.
        trained: from there.
        asked_for: a key asks for this start; a network's own norm that is trained starts where it stands, unless one does.
    """

    value: float | str
    trained: bool
    asked_for: bool = False

    def __str__(self) -> str:
        """Say it in a table's words."""
        return "trained" if self.trained else f"stays {self.value}".removesuffix(".0")


@dataclass(frozen=True)
class Treatment:
    """What is done to one slot.

    Attributes:
        norm: what normalises it, as `NORM` takes it; None: nothing does. `OWN`: what the network has there, batch norm where
            it has none.
        gamma: the scale; None where there is none.
        beta: the shift; None where there is none.
        momentum: of the norm's running averages; None: torch's, or that of the norm in whose place it stands.
        eps: that the norm adds to the variance; None as for `momentum`.
        ghost: over how many images its statistics are taken in training; None: over the whole batch.
        after: whether it stands after the slot's activation, not before it.

    Without norm, gamma and beta the slot stays as the network has it, or a bias stands in its own norm's place.
    """

    norm: str | None = None
    gamma: Affine | None = None
    beta: Affine | None = None
    momentum: float | None = None
    eps: float | None = None
    ghost: int | None = None
    after: bool = False

    @property
    def uses_batch(self) -> bool:
        """Whether the norm uses statistics of the batch, and keeps running ones for evaluation."""
        return self.norm is not None and "images" in norm_kind(self.norm).over

    @property
    def trains_affine(self) -> bool:
        """Whether gamma or beta is trained."""
        return any(part is not None and part.trained for part in (self.gamma, self.beta))


UNTREATED = Treatment()
"""A slot that the mask leaves out."""
_TRAINED_GAMMA, _FIXED_GAMMA = Affine(1.0, trained=True), Affine(1.0, trained=False)
_TRAINED_BETA, _FIXED_BETA = Affine(0.0, trained=True), Affine(0.0, trained=False)


@dataclass(frozen=True)
class Wanted:
    """What a norm's layer is made of.

    Attributes:
        channels: along dimension 1.
        positions: how many dimensions come behind them: 2 in an image, 0 after a linear layer.
        groups: of channels.
        images: in a part of the batch, if statistics of the batch are taken over parts.
        eps: as keyword, where it is given.
        batch: keywords of a norm that uses the batch: eps and momentum, where they are given.
    """

    channels: int
    positions: int
    groups: int
    images: int | None
    eps: Mapping[str, Any]
    batch: Mapping[str, Any]


@dataclass(frozen=True)
class Norm:
    """One row of the table of norms; `batchnorm.norms` builds them.

    Attributes:
        name: what `NORM=` takes, with `:G` behind it where it has groups.
        meaning: one line.
        over: over what its statistics are taken, which must be more than one value: of `images`, `positions`, `channels`.
        short: what figures and tables call it.
        groups: whether channels are taken in groups.
        make: makes its layer, importing torch inside; None: `batchnorm.norms` does.
        words: what sentences call it; nothing: its name with "norm" behind it.
    """

    name: str
    meaning: str
    over: tuple[str, ...]
    short: str
    groups: bool = False
    make: Callable[[Wanted], nn.Module] | None = None
    words: str = ""


NORMS: Mapping[str, Norm] = {
    row.name: row
    for row in (
        Norm("batch", "mean and variance of a channel over the batch", ("images", "positions"), "BN", words="BatchNorm"),
        Norm("center", "subtracts the batch's mean only", ("images", "positions"), "centring", words="centring"),
        Norm("scale", "divides by the batch's deviation only", ("images", "positions"), "scaling", words="scaling"),
        Norm(
            "group",
            "mean and variance of a group of channels, image by image: group:4",
            ("positions", "channels"),
            "GN",
            groups=True,
        ),
        Norm("layer", "mean and variance of all channels, image by image", ("positions", "channels"), "LN"),
        Norm("instance", "mean and variance of a channel, image by image; not in dense slots", ("positions",), "IN"),
        Norm("own", "that of the network in each slot; batch norm where it has none", ("images", "positions"), "own norm"),
    )
}
"""What `NORM=` takes."""
DEFAULT_NORM = "batch"
OWN = "own"
"""The norm that each slot of a network brings."""


def norm_kind(text: str) -> Norm:
    """Return the row of a norm, as `NORM` takes it.

    Raises:
        ConfigError: there is no such norm, or its groups are missing, too many, or no number.
    """
    name, colon, groups = text.partition(":")
    if name not in NORMS:
        raise ConfigError(f"NORM={text}: no such norm; {nearest_first(name, NORMS)}")
    kind = NORMS[name]
    if bool(colon) != kind.groups or (colon and not (groups.isascii() and groups.isdecimal() and int(groups) > 0)):
        raise ConfigError(f"NORM={text}: must be {'group:G, with G >= 1 groups of channels' if kind.groups else name}")
    return kind


def groups_of(text: str) -> int:
    """Return the number of groups of `group:G`; 1 of any other norm."""
    return int(text.partition(":")[2] or 1)


class Trains(Enum):
    """What of the network a mode trains; which of gamma and beta is trained its treatment says. The value is for people."""

    ALL = "all weights"
    NORMS_AND_HEAD = "of the weights the last layer's"
    NORMS = "no weights"


@dataclass(frozen=True)
class Mode:
    """One row of the table of modes.

    Attributes:
        name: what `ABLATION=` takes.
        treatment: what is done to each slot under the mask.
        trains: which weights and biases are trained; the others stay at their initial values.
        title: what tables call it.
        label: the same with Greek letters (mathtext), as legends show it.
        colour: the first four from the palette of Okabe and Ito ("Color Universal Design", 2008); colour-blind readers can tell
            all of them apart.
        dashes: its line style.
    """

    name: str
    treatment: Treatment
    title: str
    label: str
    colour: str
    dashes: Dashes | str
    trains: Trains = Trains.ALL


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
        Mode("affine_only", Treatment(None, _TRAINED_GAMMA, _TRAINED_BETA),
             "gamma beta", r"$\gamma\beta$", "#88CCEE", (0, (4, 1.5))),
        Mode("bn_only", Treatment("batch", _TRAINED_GAMMA, _TRAINED_BETA),
             "BN gamma beta alone", r"BN $\gamma\beta$ alone", "#7711DD", (0, (3, 1, 1, 1)), Trains.NORMS),
        Mode("bn_and_head", Treatment("batch", _TRAINED_GAMMA, _TRAINED_BETA),
             "BN gamma beta and head", r"BN $\gamma\beta$ and head", "#663311", (0, (3, 1, 1, 1, 1, 1)), Trains.NORMS_AND_HEAD),
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


def modes_of(text: str) -> list[Mode]:
    """Read `ABLATION`: one mode for all slots under the mask, or one for each of them, with commas.

    Raises:
        ConfigError: no such mode, or one in a list that speaks of the whole network.
    """
    modes = [find_mode(name.strip()) for name in text.split(",")]
    for mode in modes:
        if len(modes) > 1 and mode.trains is not Trains.ALL:
            raise ConfigError(f"ABLATION={text}: {mode.name} is about the whole network, and cannot be in a list of slots")
    return modes


def trained_weights(mode: str) -> Trains:
    """Return which weights a mode trains; all, if it is one that this package does not know."""
    return MODES[mode].trains if mode in MODES else Trains.ALL


def canonical_mode(mask: Mask, text: str) -> str:
    """Return the one name under which a mask and what `ABLATION` says are kept.

    Equal modes in a list are that mode. Without a slot under the mask, all modes that train all weights are one run.

    Raises:
        ConfigError: no such mode, a list with another number of modes than the mask has ones, or nothing would be trained.
    """
    modes = modes_of(text)
    if not any(mask):
        if modes[0].trains is Trains.NORMS:
            raise ConfigError(f"ABLATION={text}: trains nothing where no slot has a norm; POSITION must have a 1")
        return DEFAULT_MODE if modes[0].trains is Trains.ALL else modes[0].name
    if len(modes) not in (1, sum(mask)):
        wanted = f"give one for all, or one for each 1 of the mask {format_mask(mask)}, {sum(mask)}"
        raise ConfigError(f"ABLATION={text}: has {len(modes)} modes; {wanted}")
    names = [mode.name for mode in modes]
    return names[0] if len(set(names)) == 1 else ",".join(names)


def variant_name(mask: Mask, mode: str) -> str:
    """Return a mode's name as tables and listings show it: `vanilla` for a network that is as the problem has it."""
    return mode if any(mask) or trained_weights(mode) is not Trains.ALL else VANILLA


def variant_of(mask: Mask, mode: str) -> str:
    """Return what listings call a mask and mode: `0,1,1 fixed_gamma`, or `vanilla` alone."""
    name = variant_name(mask, mode)
    return name if name == VANILLA else f"{format_mask(mask)} {name}"


def treatments(mask: Mask, mode: str, norm: str = DEFAULT_NORM) -> tuple[Treatment, ...]:
    """Return what is done to each slot; `norm` stands wherever the mode normalises.

    Raises:
        ConfigError: no such mode, or a list of another length than the mask has ones.
    """
    names = canonical_mode(mask, mode).split(",")
    each = iter(names * sum(mask) if len(names) == 1 else names)
    found = (find_mode(next(each)).treatment if digit else UNTREATED for digit in mask)
    return tuple(replace(treatment, norm=norm) if treatment.norm else treatment for treatment in found)


def norms_stay(network: str) -> ConfigError:
    """Say that a network's own norms are not put after its activations."""
    return ConfigError(f"PLACEMENT=after: {network} brings norms of its own, which stay where they are; must be before")


def canonical_norm(text: str) -> str:
    """Return the one way in which a norm is written.

    Raises:
        ConfigError: no such norm.
    """
    kind = norm_kind(text.strip().lower())
    return f"{kind.name}:{groups_of(text)}" if kind.groups else kind.name


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
    near = difflib.get_close_matches(word, ["all", "none", *MASK_SETS], n=1)
    hint = f"did you mean {near[0]}{', which studies take' if near[0] in MASK_SETS else ''}? " if near else ""
    wanted = f"{hint}needs {len(slots)} digits 0 or 1, one per slot ({', '.join(slots)}), or all, or none"
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
