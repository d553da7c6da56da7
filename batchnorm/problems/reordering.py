"""Reorders layers so that the same bits cost fewer passes over memory."""

from __future__ import annotations

from collections.abc import Iterator

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


def pool_before_batchnorm(net: nn.Module) -> nn.Sequential:
    """Return a network for evaluation, with the same layers, whose BatchNorm normalises only what is left by max-pooling.

    With its running statistics BatchNorm is a rising line in each channel whose gamma is positive: the largest of
    normalised values is the normalised largest one, and outputs keep their bits. A layer with another gamma stays where
    it is. In training the statistics are those of all values, so the network itself keeps its order.

    Args:
        net: in evaluation mode; unchanged.
    """
    layers = list(_chained(net))
    for place in range(len(layers) - 1):
        batchnorm, pool = layers[place : place + 2]
        if isinstance(batchnorm, nn.BatchNorm2d) and isinstance(pool, nn.MaxPool2d) and bool((batchnorm.weight > 0).all()):
            layers[place : place + 2] = pool, batchnorm
    return nn.Sequential(*layers)


def _chained(net: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers that a network calls one after the other, those of `Sequential`s in it too."""
    if type(net).forward is nn.Sequential.forward:
        for layer in net._modules.values():  # a layer that stands twice too
            assert layer is not None
            yield from _chained(layer)
    else:
        yield net
