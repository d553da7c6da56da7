"""What the ticks of an axis are called: no two alike, and each says the value that it stands at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import Formatter

_SHARE = 1 / 200
"""A label may be off its tick by this share of the distance to the next one."""
_LONGEST_POWER = 6
"""Powers of ten are written as 0.001 and 1000 while none takes more letters."""
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_MINUS = "\N{MINUS SIGN}"


def tick_labels(values: Sequence[float], *, unit: str = "", prefixes: bool = False) -> list[str]:
    """Label ticks: each label differs from its tick by less than a hundredth of the distance to the next tick.

    Evenly spaced ticks have equal decimals, others (those of a logarithmic axis) as many as each needs.

    Args:
        values: where the ticks are, finite.
        unit: what stands behind each number.
        prefixes: write 2500 as 2.5k, as for counts of steps.
    """
    allowed = _allowed(values)
    if prefixes:
        texts = [_with_prefix(value, room) for value, room in zip(values, allowed, strict=True)]
    elif len(values) > 1 and all(map(_is_power, values, allowed)) and _longest(_singly(values, allowed)) > _LONGEST_POWER:
        texts = [f"$10^{{{round(math.log10(value))}}}$" for value in values]
    else:
        plain, scientific = (_evenly if _are_even(values) else _singly)(values, allowed), _scientific(values, allowed)
        largest = max(map(abs, values), default=0.0)
        saved = _longest(plain) - _longest(scientific)
        texts = scientific if saved >= 3 or (largest < 1e-4 and saved >= 0) else plain
    return [text.replace("-", _MINUS) + unit if "$" not in text else text + unit for text in texts]


class TickFormatter(Formatter):
    """Labels the ticks of an axis by `tick_labels`, so that those in view decide how many digits there are."""

    def __init__(self, *, scale: float = 1.0, unit: str = "", prefixes: bool = False) -> None:
        """Write values times `scale`; `unit` and `prefixes` as `tick_labels` takes them."""
        self.scale, self.unit, self.prefixes = scale, unit, prefixes

    def __call__(self, value: float, pos: int | None = None) -> str:  # noqa: ARG002  (matplotlib gives it)
        """Label a single value, beside the ticks that there are."""
        ticks: Sequence[float] = list(self.axis.get_majorticklocs()) if isinstance(self.axis, Axis) else []
        return self._labels([*(tick for tick in ticks if tick != value), value])[-1]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Label all ticks; those out of view, which are not drawn, have none."""
        shown = self._in_view(values)
        labels = iter(self._labels([value for value, inside in zip(values, shown, strict=True) if inside]))
        return [next(labels) if inside else "" for inside in shown]

    def _labels(self, values: Sequence[float]) -> list[str]:
        return tick_labels([self.scale * float(value) for value in values], unit=self.unit, prefixes=self.prefixes)

    def _in_view(self, values: Sequence[float]) -> list[bool]:
        if not isinstance(self.axis, Axis):
            return [True] * len(values)
        transform = self.axis.get_transform()
        with np.errstate(divide="ignore", invalid="ignore"):  # a logarithmic axis has no 0
            low, high = sorted(transform.transform(np.asarray(self.axis.get_view_interval(), np.float64)))
            places = transform.transform(np.asarray(values, np.float64))
        room = 1e-3 * (high - low)
        return [bool(low - room <= place <= high + room) for place in places]


def _allowed(values: Sequence[float]) -> list[float]:
    """Return how far each label may be off."""
    distinct = np.unique(np.asarray(values, np.float64))
    if len(distinct) < 2:
        return [_SHARE * (abs(value) or 1.0) for value in values]
    gaps = np.diff(distinct)
    nearest = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))
    return [_SHARE * float(nearest[np.searchsorted(distinct, value)]) for value in values]


def _are_even(values: Sequence[float]) -> bool:
    if len(values) == 2:  # as well those of a logarithmic axis
        return min(values) <= 0 or max(values) < 2 * min(values)
    gaps = np.diff(values)
    return len(values) > 2 and bool(np.ptp(gaps) <= 1e-3 * abs(gaps.mean()))


def _is_power(value: float, allowed: float) -> bool:
    return value > 0 and abs(value - 10.0 ** round(math.log10(value))) <= min(allowed, 1e-9 * value)


def _longest(texts: Sequence[str]) -> int:
    return max(map(len, texts), default=0)


def _decimals(value: float, allowed: float) -> int:
    """Return the fewest decimals that a number needs."""
    return next((digits for digits in range(30) if abs(float(f"{value:.{digits}f}") - value) <= allowed), 30)


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no "-0"


def _singly(values: Sequence[float], allowed: Sequence[float]) -> list[str]:
    return [_fixed(value, _decimals(value, room)) for value, room in zip(values, allowed, strict=True)]


def _evenly(values: Sequence[float], allowed: Sequence[float]) -> list[str]:
    decimals = max(map(_decimals, values, allowed), default=0)
    return [_fixed(value, decimals) for value in values]


def _scientific(values: Sequence[float], allowed: Sequence[float]) -> list[str]:
    """Write numbers as 2.5e-5: evenly spaced ones with one exponent and equal decimals."""
    powers = [math.floor(math.log10(abs(value))) if value else 0 for value in values]
    if _are_even(values):
        powers = [max(power for power, value in zip(powers, values, strict=True) if value)] * len(values)
    mantissas = [value * 10.0**-power for value, power in zip(values, powers, strict=True)]
    rooms = [room * 10.0**-power for room, power in zip(allowed, powers, strict=True)]
    texts = (_evenly if _are_even(values) else _singly)(mantissas, rooms)
    return [f"{text}e{power}" if float(text) else "0" for text, power in zip(texts, powers, strict=True)]


def _with_prefix(value: float, allowed: float) -> str:
    size, prefix = next((each for each in _PREFIXES if abs(value) >= each[0]), (1.0, ""))
    return _fixed(value / size, _decimals(value / size, allowed / size)) + prefix
