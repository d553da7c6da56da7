"""How many seeds a study needs: what the spread over seeds at hand lets t tests and equivalence tests show."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import scipy  # its parts are imported where they are used: stats takes half a second

from batchnorm.errors import UserError, wrong_argument

MOST_SEEDS = 10_000
"""No study has more."""
_POINTS = 4001  # of the integration over the deviation; the integrands are smooth


def t_power(difference: float, std: float, seeds: int, *, alpha: float = 0.05, one_sided: bool = False) -> float:
    """Return the power of a t test over seeds: the chance to find a true difference.

    The noncentral t distribution as an integral over the deviation: SciPy's own gives NaN for some large differences.
    """
    critical = scipy.stats.t.isf(alpha if one_sided else alpha / 2, seeds - 1)
    shift = abs(difference) / std * np.sqrt(seeds)

    def found(spread: np.ndarray) -> np.ndarray:
        above = scipy.stats.norm.sf(critical * spread - shift)
        return np.asarray(above if one_sided else above + scipy.stats.norm.cdf(-critical * spread - shift))

    return _over_spreads(found, seeds - 1)


def equivalence_power(margin: float, std: float, seeds: int, *, alpha: float = 0.05) -> float:
    """Return the power of TOST over seeds where the true difference is 0: the chance to show equivalence.

    For a given deviation the mean must fall into what is left of the margin; this is averaged over the chi distribution of
    the deviation, exactly (Owen 1965; Phillips 1990).
    """
    critical = scipy.stats.t.isf(alpha, seeds - 1)
    shift = margin / std * np.sqrt(seeds)

    def found(spread: np.ndarray) -> np.ndarray:
        room = np.maximum(shift - critical * spread, 0.0)
        return np.asarray(scipy.stats.norm.cdf(room) - scipy.stats.norm.cdf(-room))

    return _over_spreads(found, seeds - 1, end=shift / critical)


def _over_spreads(power: Callable[[np.ndarray], np.ndarray], df: int, end: float = np.inf) -> float:
    """Average over the ratio of a sample's deviation to the true one, up to `end`, above which the power is 0."""
    ratio = scipy.stats.chi(df, scale=1 / np.sqrt(df))
    low, high = ratio.ppf(1e-10), min(end, ratio.isf(1e-10))
    if low >= high:
        return 0.0
    points = np.linspace(low, high, _POINTS)
    return float(np.clip(scipy.integrate.simpson(power(points) * ratio.pdf(points), x=points), 0, 1))


def plan(
    deviations: pd.DataFrame | Mapping[str, float],
    *,
    power: float = 0.8,
    difference: float | None = None,
    margin: float | None = None,
    planned_seeds: int | None = None,
    alpha: float = 0.05,
    comparisons: int = 1,
    one_sided: bool = False,
) -> pd.DataFrame:
    """Return what a number of seeds can show of each effect, and how many seeds a difference or a margin needs.

    Args:
        deviations: the table of `effects`, or deviations over seeds by the effects' names.
        power: the chance wanted to find what is there.
        difference: a true difference that the t test shall find.
        margin: within which the equivalence test shall show a true difference of 0 to lie.
        planned_seeds: of the study that is planned; None stands for as many as the table has.
        alpha: the tests' level.
        comparisons: tests in a family; the level is divided by this (Bonferroni, so that Holm has at least this power).
        one_sided: whether the t test is.

    Returns:
        One row per effect that has a deviation: `family`, `name`, `std`, and with a table `std_low`, `std_high`: the
        deviation's own 95 % interval (chi-square), wide for few seeds. `seeds`; `finds`: the smallest difference that so
        many seeds find with this power; `shows`: the smallest margin within which they show equivalence.
        `seeds_for_difference`, `seeds_for_margin`: how many are needed, at least 2; NaN for none given, and for over
        `MOST_SEEDS`.

    Raises:
        UserError: a number is out of range, or there is no effect with a deviation.
    """
    _check(power=power, alpha=alpha, difference=difference, margin=margin, planned_seeds=planned_seeds, comparisons=comparisons)
    level = alpha / comparisons

    def t(size: float, std: float, n: int) -> float:
        return t_power(size, std, n, alpha=level, one_sided=one_sided)

    def equivalence(size: float, std: float, n: int) -> float:
        return equivalence_power(size, std, n, alpha=level)

    finds = functools.cache(lambda n: _smallest(t, n, power))  # in deviations, so the same for all effects
    shows = functools.cache(lambda n: _smallest(equivalence, n, power))
    rows = []
    for row in _deviations(deviations).to_dict("records"):
        n, std = row["n_seeds"] if planned_seeds is None else planned_seeds, row["std"]
        if np.isnan(n):
            raise UserError("planned_seeds: not given, and deviations alone do not tell; give the number of seeds")
        rows.append(
            {
                "family": row["family"],
                "name": row["name"],
                "std": std,
                **_deviation_interval(std, row["n_seeds"]),
                "seeds": int(n),
                "finds": std * finds(int(n)),
                "shows": std * shows(int(n)),
                "seeds_for_difference": _seeds(t, difference, std, power),
                "seeds_for_margin": _seeds(equivalence, margin, std, power),
            }
        )
    return pd.DataFrame(rows)


_Power = Callable[[float, float, int], float]


def _smallest(reached: _Power, seeds: int, power: float) -> float:
    """Return the smallest difference or margin, in deviations, that reaches the power."""
    high = 1.0
    while reached(high, 1.0, seeds) < power:
        high *= 2
    return float(scipy.optimize.brentq(lambda size: reached(size, 1.0, seeds) - power, 0.0, high, xtol=1e-9))


def _seeds(reached: _Power, size: float | None, std: float, power: float) -> float:
    """Return the smallest number of seeds that reaches the power, which grows with their number."""
    if size is None or reached(size, std, MOST_SEEDS) < power:
        return np.nan
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(size, std, middle) >= power else (middle, high)
    return float(high)


def _deviations(given: pd.DataFrame | Mapping[str, float]) -> pd.DataFrame:
    if isinstance(given, pd.DataFrame):
        table = given[["family", "name", "std", "n_seeds"]]
    else:
        table = pd.DataFrame({"family": "", "name": list(given), "std": list(given.values()), "n_seeds": np.nan})
    table = table[table["std"] > 0]
    if not len(table):
        raise UserError("no effect has a spread over seeds: a plan needs runs of two seeds or more")
    return table


def _deviation_interval(std: float, n_seeds: float) -> dict[str, float]:
    if np.isnan(n_seeds):
        return {"std_low": np.nan, "std_high": np.nan}
    df = n_seeds - 1
    return {
        "std_low": std * np.sqrt(df / scipy.stats.chi2.isf(0.025, df)),
        "std_high": std * np.sqrt(df / scipy.stats.chi2.ppf(0.025, df)),
    }


def _check(
    *,
    power: float,
    alpha: float,
    difference: float | None,
    margin: float | None,
    planned_seeds: int | None,
    comparisons: int,
) -> None:
    if not 0 < alpha < 0.5:
        raise wrong_argument("alpha", alpha, "must be between 0 and 0.5")
    if not alpha < power < 1:
        raise wrong_argument("power", power, f"must be between alpha ({alpha}) and 1")
    if difference is not None and (difference == 0 or not np.isfinite(difference)):
        raise wrong_argument("difference", difference, "must not be 0")
    if margin is not None and not margin > 0:
        raise wrong_argument("margin", margin, "must be above 0")
    if planned_seeds is not None and not 2 <= planned_seeds <= MOST_SEEDS:
        raise wrong_argument("planned_seeds", planned_seeds, f"must be between 2 and {MOST_SEEDS}")
    if comparisons < 1:
        raise wrong_argument("comparisons", comparisons, "must be 1 or more")
