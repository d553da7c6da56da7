"""What a command of the analysis is, and what commands share: the choice among the runs found, and the look of figures."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path
from typing import Any

from batchnorm.analysis.runs import RunPath, find_runs, problem_of, read_each
from batchnorm.analysis.settings import flat_settings, has_setting, setting_text
from batchnorm.config import DECIDING_KEYS, SLOT_KEYS, override_name
from batchnorm.errors import ConfigError, ExitCode, RunError, UserError, nearest_first
from batchnorm.modes import DEFAULT_MODE, MODES, NORMS, VANILLA, canonical_norm, parse_mask
from batchnorm.store import Run
from batchnorm.study.values import spelled_out


@dataclass(frozen=True)
class Answer:
    """What a command prints, and the exit code that it ends with."""

    text: str
    code: ExitCode


@dataclass(frozen=True)
class Command:
    """One command of the shell. A module of `figures` holds its own as `COMMAND`.

    Attributes:
        name: what the shell calls it.
        about: one line, for `--help`.
        example: arguments of a typical call, behind the name.
        run: does the work; text that it returns is printed, an `Answer` says the exit code too.
        arguments: what it takes beside paths and the choice among runs: name to argparse's keywords.
        draws: whether it takes `--style`, `--title`, `--format` and `--save-dir`.
    """

    name: str
    about: str
    example: str
    run: Callable[[Namespace], object]
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    draws: bool = True

    def add_to(self, commands: Any) -> None:
        """Declare it to argparse, as one of the sub-commands."""
        parser = commands.add_parser(self.name, help=self.about, description=self.about[0].upper() + self.about[1:] + ".")
        parser.epilog = f"example:\n  {parser.prog} {self.example}"
        parser.set_defaults(run=self.run)
        parser.add_argument(
            "paths",
            nargs="+",
            metavar="PATH",
            help="a directory with runs below it, a run, a glob pattern, or a study's file: its runs",
        )
        if self.draws:
            _add_look(parser)
        chosen = parser.add_argument_group("choose among the runs found; each may take several values")
        for name, (keywords, _) in _CHOICES.items():
            if "type" in keywords:
                keywords = {**keywords, "type": _as_argparse_tells(keywords["type"])}
            chosen.add_argument(f"--{name}", nargs="+", **keywords)
        for name, keywords in self.arguments.items():
            parser.add_argument(name, **keywords)


def _as_argparse_tells(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse tell what is wrong: its line says where PATH stands, which `--seed 1 output` takes for a seed."""

    @wraps(read)
    def value(text: str) -> Any:
        try:
            return read(text)
        except UserError as error:
            raise ArgumentTypeError(str(error)) from None

    return value


def _add_look(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("how the figure looks, and where it goes")
    group.add_argument("--style", metavar="PAPER", help="paper format of tueplots: neurips, icml, aistats2022, ...")
    title = group.add_mutually_exclusive_group()
    title.add_argument("--title", metavar="TEXT", help="instead of what the runs are")
    title.add_argument("--no-title", dest="title", action="store_const", const="", help="for a paper, whose caption says it")
    usual = ",".join(SAVED_AS)
    group.add_argument("--format", metavar="LIST", default=usual, help=f"of its files: png,pdf,svg (default: {usual})")
    group.add_argument("--save-dir", type=Path, metavar="DIR", help="where to save (default: plots/ next to the runs)")


def _has_mask(run: Run, text: str) -> bool:
    try:
        return parse_mask(text, run.layers) == run.mask
    except ConfigError:  # a mask of another problem's length
        return False


def _has_rate(run: Run, rate: float) -> bool:
    """Say whether a rate is the run's, or what one of the prints of it says: tables and figures have four digits."""
    return rate in (run.config.lr, *(float(f"{run.config.lr:.{digits}g}") for digits in (4, LISTED_DIGITS)))


def _setting(text: str) -> str:
    """Read what `--where` takes, and write its key as settings have it.

    Raises:
        UserError: it is not KEY=VALUE, the key decides no result, or an option of its own chooses by it.
    """
    given, equals, value = text.partition("=")
    try:
        key = override_name(given).partition(".")
    except ConfigError:
        key = (given, "", "")
    name = key[0].upper() + "".join(key[1:])
    if not equals:
        raise UserError(f"{text}: give KEY=VALUE, as NORM=layer")
    if key[0].upper() in _OF_VARIANTS:
        raise UserError(f"{text}: {_OF_VARIANTS[key[0].upper()]} chooses by it")
    if name == "NORM":
        return f"NORM={canonical_norm(value)}"
    if key[0].upper() not in DECIDING_KEYS:
        names = [name for name in DECIDING_KEYS if name not in _OF_VARIANTS]
        raise UserError(f"{text}: no key that decides a result; {nearest_first(given.upper(), names)}")
    return f"{'LR_SCHEDULE.name' if name == 'LR_SCHEDULE' else name}={value}"


_OF_VARIANTS = {
    "PROBLEM": "--problem", "RANDOM_SEED": "--seed", "SEED": "--seed",
    "POSITION": "--mask", "MASK": "--mask", "ABLATION": "--mode", "MODE": "--mode",
}  # fmt: skip


def _seeds(text: str) -> str:
    """Check seeds as the shell takes them: `11`, `11-13`, `1-5,9`.

    Raises:
        UserError: they are none.
    """
    if not all(re.fullmatch(r"-?\d+", seed.strip()) for seed in _spelled_seeds(text)):
        raise UserError(f"{text}: must be seeds, as 11 12 13, 11-13 or 1-5,9")
    return text


@cache
def _spelled_seeds(text: str) -> frozenset[str]:
    found = spelled_out("random_seed", text, shown="SEED")
    return frozenset([found] if isinstance(found, str) else found)


LISTED_DIGITS = 6
"""Of a learning rate in the list of runs."""
_CHOICES: Mapping[str, tuple[Mapping[str, Any], Callable[[Run, Any], bool]]] = {
    "problem": ({"metavar": "NAME"}, lambda run, name: problem_of(run) == name),
    "mask": ({"metavar": "MASK", "help": "0,0,1 | 001 | all | none"}, _has_mask),
    "mode": (
        {"metavar": "MODE", "help": " | ".join((*MODES, VANILLA))},
        lambda run, mode: run.mode == mode,
    ),
    "optimizer": ({"metavar": "NAME"}, lambda run, name: run.config.optimizer == name),
    "seed": (
        {"metavar": "SEED", "type": _seeds, "help": "11 12 13 | 11-13"},
        lambda run, seeds: run.config.random_seed in map(int, _spelled_seeds(seeds)),
    ),
    "lr": ({"metavar": "RATE", "type": float}, _has_rate),
    "epochs": ({"metavar": "N", "type": int}, lambda run, epochs: run.length.epochs == epochs),
    "norm": (
        {
            "metavar": "NORM",
            "type": canonical_norm,
            "help": " | ".join(NORMS) + "; in tables and figures vanilla goes with each",
        },
        lambda run, norm: has_setting(run.settings, f"NORM={norm}"),
    ),
    "where": (
        {
            "metavar": "KEY=VALUE",
            "type": _setting,
            "action": "extend",
            "help": "any key that decides a result: GHOST=16 BATCH_SIZE=64 BATCH_SIZE=128",
        },
        lambda run, setting: has_setting(run.settings, setting),
    ),
}
"""Arguments that choose among runs: argparse's keywords, and whether a run has a value that is given."""


def is_chosen(run: Run, given: Namespace, *, alone: bool = False) -> bool:
    """Say whether a run is among those that `--problem`, `--mask` and so on choose; see `chosen_paths`."""
    asked = asked_for(given)
    if alone and not set(run.settings).issuperset(key for key in _keys(asked) if key in SLOT_KEYS):
        return False
    return all(any(_CHOICES[name][1](run, value) for value in values) for name, values in _alternatives(asked))


def _alternatives(asked: Mapping[str, list[Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Split the choice into parts that must all hold; of each any value may."""
    for name, values in asked.items():
        if name != "where":
            yield name, values
            continue
        for key in dict.fromkeys(value.partition("=")[0] for value in values):
            yield name, [value for value in values if value.partition("=")[0] == key]


def chosen_paths(given: Namespace, *, alone: bool = False) -> list[RunPath]:
    """Return the runs that are meant.

    Those that cannot be read are left out, see `read_each`. Others are compared with runs in whose slots a key does not act,
    as with vanilla: these go with each of its values, unless the chosen are wanted `alone`.

    Raises:
        RunError: there is none, or none can be read.
    """

    def read(run: Run) -> bool:
        _ = run.status, run.epochs  # what every table and figure reads
        return is_chosen(run, given, alone=alone)

    found = read_each(find_runs(given.paths), read, keep_open=True)
    wanted = [run for run, chosen in found if chosen]
    acting = [key for key in _keys(asked_for(given)) if key in SLOT_KEYS]
    if not wanted or not all(any(key in run.settings for run in wanted) for key in acting):
        raise RunError(f"{given.paths[0]}: no run there has {_in_words(asked_for(given), [run for run, _ in found])}")
    return [run.directory for run in wanted]


def asked_for(given: Namespace) -> dict[str, list[Any]]:
    """Return the choice among runs, by the names of its arguments."""
    return {name: value for name in _CHOICES if (value := getattr(given, name)) is not None}


def _keys(asked: Mapping[str, list[Any]]) -> list[str]:
    """Return the keys that `--norm` and `--where` choose by."""
    keys = [text.partition("=")[0] for text in asked.get("where", ())]
    return list(dict.fromkeys(["NORM", *keys] if "norm" in asked else keys))


def _in_words(asked: Mapping[str, list[Any]], runs: list[Run]) -> str:
    """Repeat the choice among runs; behind a mode that none of them has stand those that there are."""
    words = ", ".join(f"--{name} {' '.join(map(str, value))}" for name, value in asked.items())
    modes = dict.fromkeys([*MODES, VANILLA, *(run.mode for run in runs)])
    unknown = [mode for mode in asked.get("mode", ()) if mode not in modes]
    if DEFAULT_MODE in asked.get("mode", ()) and any(run.mode == VANILLA for run in runs):
        words += f"; runs without a norm are chosen by --mode {VANILLA}"
    for key in _keys(asked):
        there = sorted({setting_text(flat, key) for run in runs if key in (flat := flat_settings(run.settings))})
        words += f"; {key} there: {', '.join(there)}" if there else f"; none there has {key}"
    return f"{words}; {nearest_first(unknown[0], modes)}" if unknown else words


def look_of(given: Namespace) -> dict[str, Any]:
    """Return the keywords that all figures take, as they were given."""
    slots = {"slots": given.slots} if getattr(given, "slots", None) else {}
    formats = [name.strip() for name in given.format.split(",")]
    return {"style": given.style, "title": given.title, "formats": formats, "save_dir": given.save_dir, **slots}


SAVED_AS = ("png", "pdf")
"""The formats of a figure's files, unless others are asked for."""
SLOTS = {"--slots": {"nargs": "+", "metavar": "SLOT", "help": "draw these slots only: conv1 dense1 ..."}}
UNSORTED = {"--unsorted": {"action": "store_true", "help": "leave the channels in the network's order"}}
"""Arguments of several figures."""
