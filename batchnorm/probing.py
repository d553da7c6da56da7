"""What measurements look at: both sides of an update of a slot's weights, and a network beside the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from batchnorm.data.batches import Batches
from batchnorm.slots import Slot

Result = TypeVar("Result")


@dataclass(frozen=True)
class SlotUpdate:
    """One update of a slot's weight layer, seen from both sides.

    Attributes:
        slot: the slot; its parts are those after the update.
        lr: the learning rate of the update.
        values: how many values a channel had in the step's batch.
        weight_before: the weights before the update.
        gradient: what the optimizer was given; 0 where none reaches the weights.
        gamma_before: gamma before the update, if the slot has one.
        gamma_gradient: what the optimizer was given for gamma, if it is trained.
        running_var_before: the running variance before the step's forward pass, if the slot has one.
    """

    slot: Slot
    lr: float
    values: int
    weight_before: torch.Tensor
    gradient: torch.Tensor
    gamma_before: torch.Tensor | None
    gamma_gradient: torch.Tensor | None
    running_var_before: torch.Tensor | None
    _results: dict[Callable[[SlotUpdate], Any], Any] = field(default_factory=dict, repr=False)

    @property
    def weight(self) -> torch.Tensor:
        """The weights after the update."""
        return weight_of(self.slot)

    def result(self, measure: Callable[[SlotUpdate], Result]) -> Result:
        """Return what a measurement finds here; it is made once, however many quantities are read from it."""
        if measure not in self._results:
            self._results[measure] = measure(self)
        found: Result = self._results[measure]
        return found


def weight_of(slot: Slot) -> torch.Tensor:
    """Return the weights of a slot that has a layer of its own."""
    assert slot.layer is not None
    assert isinstance(slot.layer.weight, torch.Tensor)
    return slot.layer.weight


@torch.no_grad()
def begin_update(slot: Slot, lr: float, *, images: int, running_var: torch.Tensor | None) -> SlotUpdate:
    """Note what an update of a slot with a trained weight layer changes, between the backward pass and the update.

    Gradients among it: torch's NAG adds to them in place, where it updates all parameters at once, as on a GPU.
    """
    weight = weight_of(slot)
    gamma = None if slot.gamma is None else slot.gamma.detach().clone()
    gamma_gradient = None if slot.gamma is None or not slot.gamma.requires_grad else _gradient_of(slot.gamma)
    return SlotUpdate(
        slot,
        lr,
        values=images * (slot.positions or 1),
        weight_before=weight.detach().clone(),
        gradient=_gradient_of(weight),
        gamma_before=gamma,
        gamma_gradient=gamma_gradient,
        running_var_before=running_var,
    )


def _gradient_of(parameter: torch.Tensor) -> torch.Tensor:
    """Return a copy of a gradient; 0 where the loss does not depend on the parameter, as in a branch that nothing uses."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()


class Probe:
    """A network at one moment, and the images that it may be measured on.

    A measurement leaves the network, its running statistics and all random states as they were.

    Args:
        net: the network.
        slots: what stands in its slots.
        batches: the run's images.
        lr: the learning rate of the next update; after the last one, of that.
    """

    def __init__(self, net: nn.Module, slots: Sequence[Slot], batches: Batches, *, lr: float) -> None:
        self.net = net
        self.slots = tuple(slots)
        self.batches = batches
        self.lr = lr
        self._results: dict[Callable[[Probe], Any], Any] = {}

    def result(self, measure: Callable[[Probe], Result]) -> Result:
        """Return what a measurement finds here; it is made once, however many quantities are read from it."""
        if measure not in self._results:
            self._results[measure] = measure(self)
        found: Result = self._results[measure]
        return found
