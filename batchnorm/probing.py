"""A probe: one look at a network beside the evaluation. Measurements take from it what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import nn

from batchnorm.data.batches import Batches
from batchnorm.slots import Slot

Result = TypeVar("Result")


class Probe:
    """A network at one moment, and the images that it may be measured on.

    A measurement leaves the network, its running statistics and all random states as they were.

    Args:
        net: the network.
        slots: what stands in its slots.
        batches: the run's images.
        random_seed: the run's seed.
        lr: the learning rate of the next update.
    """

    def __init__(self, net: nn.Module, slots: Sequence[Slot], batches: Batches, *, random_seed: int, lr: float) -> None:
        self.net = net
        self.slots = tuple(slots)
        self.batches = batches
        self.random_seed = random_seed
        self.lr = lr
        self._results: dict[Callable[[Probe], Any], Any] = {}

    def result(self, measure: Callable[[Probe], Result]) -> Result:
        """Return what a measurement finds here; it is made once, however many quantities are read from it."""
        if measure not in self._results:
            self._results[measure] = measure(self)
        found: Result = self._results[measure]
        return found
