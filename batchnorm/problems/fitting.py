"""Builds a problem's network, and holds it against what the problem is registered with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from batchnorm.data.facts import IMAGE_SETS, size_in_words
from batchnorm.data.sources import name_of
from batchnorm.errors import ConfigError, what_is_short
from batchnorm.problems.registry import Problem, what_failed
from batchnorm.seeding import seed_default_generators
from batchnorm.slots import find_slots

NO_SLOT = "its network has no slot: no conv or linear layer whose output goes into an activation, and no norm"


def make_network(problem: Problem, seed: int) -> nn.Module:
    """Build a problem's own network, on the CPU.

    Raises:
        ConfigError: a user's file cannot build it.
    """
    seed_default_generators(seed, "initial weights")
    try:
        net = problem.make_network()
    except Exception as error:
        if not problem.source_digest or what_is_short(error) is not None:
            raise
        raise ConfigError(f"PROBLEM={problem.name}: its network cannot be built: {_what_failed(problem, error)}") from None
    if not isinstance(net, nn.Module):
        raise ConfigError(f"PROBLEM={problem.name}: its function must return a torch.nn.Module, not {type(net).__name__}")
    return net


def check_slots(problem: Problem, net: nn.Module) -> None:
    """Hold the slots that a problem is registered with against those of its network.

    Raises:
        ConfigError: they differ, it has none, or it cannot be traced.
    """
    try:
        found = find_slots(net)
    except ValueError as error:
        raise ConfigError(f"PROBLEM={problem.name}: {error}") from None
    if not found:
        raise ConfigError(f"PROBLEM={problem.name}: {NO_SLOT}")
    if found != problem.slots:
        raise ConfigError(
            f"PROBLEM={problem.name}: is registered with slots={problem.slots}, its network has {found}; "
            "register it with those, in this order"
        )


def check_fit(problem: Problem, net: nn.Module, slots: Sequence[str], shape: Sequence[int]) -> None:
    """See that a network takes images of a size (channels, height, width), and gives one number for each class.

    In its slots, linear layers must give features of shape (B, C): a norm behind them takes dimension 1 for the channels.

    Raises:
        ConfigError: it does not.
    """
    hooks = [
        module.register_forward_hook(partial(_check_features, problem, slot))
        for slot in slots
        for module in net.get_submodule(slot).modules()
        if isinstance(module, nn.Linear)
    ]
    net.eval()
    try:
        with torch.no_grad():
            outputs = net(torch.zeros(2, *shape))
    except ConfigError:
        raise
    except Exception as error:
        if what_is_short(error) is not None:
            raise
        sizes = ", ".join(f"{name} {each.size}" for name, each in IMAGE_SETS.items())
        images = f"{name_of(problem.image_set)}, {size_in_words(shape)}"
        wrong = f"its network does not take images of {images}: {_what_failed(problem, error)}"
        raise ConfigError(f"PROBLEM={problem.name}: {wrong}; image sets, channels x height x width: {sizes}") from None
    finally:
        net.train()
        for hook in hooks:
            hook.remove()
    given = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if given != (2, problem.classes):
        wanted = f"of {problem.classes} classes it must give {(2, problem.classes)}"
        raise ConfigError(f"PROBLEM={problem.name}: of 2 images its network gives {given}; {wanted}")


def _check_features(problem: Problem, slot: str, _: nn.Module, __: object, features: torch.Tensor) -> None:
    if features.ndim != 2:
        gives = f"of 2 images, the linear layer in its slot {slot} gives {tuple(features.shape)}, and must give (2, channels)"
        instead = "flatten before it, or put nn.Conv1d(..., 1) with channels first, or norms of the network's own, in its place"
        raise ConfigError(f"PROBLEM={problem.name}: {gives}; {instead}")


def _what_failed(problem: Problem, error: Exception) -> str:
    """Say what went wrong in a problem's network, and in which line of the file that builds it."""
    return what_failed(error, Path(problem.make_network.__code__.co_filename))
