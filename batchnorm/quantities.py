"""What a run records, declared once: the file's layout, the recorder, `Run.read` and figures follow from it. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
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
        Axis("updates", ("step",), "both sides of the update of each MEASURE_STEPS-th step"),
        Axis("probes", ("epoch", "step"), "each MEASURE_EVERY-th epoch, beside the evaluation"),
    )
}


@dataclass(frozen=True)
class Quantity:
    """One thing that a run records, or that follows from what it records.

    Attributes:
        name: what `Run.read` and the shell call it.
        axis: a key of `AXES`: when it is read.
        meaning: one line.
        per: `run` (one number), `slot` (one number for each slot that has it) or `channel` (one for each of its channels).
        needs: what a slot must have for the quantity, by the names of `batchnorm.slots.Slot`'s parts.
        lacks: what it must not have.
        read: takes it from the live network, as a tensor: `read(slot)` on the axes `epochs` and `snapshots`,
            `read(slot_update)` on `updates`, `read(probe)` or, unless it is one number of the run, `read(probe, slot)` on
            `probes` (see `batchnorm.slots` and `batchnorm.probing`). None: the training loop hands it over.
        derive: in place of `read` where it follows from other quantities: `derive(read)` gives its values over the axis,
            where `read(name)` gives those of another quantity; None where it is absent.
        measurement: the measurement that it belongs to, by which `MEASURE` chooses; empty for what is always recorded.
        dataset: where it lies in `run.h5`; with `{slot}`, unless it is one number of the run. Empty where it is derived.
        dtype: of the stored numbers.
        unit: of its values; empty for plain numbers.
        symbol: what figures call it, as mathtext.
        neutral: the value at which it does nothing, if there is one: the centre of colour scales.
    """

    name: str
    axis: str
    dataset: str
    meaning: str
    per: str = "run"
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    read: Callable[..., Any] | None = None
    derive: Callable[..., Any] | None = None
    measurement: str = ""
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
        return set(self.needs) <= {*parts} and not {*self.lacks} & {*parts}


def _of_slot(part: str, axis: str, dataset: str, meaning: str, **more: Any) -> Quantity:
    """Declare a vector of a slot's channels that is read as it stands."""
    return Quantity(part, axis, dataset, meaning, per="channel", needs=(part,), read=attrgetter(part), dtype="f4", **more)


def _by(function: str, *arguments: Any) -> Callable[..., Any]:
    """Return a reader that a file of `batchnorm.measurements` holds, as `weights.sums`; it is imported when it is needed."""
    module, _, name = function.partition(".")

    def read(*views: Any) -> Any:
        return getattr(import_module(f"batchnorm.measurements.{module}"), name)(*views, *arguments)

    return read


def _of_update(name: str, meaning: str, read: Callable[..., Any], *, per: str = "slot", **more: Any) -> Quantity:
    """Declare what both sides of an update tell of a slot with a trained weight layer of its own."""
    dataset = f"updates/{name}/{{slot}}"
    return Quantity(name, "updates", dataset, meaning, per=per, read=read, **{"needs": ("trained_layer",), **more})


_SUMS = {
    "weight_squared": "||w||^2 before the update",
    "gradient_squared": "||g||^2",
    "weight_gradient": "<w, g>",
    "updated_squared": "||w||^2 after the update",
    "change_squared": "||change of w||^2",
    "weight_change": "<w, change of w>",
}
"""Sums over all weights of a slot's layer, from which norms, cosine, angle and rates follow (`measurements.geometry`)."""
_SCORES = ("running", "precise", "batch")
_PROBE_SCORES = [
    Quantity(
        f"probe_{metric}_{statistics}", "probes", f"probes/{metric}_{statistics}",
        f"{words} of fixed test images under {statistics} statistics", measurement="statistics_gap",
        read=_by("statistics_gap.score", statistics, metric), unit=unit,
    )
    for statistics in _SCORES
    for metric, words, unit in (("loss", "mean loss", "nats"), ("acc", "share classified right", ""))
]  # fmt: skip
_RECTIFIED = ("activation",)
"""What a slot has whose activation stands before its norm: no ReLU stops what it gives."""
_REPRESENTATIONS = [
    Quantity(
        name, "probes", f"probes/{name}/{{slot}}", meaning, per=per, dtype="f4", measurement="representations",
        read=_by("representations.of_slot", part), symbol=symbol, lacks=_RECTIFIED if part in ("off", "dead") else (),
    )
    for name, part, per, meaning, symbol in (
        ("input_mean", "mean", "channel", "mean of the slot's input over the probe's images", ""),
        ("input_var", "variance", "channel", "variance of the slot's input over the probe's images", ""),
        ("share_off", "off", "channel", "share of values that a ReLU stops", "share off"),
        ("dead_channels", "dead", "slot", "channels that a ReLU stops on all of the probe's images", "dead channels"),
        ("sample_cosine", "cosine", "slot", "mean cosine between the outputs of two images", "cosine"),
        ("stable_rank", "stable_rank", "slot", "stable rank of the outputs, one image a row", "stable rank"),
    )
]  # fmt: skip
_LANDSCAPE = [
    Quantity(
        name, "probes", f"probes/{name}", meaning, measurement="landscape", read=_by("landscape.along_gradient", name),
        symbol=name.replace("_", " "),
    )
    for name, meaning in (
        ("loss_variation", "range of the loss along the negative gradient, 1/2 to 4 learning rates"),
        ("gradient_predictiveness", "range of the gradient's change along the negative gradient"),
        ("effective_smoothness", "largest change of the gradient over the distance"),
    )
]  # fmt: skip
_STANDARDISED = ("running_mean", "running_var", "gamma", "beta")
"""What a slot has whose normalised values have mean 0 and variance 1 in each channel, over the batch."""
_DERIVED = [
    Quantity(
        name, "snapshots", "", meaning, per=per, needs=needs, derive=_by(function, *arguments), unit=unit, symbol=symbol,
        neutral=neutral, lacks=_RECTIFIED if needs is _STANDARDISED else (),
    )
    for name, per, needs, function, arguments, meaning, unit, symbol, neutral in (
        ("threshold", "channel", _STANDARDISED, "thresholds.derived_threshold", (),
         "beta over the size of gamma: a ReLU after it is off below its negative", "sigma", r"$\beta / |\gamma|$", 0.0),
        ("probability_off", "channel", _STANDARDISED, "thresholds.derived_probability", (),
         "how often a ReLU should be off, for a normal input", "", "P(off)", 0.5),
        ("share_always_off", "slot", _STANDARDISED, "thresholds.derived_share", ("above", 0.99),
         "share of channels with P(off) > 0.99", "", "share with P(off) > 0.99", None),
        ("share_always_on", "slot", _STANDARDISED, "thresholds.derived_share", ("below", 0.01),
         "share of channels with P(off) < 0.01", "", "share with P(off) < 0.01", None),
        ("threshold_spread", "slot", _STANDARDISED, "thresholds.derived_spread", (),
         "distance between the quartiles of a slot's thresholds", "sigma", r"quartiles' distance of $\beta / |\gamma|$", None),
        ("affine_norm", "slot", ("gamma", "beta"), "norms.derived", (),
         "norm of all gamma and beta of a slot", "", r"$\Vert(\gamma, \beta)\Vert$", None),
        *(
            (f"{parameter}_{kind}", "slot", (parameter,), f"drift.derived_{kind}", (parameter,), f"{words} of {parameter}",
             "", f"{words} of {parameter}", None)
            for parameter in ("gamma", "beta", "bias")
            for kind, words in (("drift", "distance from the start"), ("path", "length of the way from snapshot to snapshot"))
        ),
    )
]  # fmt: skip
_DERIVED_OF_EPOCHS = [
    Quantity(
        name, "epochs", "", meaning, per="channel", needs=("running_mean", "running_var"),
        derive=_by("statistics_drift.derived", place), unit=unit,
    )
    for place, (name, meaning, unit) in enumerate((
        ("running_mean_drift", "change of the running mean since the epoch before", "sigma"),
        ("running_var_drift", "change of the logarithm of the running deviation since the epoch before", ""),
    ))
]  # fmt: skip
_DERIVED_OF_UPDATES = [
    Quantity(
        name, "updates", "", meaning, per="slot", needs=needs, derive=_by(f"geometry.derived_{name}"), unit=unit,
        symbol=symbol, measurement="weights",
    )
    for name, needs, meaning, unit, symbol in (
        ("weight_norm", ("trained_layer",), "norm of the slot's weights", "", r"$\Vert w \Vert$"),
        ("gradient_norm", ("trained_layer",), "norm of the loss's gradient at these weights", "", r"$\Vert g \Vert$"),
        ("cosine", ("trained_layer",), "cosine between weights and gradient", "", r"$\cos(w, g)$"),
        ("angle", ("trained_layer",), "angle between the weights before and after the update", "rad", "angle of an update"),
        ("relative_update", ("trained_layer",), "size of the update relative to the weights", "", "relative size of an update"),
        ("effective_rate", ("trained_layer", "divided"), "learning rate over the squared norm of the weights", "",
         r"$\eta / \Vert w \Vert^2$"),
    )
]  # fmt: skip

ROWS: tuple[Quantity, ...] = (
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
    Quantity("update_lr", "updates", "updates/lr", "learning rate of the update", measurement="weights"),
    *(
        _of_update(name, meaning, _by("weights.sum_of", place), measurement="weights")
        for place, (name, meaning) in enumerate(_SUMS.items())
    ),
    _of_update("channel_inner", "<w, g> by channel", _by("weights.channel_inner"), per="channel", measurement="weights"),
    _of_update(
        "channel_eps", "eps / (sigma^2 + eps) * gamma * dL/dgamma by channel: <w, g> under BatchNorm",
        _by("weights.channel_eps"), per="channel", measurement="weights",
        needs=("trained_layer", "running_var", "trained_gamma"), lacks=("ghost", *_RECTIFIED),
    ),
    _of_update(
        "contribution", "what gamma contributes to the next layer, free of gauge", _by("contribution.of_update"),
        per="channel", measurement="weights", needs=("gamma", "consumer", "trained_layer"), dtype="f4",
    ),
    *_PROBE_SCORES,
    *_REPRESENTATIONS,
    *_LANDSCAPE,
    Quantity(
        "batch_sharpness", "probes", "probes/batch_sharpness", "curvature of a batch's loss along its own gradient",
        read=_by("batch_sharpness.of_probe"), measurement="batch_sharpness", symbol="batch sharpness",
    ),
    Quantity(
        "sharpness", "probes", "probes/sharpness", "largest eigenvalue of the Hessian on a fixed batch",
        read=_by("sharpness.of_probe"), measurement="sharpness", symbol="largest eigenvalue",
    ),
    *_DERIVED,
    *_DERIVED_OF_EPOCHS,
    *_DERIVED_OF_UPDATES,
)  # fmt: skip
QUANTITIES: Mapping[str, Quantity] = {quantity.name: quantity for quantity in ROWS}
"""Every quantity by its name."""


def of_axis(axis: str, quantities: Iterable[Quantity] = QUANTITIES.values()) -> list[Quantity]:
    """Return the quantities of one axis, in the order in which they are declared."""
    return [quantity for quantity in quantities if quantity.axis == axis]


RECORDED = tuple(quantity for quantity in QUANTITIES.values() if quantity.dataset)
"""Those that lie in a file; the others follow from them."""
METRICS = tuple(f"{split}_{metric}" for split in SPLITS for metric in ("loss", "acc"))
"""What an evaluation gives."""
PARAMETERS = tuple(quantity.name for quantity in RECORDED if quantity.axis == "snapshots" and quantity.per == "channel")
"""What has a trajectory per channel: the choices of the figures that draw one."""
MEASUREMENTS = tuple(dict.fromkeys(quantity.measurement for quantity in RECORDED if quantity.measurement))
"""The measurements that `MEASURE` may name."""
BASIC = ("weights",)
FULL = (*BASIC, "statistics_gap", "representations", "landscape", "batch_sharpness")


def chosen(measurements: Iterable[str]) -> tuple[Quantity, ...]:
    """Return what a run records that makes these measurements."""
    wanted = {"", *measurements}
    return tuple(quantity for quantity in RECORDED if quantity.measurement in wanted)
