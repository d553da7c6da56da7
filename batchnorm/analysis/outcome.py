"""What of a run counts as its result: one number, by a metric. Which runs are compared is not decided here."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchnorm.errors import ConfigError, RunError, nearest_first, wrong_argument
from batchnorm.problems import find_problem
from batchnorm.quantities import METRICS, QUANTITIES, of_axis
from batchnorm.store import Run

_PROBES = tuple(quantity.name for quantity in of_axis("probes") if quantity.per == "run")
CHOICES = (*METRICS, *_PROBES)
"""The metrics: what an evaluation gives, and the measurements with one number a run."""


@dataclass(frozen=True)
class Result:
    """One run's number.

    Attributes:
        value: the number.
        diverged: it stands for a run that diverged: what chance gives.
        capped: it is the run's length, since the accuracy was not reached.
        at_chance: it is an accuracy that a network reaches which has learned nothing: 1 / classes, or a tenth above it at most.
    """

    value: float
    diverged: bool = False
    capped: bool = False
    at_chance: bool = False


@dataclass(frozen=True)
class Outcome:
    """Which number of a run counts. Epoch 0, which stands before training, never does.

    Attributes:
        metric: one of `CHOICES`. Accuracies are shares of 1.
        last: the mean of so many last evaluations (or measurements); 1 is the final one.
        epochs_to: instead: how many epochs the metric, an accuracy, takes to reach this share.

    Raises:
        UserError: no such metric, or a number is out of range.
    """

    metric: str = "test_acc"
    last: int = 1
    epochs_to: float | None = None

    def __post_init__(self) -> None:
        if self.metric not in CHOICES:
            raise wrong_argument("metric", self.metric, f"no such metric; {nearest_first(self.metric, CHOICES)}")
        if self.last < 1:
            raise wrong_argument("last", self.last, "must be 1 or more")
        if self.epochs_to is None:
            return
        if not 0 < self.epochs_to <= 1:
            raise wrong_argument("epochs_to", f"{self.epochs_to:g}", "must be a share of 1, as 0.9 for 90 %")
        if not (self.metric in METRICS and self._is_accuracy):
            names = ", ".join(name for name in METRICS if name.endswith("_acc"))
            raise wrong_argument("epochs_to", f"{self.epochs_to:g}", f"metric={self.metric} is no accuracy; give {names}")
        if self.last != 1:
            raise wrong_argument("last", self.last, "does not go with epochs_to")

    @property
    def _is_accuracy(self) -> bool:
        return "_acc" in self.metric

    @property
    def scale(self) -> float:
        """What values are printed and drawn times: accuracies in per cent."""
        return 100.0 if self._is_accuracy and self.epochs_to is None else 1.0

    @property
    def unit(self) -> str:
        """Of a printed difference; empty for plain numbers."""
        if self.epochs_to is not None:
            return "epochs"
        return "points" if self._is_accuracy else QUANTITIES[self.metric].unit

    @property
    def words(self) -> str:
        """What it is, as titles say it: `final test accuracy`."""
        split, _, kind = self.metric.partition("_")
        name = f"{split.replace('valid', 'validation')} {kind.replace('acc', 'accuracy')}"
        if self.metric not in METRICS:
            name = self.metric.replace("_", " ")
        if self.epochs_to is not None:
            return f"epochs to {100 * self.epochs_to:g} % {name}"
        return f"final {name}" if self.last == 1 else f"{name} (mean of the last {self.last} evaluations)"

    @property
    def label(self) -> str:
        """Of an axis, behind `difference in`: `final test accuracy (points)`."""
        unit = f" ({self.unit})" if self.unit and self.unit != "epochs" else ""
        return f"{self.words}{unit}"

    @property
    def file_name(self) -> str:
        """What names of files say of it."""
        if self.epochs_to is not None:
            return f"epochs_to_{self.epochs_to:g}_{self.metric}"
        return self.metric if self.last == 1 else f"{self.metric}_last{self.last}"

    def of(self, run: Run) -> Result:
        """Return the number of a finished run.

        Raises:
            RunError: it lacks what is asked for.
        """
        epochs, values = self._recorded(run)
        if self.epochs_to is not None:
            from batchnorm.analysis.effects.reached import epochs_to

            epoch, capped = epochs_to(self.epochs_to, epochs, values, length=run.length.epochs)
            return Result(float(epoch), capped=bool(capped))
        if len(values) < self.last:
            found = f"has {len(values)} of the {self.last} values of {self.metric} that last={self.last} asks for"
            raise RunError(f"{run.directory}: {found}")
        value = float(values[-self.last :].mean())
        return Result(value, at_chance=self._is_accuracy and _is_of_chance(value, run.config.problem))

    def _recorded(self, run: Run) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the metric and the epochs at which it was taken, epoch 0 aside."""
        if self.metric in METRICS:
            rows = run.of_epochs(*dict.fromkeys(("epoch", "test_acc", self.metric)))
            evaluated = ~np.isnan(rows["test_acc"])
            epochs, values = rows["epoch"][evaluated], rows[self.metric][evaluated]
        else:
            values, epochs = run.read(self.metric), run.index(self.metric)["epoch"]
        return epochs[epochs > 0], np.asarray(values[epochs > 0], dtype=np.float64)

    @property
    def has_chance(self) -> bool:
        """Whether chance gives it a value: accuracies and losses, but not other measurements."""
        return self._is_accuracy or "_loss" in self.metric

    def of_chance(self, run: Run) -> Result:
        """Return what chance gives instead of a run that diverged: accuracy 1/classes, loss log(classes), nothing reached.

        Raises:
            RunError: the number of classes is not known.
        """
        if self.epochs_to is not None:
            return Result(float(run.length.epochs), diverged=True, capped=True)
        try:
            classes = find_problem(run.config.problem).classes
        except ConfigError as error:
            raise RunError(f"{run.directory}: diverged, and its number of classes is not known: {error}") from None
        return Result(1 / classes if self._is_accuracy else float(np.log(classes)), diverged=True)


def _is_of_chance(accuracy: float, problem: str) -> bool:
    if accuracy > 1.1 / 2:  # no problem has fewer than two classes
        return False
    classes = _classes(problem)
    return classes is not None and accuracy <= 1.1 / classes


@cache
def _classes(problem: str) -> int | None:
    """Return a problem's number of classes; None where it is not known, as of a file that is not there."""
    try:
        return find_problem(problem).classes
    except ConfigError:
        return None


ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "--metric": {
        "default": "test_acc",
        "metavar": "NAME",
        "help": "test_acc (default) | valid_acc | test_loss | sharpness | ...",
    },
    "--last": {"type": int, "default": 1, "metavar": "K", "help": "mean of the last K evaluations (default: the final one)"},
    "--epochs-to": {"type": float, "metavar": "ACC", "help": "instead: epochs until the accuracy is ACC, as 0.9"},
}
"""How a command is told the outcome."""
LEVEL: Mapping[str, Mapping[str, Any]] = {
    "--alpha": {"type": float, "default": 0.05, "metavar": "A", "help": "level of tests and intervals (default: 0.05)"},
}
"""How a command is told the tests' level."""
TESTS: Mapping[str, Mapping[str, Any]] = {
    "--margin": {"type": float, "metavar": "POINTS", "help": "test equivalence within this; accuracies in points of per cent"},
    **LEVEL,
}
"""How a command is told what is tested."""
FAMILY: Mapping[str, Mapping[str, Any]] = {
    "--family": {"nargs": "+", "metavar": "NAME", "help": "slots | interactions | modes | modes_per_mask | gamma_beta"},
}
"""How a command is told which effects it shows."""


def outcome_of(given: Namespace) -> Outcome:
    """Return the outcome that a command was told."""
    return Outcome(given.metric, given.last, given.epochs_to)


def in_values(given: float | None, outcome: Outcome) -> float | None:
    """Return a difference or margin that was given as it is printed, in the unit of the values."""
    return None if given is None else given / outcome.scale
