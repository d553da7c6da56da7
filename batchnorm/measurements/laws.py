"""Laws that a record must keep where its settings make them exact: each check takes arrays and says kept or broken.

1. Fixed is fixed: a gamma or beta that is not trained is bit-equal to its value in every snapshot.
2. BatchNorm with batch statistics is blind to the scale of the weights before it but for eps: per channel
   <w, g> = eps / (sigma^2 + eps) * gamma * dL/dgamma. Exact in fp32, up to rounding.
3. Plain SGD without L2: ||w+||^2 = ||w||^2 - 2 lr <w, g> + lr^2 ||g||^2, both states of one step.
4. Plain SGD, fp32, no L2 on gamma and beta, `trained_bn` or `fixed_beta`, the slot's only consumer normalised and reached
   through positively homogeneous layers: the norm of (gamma, beta) never falls by more than 1e-7 of itself.
5. The record's own arithmetic: steps rise, epochs have their steps, metrics lie in their range, the last snapshot stands after
   the last update, running variances are positive.

The caller knows the run: it states the facts, and a law that they do not make exact does not apply.
Source: 2 and 3, Arora et al., 1812.03981, section 2; 4 follows alike, the loss being blind to the common scale of gamma and
beta; measured on 2c2d (docs/measurements.md). No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

LAW_2_TOLERANCE = 1e-4
"""Of ||w|| ||g|| of the slot. What is left of 2c2d's conv1 is up to 5e-7 in the contiguous layout and 2.8e-5 in channels_last,
where torch's CPU kernel sums a channel's 100,000 values in float32 one by one, and normalises by a variance that is off by
up to 4e-4 of itself; conv2 3.5e-7, dense1 1e-9; in float64 1e-13. Without BatchNorm: up to 0.37."""
LAW_3_ROUNDINGS = 16.0
"""Of 2^-24 ||w||^2 over the root of the number of weights: each weight is rounded once, up or down, to 2^-24 of itself.
Seen on 2c2d: up to 4.5."""
LAW_4_TOLERANCE = 1e-7
"""Of the norm itself, between two snapshots."""


class Standing(Enum):
    """How a law stands."""

    KEPT = "kept"
    BROKEN = "broken"
    DOES_NOT_APPLY = "does not apply"


@dataclass(frozen=True)
class Verdict:
    """What one law says of one thing.

    Attributes:
        law: its number.
        standing: of the law.
        worst: the largest deviation in the law's own measure (zero or less: none); NaN where nothing was compared.
        where: the step and channel of the worst value, or why the law does not apply.
    """

    law: int
    standing: Standing
    worst: float
    where: str


@dataclass(frozen=True)
class Facts:
    """What decides which law is exact, of one slot in one run.

    Attributes:
        plain_sgd: SGD without momentum.
        fp32: computed in float32 throughout.
        l2_on_weights: L2 factor on conv and linear weights.
        l2_on_affine: L2 factor on gamma and beta.
        normalised: the slot has BatchNorm with batch statistics, throughout the run.
        own_layer: one weight layer alone feeds the slot, and nothing else.
        trains_gamma: gamma is trained.
        trains_beta: beta is trained.
        beta_at_zero: beta starts at 0 where it is fixed.
        consumer_normalised: the slot's only consumer is a slot with BatchNorm with batch statistics.
        homogeneous: what lies between them is positively homogeneous.
        ghost: the slot's norm takes its statistics over parts of the batch.
        after: it stands after the slot's activation.
    """

    plain_sgd: bool
    fp32: bool
    l2_on_weights: float
    l2_on_affine: float
    normalised: bool
    own_layer: bool
    trains_gamma: bool
    trains_beta: bool
    beta_at_zero: bool
    consumer_normalised: bool
    homogeneous: bool
    ghost: bool = False
    after: bool = False


def fixed_is_fixed(values: NDArray[np.floating], value: ArrayLike, steps: NDArray[np.integer], *, trained: bool) -> Verdict:
    """Law 1, on gamma or beta of a slot.

    Args:
        values: snapshots, shape (T, C).
        value: where it is fixed: a number, or one a channel.
        steps: of the snapshots, shape (T,).
        trained: whether it is trained.
    """
    if trained:
        return _does_not_apply(1, "it is trained")
    away = np.abs(np.asarray(values, np.float64) - np.asarray(value, np.float64))
    return _judge(1, away, np.zeros_like(away), steps)


def blind_to_scale(
    channel_inner: NDArray[np.float64],
    channel_eps: NDArray[np.float64] | None,
    weight_norm: NDArray[np.float64],
    gradient_norm: NDArray[np.float64],
    steps: NDArray[np.integer],
    facts: Facts,
    *,
    tolerance: float = LAW_2_TOLERANCE,
) -> Verdict:
    """Law 2; the worst value is the difference of the two sides over ||w|| ||g||.

    Args:
        channel_inner: <w_c, g_c> at the measured updates, shape (N, C).
        channel_eps: the other side, shape (N, C); None where it was not measured.
        weight_norm: ||w|| of the slot, shape (N,).
        gradient_norm: ||g|| of the slot, shape (N,); updates where it is 0 say nothing.
        steps: of the updates, shape (N,).
        facts: of the slot.
        tolerance: of ||w|| ||g||.
    """
    if not facts.normalised:
        return _does_not_apply(2, "the slot is not normalised by the batch throughout")
    if not facts.own_layer:
        return _does_not_apply(2, "the slot has no weight layer of its own")
    if not facts.fp32:
        return _does_not_apply(2, "the run is not in fp32")
    if facts.ghost:
        return _does_not_apply(2, "GHOST: a channel has a variance in each part of the batch, and only their mean is known")
    if facts.after:
        why = "of a channel that a ReLU nearly always stops, the variance is lost in the running one's rounding"
        return _does_not_apply(2, f"PLACEMENT=after: {why}")
    if channel_eps is None:
        return _does_not_apply(2, "gamma is fixed, and so its gradient, which the eps term needs, is not known")
    length = weight_norm * gradient_norm
    moving = length > 0
    if not moving.any() and not np.isnan(length).any():
        return _does_not_apply(2, "no update has a gradient")
    moving |= np.isnan(length)
    away = np.abs(channel_inner - channel_eps)[moving] / length[moving, None]
    return _judge(2, away, np.full_like(away, tolerance), steps[moving])


def squares_add_up(
    sums: Mapping[str, NDArray[np.float64]],
    lr: NDArray[np.float64],
    steps: NDArray[np.integer],
    facts: Facts,
    *,
    weights: int,
    roundings: float = LAW_3_ROUNDINGS,
) -> Verdict:
    """Law 3; the worst value is the difference of the two sides over ||w||^2 + lr^2 ||g||^2.

    The weights are stored in float32 whatever the precision of the passes, so bf16 runs keep it too.

    Args:
        sums: `weight_squared`, `gradient_squared`, `weight_gradient` and `updated_squared` at the measured updates, shape
            (N,) each.
        lr: of these updates, shape (N,).
        steps: of the updates, shape (N,).
        facts: of the slot.
        weights: how many the slot's layer has, n.
        roundings: what is allowed, in units of 2^-24 / sqrt(n) of ||w||^2 + lr^2 ||g||^2.
    """
    if not facts.plain_sgd:
        return _does_not_apply(3, "the optimizer is not plain SGD")
    if facts.l2_on_weights:
        return _does_not_apply(3, "L2 acts on the weights")
    lr = np.asarray(lr, np.float32).astype(np.float64)  # as the update has it
    expected = sums["weight_squared"] - 2 * lr * sums["weight_gradient"] + np.square(lr) * sums["gradient_squared"]
    scale = sums["weight_squared"] + np.square(lr) * sums["gradient_squared"]
    away = np.abs(sums["updated_squared"] - expected) / np.where(scale == 0, 1, scale)
    return _judge(3, away, np.full_like(away, roundings * 2.0**-24 / np.sqrt(weights)), steps)


def affine_norm_never_falls(
    norm: NDArray[np.float64], steps: NDArray[np.integer], facts: Facts, *, tolerance: float = LAW_4_TOLERANCE
) -> Verdict:
    """Law 4; the worst value is the largest fall between two snapshots, in parts of the norm.

    Args:
        norm: of (gamma, beta) at the snapshots, shape (T,).
        steps: of the snapshots, shape (T,).
        facts: of the slot.
        tolerance: of the norm.
    """
    reasons = {
        "the slot is not normalised by the batch throughout": not facts.normalised,
        "the optimizer is not plain SGD": not facts.plain_sgd,
        "the run is not in fp32": not facts.fp32,
        "L2 acts on gamma or beta": bool(facts.l2_on_affine),
        "gamma is not trained": not facts.trains_gamma,
        "beta is fixed away from 0": not facts.trains_beta and not facts.beta_at_zero,
        "no normalised slot is the slot's only consumer": not facts.consumer_normalised,
        "what lies between the slot and its consumer is not homogeneous": not facts.homogeneous,
        "there is one snapshot": len(norm) < 2,
    }
    for reason, holds in reasons.items():
        if holds:
            return _does_not_apply(4, reason)
    with np.errstate(divide="ignore", invalid="ignore"):
        fall = np.where(norm[:-1] == norm[1:], 0, (norm[:-1] - norm[1:]) / norm[:-1])
    return _judge(4, fall, np.full_like(fall, tolerance), steps[1:])


@dataclass(frozen=True)
class RecordArrays:
    """What law 5 reads.

    Attributes:
        snapshot_steps: shape (T,); each stands before the update of its step.
        batch_steps: shape (B,).
        batch_losses: training losses, shape (B,).
        epochs: numbers, shape (E,).
        epoch_steps: updates made at their ends, shape (E,).
        metrics: by name, `..._loss` and `..._acc`, shape (E,) each; epochs that were not evaluated are NaN in all of them.
        running_variances: by slot, shape (E, C).
        steps_per_epoch: updates in a whole epoch.
        total_steps: updates in the whole run.
        finished: the run came to its end, so that its last snapshot must be there.
        diverged: the last loss and the last row of metrics may be anything.
    """

    snapshot_steps: NDArray[np.integer]
    batch_steps: NDArray[np.integer]
    batch_losses: NDArray[np.floating]
    epochs: NDArray[np.integer]
    epoch_steps: NDArray[np.integer]
    metrics: Mapping[str, NDArray[np.floating]]
    running_variances: Mapping[str, NDArray[np.floating]]
    steps_per_epoch: int
    total_steps: int
    finished: bool
    diverged: bool


def record_adds_up(record: RecordArrays) -> Verdict:
    """Law 5; the worst value is the number of places where the record contradicts itself, `where` names the first."""
    faults = [
        *_rising("snapshots", record.snapshot_steps),
        *_rising("batches", record.batch_steps),
        *_rising("epochs", record.epochs),
    ]
    expected = np.minimum(record.epochs * record.steps_per_epoch, record.total_steps)
    faults += _named("epoch", record.epochs, record.epoch_steps != expected, "has another number of steps than its epochs have")
    last = len(record.batch_losses) - int(record.diverged)
    faults += _named(
        "step", record.batch_steps[:last], ~np.isfinite(record.batch_losses[:last]), "has a loss that is not finite"
    )
    rows = len(record.epochs) - int(record.diverged)
    table = np.array([metric[:rows] for metric in record.metrics.values()], np.float64).reshape(len(record.metrics), rows)
    evaluated: NDArray[np.bool_] = np.logical_not(np.isnan(table).all(axis=0))
    if record.finished and not (rows and evaluated[0] and evaluated[-1]):
        faults.append("the first or the last epoch was not evaluated")
    for name, metric in record.metrics.items():
        high = 1 if name.endswith("_acc") else np.inf
        values = metric[:rows]
        outside = ~((values >= 0) & (values <= high) & np.isfinite(values)) & evaluated
        faults += _named("epoch", record.epochs[:rows], outside, f"has a {name} out of its range")
    for slot, variances in record.running_variances.items():
        outside = np.array([not (row > 0).all() for row in variances[:rows]], bool)
        faults += _named(
            "epoch", record.epochs[: len(outside)], outside, f"has a running variance of {slot} that is not positive"
        )
    if record.finished and not (len(record.snapshot_steps) and record.snapshot_steps[-1] == record.total_steps):
        faults.append(f"the last snapshot is not after the last update, {record.total_steps}")
    if len(record.snapshot_steps) and record.snapshot_steps[-1] > record.total_steps:
        faults.append(f"a snapshot is after step {record.total_steps}, the last one")
    return Verdict(5, Standing.BROKEN if faults else Standing.KEPT, float(len(faults)), faults[0] if faults else "")


def _rising(name: str, steps: NDArray[np.integer]) -> list[str]:
    return _named(f"{name}: step", steps[1:], np.diff(steps) <= 0, "does not rise")


def _named(what: str, numbers: NDArray[np.integer], wrong: NDArray[np.bool_], says: str) -> list[str]:
    return [f"{what} {number} {says}" for number in numbers[wrong]]


def _does_not_apply(law: int, why: str) -> Verdict:
    return Verdict(law, Standing.DOES_NOT_APPLY, float("nan"), why)


def _judge(law: int, away: NDArray[np.float64], tolerance: NDArray[np.float64], steps: NDArray[np.integer]) -> Verdict:
    """Hold deviations, shape (N,) or (N, C), against what is allowed; one that is NaN breaks the law."""
    if not away.size:
        return _does_not_apply(law, "nothing was recorded")
    worst = np.unravel_index(np.argmax(np.where(np.isnan(away), np.inf, away)), away.shape)
    where = f"step {steps[worst[0]]}" + (f", channel {worst[1]}" if away.ndim > 1 else "")
    kept = bool((away <= tolerance).all())
    return Verdict(law, Standing.KEPT if kept else Standing.BROKEN, float(away[worst]), where)
