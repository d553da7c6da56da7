from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from batchnorm.measurements.laws import (
    Facts,
    RecordArrays,
    Standing,
    Verdict,
    affine_norm_never_falls,
    blind_to_scale,
    fixed_is_fixed,
    record_adds_up,
    squares_add_up,
)
from batchnorm.measurements.norms import affine_norm
from batchnorm.measurements.weights import SUMS, all_sums, channel_eps
from batchnorm.modes import treatments
from batchnorm.probing import weight_of
from batchnorm.slots import treat_
from tests.measurements.networks import live_slots, measured_step
from tests.test_feeds import chain

FACTS = Facts(
    plain_sgd=True, fp32=True, l2_on_weights=0, l2_on_affine=0, normalised=True, own_layer=True, trains_gamma=True,
    trains_beta=True, beta_at_zero=True, consumer_normalised=True, homogeneous=True,
)  # fmt: skip
STEPS = np.arange(30)


class Recorded:
    """conv1 and dense1 of a real training: what the laws read."""

    def __init__(self, mask: tuple[int, int] = (1, 1), momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        torch.manual_seed(0)
        net = chain(nn.ReLU())
        treat_(net, treatments(mask, "trained_bn"))
        slots = live_slots(net, ("conv1", "dense1"), torch.rand(1, 3, 8, 8))
        optimizer = torch.optim.SGD(net.parameters(), 0.3, momentum=momentum, weight_decay=weight_decay)
        net.train()
        self.weights = {slot.name: weight_of(slot).numel() for slot in slots}
        rows: dict[str, list[tuple[NDArray[np.float64], ...]]] = {slot.name: [] for slot in slots}
        affine: list[float] = []
        for _ in STEPS:
            images, labels = torch.rand(32, 3, 8, 8), torch.randint(2, (32,))
            gamma, beta = slots[0].gamma, slots[0].beta
            if gamma is not None and beta is not None:
                affine.append(float(affine_norm(gamma.detach().numpy()[None], beta.detach().numpy()[None])[0]))
            for slot, update in measured_step(net, slots, images, labels, optimizer).items():
                sums, inner = update.result(all_sums)
                eps = channel_eps(update) if "trained_gamma" in update.slot.parts else inner * torch.nan
                rows[slot].append((sums.numpy(), inner.numpy(), eps.numpy()))
        self.affine = np.array(affine)
        self._rows = rows

    def sums(self, slot: str) -> dict[str, NDArray[np.float64]]:
        return dict(zip(SUMS, np.stack([row[0] for row in self._rows[slot]]).T, strict=True))

    def law_2(self, slot: str, facts: Facts = FACTS) -> Verdict:
        sums = self.sums(slot)
        inner, eps = (np.stack([row[at] for row in self._rows[slot]]) for at in (1, 2))
        lengths = np.sqrt(sums["weight_squared"]), np.sqrt(sums["gradient_squared"])
        return blind_to_scale(inner, eps, *lengths, STEPS, facts)

    def law_3(self, slot: str, facts: Facts = FACTS) -> Verdict:
        return squares_add_up(self.sums(slot), np.full(len(STEPS), 0.3), STEPS, facts, weights=self.weights[slot])


def test_a_real_training_keeps_laws_2_to_4() -> None:
    recorded = Recorded()
    for slot in ("conv1", "dense1"):
        assert recorded.law_2(slot).standing == Standing.KEPT
        assert recorded.law_3(slot).standing == Standing.KEPT
    assert affine_norm_never_falls(recorded.affine, STEPS, FACTS).standing == Standing.KEPT


def test_trainings_that_do_not_keep_a_law_break_it() -> None:
    """The facts are told wrongly here: the checks must see it."""
    momentum = Recorded(momentum=0.9)
    assert momentum.law_3("conv1").standing == Standing.BROKEN
    assert momentum.law_2("conv1").standing == Standing.KEPT  # whatever the optimizer
    assert Recorded(weight_decay=0.01).law_3("conv1").standing == Standing.BROKEN
    next_is_bare = Recorded(mask=(1, 0))
    assert affine_norm_never_falls(next_is_bare.affine, STEPS, FACTS).standing == Standing.BROKEN


@pytest.mark.parametrize("name", ["weight_squared", "weight_gradient", "updated_squared", "gradient_squared"])
def test_a_forged_sum_breaks_law_3(name: str) -> None:
    recorded = Recorded()
    sums = recorded.sums("dense1")
    scale = sums["weight_squared"][17] if name != "gradient_squared" else sums[name][17]
    sums[name][17] += scale * (0.1 if name == "gradient_squared" else 1e-5)
    verdict = squares_add_up(sums, np.full(30, 0.3), STEPS, FACTS, weights=recorded.weights["dense1"])
    assert (verdict.standing, verdict.where) == (Standing.BROKEN, "step 17")


def test_law_1_names_the_place() -> None:
    values = np.ones((4, 3), np.float32)
    steps = np.array([0, 5, 10, 15])
    assert fixed_is_fixed(values, 1.0, steps, trained=False) == Verdict(1, Standing.KEPT, 0.0, "step 0, channel 0")
    assert fixed_is_fixed(values, 1.0, steps, trained=True).standing == Standing.DOES_NOT_APPLY
    values[2, 1] = np.nextafter(np.float32(1), np.float32(2))
    verdict = fixed_is_fixed(values, 1.0, steps, trained=False)
    assert (verdict.standing, verdict.where) == (Standing.BROKEN, "step 10, channel 1")
    assert math.isclose(verdict.worst, 2**-23)
    values[3, 2] = np.nan
    assert fixed_is_fixed(values, 1.0, steps, trained=False).where == "step 15, channel 2"


def test_law_2_says_nothing_of_a_gradient_that_is_zero() -> None:
    inner, eps, length = np.array([[1.0], [0.0]]), np.array([[0.0], [0.0]]), np.array([1.0, 1.0])
    steps = np.array([3, 4])
    assert blind_to_scale(inner, eps, length, np.array([0.0, 1.0]), steps, FACTS).standing == Standing.KEPT
    verdict = blind_to_scale(inner, eps, length, np.array([2.0, 1.0]), steps, FACTS)
    assert verdict == Verdict(2, Standing.BROKEN, 0.5, "step 3, channel 0")
    assert blind_to_scale(inner, eps, length, np.zeros(2), steps, FACTS).where == "no update has a gradient"
    assert blind_to_scale(inner, None, length, length, steps, FACTS).standing == Standing.DOES_NOT_APPLY
    assert blind_to_scale(inner, eps, length, np.array([np.nan, 1.0]), steps, FACTS).standing == Standing.BROKEN


def test_law_2_says_why_its_second_side_is_not_known() -> None:
    one, steps = np.ones(3), STEPS[:3]
    for change, why in (({"ghost": True}, "GHOST: "), ({"after": True}, "PLACEMENT=after: "), ({}, "gamma is fixed")):
        verdict = blind_to_scale(one[:, None], None, one, one, steps, replace(FACTS, **change))
        assert verdict.standing == Standing.DOES_NOT_APPLY and verdict.where.startswith(why)


def test_law_4_measures_the_largest_fall() -> None:
    steps = np.array([0, 5, 10])
    verdict = affine_norm_never_falls(np.array([4.0, 5.0, 4.9]), steps, FACTS)
    assert (verdict.standing, verdict.where) == (Standing.BROKEN, "step 10")
    assert math.isclose(verdict.worst, 0.02)
    assert affine_norm_never_falls(np.array([4.0, 4.0, 4.0 - 3e-7]), steps, FACTS).standing == Standing.KEPT
    assert affine_norm_never_falls(np.array([0.0, 0.0, 1.0]), steps, FACTS).standing == Standing.KEPT


@pytest.mark.parametrize(
    ("law", "change"),
    [
        (2, {"normalised": False}), (2, {"own_layer": False}), (2, {"fp32": False}),
        (3, {"plain_sgd": False}), (3, {"l2_on_weights": 0.1}),
        (4, {"normalised": False}), (4, {"plain_sgd": False}), (4, {"fp32": False}), (4, {"l2_on_affine": 0.1}),
        (4, {"trains_gamma": False}), (4, {"trains_beta": False, "beta_at_zero": False}), (4, {"consumer_normalised": False}),
        (4, {"homogeneous": False}),
    ],
)  # fmt: skip
def test_a_law_does_not_apply_where_it_is_not_exact(law: int, change: dict[str, float]) -> None:
    facts = replace(FACTS, **change)  # type: ignore[arg-type]
    one = np.ones(3)
    verdicts = {
        2: blind_to_scale(one[:, None], one[:, None], one, one, STEPS[:3], facts),
        3: squares_add_up(dict.fromkeys(SUMS, one), one, STEPS[:3], facts, weights=10),
        4: affine_norm_never_falls(one, STEPS[:3], facts),
    }
    assert verdicts[law].standing == Standing.DOES_NOT_APPLY
    assert math.isnan(verdicts[law].worst)
    assert verdicts[law].where


def record() -> RecordArrays:
    return RecordArrays(
        snapshot_steps=np.array([0, 5, 10, 15, 18]),
        batch_steps=np.array([0, 5, 10, 15]),
        batch_losses=np.array([2.0, 1.5, 1.2, 1.0], np.float32),
        epochs=np.array([0, 1, 2]),
        epoch_steps=np.array([0, 10, 18]),
        metrics={"test_loss": np.array([2.0, np.nan, 1.0]), "test_acc": np.array([0.1, np.nan, 1.0])},
        running_variances={"conv1": np.ones((3, 2), np.float32)},
        steps_per_epoch=10,
        total_steps=18,
        finished=True,
        diverged=False,
    )


def test_a_whole_record_adds_up() -> None:
    assert record_adds_up(record()) == Verdict(5, Standing.KEPT, 0.0, "")
    started = replace(
        record(), snapshot_steps=np.array([0, 5]), epochs=np.array([0]), epoch_steps=np.array([0]), finished=False,
        metrics={}, running_variances={},
    )  # fmt: skip
    assert record_adds_up(started).standing == Standing.KEPT


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"snapshot_steps": np.array([0, 5, 5, 15, 18])}, "snapshots: step 5 does not rise"),
        ({"snapshot_steps": np.array([0, 5, 10, 15])}, "the last snapshot is not after the last update, 18"),
        ({"snapshot_steps": np.array([0, 5, 10, 18, 19])}, "the last snapshot"),
        ({"batch_steps": np.array([0, 10, 5, 15])}, "batches: step 5"),
        ({"epoch_steps": np.array([0, 11, 18])}, "epoch 1 has another number of steps"),
        ({"batch_losses": np.array([2.0, np.nan, 1.0, 1.0])}, "step 5 has a loss that is not finite"),
        ({"metrics": {"test_acc": np.array([0.1, 1.01, 0.5])}}, "epoch 1 has a test_acc out of its range"),
        ({"metrics": {"test_loss": np.array([0.1, -0.1, 0.5])}}, "epoch 1 has a test_loss"),
        ({"metrics": {"test_loss": np.array([1.0, np.nan, 1.0]), "test_acc": np.ones(3)}}, "epoch 1 has a test_loss"),
        ({"metrics": {"test_acc": np.array([0.1, 0.2, np.nan])}}, "the first or the last epoch was not evaluated"),
        ({"running_variances": {"conv1": np.array([[1, 1], [1, 0], [1, 1]])}}, "epoch 1 has a running variance of conv1"),
    ],
)
def test_a_record_that_contradicts_itself_is_told(change: dict[str, NDArray[np.floating]], says: str) -> None:
    verdict = record_adds_up(replace(record(), **change))  # type: ignore[arg-type]
    assert verdict.standing == Standing.BROKEN
    assert says in verdict.where


def test_a_diverged_records_last_row_may_be_anything() -> None:
    diverged = replace(
        record(), batch_losses=np.array([2.0, 1.0, 1.0, np.nan]), metrics={"test_loss": np.array([1.0, 2.0, np.nan])},
        snapshot_steps=np.array([0, 5, 10, 15]), finished=False, diverged=True,
    )  # fmt: skip
    assert record_adds_up(diverged).standing == Standing.KEPT
