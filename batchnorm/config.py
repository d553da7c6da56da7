"""What a run is: its keys with their defaults, read and checked from the command line and the tuning file. No torch here."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Union, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from batchnorm.errors import ConfigError, nearest_first, one_line
from batchnorm.masks import Ablation, Mask, format_mask, parse_mask
from batchnorm.optim import OPTIMIZERS, POSITIVE, SCHEDULES, check_hyperparameters, check_schedule
from batchnorm.problems import find_problem

PRECISIONS = ("fp32", "bf16")
MEMORY_FORMATS = ("auto", "contiguous", "channels_last")
TUNED = "from TUNING_CONF"


def _key(text: str, *, needs: str, default: Any = MISSING, decides_result: bool = False, shown: str | None = None) -> Any:
    """Declare one key: its meaning, the values it needs in a message's words, and whether the fingerprint covers it."""
    about = {"help": text, "needs": needs, "decides_result": decides_result, "default": shown}
    return field(default=default, metadata=about)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, fully resolved; each field is a key of the command line, in any case.

    Make one with `read_command_line`, `resolve` or `RunConfig.load`, which check it.
    """

    problem: str = _key("what is trained", needs="a problem's name", decides_result=True, shown="required")
    random_seed: int = _key(
        "seed of all randomness", needs="an integer from 0 to 2**63 - 1", decides_result=True, shown="required"
    )
    position: str = _key(
        "mask, where BatchNorm stands: 0,0,1,1,1 | [0,0,1,1,1] | 00111 | all | none",
        needs="a mask",
        default="all",
        decides_result=True,
    )
    ablation: str = _key(
        "mode, what of BatchNorm is trained", needs="a mode", default=Ablation.TRAINED_BN.value, decides_result=True
    )
    tuning_conf: str = _key("file of hyperparameters", needs="a file", default="configs/basic_config.yaml")
    optimizer: str = _key(
        "an optimizer that the problem's entry in TUNING_CONF has",
        needs="an optimizer's name",
        default="SGD",
        decides_result=True,
    )
    lr: float = _key("learning rate", needs=POSITIVE.words, decides_result=True, shown=TUNED)
    opt_hpars: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "help": "OPT_HPARS.name=value: one of the optimizer's other hyperparameters",
            "needs": "a number",
            "decides_result": True,
            "default": TUNED,
        },
    )
    lr_schedule: dict[str, Any] | None = _key(
        "LR_SCHEDULE=name, LR_SCHEDULE.setting=value, or null for a constant rate",
        needs="a schedule's name, or null",
        decides_result=True,
        default=None,
        shown=TUNED,
    )
    num_epochs: int = _key("epochs to train", needs="an integer >= 1", decides_result=True, shown=TUNED)
    batch_size: int = _key("images in a training batch", needs="an integer >= 1", decides_result=True, shown=TUNED)
    max_steps: int | None = _key(
        "stop after exactly this many updates", needs="an integer >= 1", default=None, decides_result=True, shown="none"
    )
    l2_reg: float = _key(
        "L2 factor on weights, never on biases, gamma or beta",
        needs="a finite number >= 0",
        default=0.0,
        decides_result=True,
    )
    bias_init: Union[float, str] = _key(  # noqa: UP007  (OmegaConf reads typing.Union only)
        "deepobs: the problem's own initial biases; a number: all biases start there",
        needs="deepobs or a finite number",
        default="deepobs",
        decides_result=True,
    )
    precision: str = _key("fp32, or bf16 (autocast)", needs=" or ".join(PRECISIONS), default="fp32", decides_result=True)
    compile: bool = _key(
        "torch.compile the training step: needs a C++ compiler; slower on a CPU, not measured on a GPU",
        needs="true or false",
        default=False,
        decides_result=True,
    )
    obs_datasets: str = _key("where image sets are kept, and downloaded to when absent", needs="a folder", default="data")
    output_dir: str = _key("where runs are kept", needs="a folder", default="output")
    device: str = _key("auto | cpu | cuda | cuda:1", needs="auto, cpu, cuda or cuda:N", default="auto")
    memory_format: str = _key(
        "auto (the faster for device and precision) | contiguous | channels_last",
        needs=" or ".join(MEMORY_FORMATS),
        default="auto",
    )
    threads: int = _key("CPU threads of this run", needs="an integer >= 1", shown="all cores")
    log_every_steps: int = _key(
        "updates between two records of loss, gamma, beta and bias; 0: only the last",
        needs="an integer >= 0",
        default=5,
    )
    deterministic: bool = _key("bit-reproducible kernels", needs="true or false", default=True)
    overwrite: bool = _key("start the run directory afresh", needs="true or false", default=False)

    @property
    def mask(self) -> Mask:
        """One 0 or 1 per slot; `position` holds it in comma form."""
        return tuple(int(digit) for digit in self.position.split(","))

    @property
    def mode(self) -> Ablation:
        """What of BatchNorm is trained."""
        return Ablation(self.ablation)

    @property
    def directory(self) -> Path:
        """Where the run lies: OUTPUT_DIR/SEED__PROBLEM__MASK/Lr_LR/Ep_EPOCHS/ABLATION."""
        run = f"{self.random_seed}__{self.problem}__{self.position}"
        return Path(self.output_dir) / run / f"Lr_{self.lr!r}" / f"Ep_{self.num_epochs}" / self.ablation

    def fingerprint(self) -> dict[str, Any]:
        """Return the keys that decide the result up to rounding; two runs that agree in them are the same run.

        The images' digest belongs to it too; it is added when the images have been read. With an all-zero mask
        the four modes are one run.
        """
        decisive = {entry.name.upper(): getattr(self, entry.name) for entry in fields(self) if entry.metadata["decides_result"]}
        if not any(self.mask):
            decisive["ABLATION"] = Ablation.TRAINED_BN.value
        return decisive

    def to_dict(self) -> dict[str, Any]:
        """Return all keys in upper case with plain values, as `config.yaml` and the run's record hold them."""
        return {entry.name.upper(): getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RunConfig:
        """Take back what `to_dict` returned; a run can be read where its problem is not registered.

        Raises:
            ConfigError: a key is unknown, missing or has a wrong type.
        """
        typed = _blank()
        for key, value in stored.items():
            _set(typed, _field_name(str(key)), value, shown=f"{key}={value}")
        return _frozen(typed)

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Read a run's `config.yaml`.

        Raises:
            ConfigError: the file is missing, malformed or not a run's configuration.
        """
        return cls.from_dict(_read_yaml(path, key="config"))

    def save(self, path: Path) -> None:
        """Write `config.yaml`."""
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(self.to_dict())), encoding="utf-8")


def read_command_line(arguments: Sequence[str]) -> RunConfig:
    """Read `KEY=value` arguments into a checked run.

    Raises:
        ConfigError: a key, a value or the tuning file is wrong.
    """
    return resolve(split_arguments(arguments))


def split_arguments(arguments: Iterable[str]) -> dict[str, str]:
    """Take `KEY=value` arguments apart, values as raw text (YAML would read `00111` as 73); the last of a key counts.

    Raises:
        ConfigError: an argument has no `=`, or its key is unknown.
    """
    overrides: dict[str, str] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument}: not KEY=value; --help lists the keys")
        overrides[override_name(key)] = text
    return overrides


def read_tuning(path: Path) -> dict[str, Any]:
    """Read a file of hyperparameters: problem -> its entry.

    Raises:
        ConfigError: it is missing or malformed.
    """
    return _read_yaml(path, key="TUNING_CONF")


def override_name(key: str) -> str:
    """Return the name under which `resolve` takes a key that is given in any case, as `OPT_HPARS.momentum`.

    Raises:
        ConfigError: there is no such key.
    """
    group, dot, name = key.partition(".")
    full_name = _field_name(group) + dot + _as_spelt(name)
    return "lr" if full_name == "opt_hpars.lr" else full_name


def resolve(overrides: Mapping[str, Any], *, read_tuning: Callable[[Path], dict[str, Any]] = read_tuning) -> RunConfig:
    """Complete overrides by the tuning file's values and the defaults, and check the whole.

    Args:
        overrides: field names (`opt_hpars.momentum` for one hyperparameter) to values, as text or typed.
        read_tuning: reads the tuning file; who resolves hundreds of runs has it read once.

    Raises:
        ConfigError: a value or the tuning file is wrong.
    """
    typed = _blank()
    for key, value in overrides.items():
        if "." not in key and key not in ("lr_schedule", "opt_hpars"):
            _set(typed, key, value, shown=f"{key.upper()}={value}")
    if not OmegaConf.is_missing(typed, "problem"):
        find_problem(typed.problem)
    for required in ("problem", "random_seed"):
        if OmegaConf.is_missing(typed, required):
            raise ConfigError(f"{required.upper()} is required; give {required.upper()}=..., --help lists the keys")
    _apply_tuning(typed, _tuning_entry(typed, read_tuning), overrides)
    return _checked(typed)


def _blank() -> DictConfig:
    """Return the typed keys at their defaults; a frozen dataclass is read-only to OmegaConf, which is lifted here."""
    typed: DictConfig = OmegaConf.structured(RunConfig)
    OmegaConf.set_readonly(typed, False)
    return typed


def _field_name(key: str) -> str:
    names = [entry.name for entry in fields(RunConfig)]
    name = key.lower()
    if name not in names:
        raise ConfigError(f"{key}: unknown key; {nearest_first(key.upper(), [known.upper() for known in names])}")
    return name


def _as_spelt(name: str) -> str:
    """Return a nested name, given in any case, as the optimizers and schedules spell it."""
    spellings = [name for schedule in SCHEDULES.values() for name in (*schedule.required, *schedule.optional)]
    return next((spelling for spelling in spellings if spelling.lower() == name.lower()), name.lower())


def _needs(name: str) -> str:
    return next(str(entry.metadata["needs"]) for entry in fields(RunConfig) if entry.name == name)


def _set(typed: DictConfig, name: str, value: Any, *, shown: str) -> None:
    """Assign one key, turning text into the field's type; OmegaConf's own messages take several lines."""
    if isinstance(value, str):
        if "${" in value:
            raise ConfigError(f"{shown}: interpolations are not supported")
        if "\0" in value or "\n" in value:
            raise ConfigError(f"{shown!r}: must be on one line")
        if value.lower() in ("null", "none") and name == "max_steps":
            value = None
        if name == "bias_init" and value != "deepobs":
            value = _number(value, shown=shown, needs=_needs(name))
    if isinstance(value, bool) and not isinstance(getattr(RunConfig, name, None), bool):
        raise ConfigError(f"{shown}: must be {_needs(name)}")
    try:
        OmegaConf.update(typed, name, value, merge=False)
    except OmegaConfBaseException:
        raise ConfigError(f"{shown}: must be {_needs(name)}") from None


def _number(value: object, *, shown: str, needs: str) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(cast(Any, value))
    except (TypeError, ValueError):
        raise ConfigError(f"{shown}: must be {needs}") from None


def _read_yaml(path: Path, *, key: str) -> dict[str, Any]:
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError:
        raise ConfigError(f"{key}={path}: no such file") from None
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{key}={path}: not valid YAML: {one_line(error)}") from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{key}={path}: cannot be read: {one_line(error)}") from None
    except AssertionError:  # what OmegaConf says of a file that holds one number
        loaded = None
    if not isinstance(loaded, dict) or not loaded:
        raise ConfigError(f"{key}={path}: holds no entries")
    return cast("dict[str, Any]", loaded)


def _tuning_entry(typed: DictConfig, read_tuning: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Return the problem's entry of the tuning file: batch_size, num_epochs, and the optimizer's block under its name."""
    problem, optimizer, path = typed.problem, typed.optimizer, Path(typed.tuning_conf)
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"OPTIMIZER={optimizer}: no such optimizer; {nearest_first(optimizer, OPTIMIZERS)}")
    entries = read_tuning(path)
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
    return entry


def _apply_tuning(typed: DictConfig, entry: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Fill what the tuning file gives and the overrides do not, and lay the nested overrides over it."""
    where = f"TUNING_CONF={typed.tuning_conf}: {typed.problem}"
    for name in ("batch_size", "num_epochs"):
        if not OmegaConf.is_missing(typed, name):
            continue
        if name not in entry:
            raise ConfigError(f"{where}: lacks {name}; give {name.upper()}=... or add it")
        _set(typed, name, entry[name], shown=f"{where}.{name}={entry[name]}")
    block = entry[typed.optimizer]
    tuned = {
        str(name): _number(value, shown=f"{where}.{typed.optimizer}.opt_hpars.{name}={value}", needs="a number")
        for name, value in block["opt_hpars"].items()
    }
    schedule: Any = block.get("lr_schedule")
    if schedule is not None and not isinstance(schedule, dict):
        raise ConfigError(f"{where}.{typed.optimizer}.lr_schedule={schedule}: must be null or {{name: ..., settings}}")
    check_hyperparameters(
        typed.optimizer,
        {name: value for name, value in tuned.items() if name != "lr"},
        where=f"{where}.{typed.optimizer}.opt_hpars",
    )
    for key, value in overrides.items():
        group, _, name = key.partition(".")
        shown = f"{group.upper()}{'.' + name if name else ''}={value}"
        if group == "opt_hpars":
            given = value if not name and isinstance(value, Mapping) else {name: value}
            for hyperparameter, number in given.items():
                if not hyperparameter:
                    raise ConfigError(f"{shown}: give OPT_HPARS.name=value")
                tuned[str(hyperparameter)] = _number(number, shown=shown, needs="a number")
        elif group == "lr_schedule":
            schedule = _override_schedule(schedule, name, value, shown=shown)
        elif name:
            raise ConfigError(f"{shown}: {group.upper()} takes a plain value")
    if OmegaConf.is_missing(typed, "lr"):
        if "lr" not in tuned:
            raise ConfigError(f"{where}.{typed.optimizer}.opt_hpars: lacks lr; give LR=... or add it")
        typed.lr = tuned["lr"]
    tuned.pop("lr", None)
    typed.opt_hpars = tuned
    typed.lr_schedule = schedule


def _override_schedule(schedule: dict[str, Any] | None, setting: str, value: Any, *, shown: str) -> dict[str, Any] | None:
    if not setting:
        if value is None or str(value).lower() in ("null", "none"):
            return None
        return dict(value) if isinstance(value, Mapping) else {"name": str(value)}
    if setting == "name":
        return {**(schedule or {}), "name": str(value)}
    if isinstance(value, str):
        items = [_number(item, shown=shown, needs="a number") for item in value.strip("[]").split(",")]
        value = items if setting == "milestones" else items[0]
    return {**(schedule or {}), setting: value}


def _checked(typed: DictConfig) -> RunConfig:
    """Check ranges, put values into their one canonical form, and freeze the whole."""
    if OmegaConf.is_missing(typed, "threads"):
        typed.threads = available_cores()
    config = _frozen(typed)
    slots = find_problem(config.problem).slots
    mask = parse_mask(config.position, slots)
    Ablation.parse(config.ablation)
    if config.optimizer not in OPTIMIZERS:
        raise ConfigError(f"OPTIMIZER={config.optimizer}: no such optimizer; {nearest_first(config.optimizer, OPTIMIZERS)}")
    for name, valid in (
        ("random_seed", 0 <= config.random_seed < 2**63),
        ("lr", 0 < config.lr < math.inf),
        ("num_epochs", config.num_epochs >= 1),
        ("batch_size", config.batch_size >= 1),
        ("max_steps", config.max_steps is None or config.max_steps >= 1),
        ("l2_reg", 0 <= config.l2_reg < math.inf),
        ("bias_init", config.bias_init == "deepobs" or math.isfinite(float(config.bias_init))),
        ("precision", config.precision in PRECISIONS),
        ("memory_format", config.memory_format in MEMORY_FORMATS),
        ("device", is_device(config.device)),
        ("threads", 1 <= config.threads <= 4096),
        ("log_every_steps", config.log_every_steps >= 0),
    ):
        if not valid:
            raise ConfigError(f"{name.upper()}={getattr(config, name)}: must be {_needs(name)}")
    for name in ("obs_datasets", "output_dir"):
        if not getattr(config, name).strip():
            raise ConfigError(f"{name.upper()}: is empty; must be {_needs(name)}")
    if config.optimizer == "AdamW" and config.l2_reg:
        raise ConfigError(f"L2_REG={config.l2_reg}: AdamW decays weights by itself; give OPT_HPARS.weight_decay instead")
    check_hyperparameters(config.optimizer, config.opt_hpars, where="OPT_HPARS")
    check_schedule(config.lr_schedule, epochs=config.num_epochs, where="LR_SCHEDULE")
    overwrite = config.overwrite and not _is_requeued()
    return replace(config, position=format_mask(mask), lr=float(config.lr), overwrite=overwrite)


def _frozen(typed: DictConfig) -> RunConfig:
    missing = sorted(str(key).upper() for key in OmegaConf.missing_keys(typed))
    if missing:
        raise ConfigError(f"{', '.join(missing)}: missing")
    return cast(RunConfig, OmegaConf.to_object(typed))


def is_device(text: str) -> bool:
    """Say whether DEVICE takes this text; whether the device is there, torch alone knows."""
    return text in ("auto", "cpu", "cuda") or (text.startswith("cuda:") and text[5:].isdecimal() and text.isascii())


def available_cores() -> int:
    """Return how many cores this process may use; a SLURM job has those it asked for, even where it is not bound to them."""
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, int(granted)) if granted.isdecimal() and int(granted) else cores


def _is_requeued() -> bool:
    """Say whether SLURM started this job again: it goes on with what it began, OVERWRITE=true was obeyed the first time."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def differing_keys(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Name the keys in which two fingerprints differ, with both values: `BATCH_SIZE (128 there, 64 here)`."""
    keys = [key for key in {**stored, **current} if stored.get(key) != current.get(key)]
    return [f"{key} ({_short(stored.get(key))} there, {_short(current.get(key))} here)" for key in sorted(keys)]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
