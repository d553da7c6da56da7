"""What a command of the analysis is, and what commands share: the choice among the runs found, and the look of figures."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchnorm.analysis.runs import RunPath, find_runs, problem_of
from batchnorm.errors import ConfigError, RunError
from batchnorm.modes import MODES, VANILLA, parse_mask
from batchnorm.store import Run


@dataclass(frozen=True)
class Command:
    """One command of the shell. A module of `figures` holds its own as `COMMAND`.

    Attributes:
        name: what the shell calls it.
        about: one line, for `--help`.
        example: arguments of a typical call, behind the name.
        run: does the work.
        arguments: what it takes beside paths and the choice among runs: name to argparse's keywords.
        draws: whether it takes `--style` and `--save-dir`.
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
        parser.epilog = f"example:\n  python -m batchnorm.analysis {self.name} {self.example}"
        parser.set_defaults(run=self.run)
        parser.add_argument("paths", nargs="+", metavar="PATH", help="a folder with runs below it, a run, or a glob pattern")
        if self.draws:
            parser.add_argument("--style", metavar="FORMAT", help="paper format of tueplots: neurips, icml, aistats2022, ...")
            parser.add_argument("--save-dir", type=Path, metavar="DIR", help="where to save (default: plots/ next to the runs)")
        chosen = parser.add_argument_group("choose among the runs found; each may take several values")
        for name, (keywords, _) in _CHOICES.items():
            chosen.add_argument(f"--{name}", nargs="+", **keywords)
        for name, keywords in self.arguments.items():
            parser.add_argument(name, **keywords)


def _has_mask(run: Run, text: str) -> bool:
    try:
        return parse_mask(text, run.layers) == run.mask
    except ConfigError:  # a mask of another problem's length
        return False


_CHOICES: Mapping[str, tuple[Mapping[str, Any], Callable[[Run, Any], bool]]] = {
    "problem": ({"metavar": "NAME"}, lambda run, name: problem_of(run) == name),
    "mask": ({"metavar": "MASK", "help": "0,0,1 | 001 | all | none"}, _has_mask),
    "mode": ({"metavar": "MODE", "choices": (*MODES, VANILLA)}, lambda run, mode: mode in (run.mode, run.config.ablation)),
    "optimizer": ({"metavar": "NAME"}, lambda run, name: run.config.optimizer == name),
    "seed": ({"metavar": "SEED", "type": int}, lambda run, seed: run.config.random_seed == seed),
    "lr": ({"metavar": "RATE", "type": float}, lambda run, rate: run.config.lr == rate),
    "epochs": ({"metavar": "N", "type": int}, lambda run, epochs: run.length.epochs == epochs),
}
"""Arguments that choose among runs: argparse's keywords, and whether a run has a value that is given."""


def is_chosen(run: Run, given: Namespace) -> bool:
    """Say whether a run is among those that `--problem`, `--mask` and so on choose."""
    return all(
        getattr(given, name) is None or any(has(run, value) for value in getattr(given, name))
        for name, (_, has) in _CHOICES.items()
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


SLOTS = {"--slots": {"nargs": "+", "metavar": "SLOT", "help": "draw these slots only: conv1 dense1 ..."}}
UNSORTED = {"--unsorted": {"action": "store_true", "help": "leave the channels in the network's order"}}
"""Arguments of several figures."""
