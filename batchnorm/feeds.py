"""Which layer alone feeds a slot, and which slot or layer a slot alone feeds: what decides which law holds for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from batchnorm.norms import NORM_LAYERS, AlongAxis, axis_of
from batchnorm.slots import (
    ACTIVATION_FUNCTIONS,
    ACTIVATION_METHODS,
    ACTIVATIONS,
    PADDINGS,
    PASSED_THROUGH,
    WEIGHT_LAYERS,
    ChannelAffine,
    ChannelBias,
    trace,
)  # fmt: skip

Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d, *PASSED_THROUGH,
)  # fmt: skip
"""f(s x) = s f(x) for each s > 0."""
HOMOGENEOUS_FUNCTIONS = {
    torch.relu, torch.relu_, functional.relu, functional.leaky_relu, functional.dropout, functional.max_pool2d,
    functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d,
}  # fmt: skip
HOMOGENEOUS_METHODS = {"relu", "relu_"}
_GIVES = (*WEIGHT_LAYERS, *NORM_LAYERS, AlongAxis, ChannelAffine, ChannelBias)
"""What may be the last of a slot."""
_ELEMENTWISE = (*ACTIVATIONS, nn.Identity, nn.Dropout)
"""What may stand behind a slot whose channels are last."""


@dataclass(frozen=True)
class Feed:
    """What stands around one slot.

    Attributes:
        layer: path of the weight layer that alone feeds the slot, and feeds nothing else; None where there is none, or where
            an activation that is not positively homogeneous stands between it and the slot's norm.
        consumer: the slot, or the path of the weight layer that belongs to no slot, that alone takes what the slot gives;
            None where a sum, a concatenation, a second user or an operation that is not known comes first.
        homogeneous: whether all that stands between the slot and its consumer is positively homogeneous,
            f(s x) = s f(x) for s > 0; False without a consumer.
    """

    layer: str | None
    consumer: str | None
    homogeneous: bool


@dataclass(frozen=True)
class SlotModules:
    """The modules that a slot is measured by.

    Attributes:
        output: its output is what the slot gives: the norm, the `ChannelBias`, or the weight layer of a bare slot.
        norm: what holds the slot's gamma and beta; None in a bare slot.
        layer: the weight layer that alone feeds the slot.
        consumer: the weight layer that alone takes what the slot gives.
    """

    output: nn.Module
    norm: nn.Module | None
    layer: Weighted | None
    consumer: Weighted | None


def find_feeds(net: nn.Module, slots: Sequence[str]) -> dict[str, Feed]:
    """Say for each slot what feeds it and what it feeds, after or before BatchNorm was inserted.

    Raises:
        ValueError: the network cannot be traced by `torch.fx`.
    """
    flow = _Flow(net)
    outputs = {slot: flow.output_of(slot) for slot in slots}
    layers = {slot: flow.layer_before(outputs[slot], slot) for slot in slots}
    slot_of_layer = {layer: slot for slot, layer in layers.items() if layer is not None}
    feeds = {}
    for slot in slots:
        consumer, homogeneous = flow.consumer_after(outputs[slot])
        feeds[slot] = Feed(layers[slot], slot_of_layer.get(consumer or "", consumer), homogeneous)
    return feeds


def slot_modules(net: nn.Module, slots: Sequence[str]) -> dict[str, SlotModules]:
    """Return the modules of each slot.

    Raises:
        ValueError: the network cannot be traced by `torch.fx`.
    """
    flow = _Flow(net)
    feeds = find_feeds(net, slots)

    def layer_of(name: str | None) -> Any:
        path = feeds[name].layer if name in feeds else name
        return None if path is None else net.get_submodule(path)

    found = {}
    for slot in slots:
        output = net.get_submodule(str(flow.output_of(slot).target))
        inner = output.norm if isinstance(output, AlongAxis) else output
        norm = inner if isinstance(inner, (*NORM_LAYERS, ChannelAffine)) else None
        found[slot] = SlotModules(output, norm, layer_of(slot), layer_of(feeds[slot].consumer))
    return found


class _Flow:
    """The network's graph of calls."""

    def __init__(self, net: nn.Module) -> None:
        self._nodes = list(trace(net).nodes)
        self._modules = dict(net.named_modules())
        called = [str(node.target) for node in self._nodes if node.op == "call_module"]
        self._called_once = {target for target in called if called.count(target) == 1}

    def output_of(self, slot: str) -> torch.fx.Node:
        """Return the call whose output is what the slot gives: the last of its layer and its norm."""
        inside = [
            node
            for node in self._nodes
            if node.op == "call_module"
            and (str(node.target) == slot or str(node.target).startswith(f"{slot}."))
            and isinstance(self._modules[str(node.target)], _GIVES)
        ]
        if not inside:
            raise ValueError(f"the network has no slot {slot}")
        last: torch.fx.Node = inside[-1]
        return last

    def layer_before(self, output: torch.fx.Node, slot: str) -> str | None:
        node, axis = output, self._axis_of(output)
        while True:
            if order := self._order_of(node):
                axis = order[axis]
                axis = -1 if axis == len(order) - 1 else axis
            elif node.op != "call_module" or str(node.target) not in self._called_once:
                return None
            else:
                module = self._modules[str(node.target)]
                if isinstance(module, WEIGHT_LAYERS):
                    return str(node.target) if axis == 1 or isinstance(module, nn.Linear) else None
                known = isinstance(module, (*_GIVES, nn.Identity))
                rectifies = str(node.target) == f"{slot}.activation" and isinstance(module, HOMOGENEOUS)
                if not (known or rectifies):
                    return None
            if len(node.all_input_nodes) != 1:
                return None
            node = node.all_input_nodes[0]
            if len(node.users) != 1:
                return None

    def _axis_of(self, node: torch.fx.Node) -> int:
        return axis_of(self._modules[str(node.target)])

    def _order_of(self, node: torch.fx.Node) -> tuple[int, ...]:
        """Return how a call permutes dimensions: which of its input's stands where in its output; nothing where it does not."""
        order: Any = ()
        module = self._modules[str(node.target)] if node.op == "call_module" else None
        if type(module).__name__ == "Permute":  # torchvision's and others'
            order = getattr(module, "dims", ())
        elif (node.op, node.target) in (("call_method", "permute"), ("call_function", torch.permute)):
            order = node.kwargs.get("dims", node.args[1:])
        dims = order[0] if len(order) == 1 and isinstance(order[0], tuple | list) else order
        return tuple(dim % len(dims) for dim in dims) if all(isinstance(dim, int) for dim in dims) else ()

    def consumer_after(self, output: torch.fx.Node) -> tuple[str | None, bool]:
        node, homogeneous, last = output, True, self._axis_of(output) == -1
        while len(node.users) == 1:
            (node,) = node.users
            if len(node.all_input_nodes) != 1:
                return None, False
            if node.op == "call_module":
                target = str(node.target)
                if target not in self._called_once:
                    if not isinstance(self._modules[target], (*ACTIVATIONS, *PASSED_THROUGH)):
                        return None, False
                elif isinstance(self._modules[target], WEIGHT_LAYERS):
                    return (None, False) if last and not isinstance(self._modules[target], nn.Linear) else (target, homogeneous)
            known, keeps = self._kind(node)
            if last and node.op == "call_module":
                known = isinstance(self._modules[str(node.target)], _ELEMENTWISE)
            elif last:
                known = known and (node.target in ACTIVATION_FUNCTIONS or node.target in ACTIVATION_METHODS)
            if not known:
                return None, False
            homogeneous = homogeneous and keeps
        return None, False

    def _kind(self, node: torch.fx.Node) -> tuple[bool, bool]:
        """Say whether a call acts on each channel alone, and whether it is positively homogeneous."""
        if node.op == "call_module":
            module = self._modules[str(node.target)]
            if isinstance(module, nn.Flatten):
                whole = (module.start_dim, module.end_dim) == (1, -1)
                return whole, whole
            if isinstance(module, nn.ConstantPad2d):
                return True, module.value == 0
            known = isinstance(module, (*ACTIVATIONS, *PASSED_THROUGH, *PADDINGS))
            return known, isinstance(module, HOMOGENEOUS)
        if node.op == "call_function":
            target: Callable[..., Any] = node.target  # type: ignore[assignment]
            if target is torch.flatten:
                whole = node.args[1:] == (1,) and not node.kwargs
                return whole, whole
            return target in ACTIVATION_FUNCTIONS | HOMOGENEOUS_FUNCTIONS, target in HOMOGENEOUS_FUNCTIONS
        if node.op == "call_method":
            method = str(node.target)
            if method == "flatten":
                whole = node.args[1:] == (1,) and not node.kwargs
                return whole, whole
            return method in ACTIVATION_METHODS, method in HOMOGENEOUS_METHODS
        return False, False


def positions(net: nn.Module, images: torch.Tensor, slots: Mapping[str, SlotModules]) -> dict[str, int]:
    """Return at how many positions of an image (height times width) each slot's output stands: 1 in a linear layer.

    One forward pass in evaluation mode; the network is left as it was.
    """
    sizes: dict[str, int] = {}

    def noting(slot: str) -> Callable[..., None]:
        axis = axis_of(slots[slot].output)

        def note(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            sizes[slot] = output[0].numel() // output.shape[axis]

        return note

    training = {module: module.training for module in net.modules()}
    hooks = [modules.output.register_forward_hook(noting(slot)) for slot, modules in slots.items()]
    try:
        net.eval()
        with torch.no_grad():
            net(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    return sizes
