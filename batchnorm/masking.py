"""A user's own network with treatments in its slots: `from batchnorm import masked`. How they get there: `slots`."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from batchnorm.errors import ConfigError, nearest_first
from batchnorm.modes import DEFAULT_MODE, OWN, canonical_norm, parse_mask, trained_weights, treatments
from batchnorm.norms import is_own_norm
from batchnorm.slots import WEIGHT_LAYERS, find_slots, freeze_weights_, treat_


def masked(
    net: nn.Module,
    mask: str | Sequence[int],
    mode: str = DEFAULT_MODE,
    *,
    norm: str = OWN,
    slots: Sequence[str] | None = None,
    random_seed: int = 0,
) -> nn.Module:
    """Return a copy of a network with a norm where the mask puts it; the given one stays as it is.

    The weights are the given network's. Where the mask has a 1, a linear layer must give features of shape (B, C), and says
    so when it is called. What the mode freezes requires no gradient: hand an optimizer the others.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> [type(layer).__name__ for layer in masked(net, "01", "fixed_gamma")[2]]
    ['Linear', 'BatchNorm1d']

    Args:
        net: any module whose calls `torch.fx` can trace.
        mask: one 0 or 1 for each of `find_slots(net)`: `"0,1,1"`, `[0, 1, 1]`, `"all"` or `"none"`.
        mode: as `ABLATION` takes it.
        norm: as `NORM` takes it. Unless given, norms that the network brings stay, with all they have; elsewhere batch norm.
        slots: paths of weight layers, or of the network's own norms, in the mask's order, in place of those that are found.
        random_seed: of starts that are drawn.

    Raises:
        ConfigError: mask, mode, norm or slots do not fit the network.
        ValueError: the network cannot be traced, and no slots are given.
    """
    found = copy.deepcopy(net)
    names = tuple(slots) if slots is not None else _found(found)
    modules = dict(found.named_modules())
    for name in names:
        if name not in modules:
            raise ConfigError(f"slots={name}: the network has no such module; {nearest_first(name, filter(None, modules))}")
        if not (is_own_norm(modules[name]) or any(isinstance(module, WEIGHT_LAYERS) for module in modules[name].modules())):
            raise ConfigError(f"slots={name}: holds no conv or linear layer, and is no norm of the network's own")
    digits = parse_mask(mask if isinstance(mask, str) else ",".join(map(str, mask)), names)
    treat_(found, treatments(digits, mode, canonical_norm(norm)), slots=names, random_seed=random_seed)
    for name in itertools.compress(names, digits):
        for module in found.get_submodule(name).modules():
            if isinstance(module, nn.Linear):  # nobody knows yet what it will be given
                module.register_forward_hook(partial(_check_channels, name))
    freeze_weights_(found, names, trained_weights(mode))
    return found


def _check_channels(slot: str, _: nn.Module, __: object, features: torch.Tensor) -> None:
    if features.ndim > 2:
        gives = f"{slot}: its linear layer gives features of shape {tuple(features.shape)}"
        raise ConfigError(f"{gives}, and must give (images, channels) where a norm stands behind it")


def _found(net: nn.Module) -> tuple[str, ...]:
    try:
        return find_slots(net)
    except ValueError as error:
        raise ValueError(f"{error}; masked(..., slots=[...]) takes them by their paths") from error
