"""Tries a problem before it is trained: builds it, finds its slots, makes one step, and writes its entry for TUNING_CONF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.data.facts import size_in_words
from batchnorm.data.sources import name_of, shape_of
from batchnorm.errors import ConfigError, one_line, what_is_short
from batchnorm.modes import DEFAULT_MODE, treatments
from batchnorm.norms import BATCHNORM, is_own_norm
from batchnorm.problems.fitting import NO_SLOT, check_fit, make_network
from batchnorm.problems.registry import Problem, find_problem
from batchnorm.slots import find_slots, layers_without_slot, treat_

_SEED = 1
_IMAGES = 64
_ENTRY = """\
{name}:
  batch_size: 128
  num_epochs: 10
  SGD: {{lr_schedule: null, opt_hpars: {{lr: 0.1}}}}
  Adam: {{lr_schedule: null, opt_hpars: {{lr: 1.0e-3, beta1: 0.9, beta2: 0.999, eps: 1.0e-08}}}}"""


def check(text: str, obs_datasets: str = "data") -> tuple[str, str]:
    """Try a problem; no images are needed, random ones take their place. A user's own are read where only they tell their size.

    Args:
        text: its name, or `path/to/file.py:function`.
        obs_datasets: where image sets are.

    Returns:
        What is told of it, over several lines, and what is to be put right, empty where nothing is.

    Raises:
        ConfigError: it cannot be built or traced, or does not fit its images.
        DataError: its images are absent, or not as said.
    """
    problem = find_problem(text)
    shape = shape_of(problem.image_set, Path(obs_datasets))
    net = make_network(problem, _SEED)
    try:
        slots = find_slots(net)
        without = layers_without_slot(net)
    except ValueError as error:
        raise ConfigError(f"PROBLEM={text}: {one_line(error)}") from None
    check_fit(problem, net, slots, shape)
    values = list(net.parameters())
    lines = [
        f"{problem.name}: {name_of(problem.image_set)} ({size_in_words(shape)}), {problem.classes} classes",
        f"slots={_as_python(slots)}",
        _own_norms(net, slots),
        *(f"no slot: {layer}, whose output goes into {taker}" for layer, taker in without.items()),
        f"parameters: {sum(value.numel() for value in values):,}",
        f"one step, no norm: {_step(problem, shape, (0,) * len(slots))}",
        f"one step, BatchNorm in all slots: {_step(problem, shape, (1,) * len(slots))}" if slots else "",
        "\nAn entry for the file that TUNING_CONF names; its values are a start, and not tuned:\n",
        _ENTRY.format(name=problem.name),
    ]
    return "\n".join(filter(None, lines)), _wrong(problem, net, slots)


def _own_norms(net: nn.Module, slots: Sequence[str]) -> str:
    """Say how norms that the network brings are trained with, where the default puts others in their place."""
    norms = [norm for norm in map(net.get_submodule, slots) if is_own_norm(norm) and not isinstance(norm, BATCHNORM)]
    kinds = ", ".join(dict.fromkeys(type(norm).__name__ for norm in norms))
    return f"own norms: {kinds}; kept with NORM=own, by default BatchNorm stands in their place" if norms else ""


def _wrong(problem: Problem, net: nn.Module, slots: tuple[str, ...]) -> str:
    """Say what a run would refuse, or what would make runs of one seed differ in more than their mask and mode."""
    again = make_network(problem, _SEED)
    if not all(one.equal(other) for one, other in zip(net.parameters(), again.parameters(), strict=True)):
        return "its initial weights differ when it is built again with the same seed; draw them from torch's default generator"
    if not slots:
        return NO_SLOT
    if slots != problem.slots:
        return f"it is registered with slots={_as_python(problem.slots)}; register it with slots={_as_python(slots)}"
    return ""


def _step(problem: Problem, shape: Sequence[int], mask: Sequence[int]) -> str:
    """Pass random images forward and back through a new network, and say what came of it."""
    net = make_network(problem, _SEED)
    try:
        treat_(net, treatments(tuple(mask), DEFAULT_MODE))
        images, labels = torch.rand(_IMAGES, *shape), torch.arange(_IMAGES) % problem.classes
        loss = cross_entropy(net(images), labels)
        loss.backward()
    except Exception as error:
        if what_is_short(error) is not None:
            raise
        raise ConfigError(f"PROBLEM={problem.name}: fails in training: {type(error).__name__}: {one_line(error)}") from None
    idle = [name for name, value in net.named_parameters() if value.grad is None]
    return f"loss {loss.item():.3f} on {_IMAGES} random images" + (f"; no gradient reaches {', '.join(idle)}" if idle else "")


def _as_python(slots: Sequence[str]) -> str:
    """Write slots as `register_problem` takes them, in double quotes."""
    return "(" + ", ".join(f'"{slot}"' for slot in slots) + (",)" if len(slots) == 1 else ")")
