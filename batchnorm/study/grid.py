"""What a study is: reading a study file, spelling its grid out into runs, checking every one of them. No torch here.

A study file is YAML: keys of `RunConfig`, in any case, to values; a list of values is a grid, and `values` has what else
stands for several. Several such mappings in a list are one study. All text is taken as it stands, as on the command line,
so that `POSITION: 00111` is that mask, not YAML's octal 73.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from batchnorm import shipped
from batchnorm.config import RunConfig, available_cores, differing_keys, optimizer_tells_all, override_name, resolve
from batchnorm.errors import ConfigError, one_line
from batchnorm.modes import MASK_SETS, all_masks, format_mask, variant_of
from batchnorm.problems import find_problem
from batchnorm.store import stand
from batchnorm.store.notebook import rows_table
from batchnorm.study.values import spelled_out
from batchnorm.tuning import read_tuning

MAX_RUNS = 100_000
_SHOWN_RUNS = 12
"""In a notebook."""
_NESTED = ("opt_hpars", "lr_schedule")
_NOT_TOLD = ("position", "ablation", "output_dir", "named_keys")
"""Fields that a variant's description leaves out: it begins with the first two, and the others are of no interest in it."""


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Attributes:
        index: its place in the study, counted from 0.
        variant: what tells it from the others.
        config: the run.
        threads_given: whether file or overrides say THREADS; where they do not, the machine at hand says it.
    """

    index: int
    variant: str
    config: RunConfig
    threads_given: bool

    def __str__(self) -> str:
        """Name it in a message."""
        return f"run {self.index} ({self.variant})"

    def to_mapping(self) -> dict[str, Any]:
        """Return it as a study file's mapping that gives this run, whatever changes elsewhere; see `Study.to_text`."""
        kept = {key: value for key, value in self.config.to_dict().items() if key != "THREADS" or self.threads_given}
        return {key: _plain(value) for key, value in kept.items()}


@dataclass(frozen=True)
class Study:
    """All runs of a study, each once, in the order of the file."""

    name: str
    runs: tuple[StudyRun, ...]

    def run_at(self, index: int) -> StudyRun:
        """Return one run.

        Raises:
            ConfigError: there is none of that index.
        """
        if not 0 <= index < len(self.runs):
            raise ConfigError(f"--index {index}: {self.name} has the runs 0 to {len(self.runs) - 1}")
        return self.runs[index]

    def _repr_html_(self) -> str:
        """Show it in a notebook: its first runs, and how they stand now."""
        shown = self.runs[:_SHOWN_RUNS]
        standing = [stand(run.config.directory, run.config.fingerprint()).status.value for run in shown]
        rows = [(str(run.index), run.variant, status) for run, status in zip(shown, standing, strict=True)]
        if left := len(self.runs) - len(shown):
            rows.append(("...", f"and {left} more", ""))
        return rows_table(f"Study {self.name}: {len(self.runs)} runs", ("index", "variant", "status"), rows)

    def to_text(self) -> str:
        """Write the runs out as a study file that gives the same runs under the same indices, whatever changes elsewhere.

        THREADS that nobody gave is left to the machine that reads the file.
        """
        return yaml.safe_dump([run.to_mapping() for run in self.runs], sort_keys=False, width=1000)


def read_study(path: Path, overrides: Mapping[str, str], *, defaults: Mapping[str, str] | None = None) -> Study:
    """Read a study file and resolve all of its runs.

    Args:
        path: the file; a relative path, or a name, may mean a shipped one.
        overrides: field names to text, as `split_arguments` returns them; they replace the file's values in every run.
        defaults: values of fields that neither file nor overrides give.

    Raises:
        ConfigError: the file, a key, a value or the tuning file is wrong, or two different runs would share a directory.
    """
    where = f"STUDY={path}"
    blocks = [_block(content, where=where) for content in _mappings(_load(study_file(path), where=where), where=where)]
    read_once = cache(read_tuning)
    usual = {"threads": str(available_cores()), **(defaults or {})}
    configs: dict[Path, RunConfig] = {}
    threads_given: set[Path] = set()
    replacing = {name: spelled_out(name, text, shown=name.upper()) for name, text in overrides.items()}
    grids = [_replaced(block, replacing) for block in blocks]
    size = sum(map(_size, grids))
    if size > MAX_RUNS:
        raise ConfigError(f"{where}: {size} runs; a study has at most {MAX_RUNS}")
    for point in itertools.chain.from_iterable(_points(grid) for grid in grids):
        try:
            config = resolve({**usual, **point}, read_tuning=read_once)
        except ConfigError as error:
            raise ConfigError(f"{error}{_which(len(configs), point, grids)}") from None
        same_place = configs.setdefault(config.directory, config)
        if same_place != config:
            differing = "; ".join(differing_keys(same_place.to_dict(), config.to_dict()))
            advice = "name in NAMED_KEYS what decides the result, or make two studies of them"
            raise ConfigError(f"{where}: two runs would share {config.directory}: {differing}; {advice}")
        if "threads" in point:
            threads_given.add(config.directory)
    varying = _varying(list(configs.values()))
    runs = (
        StudyRun(index, _variant(config, varying), config, directory in threads_given)
        for index, (directory, config) in enumerate(configs.items())
    )
    return Study(path.stem, tuple(runs))


def study_file(path: Path) -> Path:
    """Return the file that the path or the name of a study means: one below this folder, else a shipped one."""
    return shipped.find(path, among=shipped.STUDIES)


class _TextLoader(yaml.BaseLoader):
    """Loads every scalar as the text it is, and refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is not plain text", key.start_mark)
            if key.value.lower() in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value.lower())
        return super().construct_mapping(node, deep=deep)


def _load(path: Path, *, where: str) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _TextLoader)
    except FileNotFoundError:
        raise ConfigError(f"{where}: {shipped.not_there(path, among=shipped.STUDIES)}") from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: cannot be read: {one_line(error)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {one_line(error)}") from None


def _mappings(content: Any, *, where: str) -> list[dict[str, Any]]:
    blocks = content if isinstance(content, list) else [content]
    if not blocks or not all(isinstance(block, dict) and block for block in blocks):
        raise ConfigError(f"{where}: must hold keys of a run, as PROBLEM: digits_2c2d_bn, or a list of such mappings")
    return blocks


def _block(content: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Turn a mapping's keys into field names, and check that its values are texts or lists of them."""
    block: dict[str, Any] = {}
    for key, value in content.items():
        try:
            name = override_name(key)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if name in block:
            raise ConfigError(f"{where}: {name.upper()} is given twice")
        shown = f"{where}: {name.upper()}"
        block[name] = _masks(value) if name == "position" else spelled_out(name, value, shown=shown)
        _check(block[name], shown=shown, mappings=name in _NESTED)
    return block


def _masks(value: Any) -> Any:
    """Take masks that are written as lists, `[[0,0,1], [1,1,1]]`, as text; one list alone is a grid."""
    if not isinstance(value, list):
        return value
    if len(value) > 1 and all(item in ("0", "1") for item in value):
        mask = ",".join(value)
        raise ConfigError(f'POSITION=[{mask}]: a list is a grid of masks; write the mask as "{mask}" or {"".join(value)}')
    return [",".join(map(str, item)) if isinstance(item, list) else item for item in value]


def _check(value: Any, *, shown: str, mappings: bool) -> None:
    """Let texts and lists of them pass, mappings only where a key takes one."""
    if not _values(value):
        raise ConfigError(f"{shown}: an empty list; give at least one value")
    for item in _values(value):
        parts = list(item.values()) if isinstance(item, dict) and mappings else [[item]]
        if not all(isinstance(leaf, str) for part in parts for leaf in _values(part)):
            raise ConfigError(f"{shown}: values must be plain text or numbers, or a list of them")


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _replaced(block: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lay overrides over a block; `lr_schedule=null` replaces all of its settings too."""
    kept = {name: value for name, value in block.items() if name.partition(".")[0] not in overrides}
    return {**kept, **overrides}


def _size(grid: Mapping[str, Any]) -> int:
    """Return how many runs a grid spells out to, without making them: a network of 40 slots has 2^40 masks."""
    masks = 0
    for problem, position in itertools.product(*(_values(grid.get(name)) for name in ("problem", "position"))):
        named = MASK_SETS.get(str(position).strip().lower())
        if named is None or problem is None:
            masks += 1
        else:
            slots = len(find_problem(problem).slots)
            masks += 2**slots if named is all_masks else len(named(slots))
    return masks * math.prod(len(_values(value)) for name, value in grid.items() if name not in ("problem", "position"))


def _points(grid: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Spell a grid out, the last key changing fastest; names of mask sets become their masks."""
    for values in itertools.product(*map(_values, grid.values())):
        point = _flat(dict(zip(grid, values, strict=True)))
        name = str(point.get("position", "")).strip().lower()
        if name in MASK_SETS and "problem" in point:
            masks = MASK_SETS[name](len(find_problem(point["problem"]).slots))
            yield from ({**point, "position": format_mask(mask)} for mask in masks)
        else:
            yield point


def _flat(point: Mapping[str, Any]) -> dict[str, str]:
    """Spell `LR_SCHEDULE: {name: step, gamma: 0.1}` out as the command line has it: a schedule by name, then its settings."""
    flat: dict[str, str] = {}
    for name, value in point.items():
        if not isinstance(value, dict):
            flat[name] = value
            continue
        if name == "lr_schedule" and "name" in value:
            flat[name] = value["name"]
        for setting, item in value.items():
            if (name, setting) != ("lr_schedule", "name"):
                flat[override_name(f"{name}.{setting}")] = ",".join(item) if isinstance(item, list) else item
    return flat


def _which(index: int, point: Mapping[str, str], grids: Sequence[Mapping[str, Any]]) -> str:
    """Say which run of several a message is about, as its variant will be told; nothing where there is one run alone."""
    listed = {name for grid in grids for name, value in grid.items() if isinstance(value, list)}
    if len(grids) == 1 and not listed and point == _flat(grids[0]):
        return ""
    parts = [point[name] for name in ("position", "ablation") if name in point]
    parts += [f"{name.upper()}={value}" for name, value in point.items() if name.partition(".")[0] in listed - set(_NOT_TOLD)]
    return f" (run {index}: {' '.join(parts)})" if parts else f" (run {index})"


def _varying(configs: Sequence[RunConfig]) -> list[str]:
    """Name the keys, beside mask and mode, in which a study's runs differ."""
    follows = {"opt_hpars"} if optimizer_tells_all((config.optimizer, config.opt_hpars) for config in configs) else set()
    names = [entry.name for entry in fields(RunConfig) if entry.name not in {*_NOT_TOLD, *follows}]
    return [name for name in names if any(getattr(config, name) != getattr(configs[0], name) for config in configs)]


def _variant(config: RunConfig, varying: Sequence[str]) -> str:
    """Describe a run beside the others of its study: `0,0,1 fixed_bn RANDOM_SEED=2`."""
    told = (f"{name.upper()}={_short(getattr(config, name))}" for name in varying)
    return " ".join([variant_of(config.mask, config.ablation), *told])


def _short(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else str(value)


def _plain(value: Any) -> Any:
    """Write a value as text that reads back as itself."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)
