"""A network's slots: finding them, putting treatments into them, freezing, and reading what stands there.

Plain functions on any `nn.Module`; masks, modes and treatments as values are in `batchnorm.modes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import nn
from torch.nn import functional

from batchnorm.errors import ConfigError
from batchnorm.modes import UNTREATED, Affine, Trains, Treatment
from batchnorm.norms import BATCHNORM, NORM_LAYERS, Center, channels_of, make_norm

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
_POSITIONS_OF = {nn.BatchNorm1d: 0, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3}
PADDINGS = (nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.Identity)


class ChannelBias(nn.Module):
    """What is left of a network's own BatchNorm where the mask takes it out: a bias per channel, 0 at first, as beta is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Add the bias along dimension 1."""
        return features + _per_channel(self.bias, features)


class ChannelAffine(nn.Module):
    """What a treatment without a norm puts in a slot: gamma and beta per channel, under the names that norms have for them."""

    def __init__(self, channels: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scale and shift along dimension 1."""
        scaled = features * _per_channel(self.weight, features) + _per_channel(self.bias, features)
        return scaled.to(features.dtype)  # as norms do under autocast: computed in float32, given back in what came


def _per_channel(values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Shape values so that they stand along dimension 1 of features."""
    return values.view(-1, *(1,) * (features.ndim - 2))


def find_slots(net: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's slots, in the order in which data flows through them.

    A slot is a weight layer (conv or linear) whose output goes into an activation; a layer that stands in a `Sequential`
    with nothing but padding is named as that `Sequential` is. A network that brings BatchNorm of its own has these
    layers as its slots.

    Raises:
        ValueError: the network cannot be traced by `torch.fx`.
    """
    graph = trace(net)
    modules = dict(net.named_modules())
    called = [node for node in graph.nodes if node.op == "call_module"]
    own = [str(node.target) for node in called if isinstance(modules[node.target], BATCHNORM)]
    if own:
        return tuple(dict.fromkeys(own))
    weight_layers = [node for node in called if isinstance(modules[node.target], WEIGHT_LAYERS)]
    return tuple(_slot_name(net, str(node.target)) for node in weight_layers if _feeds_activation(node, modules))


def layers_without_slot(net: nn.Module) -> dict[str, str]:
    """Return the weight layers that are no slots, and what takes their output, in words.

    None of a network that brings BatchNorm of its own, where no weight layer is a slot.
    """
    graph = trace(net)
    modules = dict(net.named_modules())
    slots = find_slots(net)
    found: dict[str, str] = {}
    for node in (node for node in graph.nodes if node.op == "call_module"):
        module = modules[str(node.target)]
        if isinstance(module, WEIGHT_LAYERS) and _slot_name(net, str(node.target)) not in slots:
            found[str(node.target)] = ", ".join(_in_words(user, modules) for user in node.users) or "nothing"
    return {} if any(isinstance(module, BATCHNORM) for module in modules.values()) else found


def _in_words(node: torch.fx.Node, modules: Mapping[str, nn.Module]) -> str:
    if node.op == "output":
        return "the network's output"
    if node.op == "call_module":
        return f"{node.target}, {type(modules[str(node.target)]).__name__}"
    return f"{getattr(node.target, '__name__', node.target)}()"


def treat_(net: nn.Module, treatments: Sequence[Treatment]) -> None:
    """Put a norm after the weight layers whose treatment has one, take their biases away, and freeze what is not trained.

    A slot's layer becomes `Sequential(layer=..., batchnorm=...)` under the slot's name; `affine` stands there where gamma and
    beta come without a norm. In a network that brings BatchNorm of its own, the layers without a treatment become a
    `ChannelBias`. No random number is drawn.

    What is frozen requires no gradient and is not handed to an optimizer, so that neither momentum nor weight decay can
    move it. What is trained starts at the treatment's value, in a norm that the network brings where it stands there.

    Args:
        net: changed in place.
        treatments: one for each of `find_slots(net)`.

    Raises:
        ValueError: there are more or fewer treatments than slots.
        ConfigError: a norm is not known, or cannot stand in its slot.
    """
    slots = find_slots(net)
    if len(treatments) != len(slots):
        raise ValueError(f"the mask has {len(treatments)} digits, the network {len(slots)} slots: {', '.join(slots)}")
    for slot, treatment in zip(slots, treatments, strict=True):
        place = net.get_submodule(slot)
        if isinstance(place, BATCHNORM):
            if treatment == UNTREATED:
                net.set_submodule(slot, ChannelBias(place.num_features))
            elif treatment.norm != "batch":
                net.set_submodule(slot, _in_place_of(place, slot, treatment.norm))
        elif treatment != UNTREATED:
            layer = _weight_layer(place)
            layer.register_parameter("bias", None)
            net.set_submodule(slot, _chained(place, layer, slot, treatment.norm))
        if (affine := _affine(net.get_submodule(slot))) is not None:
            _start_(affine, "weight", treatment.gamma, keep=isinstance(place, BATCHNORM))
            _start_(affine, "bias", treatment.beta, keep=isinstance(place, BATCHNORM))


def freeze_weights_(net: nn.Module, slots: Sequence[str], trains: Trains) -> None:
    """Freeze what a mode does not train of weights and biases, after `treat_`; gamma and beta stay as they are.

    The head is the weight layer that is called last, in a slot or not.
    """
    if trains is Trains.ALL:
        return
    kept = {id(value) for slot in slots if (affine := _affine(net.get_submodule(slot))) for value in affine.parameters()}
    if trains is Trains.NORMS_AND_HEAD:
        modules = dict(net.named_modules())
        called = [modules[str(node.target)] for node in trace(net).nodes if node.op == "call_module"]
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
    """

    name: str
    channels: int
    layer: nn.Module | None
    norm: nn.Module | None
    consumer: nn.Module | None = None
    positions: int | None = None
    gamma: torch.Tensor | None = None
    beta: torch.Tensor | None = None
    running_mean: torch.Tensor | None = None
    running_var: torch.Tensor | None = None
    bias: torch.Tensor | None = None

    @property
    def parts(self) -> frozenset[str]:
        """The names of the parts that it has.

        `trained_gamma` and `trained_layer` besides, where these are trained; `divided`, where the norm divides by a deviation,
        so that the size of the weights does not matter.
        """
        parts = {each.name for each in fields(self) if getattr(self, each.name) is not None}
        if self.layer is not None and self.layer.weight.requires_grad:
            parts.add("trained_layer")
        if self.gamma is not None and self.gamma.requires_grad:
            parts.add("trained_gamma")
        if self.norm is not None and not isinstance(self.norm, Center):
            parts.add("divided")
        return frozenset(parts)


def read_slots(net: nn.Module, slots: Sequence[str]) -> tuple[Slot, ...]:
    """Find what stands in each slot, after `treat_`."""
    return tuple(_read_slot(slot, net.get_submodule(slot)) for slot in slots)


def _read_slot(name: str, place: nn.Module) -> Slot:
    layer = next((module for module in place.modules() if isinstance(module, WEIGHT_LAYERS)), None)
    norm = _norm(place)
    if norm is not None:
        mean, var = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
        return Slot(name, channels_of(norm), layer, norm, gamma=norm.weight, beta=norm.bias, running_mean=mean, running_var=var)
    if isinstance(affine := _affine(place), ChannelAffine):
        return Slot(name, len(affine.weight), layer, norm, gamma=affine.weight, beta=affine.bias)
    if isinstance(place, ChannelBias):
        return Slot(name, len(place.bias), layer, norm, bias=place.bias)
    layer = _weight_layer(place)
    return Slot(name, layer.weight.shape[0], layer, norm, bias=layer.bias)


class _Tracer(torch.fx.Tracer):
    """Looks into modules that hold others, and at no module's code that holds none."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or not any(True for _ in m.children())


def trace(net: nn.Module) -> torch.fx.Graph:
    """Return the graph of a network's calls.

    Raises:
        ValueError: `torch.fx` cannot trace it.
    """
    try:
        return _Tracer().trace(net)
    except Exception as error:
        raise ValueError(f"the network's slots cannot be found: torch.fx cannot trace it: {error}") from error


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
    """Climb from a layer to the outermost Sequential that holds nothing beside it but padding."""
    parent, _, _ = path.rpartition(".")
    while parent:
        around = net.get_submodule(parent)
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


def _in_place_of(own: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, slot: str, norm: str | None) -> nn.Module:
    """Return another norm in place of a network's own, with its gamma and beta; or these alone."""
    like = own.weight if own.weight is not None else torch.ones(())
    other = _new(norm, own.num_features, _POSITIONS_OF[type(own)], slot, like=like)
    if own.weight is not None:
        other.weight, other.bias = own.weight, own.bias
    return other


def _chained(place: nn.Module, layer: nn.Module, slot: str, norm: str | None) -> nn.Sequential:
    """Chain a slot's layer with a new norm of the same channels, device and type; or with gamma and beta alone."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    chained = nn.Sequential()
    chained.add_module("layer", place)
    name = "affine" if norm is None else f"{norm.partition(':')[0]}norm"
    chained.add_module(name, _new(norm, weight.shape[0], weight.ndim - 2, slot, like=weight))
    return chained


def _new(norm: str | None, channels: int, positions: int, slot: str, *, like: torch.Tensor) -> nn.Module:
    if norm is None:
        return ChannelAffine(channels, device=like.device, dtype=like.dtype)
    try:
        return make_norm(norm, channels, positions, like=like)
    except ValueError as error:
        raise ConfigError(f"NORM={error} in {slot}") from None


def _start_(norm: nn.Module, name: str, affine: Affine | None, *, keep: bool) -> None:
    """Let a norm's parameter start at its value and be trained or stay there; one that is absent is taken away.

    With `keep`, one that is trained starts where it stands.
    """
    parameter = getattr(norm, name)
    if affine is None:
        norm.register_parameter(name, None)
    elif parameter is not None:
        parameter.requires_grad_(affine.trained)
        if not (keep and affine.trained):
            nn.init.constant_(parameter, affine.value)
