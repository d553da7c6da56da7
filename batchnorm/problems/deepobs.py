"""The one file that touches the deepobs package: it imports it without TensorFlow, and builds its PyTorch networks."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from batchnorm.problems.reordering import pool_before_relu_
from batchnorm.problems.same_padding import fold_same_padding_


def import_deepobs() -> ModuleType:
    """Import the whole of `deepobs.pytorch`, whether or not `import deepobs` works by itself.

    DeepOBS 1.1.2 imports TensorFlow in its `__init__`, which its PyTorch half has no need of. Where that fails, a bare
    module with the package's folder takes the place of `deepobs`, and the half is imported from there, untouched.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("deepobs.pytorch")
        except ImportError:
            _forget_deepobs()
        _register_bare("deepobs", _deepobs_folder())
        # deepobs.pytorch's data sets look for the data folder in deepobs.config, which `import deepobs` would have loaded.
        sys.modules["deepobs"].config = importlib.import_module("deepobs.config")  # type: ignore[attr-defined]
        return importlib.import_module("deepobs.pytorch")


@functools.cache
def _networks() -> ModuleType:
    """Import the module that defines DeepOBS's networks, and nothing beside it.

    The packages around it would import DeepOBS's data sets, runners and with them torchvision and pandas, and it imports
    scipy.stats itself, for the initial weights of some networks: seconds at the start of each run. Bare modules stand in
    for them while this one is imported, and leave no trace but `_TruncatedNormal`.
    """
    present = "deepobs.pytorch.testproblems.testproblems_modules"
    if present in sys.modules:
        return sys.modules[present]
    _forget_deepobs()
    folder = _deepobs_folder()
    _register_bare("deepobs", folder)
    _register_bare("deepobs.pytorch", folder / "pytorch")
    _register_bare("deepobs.pytorch.testproblems", folder / "pytorch" / "testproblems")
    scipy_stats = sys.modules.get("scipy.stats")
    sys.modules["scipy.stats"] = ModuleType("scipy.stats")
    sys.modules["scipy.stats"].truncnorm = _TruncatedNormal()  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(present)
        finally:
            _forget_deepobs()
            del sys.modules["scipy.stats"]
            if scipy_stats is not None:
                sys.modules["scipy.stats"] = scipy_stats


class _TruncatedNormal:
    """scipy.stats.truncnorm for DeepOBS: imported when it is used, and drawn from in parts, which gives the same numbers.

    At once, the 3.2 million weights of 2c2d's dense layer would take half a gigabyte.
    """

    def rvs(self, *, size: int, **keys: Any) -> NDArray[np.float64]:
        """Draw `size` numbers; the other keys are scipy's."""
        from scipy.stats import truncnorm

        part = 2**18
        parts = [truncnorm.rvs(size=min(part, size - start), **keys) for start in range(0, size, part)]
        return np.concatenate(parts)


def _deepobs_folder() -> Path:
    spec = importlib.util.find_spec("deepobs")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("the package deepobs is not installed: pip install deepobs")
    return Path(next(iter(spec.submodule_search_locations)))


def _register_bare(name: str, folder: Path) -> None:
    bare = ModuleType(name)
    bare.__path__ = [str(folder)]
    sys.modules[name] = bare


def _forget_deepobs() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "deepobs"]:
        del sys.modules[name]


def unfolded_network(name: str, **options: Any) -> nn.Module:
    """Build one of DeepOBS's networks as DeepOBS does."""
    net: nn.Module = getattr(_networks(), name)(**options)
    return net


def network(name: str, *, input_shape: tuple[int, int, int], **options: Any) -> nn.Module:
    """Build one of DeepOBS's networks, with the same initial weights, and with its TensorFlow padding folded away.

    Args:
        name: a class of `deepobs.pytorch.testproblems.testproblems_modules`.
        input_shape: (channels, height, width) of its images.
        options: what the class takes.
    """
    net = unfolded_network(name, **options)
    _replace_flatten_(net)
    fold_same_padding_(net, torch.zeros(1, *input_shape))
    pool_before_relu_(net)
    return net


def _replace_flatten_(net: nn.Module) -> None:
    """Put `nn.Flatten` for DeepOBS's `flatten`, whose `view` fails on channels_last activations."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child).__name__ == "flatten":
                setattr(module, name, nn.Flatten())
