"""TUNING_CONF: a YAML file of hyperparameters, and what its entry says of one problem and optimizer, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from batchnorm import shipped
from batchnorm.errors import ConfigError, nearest_first, one_line, reason_of
from batchnorm.optim import OPTIMIZERS, check_hyperparameters, named_schedule


@dataclass(frozen=True)
class Tuned:
    """What TUNING_CONF says of one problem with one optimizer; None where it says nothing.

    Attributes:
        where: how a message names the entry.
        batch_size, num_epochs: as they stand there, not yet checked.
        lr: the learning rate.
        opt_hpars: the optimizer's other hyperparameters.
        lr_schedule: None for a constant rate.
    """

    where: str
    batch_size: Any
    num_epochs: Any
    lr: float | None
    opt_hpars: dict[str, float]
    lr_schedule: dict[str, Any] | None


def read_tuning(path: Path) -> dict[str, Any]:
    """Read a file of hyperparameters: problem -> its entry.

    Raises:
        ConfigError: it is missing or malformed.
    """
    found = tuning_file(path)
    if shipped.is_missing(found):
        raise ConfigError(f"TUNING_CONF={path}: {shipped.not_there(path, among=shipped.CONFIGS)}")
    return read_yaml(found, key="TUNING_CONF")


def tuning_file(path: Path) -> Path:
    """Return the file that TUNING_CONF means: one below this folder, else a shipped one."""
    return shipped.find(path, among=shipped.CONFIGS)


def read_yaml(path: Path, *, key: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; `key` begins the message where it does not.

    Raises:
        ConfigError: it is missing or malformed.
    """
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError:
        raise ConfigError(f"{key}={path}: no such file") from None
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{key}={path}: not valid YAML: {one_line(error)}") from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{key}={path}: cannot be read: {reason_of(error)}") from None
    except AssertionError:  # what OmegaConf says of a file that holds one number
        loaded = None
    if not isinstance(loaded, dict) or not loaded:
        raise ConfigError(f"{key}={path}: holds no entries")
    return cast("dict[str, Any]", loaded)


def read_number(value: object, *, shown: str, needs: str = "a number") -> float:
    """Take a value for a number; `shown` and `needs` make the message where it is none.

    Raises:
        ConfigError: it is none.
    """
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(cast(Any, value))
    except (TypeError, ValueError):
        raise ConfigError(f"{shown}: must be {needs}") from None


def tuned_values(entries: Mapping[str, Any], *, path: Path, problem: str, optimizer: str) -> Tuned:
    """Return what a tuning file says of a problem with an optimizer.

    Raises:
        ConfigError: it has no such entry, or the entry is malformed.
    """
    where = f"TUNING_CONF={path}: {problem}"
    if problem not in entries:
        raise ConfigError(f"TUNING_CONF={path}: has no entry for {problem}; it has {', '.join(map(str, entries))}")
    entry = entries[problem]
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: must hold batch_size, num_epochs and optimizers")
    known = ["batch_size", "num_epochs", *OPTIMIZERS]
    for name in entry:
        if name not in known:
            raise ConfigError(f"{where}.{name}: unknown; {nearest_first(str(name), known)}")
    if optimizer not in entry:
        has = ", ".join(name for name in entry if name in OPTIMIZERS) or "none"
        raise ConfigError(f"OPTIMIZER={optimizer}: {problem} in {path} has no entry for it; it has {has}")
    block = entry[optimizer]
    if not isinstance(block, dict) or not isinstance(block.get("opt_hpars"), dict):
        raise ConfigError(f"{where}.{optimizer}: must hold opt_hpars and lr_schedule")
    for name in block:
        if name not in ("opt_hpars", "lr_schedule"):
            raise ConfigError(f"{where}.{optimizer}.{name}: unknown; {nearest_first(str(name), ['opt_hpars', 'lr_schedule'])}")
    schedule = block.get("lr_schedule")
    if schedule is not None and not isinstance(schedule, dict):
        raise ConfigError(f"{where}.{optimizer}.lr_schedule={schedule}: must be null or {{name: ..., settings}}")
    hyperparameters = {
        str(name): read_number(value, shown=f"{where}.{optimizer}.opt_hpars.{name}={value}")
        for name, value in block["opt_hpars"].items()
    }
    lr = hyperparameters.pop("lr", None)
    check_hyperparameters(optimizer, hyperparameters, where=f"{where}.{optimizer}.opt_hpars")
    schedule = named_schedule(schedule, where=f"{where}.{optimizer}.lr_schedule")
    return Tuned(where, entry.get("batch_size"), entry.get("num_epochs"), lr, hyperparameters, schedule)
