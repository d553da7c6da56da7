"""Folds TensorFlow's 'same' padding, a hook on a separate layer, into the conv or pooling layer behind it. Exact."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

Padding = tuple[int, int, int, int]
"""Left, right, top, bottom."""


def fold_same_padding_(net: nn.Module, example: torch.Tensor) -> None:
    """Replace each `Sequential(ZeroPad2d, layer)` of the network by the layer alone, where that computes the same.

    The amounts are read off one forward pass, as DeepOBS computes them from the input's size at each call. Symmetric
    padding of a conv becomes its own. Padding of a max-pooling layer behind a ReLU becomes its own or `ceil_mode`: what
    it pads with (minus infinity) loses against activations as zeros do, since those are not negative. Other padding
    stays, with its amounts fixed (a stride-2 conv padded only on the right samples another grid than `padding=1` would).

    Args:
        net: changed in place; layers keep their weights.
        example: an input, shape (1, channels, height, width).
    """
    padded = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[0], nn.ZeroPad2d)
    }
    paddings, inputs = _observe(net, padded, example)
    for name, module in padded.items():
        padding, (height, width) = paddings[name], inputs[name]
        net.set_submodule(name, _folded(module[1], padding, height=height, width=width))
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Sequential) and len(module) == 1 and name:
            net.set_submodule(name, module[0])


def _observe(
    net: nn.Module, padded: dict[str, nn.Sequential], example: torch.Tensor
) -> tuple[dict[str, Padding], dict[str, tuple[int, int]]]:
    """Run the example through the network and note each padding's amounts, and the size of what it pads."""
    paddings: dict[str, Padding] = {}
    sizes: dict[str, tuple[int, int]] = {}

    def note(name: str, module: nn.Module, arguments: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        left, right, top, bottom = module.padding  # type: ignore[misc]
        paddings[name] = (int(left), int(right), int(top), int(bottom))
        sizes[name] = (arguments[0].shape[-2], arguments[0].shape[-1])

    hooks = [module[0].register_forward_hook(partial(note, name)) for name, module in padded.items()]
    training = net.training
    net.eval()
    with torch.no_grad():
        net(example)
    net.train(training)
    for hook in hooks:
        hook.remove()
    return paddings, sizes


def _folded(layer: nn.Module, padding: Padding, *, height: int, width: int) -> nn.Module:
    left, right, top, bottom = padding
    if padding == (0, 0, 0, 0):
        return layer
    if left == right and top == bottom:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (top, left)
            layer._reversed_padding_repeated_twice = [left, right, top, bottom]
            return layer
        if isinstance(layer, nn.MaxPool2d) and isinstance(layer.kernel_size, int) and layer.kernel_size >= 2 * max(left, top):
            layer.padding = (top, left)
            return layer
    if isinstance(layer, nn.MaxPool2d) and left == top == 0 and _ceil_mode_covers(layer, padding, height=height, width=width):
        layer.ceil_mode = True
        return layer
    return nn.Sequential(nn.ZeroPad2d(padding), layer)


def _ceil_mode_covers(layer: nn.MaxPool2d, padding: Padding, *, height: int, width: int) -> bool:
    """Say whether `ceil_mode` gives the same windows as padding on the right and at the bottom."""
    assert isinstance(layer.kernel_size, int)
    assert isinstance(layer.stride, int)

    def windows(size: int, *, padded: int, ceil: bool) -> int:
        last = size + padded - layer.kernel_size  # type: ignore[operator]
        return (-(-last // layer.stride) if ceil else last // layer.stride) + 1  # type: ignore[operator]

    return all(
        windows(size, padded=padded, ceil=False) == windows(size, padded=0, ceil=True)
        for size, padded in ((width, padding[1]), (height, padding[3]))
    )
