"""What a run records, declared once: the file's layout, the recorder, `Run.read` and figures follow from it. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Axis:
    """A time along which values are recorded, all of an axis at one moment.

    Attributes:
        name: of the axis.
        index: the columns that say when a row was recorded, datasets of the group that is called like the axis.
        moment: when that is, in words.
    """

    name: str
    index: tuple[str, ...]
    moment: str


AXES: Mapping[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("epochs", ("epoch", "step"), "the end of each epoch, after the evaluation; row 0 stands before training"),
        Axis("batches", ("step",), "before the update of each LOG_EVERY_STEPS-th step"),
        Axis("snapshots", ("step",), "before the update of each LOG_EVERY_STEPS-th step; the last row, after the last update"),
        Axis("updates", ("step",), "both sides of the update of each LOG_EVERY_STEPS-th step"),
        Axis("probes", ("epoch", "step"), "once an epoch, beside the evaluation"),
    )
}


@dataclass(frozen=True)
class Quantity:
    """One thing that a run records.

    Attributes:
        name: what `Run.read` and the shell call it.
        axis: a key of `AXES`: when it is read.
        per: `run` (one number), `slot` (one number for each slot that has it) or `channel` (one for each of its channels).
        needs: what a slot must have for the quantity, by the names of `batchnorm.slots.Slot`'s parts.
        read: takes it from the live network, as a tensor: `read(slot)` on the axes `epochs` and `snapshots`,
            `read(slot_update)` on `updates`, `read(probe)` or, unless it is one number of the run, `read(probe, slot)` on
            `probes` (see `batchnorm.slots` and `batchnorm.probing`). None: the training loop hands it over.
        dataset: where it lies in `run.h5`; with `{slot}`, unless it is one number of the run.
        dtype: of the stored numbers.
        unit: of its values; empty for plain numbers.
        symbol: what figures call it, as mathtext.
        neutral: the value at which it does nothing, if there is one: the centre of colour scales.
        meaning: one line.
    """

    name: str
    axis: str
    dataset: str
    meaning: str
    per: str = "run"
    needs: tuple[str, ...] = ()
    read: Callable[..., Any] | None = None
    dtype: str = "f8"
    unit: str = ""
    symbol: str = ""
    neutral: float | None = None

    def key(self, slot: str | None = None) -> str:
        """Return under which name the recorder hands it to the record, for one slot where it has slots."""
        return self.name if slot is None else f"{self.name} of {slot}"

    def dataset_of(self, slot: str | None = None) -> str:
        """Return where it lies, for one slot where it has slots."""
        return self.dataset.format(slot=slot)

    def is_in(self, parts: Iterable[str]) -> bool:
        """Say whether a slot that has these parts has the quantity."""
        return set(self.needs) <= set(parts)


def _of_slot(part: str, axis: str, dataset: str, meaning: str, **more: Any) -> Quantity:
    """Declare a vector of a slot's channels that is read as it stands."""
    return Quantity(part, axis, dataset, meaning, per="channel", needs=(part,), read=attrgetter(part), dtype="f4", **more)


QUANTITIES: Mapping[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        _of_slot("gamma", "snapshots", "snapshots/gamma/{slot}", "the norm's scale", symbol=r"$\gamma$", neutral=1.0),
        _of_slot("beta", "snapshots", "snapshots/beta/{slot}", "the norm's shift", symbol=r"$\beta$", neutral=0.0),
        _of_slot("bias", "snapshots", "snapshots/bias/{slot}", "the bias of a slot without a norm", symbol="bias", neutral=0.0),
        _of_slot("running_mean", "epochs", "running/mean/{slot}", "running mean of the norm's input", neutral=0.0),
        _of_slot("running_var", "epochs", "running/var/{slot}", "running variance of the norm's input", neutral=1.0),
        Quantity("batch_loss", "batches", "batches/loss", "mean training loss of the step's batch", unit="nats"),
        Quantity("batch_lr", "batches", "batches/lr", "learning rate of the step's update"),
        *(
            quantity
            for split in SPLITS
            for quantity in (
                Quantity(f"{split}_loss", "epochs", f"epochs/{split}_loss", f"mean loss per {split} image", unit="nats"),
                Quantity(f"{split}_acc", "epochs", f"epochs/{split}_acc", f"share of {split} images classified right"),
            )
        ),
        Quantity("lr", "epochs", "epochs/lr", "learning rate of the next update"),
        Quantity("train_seconds", "epochs", "epochs/train_seconds", "time of the epoch's training", unit="s"),
        Quantity("eval_seconds", "epochs", "epochs/eval_seconds", "time of the epoch's evaluation", unit="s"),
    )
}
"""Every quantity by its name."""


def of_axis(axis: str, quantities: Iterable[Quantity] = QUANTITIES.values()) -> list[Quantity]:
    """Return the quantities of one axis, in the order in which they are declared."""
    return [quantity for quantity in quantities if quantity.axis == axis]


METRICS = tuple(f"{split}_{metric}" for split in SPLITS for metric in ("loss", "acc"))
"""What an evaluation gives."""
PARAMETERS = tuple(
    quantity.name for quantity in QUANTITIES.values() if quantity.axis == "snapshots" and quantity.per == "channel"
)
"""What has a trajectory per channel: the choices of the figures that draw one."""
