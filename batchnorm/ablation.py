"""BatchNorm in a network: finding its slots, inserting it by mask, freezing by mode, reading gamma, beta and bias.

Plain functions on any `nn.Module`; masks and modes as values are in `batchnorm.masks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from batchnorm.masks import Ablation, Mask

BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
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
PADDINGS = (nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.Identity)


class ChannelBias(nn.Module):
    """What is left of a network's own BatchNorm where the mask takes it out: a bias per channel, 0 at first, as beta is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Add the bias along dimension 1."""
        return features + self.bias.view(-1, *(1,) * (features.ndim - 2))


def find_slots(net: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's slots, in the order in which data flows through them.

    A slot is a weight layer (conv or linear) whose output goes into an activation; a layer that stands in a `Sequential`
    with nothing but padding is named as that `Sequential` is. A network that brings BatchNorm of its own has these
    layers as its slots.

    Raises:
        ValueError: the network cannot be traced by `torch.fx`.
    """
    graph = _trace(net)
    modules = dict(net.named_modules())
    called = [node for node in graph.nodes if node.op == "call_module"]
    own = [str(node.target) for node in called if isinstance(modules[node.target], BATCHNORM)]
    if own:
        return tuple(dict.fromkeys(own))
    weight_layers = [node for node in called if isinstance(modules[node.target], WEIGHT_LAYERS)]
    return tuple(_slot_name(net, str(node.target)) for node in weight_layers if _feeds_activation(node, modules))


def insert_batchnorm_(net: nn.Module, mask: Mask) -> None:
    """Put BatchNorm behind the weight layers that the mask names, and take their biases away.

    A slot's layer becomes `Sequential(layer=..., batchnorm=...)` under the slot's name. In a network that brings
    BatchNorm of its own, the layers that the mask leaves out become a `ChannelBias`. No random number is drawn.

    Args:
        net: changed in place.
        mask: one digit for each of `find_slots(net)`.

    Raises:
        ValueError: the mask has another length than there are slots.
    """
    slots = find_slots(net)
    if len(mask) != len(slots):
        raise ValueError(f"the mask has {len(mask)} digits, the network {len(slots)} slots: {', '.join(slots)}")
    for slot, normalised in zip(slots, mask, strict=True):
        place = net.get_submodule(slot)
        if isinstance(place, BATCHNORM):
            if not normalised:
                net.set_submodule(slot, ChannelBias(place.num_features))
        elif normalised:
            layer = _weight_layer(place)
            layer.register_parameter("bias", None)
            net.set_submodule(slot, _with_batchnorm(place, layer))


def apply_mode_(net: nn.Module, mode: Ablation) -> None:
    """Freeze what the mode does not train: gamma at 1, beta at 0, no gradient.

    What is frozen is not handed to an optimizer, so that neither momentum nor weight decay can move it.
    """
    for module in net.modules():
        if isinstance(module, BATCHNORM) and module.affine:
            _train_or_fix_(module.weight, trained=mode.trains_gamma, value=1.0)
            _train_or_fix_(module.bias, trained=mode.trains_beta, value=0.0)


def fill_biases_(net: nn.Module, value: float) -> None:
    """Let all biases of weight layers start at one value; beta is none of them."""
    for module in net.modules():
        if isinstance(module, (*WEIGHT_LAYERS, ChannelBias)) and module.bias is not None:
            nn.init.constant_(module.bias, value)


@dataclass(frozen=True)
class SlotParameters:
    """The live parameters and statistics of a network by slot, each of shape (C,); nothing is copied.

    A slot under the mask has `gamma`, `beta`, `running_mean` and `running_var`; one outside has `bias`, if its layer has.
    """

    gamma: Mapping[str, torch.Tensor]
    beta: Mapping[str, torch.Tensor]
    bias: Mapping[str, torch.Tensor]
    running_mean: Mapping[str, torch.Tensor]
    running_var: Mapping[str, torch.Tensor]


def read_slots(net: nn.Module, slots: tuple[str, ...]) -> SlotParameters:
    """Find gamma, beta or bias of each slot, after `insert_batchnorm_`."""
    found: dict[str, dict[str, torch.Tensor]] = {name: {} for name in ("gamma", "beta", "bias", "running_mean", "running_var")}
    for slot in slots:
        place = net.get_submodule(slot)
        batchnorm = next((module for module in place.modules() if isinstance(module, BATCHNORM)), None)
        if batchnorm is not None:
            found["gamma"][slot], found["beta"][slot] = batchnorm.weight, batchnorm.bias
            assert batchnorm.running_mean is not None
            assert batchnorm.running_var is not None
            found["running_mean"][slot], found["running_var"][slot] = batchnorm.running_mean, batchnorm.running_var
            continue
        bias = place.bias if isinstance(place, ChannelBias) else _weight_layer(place).bias
        if isinstance(bias, torch.Tensor):
            found["bias"][slot] = bias
    return SlotParameters(**found)


class _Tracer(torch.fx.Tracer):
    """Looks into modules that hold others, and at no module's code that holds none."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or not any(True for _ in m.children())


def _trace(net: nn.Module) -> torch.fx.Graph:
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


def _weight_layers(place: nn.Module) -> Iterator[nn.Linear | nn.Conv2d]:
    return (module for module in place.modules() if isinstance(module, WEIGHT_LAYERS))  # type: ignore[misc]


def _weight_layer(place: nn.Module) -> nn.Linear | nn.Conv2d:
    """Return the weight layer of a slot, inside the `Sequential` around it too."""
    return next(_weight_layers(place))


def _with_batchnorm(place: nn.Module, layer: nn.Module) -> nn.Sequential:
    """Chain a slot's layer with a new BatchNorm of the same channels, device and type: gamma 1, beta 0."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    kinds = {nn.Linear: nn.BatchNorm1d, nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
    kind = next(batchnorm for weight_layer, batchnorm in kinds.items() if isinstance(layer, weight_layer))
    chained = nn.Sequential()
    chained.add_module("layer", place)
    chained.add_module("batchnorm", kind(weight.shape[0], device=weight.device, dtype=weight.dtype))
    return chained


def _train_or_fix_(parameter: torch.Tensor, *, trained: bool, value: float) -> None:
    parameter.requires_grad_(trained)
    if not trained:
        nn.init.constant_(parameter, value)
