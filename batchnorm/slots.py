"""A network's slots: finding them, putting treatments into them, freezing, and reading what stands there.

Plain functions on any `nn.Module`; masks, modes and treatments as values are in `batchnorm.modes`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from batchnorm.errors import ConfigError, one_line
from batchnorm.modes import DEFAULT_NORM, OWN, UNIFORM, UNTREATED, Affine, Trains, Treatment, norms_stay
from batchnorm.norms import (
    BATCHNORM,
    NORM_LAYERS,
    OF_BATCH,
    AlongAxis,
    Center,
    axis_of,
    channels_of,
    is_own_norm,
    make_norm,
)
from batchnorm.seeding import generator

WEIGHT_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Hardswish, nn.Hardtanh,
)  # fmt: skip
ACTIVATION_FUNCTIONS = {
    torch.relu, torch.relu_, torch.sigmoid, torch.tanh, functional.relu, functional.relu6, functional.leaky_relu,
    functional.elu, functional.selu, functional.celu, functional.gelu, functional.silu, functional.mish,
    functional.sigmoid, functional.tanh, functional.softplus, functional.hardswish, functional.hardtanh,
}  # fmt: skip
ACTIVATION_METHODS = {"relu", "relu_", "sigmoid", "tanh"}
PASSED_THROUGH = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Flatten,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
"""Layers that may stand between a weight layer and its activation."""
_KEEP_THE_LARGEST = (nn.Identity, nn.Flatten, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool2d)
"""Layers behind which a ReLU gives the same as before them."""
_POSITIONS_OF = {
    nn.BatchNorm1d: 0, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3,
    nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3,
}  # fmt: skip
"""How many dimensions come behind the channels, where a norm's class says so."""
PADDINGS = (nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.Identity)


class ChannelBias(nn.Module):
    """What is left of a network's own norm where the mask takes it out: a bias per channel, 0 at first, as beta is.

    Args:
        channels: how many.
        axis: along which dimension they stand: 1 or -1.
        device, dtype: of the bias.
    """

    def __init__(
        self, channels: int, *, axis: int = 1, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.axis = axis
        self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Add the bias along the channels' dimension."""
        return features + _per_channel(self.bias, features, self.axis)


class ChannelAffine(nn.Module):
    """What a treatment without a norm puts in a slot: gamma and beta per channel, under the names that norms have for them.

    Arguments are those of `ChannelBias`.
    """

    def __init__(
        self, channels: int, *, axis: int = 1, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.axis = axis
        self.weight = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scale and shift along the channels' dimension."""
        scaled = features * _per_channel(self.weight, features, self.axis) + _per_channel(self.bias, features, self.axis)
        return scaled.to(features.dtype)  # as norms do under autocast: computed in float32, given back in what came


def _per_channel(values: torch.Tensor, features: torch.Tensor, axis: int) -> torch.Tensor:
    """Shape values so that they stand along dimension 1 of features, or along the last one."""
    return values if axis == -1 else values.view(-1, *(1,) * (features.ndim - 2))


def find_slots(net: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's slots, in the order in which data flows through them.

    A slot is a weight layer (conv or linear) whose output goes into an activation; a layer that stands in a `Sequential`
    with nothing but padding is named as that `Sequential` is. A network that brings norms of its own (BatchNorm, GroupNorm,
    LayerNorm, InstanceNorm) has these layers as its slots. A layer that is called several times is one slot.

    Raises:
        ValueError: the network cannot be traced by `torch.fx`.
    """
    graph = trace(net)
    modules = dict(net.named_modules())
    called = [node for node in graph.nodes if node.op == "call_module"]
    own = [str(node.target) for node in called if is_own_norm(modules[str(node.target)])]
    if own:
        return tuple(dict.fromkeys(own))
    weight_layers = [node for node in called if isinstance(modules[node.target], WEIGHT_LAYERS)]
    names = [_slot_name(net, str(node.target)) for node in weight_layers if _feeds_activation(node, modules)]
    return tuple(dict.fromkeys(names))


def layers_without_slot(net: nn.Module) -> dict[str, str]:
    """Return the weight layers that are no slots, and what takes their output, in words.

    None of a network that brings norms of its own, where no weight layer is a slot.
    """
    graph = trace(net)
    modules = dict(net.named_modules())
    slots = find_slots(net)
    found: dict[str, str] = {}
    for node in (node for node in graph.nodes if node.op == "call_module"):
        module = modules[str(node.target)]
        if isinstance(module, WEIGHT_LAYERS) and _slot_name(net, str(node.target)) not in slots:
            found[str(node.target)] = ", ".join(_in_words(user, modules) for user in node.users) or "nothing"
    return {} if any(is_own_norm(modules[slot]) for slot in slots) else found


def _in_words(node: torch.fx.Node, modules: Mapping[str, nn.Module]) -> str:
    if node.op == "output":
        return "the network's output"
    if node.op == "call_module":
        return f"{node.target}, {type(modules[str(node.target)]).__name__}"
    return f"{getattr(node.target, '__name__', node.target)}()"


def treat_(
    net: nn.Module, treatments: Sequence[Treatment], *, slots: Sequence[str] | None = None, random_seed: int = 0
) -> None:
    """Put a norm after the weight layers whose treatment has one, take their biases away, and freeze what is not trained.

    A slot's layer becomes `Sequential(layer=..., batchnorm=...)` under the slot's name; `affine` stands there where gamma and
    beta come without a norm. Where they come after the activation, it leaves its place and stands between, as `activation`.
    In a network that brings norms of its own, those without a treatment become a `ChannelBias`, and another norm may stand
    in their place.

    What is frozen requires no gradient and is not handed to an optimizer, so that neither momentum nor weight decay can
    move it. What is trained starts at the treatment's value; in a norm that the network brings where it stands there, unless
    the start is asked for. Random starts come from a stream of the slot's own: no other random number changes.

    Args:
        net: changed in place.
        treatments: one for each slot.
        slots: their names; None: those that `find_slots` finds.
        random_seed: of random starts.

    Raises:
        ValueError: there are more or fewer treatments than slots.
        ConfigError: a norm is not known, or cannot stand in its slot, or not after its activation.
    """
    slots = find_slots(net) if slots is None else slots
    if len(treatments) != len(slots):
        raise ValueError(f"the mask has {len(treatments)} digits, the network {len(slots)} slots: {', '.join(slots)}")
    after = [slot for slot, treatment in zip(slots, treatments, strict=True) if treatment.after]
    activations = _take_activations_(net, after) if after else {}
    for slot, treatment in zip(slots, treatments, strict=True):
        place = net.get_submodule(slot)
        put_ = partial(_put_, net, beside=set(slots) - {slot})
        brought = is_own_norm(place)
        if treatment.norm == OWN and (isinstance(place, BATCHNORM) or not brought):
            treatment = replace(treatment, norm=DEFAULT_NORM)
        if brought:
            if treatment == UNTREATED:
                put_(place, ChannelBias(channels_of(place), axis=axis_of(place), **_like(place)))
            elif _stays(place, treatment):
                _adjust_(place, slot, treatment)
            else:
                put_(place, _in_place_of(place, slot, treatment))
        elif treatment != UNTREATED:
            layer = _weight_layer(place)
            layer.register_parameter("bias", None)
            put_(place, _chained(place, layer, slot, treatment, activations.get(slot)))
        if (affine := _affine(net.get_submodule(slot))) is not None:
            for name, part, stream in (("weight", treatment.gamma, "gamma"), ("bias", treatment.beta, "beta")):
                draws = generator(random_seed, f"initial {stream} of {slot}")
                _start_(affine, name, part, keep=brought, draws=draws)


def _put_(net: nn.Module, place: nn.Module, other: nn.Module, *, beside: Collection[str] = ()) -> None:
    """Put another module in a module's place, under each of its names but some: a network may call it by any of them."""
    for path in _paths(net, place):
        if path not in beside:
            net.set_submodule(path, other)


def _paths(net: nn.Module, wanted: nn.Module) -> list[str]:
    return [path for path, module in net.named_modules(remove_duplicate=False) if module is wanted]


def freeze_weights_(net: nn.Module, slots: Sequence[str], trains: Trains) -> None:
    """Freeze what a mode does not train of weights and biases, after `treat_`; gamma and beta stay as they are.

    The head is the weight layer that is called last, in a slot or not.

    Raises:
        ConfigError: it cannot be found, as the network cannot be traced.
    """
    if trains is Trains.ALL:
        return
    kept = {id(value) for slot in slots if (affine := _affine(net.get_submodule(slot))) for value in affine.parameters()}
    if trains is Trains.NORMS_AND_HEAD:
        modules = dict(net.named_modules())
        try:
            called = [modules[str(node.target)] for node in trace(net).nodes if node.op == "call_module"]
        except ValueError as error:
            raise ConfigError(f"ABLATION=bn_and_head: needs to know which layer is called last: {error}") from None
        head = next(module for module in reversed(called) if isinstance(module, WEIGHT_LAYERS))
        kept |= {id(value) for value in head.parameters()}
    for value in net.parameters():
        if id(value) not in kept:
            value.requires_grad_(False)


def fill_biases_(net: nn.Module, value: float) -> None:
    """Let all biases of weight layers start at one value; beta is none of them."""
    for module in net.modules():
        if isinstance(module, (*WEIGHT_LAYERS, ChannelBias)) and module.bias is not None:
            nn.init.constant_(module.bias, value)


@dataclass(frozen=True)
class Slot:
    """What stands in a slot of a live network; nothing is copied. Parts that the slot does not have are None.

    Attributes:
        name: the slot.
        channels: how many there are.
        layer: the weight layer that alone feeds the slot; None where a sum or something else comes between.
        norm: what normalises, if anything does.
        consumer: the weight layer that alone takes what the slot gives; None where there is none, or nobody has looked.
        positions: at how many places of an image (height times width) it gives a value; None where nobody has looked.
        gamma, beta: of the norm, or without one, each of shape (channels,).
        running_mean, running_var: of the norm, each of shape (channels,).
        bias: of a slot without any of these, shape (channels,).
        activation: that stands before the norm in the slot, where the norm was put after it.
    """

    name: str
    channels: int
    layer: nn.Module | None
    norm: nn.Module | None
    consumer: nn.Module | None = None
    positions: int | None = None
    gamma: nn.Parameter | None = None
    beta: nn.Parameter | None = None
    running_mean: torch.Tensor | None = None
    running_var: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    activation: nn.Module | None = None

    @property
    def parts(self) -> frozenset[str]:
        """The names of the parts that it has.

        `trained_gamma` and `trained_layer` besides, where these are trained; `divided`, where the norm divides by a deviation,
        so that the size of the weights does not matter; `ghost`, where it takes its statistics over parts of the batch.
        """
        parts = {each.name for each in fields(self) if getattr(self, each.name) is not None}
        if self.layer is not None and self.layer.weight.requires_grad:
            parts.add("trained_layer")
        if self.gamma is not None and self.gamma.requires_grad:
            parts.add("trained_gamma")
        if self.norm is not None and not isinstance(self.norm, Center):
            parts.add("divided")
        if getattr(self.norm, "images", None) is not None:
            parts.add("ghost")
        return frozenset(parts)


def read_slots(net: nn.Module, slots: Sequence[str]) -> tuple[Slot, ...]:
    """Find what stands in each slot, after `treat_`."""
    return tuple(_read_slot(slot, net.get_submodule(slot)) for slot in slots)


def _read_slot(name: str, place: nn.Module) -> Slot:
    layer = next((module for module in place.modules() if isinstance(module, WEIGHT_LAYERS)), None)
    activation = dict(place.named_children()).get("activation") if isinstance(place, nn.Sequential) else None
    norm = _norm(place)
    if norm is not None:
        kept = ("running_mean", "running_var") if isinstance(norm, OF_BATCH) else ("", "")
        mean, var = (getattr(norm, name, None) for name in kept)
        found = Slot(
            name, channels_of(norm), layer, norm, gamma=norm.weight, beta=norm.bias, running_mean=mean, running_var=var
        )
        return replace(found, activation=activation)
    if isinstance(affine := _affine(place), ChannelAffine):
        return Slot(name, len(affine.weight), layer, norm, gamma=affine.weight, beta=affine.bias, activation=activation)
    if isinstance(place, ChannelBias):
        return Slot(name, len(place.bias), layer, norm, bias=place.bias)
    layer = _weight_layer(place)
    return Slot(name, layer.weight.shape[0], layer, norm, bias=layer.bias)


class _Tracer(torch.fx.Tracer):
    """Looks into modules that hold others, and at no module's code that holds none."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, AlongAxis) or not any(True for _ in m.children())
        return whole or super().is_leaf_module(m, module_qualified_name)


def trace(net: nn.Module) -> torch.fx.Graph:
    """Return the graph of a network's calls.

    Raises:
        ValueError: `torch.fx` cannot trace it.
    """
    try:
        return _Tracer().trace(net)
    except Exception as error:
        where, kind = _untraceable(net)
        why = f"torch.fx cannot trace {where} ({kind}): {one_line(error)}"
        raise ValueError(f"the network's slots cannot be found: {why}") from error


def _untraceable(net: nn.Module, path: str = "") -> tuple[str, str]:
    """Return path and class of the innermost module that cannot be traced, of one that cannot."""
    for name, child in net.named_children():
        if any(True for _ in child.children()):
            try:
                _Tracer().trace(child)
            except Exception:
                return _untraceable(child, f"{path}.{name}".lstrip("."))
    return path or "it", type(net).__name__


def _feeds_activation(node: torch.fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    for user in node.users:
        if user.op == "call_module":
            module = modules[str(user.target)]
            if isinstance(module, ACTIVATIONS) or (isinstance(module, PASSED_THROUGH) and _feeds_activation(user, modules)):
                return True
        if user.op == "call_function" and user.target in ACTIVATION_FUNCTIONS:
            return True
        if user.op == "call_method" and user.target in ACTIVATION_METHODS:
            return True
    return False


def _slot_name(net: nn.Module, path: str) -> str:
    """Climb from a layer to the outermost Sequential that holds all its names, and nothing beside it but padding."""
    names = _paths(net, net.get_submodule(path))
    parent, _, _ = path.rpartition(".")
    while parent:
        around = net.get_submodule(parent)
        if not all(any(name.startswith(f"{each}.") for each in _paths(net, around)) for name in names):
            break
        leaves = [module for module in around.modules() if not any(True for _ in module.children())]
        if not isinstance(around, nn.Sequential) or sum(not isinstance(leaf, PADDINGS) for leaf in leaves) != 1:
            break
        path, (parent, _, _) = parent, parent.rpartition(".")
    return path


def _weight_layer(place: nn.Module) -> nn.Linear | nn.Conv2d:
    """Return the weight layer of a slot, inside the `Sequential` around it too."""
    return next(module for module in place.modules() if isinstance(module, WEIGHT_LAYERS))  # type: ignore[return-value]


def _norm(place: nn.Module) -> nn.BatchNorm2d | None:
    """Return what normalises in a slot, if anything does."""
    return next((module for module in place.modules() if isinstance(module, NORM_LAYERS)), None)  # type: ignore[return-value]


def _affine(place: nn.Module) -> nn.Module | None:
    """Return what holds gamma and beta in a slot, if anything does."""
    return next((module for module in place.modules() if isinstance(module, (*NORM_LAYERS, ChannelAffine))), None)


def _stays(own: nn.Module, treatment: Treatment) -> bool:
    """Say whether a network's own norm is what a treatment asks for."""
    return treatment.norm == OWN or (treatment.norm == DEFAULT_NORM and isinstance(own, BATCHNORM) and treatment.ghost is None)


def _adjust_(own: nn.Module, slot: str, treatment: Treatment) -> None:
    """Give a norm that stays the momentum and eps that are asked for.

    Raises:
        ConfigError: it has no statistics of the batch, on which what is asked for would act.
    """
    given = {"BN_MOMENTUM": treatment.momentum, "GHOST": treatment.ghost}
    asked = next((key for key, value in given.items() if value is not None), None)
    if asked and not isinstance(own, BATCHNORM):
        kind = type(own).__name__
        raise ConfigError(f"{asked}={given[asked]}: the network's own {kind} in {slot} takes no statistics over the batch")
    for name, value in (("momentum", treatment.momentum), ("eps", treatment.eps)):
        if value is not None:
            setattr(own, name, value)


def _in_place_of(own: nn.Module, slot: str, treatment: Treatment) -> nn.Module:
    """Return another norm in place of a network's own, with its gamma, beta, momentum and eps; or gamma and beta alone.

    A BatchNorm that averages over all batches has no momentum, of which another norm would have to be told.
    """
    momentum = treatment.momentum
    if momentum is None and isinstance(own, BATCHNORM):
        momentum = own.momentum
        if momentum is None and treatment.uses_batch:
            raise ConfigError(
                f"BN_MOMENTUM: the network's own norm in {slot} has none (it averages over all batches); give one"
            )
    eps = own.eps if treatment.eps is None else treatment.eps
    assert isinstance(eps, float)
    treatment = replace(treatment, momentum=momentum, eps=eps)
    axis, positions = axis_of(own), next((number for kind, number in _POSITIONS_OF.items() if isinstance(own, kind)), None)
    like = torch.empty((), **_like(own))
    other = _new(treatment, channels_of(own), 1 if positions is None else positions, slot, like=like, axis=axis)
    for name in ("weight", "bias"):
        if (value := getattr(own, name)) is not None:
            setattr(other, name, value)
    return AlongAxis(other, axis) if positions is None and treatment.norm is not None else other


def _like(norm: nn.Module) -> dict[str, Any]:
    """Return device and type of a norm's numbers."""
    values = next(itertools.chain(norm.parameters(), norm.buffers()), torch.empty(()))
    return {"device": values.device, "dtype": values.dtype if values.is_floating_point() else torch.get_default_dtype()}


def _take_activations_(net: nn.Module, slots: Sequence[str]) -> dict[str, nn.Module]:
    """Take the activations of slots out of a network, and return them.

    The largest of rectified values is the rectified largest one: before a max-pooling layer a ReLU gives the same as behind.

    Raises:
        ConfigError: an activation is not a module of the slot's own right behind its layer.
    """
    nodes = list(trace(net).nodes)
    modules = dict(net.named_modules())
    called = [str(node.target) for node in nodes if node.op == "call_module"]
    found: dict[str, nn.Module] = {}
    for slot in slots:
        if is_own_norm(modules[slot]):
            raise norms_stay("the network")
        layer = _weight_layer(modules[slot])
        node = next(node for node in nodes if node.op == "call_module" and modules[str(node.target)] is layer)
        if called.count(str(node.target)) > 1:
            raise ConfigError(f"PLACEMENT=after: {slot} is called several times, by one activation each; must be before")
        between: list[nn.Module] = []
        module: nn.Module | None = None
        while len(node.users) == 1:
            (node,) = node.users
            module = modules[str(node.target)] if node.op == "call_module" else None
            if not isinstance(module, PASSED_THROUGH):
                break
            between.append(module)
        commutes = isinstance(module, nn.ReLU) and all(isinstance(each, _KEEP_THE_LARGEST) for each in between)
        if not isinstance(module, ACTIVATIONS) or called.count(str(node.target)) > 1 or (between and not commutes):
            raise ConfigError(
                f"PLACEMENT=after: {slot} needs an activation right behind it that is a module (nn.ReLU(), ...), used once"
            )
        found[slot] = module
        _put_(net, module, nn.Identity())
    return found


def _chained(
    place: nn.Module, layer: nn.Module, slot: str, treatment: Treatment, activation: nn.Module | None
) -> nn.Sequential:
    """Chain a slot's layer with a new norm of the same channels, device and type; or with gamma and beta alone.

    An activation that is given stands between them.
    """
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    chained = nn.Sequential()
    chained.add_module("layer", place)
    if activation is not None:
        chained.add_module("activation", activation)
    name = "affine" if treatment.norm is None else f"{treatment.norm.partition(':')[0]}norm"
    chained.add_module(name, _new(treatment, weight.shape[0], weight.ndim - 2, slot, like=weight))
    return chained


def _new(treatment: Treatment, channels: int, positions: int, slot: str, *, like: torch.Tensor, axis: int = 1) -> nn.Module:
    if treatment.norm is None:
        return ChannelAffine(channels, axis=axis, device=like.device, dtype=like.dtype)
    try:
        given: dict[str, Any] = {"momentum": treatment.momentum, "eps": treatment.eps, "images": treatment.ghost}
        return make_norm(treatment.norm, channels, positions, like=like, **given)
    except ValueError as error:
        raise ConfigError(f"NORM={error} in {slot}") from None


def _start_(norm: nn.Module, name: str, affine: Affine | None, *, keep: bool, draws: torch.Generator) -> None:
    """Let a norm's parameter start at its value and be trained or stay there; one that is absent is taken away.

    With `keep`, one that is trained and whose start nobody asked for starts where it stands.
    """
    parameter = getattr(norm, name)
    if affine is None:
        norm.register_parameter(name, None)
    elif parameter is not None:
        parameter.requires_grad_(affine.trained)
        if affine.value == UNIFORM:
            with torch.no_grad():
                parameter.copy_(torch.rand(parameter.shape, generator=draws))
        elif affine.asked_for or not (keep and affine.trained):
            nn.init.constant_(parameter, float(affine.value))
