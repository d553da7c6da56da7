"""Optimizers and learning-rate schedules by name: torch's own, and what each may be told. Importing this loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batchnorm.errors import ConfigError, nearest_first

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class Range:
    """The values that a key or a hyperparameter may take, and how a message says so."""

    words: str
    allows: Callable[[Any], bool]


LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
"""Networks hold float32: torch refuses what is larger in the middle of a step."""
_HELD_BY_FLOAT32 = f"that float32 holds, at most {LARGEST_FLOAT32:.2e}"
FINITE = Range(f"a finite number {_HELD_BY_FLOAT32}", lambda value: abs(value) <= LARGEST_FLOAT32)
POSITIVE = Range(f"a finite number > 0 {_HELD_BY_FLOAT32}", lambda value: 0 < value <= LARGEST_FLOAT32)
NOT_NEGATIVE = Range(f"a finite number >= 0 {_HELD_BY_FLOAT32}", lambda value: 0 <= value <= LARGEST_FLOAT32)
FRACTION = Range("a number in [0, 1)", lambda value: 0 <= value < 1)
OPEN_FRACTION = Range("a number in (0, 1)", lambda value: 0 < value < 1)
WHOLE = Range(f"a whole number >= 1 {_HELD_BY_FLOAT32}", lambda value: 1 <= value <= LARGEST_FLOAT32 and value == int(value))


@dataclass(frozen=True)
class OptimizerSpec:
    """One optimizer: torch's class, the hyperparameters beside `lr` that an entry must give, and what is fixed."""

    torch_class: str
    hyperparameters: Mapping[str, Range] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


_ADAM = {"beta1": FRACTION, "beta2": FRACTION, "eps": POSITIVE}
_FUSED = {"fused": True}  # one pass over parameters, gradients and moments; for SGD it gains nothing (benchmarks/)
OPTIMIZERS: Mapping[str, OptimizerSpec] = {
    "SGD": OptimizerSpec("SGD"),
    "Momentum": OptimizerSpec("SGD", {"momentum": FRACTION}),
    "NAG": OptimizerSpec("SGD", {"momentum": OPEN_FRACTION}, {"nesterov": True}),
    "Adam": OptimizerSpec("Adam", _ADAM, _FUSED),
    "AdamW": OptimizerSpec("AdamW", {**_ADAM, "weight_decay": NOT_NEGATIVE}, _FUSED),
    "RMSprop": OptimizerSpec("RMSprop", {"alpha": FRACTION, "eps": POSITIVE}),
}
USUAL: Mapping[str, float] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "alpha": 0.99, "weight_decay": 0.01}
"""torch's defaults: an optimizer's name says them, where a figure compares optimizers."""


@dataclass(frozen=True)
class ScheduleSpec:
    """One schedule's settings, in epochs where they are times: those it must be given, and those it may be given."""

    required: Mapping[str, Range | str] = field(default_factory=dict)
    optional: Mapping[str, Range | str] = field(default_factory=dict)


EPOCH_LIST = "a list of rising epochs"
_WARMUP = {"warmup_epochs": NOT_NEGATIVE}
SCHEDULES: Mapping[str, ScheduleSpec] = {
    "constant": ScheduleSpec({}, _WARMUP),
    "step": ScheduleSpec({"step_size": POSITIVE, "gamma": POSITIVE}, _WARMUP),
    "multistep": ScheduleSpec({"milestones": EPOCH_LIST, "gamma": POSITIVE}, _WARMUP),
    "cosine": ScheduleSpec({}, {"eta_min": NOT_NEGATIVE, **_WARMUP}),
    "cosine_warm_restarts": ScheduleSpec({"T_0": POSITIVE}, {"T_mult": WHOLE, "eta_min": NOT_NEGATIVE, **_WARMUP}),
    "trapezoidal": ScheduleSpec({"cooldown_epochs": POSITIVE}, _WARMUP),
}


def check_hyperparameters(optimizer: str, given: Mapping[str, float], *, where: str) -> None:
    """Hold an optimizer's hyperparameters (without `lr`) against what it takes.

    Raises:
        ConfigError: one is missing, one too many, or out of range. `where` begins the message.
    """
    wanted = OPTIMIZERS[optimizer].hyperparameters
    for name in given:
        if name not in wanted:
            takes = nearest_first(name, ["lr", *wanted])
            raise ConfigError(f"{where}.{name}: {optimizer} has no such hyperparameter; {takes}")
    for name, valid in wanted.items():
        if name not in given:
            raise ConfigError(f"{where}: has no {name} for {optimizer}, {valid.words}; give OPT_HPARS.{name}=... or add it")
        if not valid.allows(given[name]):
            raise ConfigError(f"{where}.{name}={given[name]}: must be {valid.words}")


def named_schedule(schedule: Mapping[str, Any] | None, *, where: str) -> dict[str, Any] | None:
    """Give a schedule without a name its name: with a warm-up alone it is the constant one.

    Raises:
        ConfigError: its other settings need a name. `where` begins the message.
    """
    if schedule is None:
        return None
    if "name" in schedule:
        return dict(schedule)
    if not schedule.keys() <= SCHEDULES["constant"].optional.keys():
        raise ConfigError(f"{where}: {', '.join(map(str, schedule))} without a schedule's name; valid: {', '.join(SCHEDULES)}")
    return {"name": "constant", **schedule}


def check_schedule(schedule: Mapping[str, Any] | None, *, lr: float, epochs: int, where: str) -> None:
    """Hold a schedule's settings against what it takes.

    Raises:
        ConfigError: no such schedule, a setting missing, one too many, out of range, or a rate that leaves float32. `where`
            begins the message.
    """
    if schedule is None:
        return
    name = str(schedule["name"])
    if name not in SCHEDULES:
        raise ConfigError(f"{where}.name={name}: no such schedule; {nearest_first(name, SCHEDULES)}")
    spec = SCHEDULES[name]
    known = {**spec.required, **spec.optional}
    for setting, value in schedule.items():
        if setting == "name":
            continue
        if setting not in known:
            takes = nearest_first(str(setting), known)
            raise ConfigError(f"{where}.{setting}: the schedule {name} has no such setting; {takes}")
        valid = known[setting]
        if not _allowed(valid, value):
            words = valid if isinstance(valid, str) else valid.words
            raise ConfigError(f"{where}.{setting}={value}: must be {words}")
    for setting in spec.required:
        if setting not in schedule:
            raise ConfigError(f"{where}: the schedule {name} needs {setting}")
    ramps = schedule.get("warmup_epochs", 0) + schedule.get("cooldown_epochs", 0)
    if ramps > epochs:
        raise ConfigError(f"{where}: warm-up and cool-down take {ramps} epochs, but NUM_EPOCHS={epochs}")
    rises = {"step": epochs / schedule.get("step_size", math.inf), "multistep": len(schedule.get("milestones", []))}.get(
        name, 0
    )
    gamma = schedule.get("gamma", 1.0)
    if gamma > 1 and math.log(lr) + rises * math.log(gamma) > math.log(LARGEST_FLOAT32):
        raise ConfigError(
            f"{where}.gamma={gamma}: lets LR={lr} grow beyond {LARGEST_FLOAT32:.2e}, the largest that float32 holds"
        )


def _allowed(valid: Range | str, value: object) -> bool:
    if isinstance(valid, Range):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and valid.allows(value)
    if not isinstance(value, list) or not all(_allowed(POSITIVE, epoch) for epoch in value):
        return False
    return bool(value) and value == sorted(set(value))


@dataclass(frozen=True)
class AffineRule:
    """How gamma and beta are trained beside all else.

    Attributes:
        lr_scale: their learning rate as a factor of the run's, at every step.
        l2: their L2 factor; under AdamW its own weight decay.
    """

    lr_scale: float = 1.0
    l2: float = 0.0


def build_optimizer(
    net: nn.Module,
    name: str,
    *,
    lr: float,
    hyperparameters: Mapping[str, float],
    l2_reg: float,
    affine: Iterable[nn.Parameter] = (),
    rule: AffineRule = AffineRule(),
) -> Optimizer:
    """Make the optimizer over what is trained in the network; the rate of its first group is the run's.

    Weight decay (`l2_reg`, or AdamW's own) acts on conv and linear weights only, never on biases, gamma or beta; on the last
    two as `rule` says. A parameter that does not require a gradient (a frozen gamma or beta) is not handed over.

    Args:
        net: whose parameters are trained.
        name: a key of `OPTIMIZERS`.
        lr: the learning rate.
        hyperparameters: the others.
        l2_reg: L2 factor on weights.
        affine: gamma and beta of all slots.
        rule: of these; they are a group of their own only where it says anything.
    """
    import torch

    spec = OPTIMIZERS[name]
    options: dict[str, Any] = {**hyperparameters, **spec.fixed}
    if "beta1" in options:
        options["betas"] = (options.pop("beta1"), options.pop("beta2"))
    decay = options.pop("weight_decay", l2_reg)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    apart = set() if rule == AffineRule() else {id(parameter) for parameter in affine}
    decayed = _weights_of_layers(net)
    weights = [parameter for parameter in trained if id(parameter) in decayed]
    others = [parameter for parameter in trained if id(parameter) not in decayed | apart]
    groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if apart:
        gamma_and_beta = [parameter for parameter in trained if id(parameter) in apart]
        groups = groups or [{"params": [], "weight_decay": 0.0}]  # has the run's rate, where nothing else is trained
        groups.append({"params": gamma_and_beta, "weight_decay": rule.l2, "lr": rule.lr_scale * lr})
    optimizer_class: type[Optimizer] = getattr(torch.optim, spec.torch_class)
    optimizer = optimizer_class(groups, lr=lr, **options)  # type: ignore[call-arg]
    if rule.lr_scale != 1:
        # A schedule moves each group's rate by itself, some towards a rate that is not scaled.
        optimizer.register_step_pre_hook(lambda given, *_: _scale_last_rate(given, rule.lr_scale))
    return optimizer


def _weights_of_layers(net: nn.Module) -> set[int]:
    """Return the weights of conv and linear layers, by identity; gamma and beta may have as many dimensions."""
    from torch import nn

    from batchnorm.slots import WEIGHT_LAYERS

    with_weights = (*WEIGHT_LAYERS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.MultiheadAttention)
    layers = [module for module in net.modules() if isinstance(module, with_weights)]
    return {id(value) for layer in layers for value in layer.parameters() if value.ndim > 1}


def _scale_last_rate(optimizer: Optimizer, scale: float) -> None:
    first, *_, last = optimizer.param_groups
    last["lr"] = scale * first["lr"]


def build_schedule(
    optimizer: Optimizer, schedule: Mapping[str, Any] | None, *, epochs: int, steps_per_epoch: int
) -> LRScheduler:
    """Make the schedule, to be stepped once per update; its settings are in epochs, fractions allowed.

    A warm-up rises linearly from `lr / steps` to `lr`; the trapezoidal schedule falls linearly to 0 at the end.
    """
    from torch.optim import lr_scheduler

    settings = {"name": "constant", **(schedule or {})}

    def steps(number_of_epochs: float) -> int:
        return max(1, round(number_of_epochs * steps_per_epoch))

    warmup = steps(settings["warmup_epochs"]) if settings.get("warmup_epochs", 0) else 0
    total = epochs * steps_per_epoch
    phases: list[tuple[int, LRScheduler]] = []
    if warmup:
        phases.append((0, lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup)))
    match settings["name"]:
        case "constant":
            main: Iterable[tuple[int, LRScheduler]] = [(warmup, lr_scheduler.ConstantLR(optimizer, factor=1.0))]
        case "step":
            main = [(warmup, lr_scheduler.StepLR(optimizer, steps(settings["step_size"]), settings["gamma"]))]
        case "multistep":
            milestones = [steps(epoch) - warmup for epoch in settings["milestones"]]
            main = [(warmup, lr_scheduler.MultiStepLR(optimizer, milestones, settings["gamma"]))]
        case "cosine":
            annealing = lr_scheduler.CosineAnnealingLR(optimizer, max(1, total - warmup), settings.get("eta_min", 0.0))
            main = [(warmup, annealing)]
        case "cosine_warm_restarts":
            restarts = lr_scheduler.CosineAnnealingWarmRestarts(
                optimizer, steps(settings["T_0"]), int(settings.get("T_mult", 1)), settings.get("eta_min", 0.0)
            )
            main = [(warmup, restarts)]
        case "trapezoidal":
            cooldown = steps(settings["cooldown_epochs"])
            flat = lr_scheduler.ConstantLR(optimizer, factor=1.0)
            fall = lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=cooldown)
            main = [(warmup, flat), (max(warmup + 1 if warmup else 0, total - cooldown), fall)]
            if main[1][0] == 0:  # of no length: in PyTorch 2.11 the flat part would take a step all the same
                del main[0]
        case name:
            raise AssertionError(f"unchecked schedule {name}")
    phases.extend(main)
    if len(phases) == 1:
        return phases[0][1]
    return lr_scheduler.SequentialLR(optimizer, [phase for _, phase in phases], [start for start, _ in phases[1:]])


def rate_of_update(update: int, schedule: Mapping[str, Any] | None, *, lr: float, epochs: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one update of a run, counted from 0."""
    if schedule is None:
        return lr
    import torch

    optimizer = torch.optim.SGD([torch.zeros(0)], lr=lr)
    stepped = build_schedule(optimizer, schedule, epochs=epochs, steps_per_epoch=steps_per_epoch)
    for _ in range(update):
        optimizer.step()
        stepped.step()
    return float(optimizer.param_groups[0]["lr"])
