"""Which groups of runs are compared with which reference, what both must agree in, and why a group has no partner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchnorm.analysis.runs import Group
from batchnorm.analysis.settings import differs, plain_setting
from batchnorm.errors import ConfigError, RunError, nearest_first, wrong_argument
from batchnorm.modes import MODES, VANILLA, format_mask, parse_mask, variant_name

COLUMNS = {"LR": "lr", "NUM_EPOCHS": "epochs", "OPTIMIZER": "optimizer"}
"""What tables call the keys that each of them has; a table that has another key calls it by its name."""
_ALWAYS = ("PROBLEM",)
"""Runs of different problems share no weights: nothing pairs them."""


@dataclass(frozen=True)
class Pairing:
    """A group of runs and a reference that it is compared with.

    Attributes:
        group: the runs that are compared.
        reference: those that they are compared with; None where there are none.
        mode, mask: of the reference that is meant; no mask where it is not known.
        note: why the two cannot be compared; empty where they can.
    """

    group: Group
    reference: Group | None
    mode: str
    mask: str
    note: str = ""

    @property
    def differing(self) -> list[str]:
        """The settings in which the two differ and may: none where they cannot be compared."""
        if self.reference is None or self.note:
            return []
        return [key for key in _keys_of([self.group, self.reference]) if _differ(self.group, self.reference, key)]


@dataclass(frozen=True)
class _Wanted:
    """The reference as it was asked for: a mode, of each mask, or a mask in any form and a mode."""

    mode: str
    mask: str | None

    def means(self, group: Group) -> bool:
        """Say whether a group is the reference, or one of the references."""
        if self.mask is None:
            return group.mode == self.mode
        try:
            mask = parse_mask(self.mask, group.runs[0].layers)
        except ConfigError:  # a mask of another problem's length
            return False
        return group.mask == mask and group.mode == variant_name(mask, self.mode)


def pairings(groups: Sequence[Group], reference: str, match: Sequence[str] | None = None, *, where: object) -> list[Pairing]:
    """Return with what each group is compared that is not the reference itself.

    Args:
        groups: runs by what they are, seeds aside.
        reference: a mode or `vanilla`: a group is compared with the reference of its own mask, vanilla with those of all
            masks. Or a variant, mask and mode, as `111 trained_bn`: each group is compared with that one.
        match: the keys in which the two must agree. None: all that decide a result, but mask, mode, and the rate where each
            side has one rate (given the other settings), as after tuning.
        where: stands in messages.

    Raises:
        RunError: there is no such reference, or no such key.
    """
    wanted = _read(reference, groups)
    references = [group for group in groups if wanted.means(group)]
    if not references:
        there = list(dict.fromkeys(group.runs[0].variant for group in groups))
        more = f" and {len(there) - 8} more" if len(there) > 8 else ""
        raise RunError(f"{where}: holds no run of the reference {reference}; it has {', '.join(there[:8])}{more}")
    if len(references) == len(groups):
        raise RunError(f"{where}: holds runs of the reference {reference} alone, nothing to compare with it")
    keys = None if match is None else _keys(match, groups)
    return [pairing for group in groups if group not in references for pairing in _of(group, groups, references, wanted, keys)]


def _read(reference: str, groups: Sequence[Group]) -> _Wanted:
    *mask, mode = reference.rsplit(maxsplit=1) or [""]
    modes = dict.fromkeys([*MODES, VANILLA, *(group.mode for group in groups)])
    if mode not in modes:
        example = 'a variant is a mask and a mode, as "111 trained_bn"'
        raise RunError(f"reference {reference}: no such mode; {nearest_first(mode, modes)}; {example}")
    if not mask:
        return _Wanted(mode, None)
    problems = []
    for group in groups:
        try:
            parse_mask(mask[0], group.runs[0].layers)
        except ConfigError as error:
            problems.append(str(error).partition(": ")[2])
        else:
            return _Wanted(mode, mask[0])
    raise RunError(f"reference {reference}: {problems[0]}")


def _keys(match: Sequence[str], groups: Sequence[Group]) -> list[str]:
    """Read the keys that must agree, in any case and by the names of columns too; `none` alone stands for none."""
    if [key.lower() for key in match] == ["none"]:
        return list(_ALWAYS)
    known = [key for key in _keys_of(groups) if key.isupper()]  # the images' digest is no key
    columns = {column.upper(): key for key, column in COLUMNS.items()}
    keys = [columns.get(key.upper(), key.upper()) for key in match]
    for given, key in zip(match, keys, strict=True):
        if key not in known:
            raise wrong_argument("match", given, f"no key that decides a result; {nearest_first(key, known)}, or none alone")
    return list(dict.fromkeys([*_ALWAYS, *keys]))


def _keys_of(groups: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(key for group in groups for key in group.settings))


def _differ(group: Group, other: Group, key: str) -> bool:
    return differs(group.settings, other.settings, key)


def _of(
    group: Group, groups: Sequence[Group], references: Sequence[Group], wanted: _Wanted, keys: Sequence[str] | None
) -> list[Pairing]:
    """Return a group's pairings: with each reference that it may be compared with, or one that says why with none."""
    any_mask = wanted.mask is not None or VANILLA in (wanted.mode, group.mode)
    by_variant: dict[str, list[Group]] = {}
    for reference in references:
        if reference.settings["PROBLEM"] == group.settings["PROBLEM"] and (any_mask or reference.mask == group.mask):
            by_variant.setdefault(reference.runs[0].variant, []).append(reference)
    if not by_variant:
        mask = "" if any_mask else format_mask(group.mask)
        return [Pairing(group, None, wanted.mode, mask, "no run of the reference" + ("" if any_mask else " has this mask"))]
    found = []
    for there in by_variant.values():
        needed = _needed(group, groups, there) if keys is None else keys
        comparable = [other for other in there if not any(_differ(group, other, key) for key in needed)]
        found += [Pairing(group, other, other.mode, format_mask(other.mask)) for other in comparable]
        if not comparable:
            nearest = min(there, key=lambda other: sum(_differ(group, other, key) for key in needed))
            found.append(
                Pairing(group, nearest, nearest.mode, format_mask(nearest.mask), _reason(group, nearest, there, needed))
            )
    return found


def _needed(group: Group, groups: Sequence[Group], references: Sequence[Group]) -> list[str]:
    """Return the keys that must agree: all, but the rate where each side has one, given the other settings."""
    others = [key for key in _keys_of([group, *references]) if key != "LR"]
    own = [each for each in groups if (each.mask, each.mode) == (group.mask, group.mode)]

    def rates(side: Sequence[Group]) -> int:
        return len({each.config.lr for each in side if not any(_differ(group, each, key) for key in others)})

    return others if rates(own) == 1 and rates(references) <= 1 else [*others, "LR"]


def _reason(group: Group, nearest: Group, references: Sequence[Group], needed: Sequence[str]) -> str:
    """Name the keys in which a group differs from the nearest of its references, with all values that stand there."""
    keys = [key for key in needed if _differ(group, nearest, key)]
    alike = [other for other in references if [key for key in needed if _differ(group, other, key)] == keys]

    def told(key: str) -> str:
        there = dict.fromkeys(_short(other.settings.get(key)) for other in alike)
        return f"{key} ({_short(group.settings.get(key))} here, {', '.join(there)} there)"

    return f"differs from the reference in {', '.join(map(told, keys))}"


def _short(setting: object) -> str:
    value = plain_setting(setting)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return (text or "none") if len(text) <= 40 else f"{text[:12]}..."
