"""What a study may write for several values: `1-5,9` for seeds, and a mapping for numbers that are drawn. No torch here."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from batchnorm.errors import ConfigError, nearest_first

MAX_VALUES = 100_000
_SEED_RANGE = r"\s*[0-9]{1,19}\s*(-\s*[0-9]{1,19}\s*)?"
_DIGITS = 6
"""Significant digits of a drawn number: more would differ between mathematical libraries, and with them the directories."""


def spelled_out(name: str, value: Any, *, shown: str) -> Any:
    """Return a key's value with seed ranges and drawn numbers as lists of plain values; all else as it stands.

    >>> spelled_out("random_seed", "1-3,7", shown="RANDOM_SEED")
    ['1', '2', '3', '7']
    >>> spelled_out("lr", {"log_uniform": ["1e-3", "1"], "n": "3", "seed": "0"}, shown="LR")
    ['0.341402', '0.187872', '0.018269']

    Args:
        name: the key's, as `resolve` takes it.
        value: what the study's file holds for it, or an override's text.
        shown: how messages name the key.

    Raises:
        ConfigError: a range or a mapping is wrong.
    """
    if not isinstance(value, list):
        found = list(_values_of(name, value, shown=shown))
        return value if found == [value] else found
    return [each for item in value for each in _values_of(name, item, shown=shown)]


def _values_of(name: str, item: Any, *, shown: str) -> Iterator[Any]:
    if isinstance(item, str) and item.lstrip().startswith("{") and "log_uniform" in item:
        item = _mapping(item, shown=shown)
    if isinstance(item, dict) and "log_uniform" in item:
        yield from _drawn(item, shown=shown)
    elif name == "random_seed" and isinstance(item, str) and re.fullmatch(f"{_SEED_RANGE}(,{_SEED_RANGE})*", item):
        yield from [item] if item.isdigit() else _seeds(item, shown=shown)
    else:
        yield item


def _mapping(text: str, *, shown: str) -> Any:
    """Read a mapping of the command line."""
    try:
        return yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"{shown}={text}: not valid YAML; as {shown}={{log_uniform: [1e-3, 1], n: 12, seed: 0}}") from None


def _seeds(text: str, *, shown: str) -> Iterator[str]:
    """Spell `1-3,7` out."""
    count = 0
    for part in text.split(","):
        first, _, last = (number.strip() for number in part.partition("-"))
        ends = int(first), int(last or first)
        if ends[0] > ends[1]:
            raise ConfigError(f"{shown}={text}: {part.strip()} goes down; write {last}-{first}")
        count += ends[1] - ends[0] + 1
        if count > MAX_VALUES:
            raise ConfigError(f"{shown}={text}: {count} values; at most {MAX_VALUES}")
        yield from map(str, range(ends[0], ends[1] + 1))


def _drawn(mapping: Mapping[str, Any], *, shown: str) -> list[str]:
    """Draw numbers whose logarithms are uniform; Python keeps what `random.Random(seed).random()` gives for ever.

    The first values of a larger `n` are those of a smaller one.
    """
    wanted = ("log_uniform", "n", "seed")
    for key in mapping:
        if key not in wanted:
            raise ConfigError(f"{shown}: log_uniform takes no {key}; {nearest_first(key, wanted)}")
    for key in wanted:
        if key not in mapping:
            raise ConfigError(f"{shown}: log_uniform needs {key}; as {{log_uniform: [1e-3, 1], n: 12, seed: 0}}")
    low, high = _bounds(mapping["log_uniform"], shown=shown)
    n = _whole(mapping["n"], least=1, most=MAX_VALUES, shown=f"{shown}: n")
    seed = _whole(mapping["seed"], least=0, most=2**63 - 1, shown=f"{shown}: seed")
    draw = random.Random(seed).random
    logs = math.log(low), math.log(high)
    drawn = (math.exp(logs[0] + draw() * (logs[1] - logs[0])) for _ in range(n))
    return [repr(min(max(float(f"{value:.{_DIGITS}g}"), low), high)) for value in drawn]


def _bounds(given: Any, *, shown: str) -> tuple[float, float]:
    try:
        low, high = map(float, given if isinstance(given, list) else [])
    except (TypeError, ValueError):
        low = high = math.nan
    if not 0 < low < high < math.inf:
        told = f"[{', '.join(map(str, given))}]" if isinstance(given, list) else given
        raise ConfigError(f"{shown}: log_uniform={told}: must be two numbers, 0 < lowest < highest, as [1e-3, 1]")
    return low, high


def _whole(given: Any, *, least: int, most: int, shown: str) -> int:
    if not (isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 20 and least <= int(given) <= most):
        raise ConfigError(f"{shown}={given}: must be an integer from {least} to {most}")
    return int(given)
