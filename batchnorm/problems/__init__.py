"""The problems: a registry of what can be trained. Reading the registry loads no torch; building a problem does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchnorm.errors import ConfigError, nearest_first

if TYPE_CHECKING:
    from torch import nn

    from batchnorm.config import RunConfig


@dataclass(frozen=True)
class Problem:
    """A network and the images it is trained on.

    Attributes:
        name: what `PROBLEM=` takes.
        image_set: a key of `batchnorm.data.sources.IMAGE_SETS`.
        classes: how many classes the network tells apart.
        slots: the slots' names in the network's order; a mask has one digit for each.
        make_network: builds the network without BatchNorm inserted, drawing its initial weights from torch's
            default generator.
    """

    name: str
    image_set: str
    classes: int
    slots: tuple[str, ...]
    make_network: Callable[[], nn.Module]


_registry: dict[str, Problem] = {}


def register_problem(
    *, image_set: str, classes: int, slots: tuple[str, ...]
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register the decorated function, under its own name, as the one that builds a problem's network."""

    def register(make_network: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        name = make_network.__name__
        _registry[name] = Problem(name, image_set, classes, slots, make_network)
        return make_network

    return register


def problems() -> Mapping[str, Problem]:
    """Return all registered problems by name."""
    return dict(_registry)


def find_problem(name: str) -> Problem:
    """Return one problem.

    Raises:
        ConfigError: no problem has that name.
    """
    if name not in _registry:
        raise ConfigError(f"PROBLEM={name}: no such problem; {nearest_first(name, _registry)}")
    return _registry[name]


def build_problem(config: RunConfig) -> nn.Module:
    """Build a run's network on the CPU: the problem's initial weights, BatchNorm where the mask says, frozen as the mode says.

    The weights are a function of the seed alone: every mask and mode starts from the same ones, bit for bit.
    """
    from batchnorm import ablation
    from batchnorm.seeding import seed_default_generators

    problem = find_problem(config.problem)
    seed_default_generators(config.random_seed, "initial weights")
    net = problem.make_network()
    found = ablation.find_slots(net)
    assert found == problem.slots, f"{problem.name} is registered with slots {problem.slots}, its network has {found}"
    if config.bias_init != "deepobs":
        ablation.fill_biases_(net, float(config.bias_init))
    ablation.insert_batchnorm_(net, config.mask)
    ablation.apply_mode_(net, config.mode)
    return net


from batchnorm.problems import catalog  # noqa: E402, F401  (registers its problems; needs the names above)
