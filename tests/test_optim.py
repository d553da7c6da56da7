from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from batchnorm.optim import OPTIMIZERS, USUAL, AffineRule, build_optimizer, build_schedule, rate_of_update

ADAM = {"beta1": 0.8, "beta2": 0.9, "eps": 1e-6}
HYPERPARAMETERS: Mapping[str, Mapping[str, float]] = {
    "SGD": {},
    "Momentum": {"momentum": 0.9},
    "NAG": {"momentum": 0.9},
    "Adam": ADAM,
    "AdamW": {**ADAM, "weight_decay": 0.1},
    "RMSprop": {"alpha": 0.9, "eps": 1e-6},
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_every_optimizer_is_torchs_own_with_its_hyperparameters() -> None:
    assert set(HYPERPARAMETERS) == set(OPTIMIZERS)
    references: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
        "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
        "Momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "NAG": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        "Adam": lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.9), eps=1e-6, fused=True),
        "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.0, fused=True),
        "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.9, eps=1e-6),
    }
    images = torch.rand(8, 3)
    for name, reference in references.items():
        ours, theirs = network(), network()
        hyperparameters = {**HYPERPARAMETERS[name], **({"weight_decay": 0.0} if name == "AdamW" else {})}
        optimizers = (
            build_optimizer(ours, name, lr=0.1, hyperparameters=hyperparameters, l2_reg=0.0),
            reference(theirs.parameters()),
        )
        for net, optimizer in zip((ours, theirs), optimizers, strict=True):
            for _ in range(5):
                optimizer.zero_grad()
                net(images).tanh().sum().backward()
                optimizer.step()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(mine, other), name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_acts_on_weights_only(name: str) -> None:
    l2_reg = 0.0 if name == "AdamW" else 0.5
    optimizer = build_optimizer(network(), name, lr=0.1, hyperparameters=HYPERPARAMETERS[name], l2_reg=l2_reg)
    decays = {parameter.ndim: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert decays == {2: 0.1 if name == "AdamW" else 0.5, 1: 0.0}


def test_weight_decay_acts_on_no_gamma_or_beta_of_several_dimensions() -> None:
    """As a LayerNorm over channels and positions has them, and neither on what stands alone."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm((4, 6, 6)), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    net.register_parameter("token", nn.Parameter(torch.zeros(1, 1, 4)))
    net.append(nn.MultiheadAttention(4, 2))
    optimizer = build_optimizer(net, "SGD", lr=0.1, hyperparameters={}, l2_reg=0.5)
    decays = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    decayed = {name for name, value in net.named_parameters() if decays[id(value)] == 0.5}
    assert decayed == {"0.weight", "4.weight", "5.in_proj_weight", "5.out_proj.weight"}
    assert len(decays) == len(list(net.parameters()))


def test_what_needs_no_gradient_is_not_handed_over() -> None:
    net = network()
    frozen = net[1].weight
    assert isinstance(frozen, nn.Parameter)
    frozen.requires_grad_(False)
    optimizer = build_optimizer(net, "SGD", lr=0.1, hyperparameters={}, l2_reg=0.0)
    handed_over = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert handed_over == {id(parameter) for parameter in net.parameters() if parameter is not frozen}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("alone", [False, True], ids=["beside weights", "alone"])
def test_gamma_and_beta_may_have_a_rate_and_an_l2_of_their_own(name: str, alone: bool) -> None:
    """Against one optimizer for each, under a schedule whose end is not scaled with the rate."""
    l2_reg, rule = (0.0 if name == "AdamW" else 0.1), AffineRule(lr_scale=8.0, l2=0.5)
    schedule = {"name": "cosine", "eta_min": 0.02, "warmup_epochs": 1}
    nets = network(), network()
    for net in nets:
        net.requires_grad_(not alone)
        net[1].requires_grad_()
    options: dict[str, Any] = {"hyperparameters": HYPERPARAMETERS[name], "l2_reg": l2_reg}
    ours = build_optimizer(nets[0], name, lr=0.05, affine=list(nets[0][1].parameters()), rule=rule, **options)
    mine = build_schedule(ours, schedule, epochs=3, steps_per_epoch=2)
    whole = nn.Module()
    whole.weight, whole.bias = nets[1][1].weight, nets[1][1].bias
    naive = [build_optimizer(whole, name, lr=0.05, **options)]
    naive[0].param_groups[0]["weight_decay"] = rule.l2
    if not alone:
        rest = nn.ModuleList([nets[1][0], nets[1][2]])
        naive.append(build_optimizer(rest, name, lr=0.05, **options))
    images = torch.rand(8, 3)
    for expected in rates(schedule, epochs=3, steps_per_epoch=2, lr=0.05):
        assert ours.param_groups[0]["lr"] == expected  # the recorded one
        for optimizer, factor in zip(naive, (rule.lr_scale, 1.0), strict=False):
            optimizer.param_groups[0]["lr"] = optimizer.param_groups[-1]["lr"] = factor * expected
        for net, optimizers in zip(nets, ([ours], naive), strict=True):
            net.zero_grad()
            net(images).tanh().sum().backward()
            for optimizer in optimizers:
                optimizer.step()
        mine.step()
        again = build_optimizer(nets[0], name, lr=0.05, affine=list(nets[0][1].parameters()), rule=rule, **options)
        schedule_again = build_schedule(again, schedule, epochs=3, steps_per_epoch=2)
        again.load_state_dict(ours.state_dict())
        schedule_again.load_state_dict(mine.state_dict())
        ours, mine = again, schedule_again  # as a run that is resumed at each step
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(one, other)


def test_without_a_rule_gamma_and_beta_are_in_no_group_of_their_own() -> None:
    net = network()
    options: dict[str, Any] = {"lr": 0.1, "hyperparameters": {}, "l2_reg": 0.5}
    plain, given = (build_optimizer(net, "SGD", **options, affine=affine) for affine in ([], [*net[1].parameters()]))
    assert repr(plain) == repr(given)
    assert not given._optimizer_step_pre_hooks


def rates(schedule: Mapping[str, Any] | None, epochs: int = 10, steps_per_epoch: int = 7, lr: float = 0.5) -> list[float]:
    optimizer = build_optimizer(network(), "SGD", lr=lr, hyperparameters={}, l2_reg=0.0)
    scheduler = build_schedule(optimizer, schedule, epochs=epochs, steps_per_epoch=steps_per_epoch)
    found = []
    for _ in range(epochs * steps_per_epoch):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def ramp(step: int) -> float:
    return 1 / 14 + (1 - 1 / 14) * step / 14


def half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


def restarted(step: int) -> float:
    return half_cosine(step / 14 if step < 14 else (step - 14) / 28 if step < 42 else (step - 42) / 56)


def after_ramp(shape: Callable[[int], float]) -> Callable[[int], float]:
    return lambda step: ramp(step) if step < 14 else shape(step)


SHAPES: list[tuple[dict[str, Any] | None, Callable[[int], float]]] = [
    (None, lambda step: 1),
    ({"name": "constant"}, lambda step: 1),
    ({"name": "step", "step_size": 3, "gamma": 0.1}, lambda step: 0.1 ** (step // 21)),
    ({"name": "multistep", "milestones": [2, 5], "gamma": 0.1}, lambda step: 0.1 ** ((step >= 14) + (step >= 35))),
    ({"name": "cosine", "eta_min": 0.1}, lambda step: 0.2 + 0.8 * half_cosine(step / 70)),
    ({"name": "cosine_warm_restarts", "T_0": 2, "T_mult": 2}, restarted),
    (
        {"name": "trapezoidal", "warmup_epochs": 2, "cooldown_epochs": 3},
        after_ramp(lambda step: 1 if step < 49 else 1 - (step - 49) / 21),
    ),
    ({"name": "trapezoidal", "cooldown_epochs": 3}, lambda step: 1 if step < 49 else 1 - (step - 49) / 21),
    ({"name": "trapezoidal", "cooldown_epochs": 10}, lambda step: 1 - step / 70),
    ({"name": "trapezoidal", "warmup_epochs": 0, "cooldown_epochs": 3}, lambda step: 1 if step < 49 else 1 - (step - 49) / 21),
    ({"name": "constant", "warmup_epochs": 2}, after_ramp(lambda step: 1)),
    ({"name": "step", "step_size": 3, "gamma": 0.1, "warmup_epochs": 2}, after_ramp(lambda step: 0.1 ** ((step - 14) // 21))),
    ({"name": "multistep", "milestones": [4], "gamma": 0.1, "warmup_epochs": 2}, after_ramp(lambda step: 0.1 ** (step >= 28))),
    ({"name": "cosine", "warmup_epochs": 2}, after_ramp(lambda step: half_cosine((step - 14) / 56))),
]


@pytest.mark.parametrize(("schedule", "shape"), SHAPES)
def test_schedules_against_their_formulas(schedule: dict[str, Any] | None, shape: Callable[[int], float]) -> None:
    for step, rate in enumerate(rates(schedule)):
        assert rate == pytest.approx(0.5 * shape(step), rel=1e-6, abs=1e-9), step
        if step % 23 == 0:
            assert rate_of_update(step, schedule, lr=0.5, epochs=10, steps_per_epoch=7) == rate


@pytest.mark.parametrize(("warmup", "cooldown"), [(0.01, 3.0), (2, 3), (3, 7), (9.9, 0.1)])
def test_a_trapezoid_with_a_warm_up_keeps_its_bits(warmup: float, cooldown: float) -> None:
    """The warm-up became optional after runs with one were recorded."""
    from torch.optim import lr_scheduler

    rise, fall = max(1, round(7 * warmup)), max(1, round(7 * cooldown))
    optimizer = build_optimizer(network(), "SGD", lr=0.5, hyperparameters={}, l2_reg=0.0)
    phases = [
        lr_scheduler.LinearLR(optimizer, start_factor=1 / rise, total_iters=rise),
        lr_scheduler.ConstantLR(optimizer, factor=1.0),
        lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=fall),
    ]
    scheduler = lr_scheduler.SequentialLR(optimizer, phases, [rise, max(rise + 1, 70 - fall)])
    before = []
    for _ in range(70):
        before.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates({"name": "trapezoidal", "warmup_epochs": warmup, "cooldown_epochs": cooldown}) == before


@pytest.mark.parametrize("schedule", [schedule for schedule, _ in SHAPES])
def test_a_schedule_goes_on_bit_for_bit_from_its_saved_state(schedule: dict[str, Any] | None) -> None:
    def build() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        optimizer = build_optimizer(network(), "SGD", lr=0.5, hyperparameters={}, l2_reg=0.0)
        return optimizer, build_schedule(optimizer, schedule, epochs=10, steps_per_epoch=7)

    whole = rates(schedule)
    for stop in (1, 14, 20, 49, 60):
        optimizer, scheduler = build()
        for _ in range(stop):
            optimizer.step()
            scheduler.step()
        again, scheduler_again = build()
        again.load_state_dict(optimizer.state_dict())
        scheduler_again.load_state_dict(scheduler.state_dict())
        rest = []
        for _ in range(stop, 70):
            rest.append(again.param_groups[0]["lr"])
            again.step()
            scheduler_again.step()
        assert rest == whole[stop:]


def test_usual_hyperparameters_are_those_of_torch() -> None:
    """AdamW decays weights by itself, Adam does not: where a name has no such hyperparameter, it says nothing of it."""
    betas = inspect.signature(torch.optim.Adam).parameters["betas"].default
    usual = {"beta1": betas[0], "beta2": betas[1]}
    for name, spec in OPTIMIZERS.items():
        torch_class = inspect.signature(getattr(torch.optim, spec.torch_class)).parameters
        for key in spec.hyperparameters.keys() & USUAL.keys():
            assert USUAL[key] == (usual[key] if key in usual else torch_class[key].default), (name, key)
