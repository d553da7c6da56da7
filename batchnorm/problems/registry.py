"""A registry of networks that can be trained, the package's and those of users' own files. Reading it loads no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from batchnorm.data.facts import IMAGE_SETS
from batchnorm.data.own import OwnImages
from batchnorm.errors import ConfigError, nearest_first, one_line, reason_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Problem:
    """A network and the images it is trained on.

    Attributes:
        name: what `PROBLEM=` takes, and what stands in the paths of its runs.
        image_set: a key of `batchnorm.data.facts.IMAGE_SETS`, or a user's own images.
        classes: how many classes the network tells apart; labels must lie below.
        slots: the slots' names in the network's order; a mask has one digit for each.
        make_network: builds the network without BatchNorm inserted, drawing its initial weights from torch's
            default generator.
        dense: the slots whose layer gives one value per channel and image, so that BatchNorm there needs two images at
            least. It lets a study refuse such a batch beforehand; a run finds it from the network too.
        brings_norms: whether its own norms are its slots, so that a study may refuse `PLACEMENT=after` beforehand.
        source_digest: of the user's file that it is from; empty for the package's own.
    """

    name: str
    image_set: str | OwnImages
    classes: int
    slots: tuple[str, ...]
    make_network: Callable[[], nn.Module]
    dense: tuple[str, ...] = ()
    brings_norms: bool = False
    source_digest: str = ""


MakeNetwork = Callable[[], "nn.Module"]
_registry: dict[str, Problem] = {}


def register_problem(
    *,
    image_set: str | OwnImages,
    classes: int,
    slots: tuple[str, ...],
    dense: tuple[str, ...] = (),
    brings_norms: bool = False,
) -> Callable[[MakeNetwork], MakeNetwork]:
    """Register the decorated function, under its own name, as the one that builds a problem's network; see `Problem`."""

    def register(make_network: MakeNetwork) -> MakeNetwork:
        name = make_network.__name__
        _registry[name] = Problem(name, image_set, classes, tuple(slots), make_network, tuple(dense), brings_norms)
        return make_network

    return register


def problems() -> Mapping[str, Problem]:
    """Return all registered problems by name."""
    return dict(_registry)


def problem_name(text: str) -> str:
    """Return a problem's name in paths and in TUNING_CONF: of `path/to/file.py:function` the function's."""
    file, colon, function = text.rpartition(":")
    return function if colon and file.endswith(".py") else text


def find_problem(text: str) -> Problem:
    """Return one problem.

    Args:
        text: its name, or `path/to/file.py:function` for a function in a file that `register_problem` decorates.

    Raises:
        ConfigError: no problem has that name, the file cannot be loaded, or there is no such image set or it has more classes.
    """
    name = problem_name(text)
    if name != text:
        return _fitting(text, _load(text, Path(text.removesuffix(f":{name}")), name))
    if text not in _registry:
        own = "; path/to/file.py:function takes one from a file of yours"
        raise ConfigError(f"PROBLEM={text}: no such problem; {nearest_first(text, _registry)}{own}")
    return _fitting(text, _registry[text])


def _fitting(text: str, problem: Problem) -> Problem:
    """Return a problem whose image set is there and has no more classes than the network."""
    if not isinstance(problem.image_set, str):
        return problem
    if problem.image_set not in IMAGE_SETS:
        valid = nearest_first(problem.image_set, IMAGE_SETS)
        raise ConfigError(f"PROBLEM={text}: image_set={problem.image_set}: no such image set; {valid}, or OwnImages(...)")
    least = IMAGE_SETS[problem.image_set].classes
    if problem.classes < least:
        sizes = ", ".join(f"{name} {facts.classes}" for name, facts in IMAGE_SETS.items())
        wrong = f"classes={problem.classes}: must be {least} or more for image_set={problem.image_set}"
        raise ConfigError(f"PROBLEM={text}: {wrong}; classes of each image set: {sizes}")
    return problem


def _load(text: str, path: Path, function: str) -> Problem:
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"PROBLEM={text}: {path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"PROBLEM={text}: {path} cannot be read: {reason_of(error)}") from None
    digest = hashlib.sha256(source).hexdigest()
    found = _problems_of(path.resolve(), digest, shown=text)
    if function not in found:
        has = nearest_first(function, found) if found else "it has none; decorate a function with @register_problem(...)"
        raise ConfigError(f"PROBLEM={text}: {path} registers no such problem; {has}")
    return found[function]


def what_failed(error: BaseException, path: Path) -> str:
    """Say what went wrong in a user's file, and in which of its lines: `NameError in line 2: name 'z' is not defined`."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f" in line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}{where}: {one_line(error)}"


@cache
def _problems_of(path: Path, digest: str, *, shown: str) -> dict[str, Problem]:
    """Run a user's file once, and return what it registers; the package's own registry stays as it is."""
    name = f"batchnorm_problem_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = dict(_registry)
    _registry.clear()
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        return {name: replace(problem, source_digest=digest) for name, problem in _registry.items()}
    except Exception as error:
        raise ConfigError(f"PROBLEM={shown}: {path.name} cannot be loaded: {what_failed(error, path)}") from None
    finally:
        _registry.clear()
        _registry.update(before)
