"""Reorders layers so that the same bits cost fewer passes over memory."""

from __future__ import annotations

from torch import nn


def pool_before_relu_(net: nn.Module) -> None:
    """Let each `Sequential` pool first what it rectifies and then max-pools: a ReLU on a quarter of the values.

    The largest of rectified values is the rectified largest one, and has the same place: outputs and gradients keep their
    bits. Layers keep their names.

    Args:
        net: changed in place.
    """
    for chain in [module for module in net.modules() if isinstance(module, nn.Sequential)]:
        layers = list(chain._modules.items())  # a layer that stands twice too
        for place in range(len(layers) - 1):
            if isinstance(layers[place][1], nn.ReLU) and isinstance(layers[place + 1][1], nn.MaxPool2d):
                layers[place : place + 2] = layers[place + 1], layers[place]
        for name, _ in layers:
            delattr(chain, name)
        for name, layer in layers:
            chain.add_module(name, layer)
