"""Settings of runs: in which of them runs differ, and how they are called. A setting is a key that decides a result."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from batchnorm.config import SLOT_KEYS, differing_keys, optimizer_tells_all
from batchnorm.optim import USUAL

_USUAL = {f"OPT_HPARS.{name}": value for name, value in USUAL.items()}
_WORDS = {"LR": "lr {:.4g}", "NUM_EPOCHS": "{} epochs", "BATCH_SIZE": "batch size {}", "OPTIMIZER": "{}"}
_LONGEST_SETTING = 16


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a group one by one, of an optimizer or a schedule too: `OPT_HPARS.momentum`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": setting for name, setting in value.items()}
        else:
            found["LR_SCHEDULE.name" if key == "LR_SCHEDULE" else key] = value
    return found


def varying_settings(runs: Iterable[tuple[object, Mapping[str, Any]]], keys: Iterable[str] = ()) -> list[str]:
    """Return the settings in which runs of one kind differ, in alphabetical order.

    The images' digest, and keys that act in slots only, are compared where runs have them.

    Args:
        runs: the kind and the settings of each.
        keys: those to look at; none stands for all.
    """
    alike: dict[object, list[Mapping[str, Any]]] = {}
    for kind, settings in runs:
        alike.setdefault(kind, []).append(settings)
    found = set()
    for family in alike.values():
        for key in keys or {key for each in family for key in each}:
            may_lack = key == "images" or key in SLOT_KEYS
            values = [each.get(key) for each in family if key in each or not may_lack]
            if any(value != values[0] for value in values):
                found.add(key)
    return sorted(found)


def differs(here: Mapping[str, Any], there: Mapping[str, Any], key: str) -> bool:
    """Say whether the settings of two runs differ in a key."""
    return bool(varying_settings([("", here), ("", there)], [key]))


def differing_settings(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Name the settings in which two runs differ, with both values."""
    keys = varying_settings([("", here), ("", there)])
    if optimizer_tells_hyperparameters([here, there]):
        keys = [key for key in keys if key != "OPT_HPARS"]
    one, other = ({key: settings[key] for key in keys if key in settings} for settings in (here, there))
    return differing_keys(one, other)


def optimizer_tells_hyperparameters(settings: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether each optimizer has one set of hyperparameters beside the rate, which then need no words of their own."""
    return optimizer_tells_all((each.get("OPTIMIZER", ""), each.get("OPT_HPARS", {})) for each in settings)


def what_differs(settings: Mapping[str, Any], others: Iterable[Mapping[str, Any]], *, but: Collection[str] = ()) -> str:
    """Name the settings in which one differs from others, `but` some, as it has them."""
    own, others = flat_settings(settings), list(others)
    flat = [flat_settings(other) for other in others]
    told = [key for key, value in own.items() if value is not None or key not in SLOT_KEYS]  # as always needs no words
    if optimizer_tells_hyperparameters([settings, *others]):
        told = [key for key in told if (key, own[key]) not in _USUAL.items()]
    differing = [key for key in told if key not in but and any(differs(own, other, key) for other in flat)]
    return settings_in_words(own, differing)


def settings_in_words(settings: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Name some settings, the usual ones first."""
    places = {key: place for place, key in enumerate(_WORDS)}
    return ", ".join(setting_words(key, settings[key]) for key in sorted(keys, key=lambda key: (places.get(key, 99), key)))


def setting_words(key: str, value: Any) -> str:
    """Say a setting as legends do: `lr 0.1`, `momentum 0.9`, `no lr schedule`."""
    words = key.removesuffix(".name").rpartition(".")[2].lower().replace("_", " ")
    if value is None:
        return f"no {words}"
    text = str(value)
    if len(text) > _LONGEST_SETTING and key not in _WORDS:  # a digest
        value = f"{text[: _LONGEST_SETTING - 3]}..."
    return _WORDS.get(key, words + " {}").format(value)


def plain_setting(value: Any) -> Any:
    """Make a setting fit for a table's cell."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={setting}" for name, setting in sorted(value.items()))
    return value


def setting_text(settings: Mapping[str, Any], key: str) -> str:
    """Write a setting for a listing; nothing where a run has it not."""
    if key not in settings:
        return ""
    value = plain_setting(settings[key])
    return f"{value:g}" if isinstance(value, float) else str("none" if value is None else value)


def has_setting(settings: Mapping[str, Any], text: str) -> bool:
    """Say whether a run's settings agree with `KEY=VALUE`; a key that acts in none of its slots tells nothing against it."""
    key, _, value = text.partition("=")
    own_settings = flat_settings(settings)
    if key not in own_settings:
        return key in SLOT_KEYS
    own = own_settings[key]
    if isinstance(own, (int, float)) and not isinstance(own, bool):
        try:
            return float(value) == own
        except ValueError:
            return False
    words = {"none", "null"} if own is None else {setting_text(own_settings, key).lower()}
    return value.lower() in words
