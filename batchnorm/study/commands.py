"""The commands of a study: one function and one row of `COMMANDS` each; the usage text and the reading of options follow."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchnorm.config import is_device
from batchnorm.errors import ExitCode
from batchnorm.study.grid import Study, read_study
from batchnorm.study.status import check_no_other_runs, format_array, format_list, format_status, standings, to_do


@dataclass(frozen=True)
class Call:
    """A command as it was called: the study file, overrides, the command's options by name, and what stands after `--`."""

    path: Path
    overrides: Mapping[str, str]
    options: Mapping[str, Any]
    passed_on: Sequence[str] = ()

    def study(self, **defaults: str) -> Study:
        """Read the study; `defaults` are values of fields that neither its file nor the call gives."""
        return read_study(self.path, self.overrides, defaults=defaults)


def list_runs(call: Call) -> ExitCode:
    """Print all runs."""
    print(format_list(call.study()))
    return ExitCode.FINISHED


def status(call: Call) -> ExitCode:
    """Print how the study stands."""
    study = call.study()
    print(format_status(study, standings(study)))
    return ExitCode.FINISHED


def missing(call: Call) -> ExitCode:
    """Print the indices of the runs to do."""
    print(format_array([run.index for run in to_do(standings(call.study()))]))
    return ExitCode.FINISHED


def run(call: Call) -> ExitCode:
    """Train what is left, or one run; local workers have one thread each unless told otherwise."""
    index = call.options["index"]
    if index is not None:
        from batchnorm.command import train_or_skip

        return train_or_skip(call.study().run_at(index).config).exit_code
    from batchnorm.study.local import run_study

    study = call.study(threads="1")
    check_no_other_runs(study)
    return run_study(study, workers=call.options["workers"], devices=call.options["devices"])


def submit(call: Call) -> ExitCode:
    """Submit what is left."""
    from batchnorm.study import slurm

    study = call.study()
    check_no_other_runs(study)
    if indices := [run.index for run in to_do(standings(study))]:
        print(slurm.submit(study, indices, options=call.passed_on, **call.options))
    else:
        print(f"{study.name}: nothing to submit")
    return ExitCode.FINISHED


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 4096:
        raise argparse.ArgumentTypeError(f"{text}: must be an integer from 1 to 4096")
    return number


def _devices(text: str) -> list[str]:
    devices = text.split(",")
    for device in devices:
        if not is_device(device):
            raise argparse.ArgumentTypeError(f"{device}: must be auto, cpu, cuda or cuda:N, several with commas")
    return devices


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        usage: its name, with a word for its value where it takes one; `-- OPTION ...` lets the command take what stands there.
        about: what it does.
        read: turns its text into its value; its ArgumentTypeError says what is wrong.
        default: its value where it is not given; False for an option without a value.
    """

    usage: str
    about: str
    read: Callable[[str], Any] = str
    default: Any = None


@dataclass(frozen=True)
class Command:
    """One command: the word for it, what it does in words, what does it, and its options."""

    name: str
    about: str
    do: Callable[[Call], ExitCode]
    options: tuple[Option, ...] = ()


COMMANDS = {
    row.name: row
    for row in (
        Command("list", "index, variant and directory of each run", list_runs),
        Command("status", "finished, running, cut off, diverged and missing runs, how far they are, and the time left", status),
        Command("missing", "the indices of the runs to do, as SLURM's --array takes them", missing),
        Command(
            "run",
            "train what is left here; Ctrl-C stops all runs after a checkpoint, the same command goes on",
            run,
            (
                Option("--workers N", "processes at a time [one a core on the CPU, one a GPU]", _count),
                Option("--devices cuda:0,...", "where to train, dealt to the workers in turn", _devices, ()),
                Option("--index N", "train that run only, in this process", int),
            ),
        ),
        Command(
            "submit",
            "submit what is left to SLURM, as the array job sbatch/study.sbatch",
            submit,
            (
                Option("--dry-run", "print the call and do nothing"),
                Option("--at-once N", "array tasks that may run at a time [20]", _count, 20),
                Option("-- OPTION ...", "more options to sbatch, as -- --time=8:00:00 --partition=long"),
            ),
        ),
    )
}
