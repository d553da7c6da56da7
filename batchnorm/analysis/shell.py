"""What a command of the analysis is, and what commands share: the choice among the runs found, and the look of figures."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchnorm.analysis.runs import RunPath, find_runs, problem_of
from batchnorm.errors import ConfigError, RunError
from batchnorm.modes import MODES, VANILLA, parse_mask
from batchnorm.store import Run


def _nothing(parser: ArgumentParser) -> None:
    """Add no argument."""


@dataclass(frozen=True)
class Command:
    """One command of the shell. A module of `figures` holds its own as `COMMAND`.

    Attributes:
        name: what the shell calls it.
        about: one line, for `--help`.
        example: arguments of a typical call, behind the name.
        run: does the work.
        add_arguments: declares what it takes beside paths and the choice among runs.
        draws: whether it takes `--style` and `--save-dir`.
    """

    name: str
    about: str
    example: str
    run: Callable[[Namespace], None]
    add_arguments: Callable[[ArgumentParser], None] = _nothing
    draws: bool = True

    def add_to(self, commands: Any) -> None:
        """Declare it to argparse, as one of the sub-commands."""
        parser = commands.add_parser(self.name, help=self.about, description=self.about[0].upper() + self.about[1:] + ".")
        parser.epilog = f"example:\n  python -m batchnorm.analysis {self.name} {self.example}"
        parser.set_defaults(run=self.run)
        parser.add_argument("paths", nargs="+", metavar="PATH", help="a folder with runs below it, a run, or a glob pattern")
        if self.draws:
            parser.add_argument("--style", metavar="FORMAT", help="paper format of tueplots: neurips, icml, aistats2022, ...")
            parser.add_argument("--save-dir", type=Path, metavar="DIR", help="where to save (default: plots/ next to the runs)")
        chosen = parser.add_argument_group("choose among the runs found; each may take several values")
        for name, choice in _CHOICES.items():
            chosen.add_argument(f"--{name}", nargs="+", **choice.argument)
        self.add_arguments(parser)


@dataclass(frozen=True)
class _Choice:
    """An argument that chooses among runs: what argparse is told of it, and whether a run has a value that it is given."""

    argument: Mapping[str, Any]
    has: Callable[[Run, Any], bool]


def _has_mask(run: Run, text: str) -> bool:
    try:
        return parse_mask(text, run.layers) == run.mask
    except ConfigError:  # a mask of another problem's length
        return False


_CHOICES = {
    "problem": _Choice({"metavar": "NAME"}, lambda run, name: problem_of(run) == name),
    "mask": _Choice({"metavar": "MASK", "help": "0,0,1 | 001 | all | none"}, _has_mask),
    "mode": _Choice(
        {"metavar": "MODE", "choices": (*MODES, VANILLA), "help": f"{' | '.join((*MODES, VANILLA))}"},
        lambda run, mode: mode in (run.mode, run.config.ablation),
    ),
    "optimizer": _Choice({"metavar": "NAME"}, lambda run, name: run.config.optimizer == name),
    "seed": _Choice({"metavar": "SEED", "type": int}, lambda run, seed: run.config.random_seed == seed),
    "lr": _Choice({"metavar": "RATE", "type": float}, lambda run, rate: run.config.lr == rate),
    "epochs": _Choice({"metavar": "N", "type": int}, lambda run, epochs: run.length.epochs == epochs),
}


def is_chosen(run: Run, given: Namespace) -> bool:
    """Say whether a run is among those that `--problem`, `--mask` and so on choose."""
    return all(
        getattr(given, name) is None or any(choice.has(run, value) for value in getattr(given, name))
        for name, choice in _CHOICES.items()
    )


def chosen_paths(given: Namespace) -> list[RunPath]:
    """Return the runs that are meant.

    Raises:
        RunError: there is none.
    """
    found = find_runs(given.paths)
    asked = {name: value for name in _CHOICES if (value := getattr(given, name)) is not None}
    wanted: list[RunPath] = [path for path in found if not asked or is_chosen(Run(path), given)]
    if not wanted:
        chosen = [f"--{name} {' '.join(map(str, value))}" for name, value in asked.items()]
        raise RunError(f"{given.paths[0]}: no run there has {', '.join(chosen)}")
    return wanted


def look(given: Namespace) -> dict[str, Any]:
    """Return the keywords that all figures take, as they were given."""
    slots = {"slots": given.slots} if getattr(given, "slots", None) else {}
    return {"style": given.style, "save_dir": given.save_dir, **slots}


def add_slots(parser: ArgumentParser) -> None:
    """Declare the argument of figures that have a panel for each slot."""
    parser.add_argument("--slots", nargs="+", metavar="SLOT", help="draw these slots only: conv1 dense1 ...")
