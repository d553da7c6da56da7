"""What a run is: its keys with their defaults, read and checked from the command line and the tuning file. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, field, fields, replace
from functools import cache, lru_cache
from pathlib import Path, PurePath
from typing import Any, Union, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from batchnorm.errors import ConfigError, nearest_first
from batchnorm.modes import (
    DEFAULT_MODE,
    DEFAULT_NORM,
    NORMS,
    UNIFORM,
    UNTREATED,
    Affine,
    Mask,
    Treatment,
    canonical_mode,
    canonical_norm,
    format_mask,
    norm_kind,
    norms_stay,
    parse_mask,
    treatments,
)
from batchnorm.optim import (
    FINITE,
    NOT_NEGATIVE,
    OPTIMIZERS,
    POSITIVE,
    SCHEDULES,
    Range,
    check_hyperparameters,
    check_schedule,
    named_schedule,
)
from batchnorm.problems import find_problem, problem_name
from batchnorm.quantities import BASIC, FULL, MEASUREMENTS
from batchnorm.tuning import Tuned, read_number, read_tuning, read_yaml, tuned_values

TUNED = "from TUNING_CONF"
MAX_NAME_BYTES = 200
"""Of a run directory's last part; file systems allow 255, and some add to it."""


def one_of(*names: str) -> Range:
    """Return the range that is a list of words."""
    return Range(
        ", ".join(names[:-1]) + f" or {names[-1]}" if len(names) > 2 else " or ".join(names), lambda value: value in names
    )


def whole_from(least: int) -> Range:
    """Return a range of integers."""
    return Range(f"an integer >= {least}", lambda value: value >= least)


def none_or(valid: Range) -> Range:
    """Return the range of a key that may be left open."""
    return Range(valid.words, lambda value: value is None or valid.allows(value))


def is_device(text: str) -> bool:
    """Say whether DEVICE takes this text; whether the device is there, torch alone knows."""
    return text in ("auto", "cpu", "cuda") or (text.startswith("cuda:") and text[5:].isdecimal() and text.isascii())


def number_or(*words: str) -> Range:
    """Return the range of a key that takes a number or a word."""
    return Range(
        f"{', '.join(words)} or {FINITE.words}",
        lambda value: value in words if isinstance(value, str) else FINITE.allows(value),
    )


def anything(words: str) -> Range:
    """Return the range of a key whose value is looked up elsewhere."""
    return Range(words, lambda _: True)


BOOLEAN = anything("true or false")
AS_THE_MODE_SAYS = "mode"
FOLDER = Range("a directory", lambda value: bool(str(value).strip()))


def _key(
    text: str,
    valid: Range,
    *,
    default: Any = MISSING,
    decides: bool = False,
    shown: str | None = None,
    words: Sequence[str] = (),
    acts_in: Callable[[Treatment], bool] | None = None,
) -> Any:
    """Declare one key.

    Args:
        text: its meaning.
        valid: the values it takes, and how a message says so.
        default: where neither the command line nor TUNING_CONF gives it. Of a key that decides the result it never
            changes once it is released: a fingerprint leaves such a key out where it stands at its default.
        decides: whether it decides the run's result, up to rounding.
        shown: the default as `--help` shows it.
        words: what a key of numbers takes besides.
        acts_in: says of a slot's treatment whether the key acts there, if it acts in slots only. Where it acts in none, it is
            kept at its default: the runs are the same.
    """
    about = {"help": text, "valid": valid, "decides": decides, "shown": shown, "words": words, "acts_in": acts_in}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class RunLength:
    """How long a whole run is; the last epoch is partial where MAX_STEPS ends it."""

    steps: int
    epochs: int
    steps_per_epoch: int


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, fully resolved; each field is a key of the command line, in any case.

    Make one with `read_command_line`, `resolve` or `RunConfig.load`, which check it.
    """

    problem: str = _key("what is trained", anything("a problem's name"), decides=True, shown="required")
    random_seed: int = _key(
        "seed of all randomness",
        Range("an integer from 0 to 2**63 - 1", lambda value: 0 <= value < 2**63),
        decides=True,
        shown="required",
    )
    position: str = _key(
        "mask, where BatchNorm is put: 0,0,1,1,1 | [0,0,1,1,1] | 00111 | all | none",
        anything("a mask"),
        default="all",
        decides=True,
    )
    ablation: str = _key(
        "mode, what of BatchNorm is trained; with commas one for each 1 of the mask",
        anything("a mode, or modes with commas"),
        default=DEFAULT_MODE,
        decides=True,
    )
    tuning_conf: str = _key("file of hyperparameters", anything("a file"), default="configs/basic_config.yaml")
    optimizer: str = _key(
        "an optimizer that the problem's entry in TUNING_CONF has", anything("an optimizer's name"), default="SGD", decides=True
    )
    lr: float = _key("learning rate", POSITIVE, decides=True, shown=TUNED)
    opt_hpars: dict[str, float] = _key(
        "OPT_HPARS.name=value: one of the optimizer's other hyperparameters",
        anything("a number"),
        default={},
        decides=True,
        shown=TUNED,
    )
    lr_schedule: dict[str, Any] | None = _key(
        "LR_SCHEDULE=name, LR_SCHEDULE.setting=value, or null for a constant rate",
        anything("a schedule's name, or null"),
        default=None,
        decides=True,
        shown=TUNED,
    )
    num_epochs: int = _key("epochs to train", whole_from(1), decides=True, shown=TUNED)
    batch_size: int = _key("images in a training batch", whole_from(1), decides=True, shown=TUNED)
    max_steps: int | None = _key(
        "stop after exactly this many updates",
        none_or(whole_from(1)),
        default=None,
        decides=True,
        shown="none",
    )
    norm: str = _key(
        "what normalises a slot: " + " | ".join(f"{name}:G" if row.groups else name for name, row in NORMS.items()),
        anything("a norm"),
        default=DEFAULT_NORM,
        decides=True,
        acts_in=lambda treatment: treatment.norm is not None,
    )
    gamma_init: Union[float, str] = _key(  # noqa: UP007  (OmegaConf reads typing.Union only)
        "where gamma starts, and stays where it is fixed: mode (as the mode says) | a number | uniform (U(0, 1) by channel)",
        number_or(AS_THE_MODE_SAYS, UNIFORM),
        default=AS_THE_MODE_SAYS,
        decides=True,
        words=(AS_THE_MODE_SAYS, UNIFORM),
        acts_in=lambda treatment: treatment.gamma is not None,
    )
    beta_init: Union[float, str] = _key(  # noqa: UP007
        "where beta starts, and stays where it is fixed: mode (as the mode says) | a number",
        number_or(AS_THE_MODE_SAYS),
        default=AS_THE_MODE_SAYS,
        decides=True,
        words=(AS_THE_MODE_SAYS,),
        acts_in=lambda treatment: treatment.beta is not None,
    )
    bn_momentum: float | None = _key(
        "how far a running average of the norm goes towards a batch's statistic at each step",
        none_or(Range("a number > 0 and <= 1", lambda value: 0 < value <= 1)),
        default=None,
        decides=True,
        shown="0.1, as torch has it; of a norm that the network brings, its own",
        acts_in=lambda treatment: treatment.uses_batch,
    )
    bn_eps: float | None = _key(
        "what a norm adds to the variance",
        none_or(POSITIVE),
        default=None,
        decides=True,
        shown="1e-05, as torch has it; of a norm that the network brings, its own",
        acts_in=lambda treatment: treatment.norm not in (None, "center"),
    )
    ghost: int | None = _key(
        "images in a part of the batch over which a norm takes its statistics in training; BATCH_SIZE must be a multiple",
        none_or(whole_from(1)),
        default=None,
        decides=True,
        shown="the whole batch",
        acts_in=lambda treatment: treatment.uses_batch,
    )
    freeze_stats_after: int | None = _key(
        "epoch from which on norms of the batch use their running statistics in training too, and keep them",
        none_or(whole_from(1)),
        default=None,
        decides=True,
        shown="never",
        acts_in=lambda treatment: treatment.uses_batch,
    )
    placement: str = _key(
        "before | after the activation: conv, ReLU, norm, pooling; not in a network that brings its own norms",
        one_of("before", "after"),
        default="before",
        decides=True,
        acts_in=lambda treatment: treatment != UNTREATED,
    )
    affine_lr_scale: float = _key(
        "learning rate of gamma and beta, as a factor of LR",
        POSITIVE,
        default=1.0,
        decides=True,
        acts_in=lambda treatment: treatment.trains_affine,
    )
    l2_affine: float = _key(
        "L2 factor on gamma and beta",
        NOT_NEGATIVE,
        default=0.0,
        decides=True,
        acts_in=lambda treatment: treatment.trains_affine,
    )
    l2_reg: float = _key(
        "L2 factor on weights, never on biases; L2_AFFINE is that on gamma and beta", NOT_NEGATIVE, default=0.0, decides=True
    )
    bias_init: Union[float, str] = _key(  # noqa: UP007
        "deepobs: the problem's own initial biases; a number: all biases start there",
        number_or("deepobs"),
        default="deepobs",
        decides=True,
        words=("deepobs",),
    )
    precision: str = _key("fp32, or bf16 (autocast)", one_of("fp32", "bf16"), default="fp32", decides=True)
    compile: bool = _key(
        "torch.compile the training step: needs a C++ compiler; slower on a CPU, not measured on a GPU",
        BOOLEAN,
        default=False,
        decides=True,
    )
    obs_datasets: str = _key("where image sets are kept, and downloaded to when absent", FOLDER, default="data")
    output_dir: str = _key("where runs are kept", FOLDER, default="output")
    named_keys: str = _key(
        "keys that are part of the run directory's name, after the mode; auto: those that decide the result and are not as "
        "TUNING_CONF and the defaults say",
        anything("auto, or keys with commas"),
        default="",
        shown="auto",
    )
    device: str = _key("auto | cpu | cuda | cuda:1", Range("auto, cpu, cuda or cuda:N", is_device), default="auto")
    memory_format: str = _key(
        "auto (the faster for device and precision) | contiguous | channels_last",
        one_of("auto", "contiguous", "channels_last"),
        default="auto",
    )
    threads: int = _key(
        "CPU threads of this run", Range("an integer >= 1", lambda value: 1 <= value <= 4096), shown="all cores"
    )
    log_every_steps: int = _key(
        "updates between two records of loss, gamma, beta and bias; 0: only the last", whole_from(0), default=5
    )
    measure: str = _key(
        "measurements: basic | full | none | names with commas; `--help` lists them",
        anything("basic, full, none, or measurements with commas"),
        default="none",
        shown="basic",
    )
    measure_every: int = _key("epochs between two probes", whole_from(1), default=1)
    measure_steps: int = _key("updates between two measurements of weights", whole_from(1), default=25)
    evaluate_every: int = _key(
        "epochs between two evaluations; the first and the last epoch are always evaluated", whole_from(1), default=1
    )
    save_epochs: str = _key(
        "epochs after which the weights are kept: 0,1,2,5,10 | all | none",
        anything("epochs with commas, all or none"),
        default="none",
    )
    deterministic: bool = _key("bit-reproducible kernels", BOOLEAN, default=True)
    overwrite: bool = _key("start the run again from the beginning", BOOLEAN, default=False)

    @property
    def mask(self) -> Mask:
        """One 0 or 1 per slot; `position` holds it in comma form."""
        return tuple(int(digit) for digit in self.position.split(",") if digit)

    @property
    def images_of_statistics(self) -> int:
        """Over how many images a norm of the batch takes its statistics in training."""
        return self.ghost or self.batch_size

    @property
    def treatments(self) -> tuple[Treatment, ...]:
        """What is done to each slot.

        Raises:
            ConfigError: there is no such mode: this version does not know what a record's does.
        """
        return tuple(map(self._with_keys, treatments(self.mask, self.ablation, self.norm)))

    def _with_keys(self, treatment: Treatment) -> Treatment:
        """Return the treatment of a slot by its mode, changed as the keys say that act in slots."""

        def started(part: Affine | None, value: float | str) -> Affine | None:
            if part is None or value == AS_THE_MODE_SAYS:
                return part
            return replace(part, value=value, asked_for=True)

        if treatment == UNTREATED:
            return treatment
        gamma, beta = started(treatment.gamma, self.gamma_init), started(treatment.beta, self.beta_init)
        placed = replace(treatment, gamma=gamma, beta=beta, after=self.placement == "after")
        if treatment.norm is None:
            return placed
        return replace(placed, momentum=self.bn_momentum, eps=self.bn_eps, ghost=self.ghost)

    @property
    def idle_keys(self) -> list[str]:
        """The keys, in upper case, that act in slots only, and in none of this run's; none where its mode is not known."""
        try:
            treated = self.treatments
        except ConfigError:
            return []
        return [key for key, acts in SLOT_KEYS.items() if not any(map(acts, treated))]

    @property
    def directory(self) -> Path:
        """Where the run lies: OUTPUT_DIR/SEED__PROBLEM__MASK/Lr_LR/Ep_EPOCHS/MODE, the keys of NAMED_KEYS after the mode."""
        run = f"{self.random_seed}__{problem_name(self.problem)}__{self.position}"
        return Path(self.output_dir) / run / f"Lr_{self.lr!r}" / f"Ep_{self.num_epochs}" / self._last_part()

    def _last_part(self) -> str:
        """Name mode and NAMED_KEYS, as `trained_bn__PRECISION=bf16`; a digest ends a name that would be too long."""
        arguments = [argument for name in self.named_keys.split(",") if name for argument in self._arguments_of(name)]
        parts = [self.ablation, *(re.sub(r"[^A-Za-z0-9._,=+-]", "_", argument) for argument in arguments)]
        whole = "__".join(parts)
        if len(whole) <= MAX_NAME_BYTES:
            return whole
        digest = hashlib.sha256("__".join(arguments).encode()).hexdigest()[:12]
        while len("__".join([*parts, digest])) > MAX_NAME_BYTES:
            parts.pop()
        return "__".join([*parts, digest])

    def _arguments_of(self, name: str) -> list[str]:
        """Return the `KEY=value` arguments that give one key its value."""
        key, _, setting = name.partition(".")
        value = getattr(self, key.lower())
        if setting:
            return [f"{name}={_as_argument(value[setting])}"]
        if isinstance(value, dict):
            named = [f"{name}={value['name']}"] if "name" in value else []
            return named + [f"{name}.{part}={_as_argument(value[part])}" for part in sorted(value) if part != "name"]
        return [f"{name}={_as_argument(value)}"]

    @property
    def measurements(self) -> tuple[str, ...]:
        """The measurements that the run makes, by name."""
        return () if self.measure == "none" else tuple(self.measure.split(","))

    def keeps_weights_of(self, epoch: int) -> bool:
        """Say whether the weights at an epoch's end are kept."""
        return self.save_epochs == "all" or str(epoch) in self.save_epochs.split(",")

    def length(self, steps_per_epoch: int) -> RunLength:
        """Return how long the whole run is."""
        steps = self.num_epochs * steps_per_epoch
        if self.max_steps is not None:
            steps = min(steps, self.max_steps)
        return RunLength(steps, -(-steps // steps_per_epoch) if steps_per_epoch else self.num_epochs, steps_per_epoch)

    def deciding_keys(self) -> dict[str, Any]:
        """Return the keys that decide the result up to rounding, with their values, defaults too."""
        values = {entry.name.upper(): getattr(self, entry.name) for entry in _deciding_fields()}
        return {**values, "PROBLEM": problem_name(self.problem)}

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the result up to rounding; two runs that agree in it are the same run.

        A key that stands at `RunConfig`'s own default is left out, so that a new key makes no other run of an old one. The
        images' digest belongs to it too; it is added when the images have been read.
        """
        digest = find_problem(self.problem).source_digest
        return canonical_fingerprint({**self.deciding_keys(), **({"PROBLEM_FILE": digest} if digest else {})})

    def to_dict(self) -> dict[str, Any]:
        """Return all keys in upper case with plain values, as `config.yaml` and the run's record hold them."""
        return {entry.name.upper(): getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RunConfig:
        """Take back what `to_dict` returned; a run can be read where its problem is not registered.

        Raises:
            ConfigError: a key is unknown, missing or has a wrong type.
        """
        values: dict[str, Any] = {}
        for key, value in stored.items():
            entry = _field(str(key))
            if not _is_plain(value, entry):
                raise ConfigError(f"{key}={value}: must be {_valid(entry).words}")
            values[entry.name] = float(value) if value is not None and entry.type in ("float", "float | None") else value
        missing = [entry.name.upper() for entry in fields(cls) if entry.name not in values and _default(entry) is MISSING]
        if missing:
            raise ConfigError(f"{', '.join(sorted(missing))}: missing")
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Read a run's `config.yaml`.

        Raises:
            ConfigError: the file is missing, malformed or not a run's configuration.
        """
        return cls.from_dict(read_yaml(path, key="config"))

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


def override_name(key: str) -> str:
    """Return the name under which `resolve` takes a key that is given in any case, as `OPT_HPARS.momentum`.

    Raises:
        ConfigError: there is no such key.
    """
    group, dot, name = key.partition(".")
    full_name = _field(group).name + dot + _as_spelt(name)
    return "lr" if full_name == "opt_hpars.lr" else full_name


def resolve(overrides: Mapping[str, Any], *, read_tuning: Callable[[Path], dict[str, Any]] = read_tuning) -> RunConfig:
    """Complete overrides by the tuning file's values and the defaults, and check the whole.

    Args:
        overrides: field names (`opt_hpars.momentum` for one hyperparameter) to values, as text or typed.
        read_tuning: reads the tuning file; who resolves hundreds of runs has it read once.

    Raises:
        ConfigError: a value or the tuning file is wrong.
    """
    given = {
        key: _typed(key, value, shown=f"{key.upper()}={value}")
        for key, value in overrides.items()
        if "." not in key and key not in ("lr_schedule", "opt_hpars") and value != MISSING
    }
    if "problem" in given:
        find_problem(given["problem"])
    for required in ("problem", "random_seed"):
        if required not in given:
            raise ConfigError(f"{required.upper()} is required; give {required.upper()}=..., --help lists the keys")
    given = {"measure": "basic", "optimizer": _FIELDS["optimizer"].default, **given}
    problem, optimizer = given["problem"], given["optimizer"]
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"OPTIMIZER={optimizer}: no such optimizer; {nearest_first(optimizer, OPTIMIZERS)}")
    path = Path(given.get("tuning_conf", _FIELDS["tuning_conf"].default))
    tuned = tuned_values(read_tuning(path), path=path, problem=problem_name(problem), optimizer=optimizer)
    config = _checked(RunConfig(**_completed(given, tuned, overrides)))
    named = str(overrides.get("named_keys", "auto"))
    return replace(config, named_keys=",".join(_unusual(config, tuned) if named == "auto" else _deciding_names(named, config)))


def unheard(config: RunConfig) -> list[str]:
    """Say which directories somebody has named in the environment, where keys are not looked for."""
    told = []
    for name in ("obs_datasets", "output_dir"):
        key, used = name.upper(), getattr(config, name)
        there = os.environ.get(key, "")
        if there not in ("", used) and used == _default(_FIELDS[name]):
            told.append(f"{key} of the environment is not read; give it as an argument: {key}={there}")
    return told


def canonical_fingerprint(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the keys that stand at `RunConfig`'s default; records of format version 1 hold them."""
    return {key: value for key, value in values.items() if value != _DEFAULTS.get(key)}


def differing_keys(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Name the keys in which two fingerprints differ, with both values: `BATCH_SIZE (128 there, 64 here)`.

    The images' digest is compared where both have it.
    """
    keys = [key for key in {**stored, **current} if key != "images" or (key in stored and key in current)]
    pairs = {key: (stored.get(key, _DEFAULTS.get(key)), current.get(key, _DEFAULTS.get(key))) for key in sorted(keys)}
    return [f"{key} ({_short(there)} there, {_short(here)} here)" for key, (there, here) in pairs.items() if there != here]


def optimizer_tells_all(each: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    """Say whether each optimizer has one set of other hyperparameters: then its name tells runs apart, and they need no words.

    Args:
        each: the optimizer of each run, and its other hyperparameters.
    """
    known: dict[str, Mapping[str, Any]] = {}
    return all(known.setdefault(optimizer, others) == others for optimizer, others in each)


def available_cores(*, cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores this process may use.

    A container has as many whole ones as its quota gives it, a SLURM job those it asked for, even where they are not bound
    to them.

    Args:
        cgroups: where Linux shows control groups.
        membership: where it says which of them this process is in.
    """
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [cores, *(max(1, int(quota)) for quota in _quotas(cgroups, membership))]
    return min(limits + ([int(granted)] if granted.isdecimal() and int(granted) else []))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """Return the quotas, in cores, of this process's control groups and those around them, of version 1 and 2.

    A container may see its own group as the root, and be told the path that the host has for it.
    """
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        roots = [cgroups / controllers, cgroups / "cpu"] if controllers else [cgroups, cgroups / "unified"]
        path = PurePath(group.strip("/"))
        for folder in dict.fromkeys(root / part for root in roots for part in (path, *path.parents)):
            quota = _number_in(folder / "cpu.cfs_quota_us", 0), _number_in(folder / "cpu.cfs_period_us", 0)
            if not controllers:
                quota = _number_in(folder / "cpu.max", 0), _number_in(folder / "cpu.max", 1)
            if min(quota) > 0:
                yield quota[0] / quota[1]


def _number_in(file: Path, place: int) -> int:
    """Return a whole number in a file of the kernel's; 0 where there is none (`max`), or no such file."""
    try:
        word = file.read_text(encoding="utf-8", errors="replace").split()[place]
    except (OSError, IndexError):
        return 0
    return int(word) if word.isdecimal() else 0


def _field(key: str) -> Field[Any]:
    """Return the field of a key in any case.

    Raises:
        ConfigError: there is no such key.
    """
    if key.lower() not in _FIELDS:
        word = {"MASK": "POSITION", "MODE": "ABLATION"}.get(key.upper(), key.upper())  # as everything but the keys says
        raise ConfigError(f"{key}: unknown key; {nearest_first(word, [name.upper() for name in _FIELDS])}")
    return _FIELDS[key.lower()]


def _deciding_fields() -> list[Field[Any]]:
    return [entry for entry in fields(RunConfig) if entry.metadata["decides"]]


def _valid(entry: Field[Any]) -> Range:
    return cast(Range, entry.metadata["valid"])


def _default(entry: Field[Any]) -> Any:
    return entry.default if entry.default_factory is NO_DEFAULT else entry.default_factory()


_FIELDS: Mapping[str, Field[Any]] = {entry.name: entry for entry in fields(RunConfig)}
_DEFAULTS: Mapping[str, Any] = {entry.name.upper(): _default(entry) for entry in fields(RunConfig)}
"""By the keys of a fingerprint; what stands there beside `RunConfig`'s keys has none."""


SLOT_KEYS: Mapping[str, Callable[[Treatment], bool]] = {
    entry.name.upper(): entry.metadata["acts_in"] for entry in fields(RunConfig) if entry.metadata["acts_in"]
}
"""The keys that act in slots only, and in which."""
DECIDING_KEYS = tuple(entry.name.upper() for entry in _deciding_fields())
"""The keys that decide a result up to rounding."""
_STORED_AS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),  # a JSON file holds 1.0 as 1 where a program wrote it so
    "str": (str,),
    "bool": (bool,),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
    "dict[str, float]": (dict,),
    "dict[str, Any] | None": (dict, type(None)),
    "Union[float, str]": (int, float, str),
}
"""What values of a field's type are in a stored configuration."""


def _is_plain(value: Any, entry: Field[Any]) -> bool:
    """Say whether a stored value has its field's type."""
    if isinstance(value, bool):
        return entry.type == "bool"
    return isinstance(value, _STORED_AS[cast(str, entry.type)])


def _as_spelt(name: str) -> str:
    """Return a nested name, given in any case, as the optimizers and schedules spell it."""
    spellings = [name for schedule in SCHEDULES.values() for name in (*schedule.required, *schedule.optional)]
    return next((spelling for spelling in spellings if spelling.lower() == name.lower()), name.lower())


def _typed(name: str, value: Any, *, shown: str) -> Any:
    """Return a key's value in its field's type; OmegaConf's own messages take several lines."""
    entry = _field(name)
    needs = _valid(entry).words
    if isinstance(value, str):
        if "${" in value:
            raise ConfigError(f"{shown}: interpolations are not supported")
        if "\0" in value or "\n" in value:
            raise ConfigError(f"{shown!r}: must be on one line")
        if name in _PATHS:
            value = _expanded(value, shown=shown)
        if any("\ud800" <= character <= "\udfff" for character in value):  # how Python holds bytes that are no text
            raise ConfigError(f"{shown!r}: must be UTF-8 text")
        if value.lower() in ("null", "none") and entry.type in ("int | None", "float | None"):
            value = None
        if words := entry.metadata["words"]:
            value = value.lower() if value.lower() in words else read_number(value, shown=shown, needs=needs)
    if isinstance(value, bool) and entry.type != "bool":
        raise ConfigError(f"{shown}: must be {needs}")
    if entry.metadata["words"] and isinstance(value, int):
        value = float(value)
    try:
        return (_plain_as_field if isinstance(value, (str, int, float)) else _as_field)(name, value)
    except OmegaConfBaseException:
        raise ConfigError(f"{shown}: must be {needs}") from None


def _as_field(name: str, value: Any) -> Any:
    """Turn a value into the type of a field, as OmegaConf does."""
    typed = _any_configuration()
    OmegaConf.update(typed, name, value, merge=False)
    return typed[name]


_plain_as_field = lru_cache(maxsize=10_000, typed=True)(_as_field)
"""The same for text and numbers: a study gives few of them to many runs."""


@cache
def _any_configuration() -> DictConfig:
    """Return a configuration to assign to: making one takes OmegaConf 9 ms."""
    typed: DictConfig = OmegaConf.structured(RunConfig)
    OmegaConf.set_readonly(typed, False)  # as a frozen dataclass is to OmegaConf
    return typed


_PATHS = ("problem", "tuning_conf", "obs_datasets", "output_dir")
"""The keys whose value is a path, or may be one."""


def _expanded(path: str, *, shown: str) -> str:
    """Put a home folder for `~` and values for `$VAR`, as a shell does where it sees them.

    Raises:
        ConfigError: there is no such user or variable.
    """
    whole = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111  (Path.expanduser raises where there is no home)
    if unset := re.search(r"\$(\w+)", whole):
        raise ConfigError(f"{shown}: the variable {unset[1]} is not set")
    if whole.startswith("~"):
        raise ConfigError(
            f"{shown}: {whole.partition('/')[0]} is nobody's home directory; a directory of that name is ./{whole}"
        )
    return whole


def _completed(given: Mapping[str, Any], tuned: Tuned, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Add to the given values what the tuning file says where they do not, and lay the nested overrides over it."""
    values = dict(given)
    for name in ("batch_size", "num_epochs"):
        if name in values:
            continue
        value = getattr(tuned, name)
        if value is None:
            raise ConfigError(f"{tuned.where}: has no {name}; give {name.upper()}=... or add it")
        values[name] = _typed(name, value, shown=f"{tuned.where}.{name}={value}")
    hyperparameters, schedule = {**tuned.opt_hpars, "lr": tuned.lr}, tuned.lr_schedule
    for key, value in sorted(overrides.items(), key=lambda item: "." in item[0]):  # a schedule's name before its settings
        group, dot, name = key.partition(".")
        shown = f"{group.upper()}{dot}{name}={value}"
        if dot and not name:
            raise ConfigError(f"{shown}: has no name after the dot")
        if group == "opt_hpars":
            given = value if not name and isinstance(value, Mapping) else {name: value}
            for hyperparameter, number in given.items():
                if not hyperparameter:
                    raise ConfigError(f"{shown}: give OPT_HPARS.name=value")
                hyperparameters[str(hyperparameter)] = read_number(number, shown=shown)
        elif group == "lr_schedule":
            schedule = _override_schedule(schedule, name, value, shown=shown)
        elif name:
            raise ConfigError(f"{shown}: {group.upper()} takes a plain value")
    lr = hyperparameters.pop("lr")
    if "lr" not in values:
        if lr is None:
            raise ConfigError(f"{tuned.where}.{values['optimizer']}.opt_hpars: has no lr; give LR=... or add it")
        values["lr"] = lr
    if "threads" not in values:
        values["threads"] = available_cores()
    return {**values, "opt_hpars": hyperparameters, "lr_schedule": named_schedule(schedule, where="LR_SCHEDULE")}


def _override_schedule(schedule: dict[str, Any] | None, setting: str, value: Any, *, shown: str) -> dict[str, Any] | None:
    if not setting:
        if value is None or str(value).lower() in ("null", "none"):
            return None
        return dict(value) if isinstance(value, Mapping) else {"name": str(value)}
    if setting == "name":
        return {**(schedule or {}), "name": str(value)}
    if isinstance(value, str):
        items = [read_number(item, shown=shown) for item in value.strip("[]").split(",")]
        value = items if setting == "milestones" or len(items) > 1 else items[0]  # several are refused where one is asked for
    return {**(schedule or {}), setting: value}


def _checked(config: RunConfig) -> RunConfig:
    """Check each key and what keys ask of each other, and put values into their one canonical form."""
    problem = find_problem(config.problem)
    mask = parse_mask(config.position, problem.slots) if problem.slots else ()  # `check_slots` says which there are
    mode = canonical_mode(mask, config.ablation)
    for entry in fields(config):
        value, valid = getattr(config, entry.name), _valid(entry)
        if not valid.allows(value):
            wrong = f"={value}:" if str(value).strip() else ": is empty;"
            raise ConfigError(f"{entry.name.upper()}{wrong} must be {valid.words}")
    norm = canonical_norm(config.norm)
    config = _without_idle_keys(replace(config, position=format_mask(mask), ablation=mode, norm=norm))
    norm = config.norm
    normed = [slot for slot, done in zip(problem.slots, config.treatments, strict=True) if done.norm]
    single = [slot for slot in normed if slot in problem.dense]
    if config.placement == "after" and problem.brings_norms:
        raise norms_stay(problem.name)
    if config.ghost and config.batch_size % config.ghost:
        divisors = ", ".join(str(size) for size in range(1, config.batch_size + 1) if config.batch_size % size == 0)
        raise ConfigError(f"GHOST={config.ghost}: does not divide BATCH_SIZE={config.batch_size}; must be one of {divisors}")
    if config.images_of_statistics == 1 and single and "images" in norm_kind(norm).over:
        raise one_value_per_channel(config, single)
    if single and norm_kind(norm).over == ("positions",):
        raise nothing_to_normalise(norm, single)
    if config.optimizer == "AdamW" and config.l2_reg:
        raise ConfigError(f"L2_REG={config.l2_reg}: AdamW decays weights by itself; give OPT_HPARS.weight_decay instead")
    if not POSITIVE.allows(config.affine_lr_scale * config.lr):
        product = f"AFFINE_LR_SCALE={config.affine_lr_scale}: times LR={config.lr}"
        raise ConfigError(f"{product} must be {POSITIVE.words}")
    check_hyperparameters(config.optimizer, config.opt_hpars, where="OPT_HPARS")
    check_schedule(config.lr_schedule, lr=config.lr, epochs=config.num_epochs, where="LR_SCHEDULE")
    return replace(
        config,
        lr=float(config.lr),
        measure=",".join(_measurements(config.measure)) or "none",
        save_epochs=_epochs(config.save_epochs),
        overwrite=config.overwrite and not _is_requeued(),
    )


def _without_idle_keys(config: RunConfig) -> RunConfig:
    """Put the keys that act in slots only, and in none of this run's, to their defaults; and GHOST where it is the batch."""
    idle = [key.lower() for key in config.idle_keys]
    if config.ghost == config.batch_size:
        idle.append("ghost")
    return replace(config, **{name: _default(_FIELDS[name]) for name in idle})


def one_value_per_channel(config: RunConfig, slots: Sequence[str]) -> ConfigError:
    """Say that statistics of one image leave the BatchNorm of some slots one value per channel."""
    key, where = "GHOST" if config.ghost else "BATCH_SIZE", ", ".join(slots)
    return ConfigError(
        f"{key}=1: gives one value per channel to BatchNorm in {where}, which has no variance; "
        "must be an integer >= 2, or POSITION must leave these slots out"
    )


def nothing_to_normalise(norm: str, slots: Sequence[str]) -> ConfigError:
    """Say that a norm finds one value where it needs several, whatever the batch."""
    where = ", ".join(slots)
    return ConfigError(f"NORM={norm}: finds one value to normalise in {where}; another norm, or POSITION must leave it out")


def _measurements(text: str) -> tuple[str, ...]:
    """Read MEASURE; measurements stand in the order in which they are declared."""
    sets: dict[str, tuple[str, ...]] = {"basic": BASIC, "full": FULL, "none": ()}
    names: set[str] = set()
    for name in (part.strip().lower() for part in text.split(",")):
        if name not in sets and name not in MEASUREMENTS:
            raise ConfigError(f"MEASURE={text}: no such measurement; {nearest_first(name, [*sets, *MEASUREMENTS])}")
        names |= {*sets.get(name, (name,))}
    return tuple(name for name in MEASUREMENTS if name in names)


def _epochs(text: str) -> str:
    """Read SAVE_EPOCHS, and write it in its one form."""
    word = text.strip().lower()
    if word in ("all", "none"):
        return word
    parts = [part.strip() for part in word.strip("[]").split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise ConfigError(f"SAVE_EPOCHS={text}: must be epochs with commas, as 0,1,2,5,10, or all, or none")
    return ",".join(map(str, sorted({int(part) for part in parts})))


def _is_requeued() -> bool:
    """Say whether SLURM started this job again: it goes on with what it began, OVERWRITE=true was obeyed the first time."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


_IN_PATH = ("problem", "random_seed", "position", "ablation", "lr", "num_epochs")
"""The deciding keys that always stand in the run directory's path."""


def _unusual(config: RunConfig, tuned: Tuned) -> list[str]:
    """Name the deciding keys outside the path that do not stand at what the tuning file and the defaults say."""
    usual = {entry.name: _default(entry) for entry in _deciding_fields()}
    usual |= {"batch_size": tuned.batch_size, "opt_hpars": tuned.opt_hpars, "lr_schedule": tuned.lr_schedule}
    names: list[str] = []
    for name in (entry.name for entry in _deciding_fields() if entry.name not in _IN_PATH):
        value = getattr(config, name)
        if name == "opt_hpars":
            names += [f"OPT_HPARS.{each}" for each in sorted(value) if value[each] != tuned.opt_hpars.get(each)]
        elif value != usual[name]:
            names.append(name.upper())
    return names


def _deciding_names(text: str, config: RunConfig) -> list[str]:
    """Read a list of a run's deciding keys, and put it into the one order in which they stand in a directory's name."""
    known = [entry.name for entry in _deciding_fields() if entry.name not in _IN_PATH]
    names = set()
    for given in (part.strip() for part in text.split(",") if part.strip()):
        group, dot, setting = override_name(given).partition(".")
        if group not in known:
            raise ConfigError(f"NAMED_KEYS={text}: {given} is not one of {', '.join(name.upper() for name in known)}")
        value = getattr(config, group)
        settings = list(value) if isinstance(value, dict) else []
        if dot and setting not in settings:
            valid = nearest_first(given, [group.upper(), *(f"{group.upper()}.{each}" for each in settings)])
            raise ConfigError(f"NAMED_KEYS={text}: this run has no {given}; {valid}")
        names.add(group.upper() + dot + setting)
    return sorted(names, key=lambda name: (known.index(name.partition(".")[0].lower()), name))


def _as_argument(value: Any) -> str:
    """Write a value as the command line takes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
