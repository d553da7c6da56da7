"""The one command for all: `dissect-batchnorm SUBCOMMAND ...`, also as `python -m batchnorm`; the table of its subcommands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchnorm import __version__, shipped
from batchnorm.errors import ExitCode, nearest_first
from batchnorm.stop import end_on_interrupt, leave_on_interrupt
from batchnorm.streams import lasting_output

NAME = "dissect-batchnorm"


def _train(arguments: Sequence[str], program: str) -> int:
    leave_on_interrupt()
    from batchnorm.command import main

    return main(arguments, program=program)


def _study(arguments: Sequence[str], program: str) -> int:
    end_on_interrupt()
    from batchnorm.study.__main__ import as_program

    return as_program(arguments, program=program)


def _analysis(arguments: Sequence[str], program: str) -> int:
    end_on_interrupt()
    from batchnorm.analysis.__main__ import as_program

    return as_program(arguments, program=program)


def _problems(arguments: Sequence[str], program: str) -> int:
    from batchnorm.problems.__main__ import as_program

    return as_program(arguments, program=program)


def _shipped(arguments: Sequence[str], program: str) -> int:
    """Print where shipped files are: all, or the one of a name."""
    folders = (shipped.CONFIGS, shipped.STUDIES, shipped.SCRIPTS)
    there = [file for folder in folders for file in shipped.files(folder)]
    text = "\n".join(map(str, there))
    if {"-h", "--help"} & {*arguments}:
        text = f"""\
usage: {program} [NAME]

Prints where the files are that came with it, or the one of that name:
  cp "$({program} quickstart_digits)" my_study.yaml"""
    elif arguments:
        given = Path(arguments[0])
        found = [path for folder in folders if not shipped.is_missing(path := shipped.find(given, among=folder))]
        if not found:
            print(f"error: {given}: no such file; {nearest_first(given.name, [file.name for file in there])}", file=sys.stderr)
            return ExitCode.BAD_INPUT
        text = str(found[0].absolute())
    with lasting_output():
        print(text)
    return ExitCode.FINISHED


@dataclass(frozen=True)
class Subcommand:
    """One subcommand: its name, what it does, and the function that takes its arguments and the words that were typed."""

    name: str
    about: str
    run: Callable[[Sequence[str], str], int]


SUBCOMMANDS = {
    row.name: row
    for row in (
        Subcommand("train", "train one run: KEY=value ...", _train),
        Subcommand("study", "many runs from one file, here or on SLURM: COMMAND STUDY.yaml ...", _study),
        Subcommand("analysis", "figures and tables of runs: COMMAND PATH ...", _analysis),
        Subcommand("problems", "try a network of your own before it is trained: check path/to/file.py:function", _problems),
        Subcommand("shipped", "where the configurations, studies and SLURM scripts are that came with it: [NAME]", _shipped),
    )
}


def main(arguments: Sequence[str] | None = None, *, program: str = NAME) -> int:
    """Run a subcommand and return the exit code.

    Args:
        arguments: the subcommand and its arguments; by default those of this process.
        program: what was typed in front of them, for messages.
    """
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in SUBCOMMANDS:
        return SUBCOMMANDS[name].run(rest, f"{program} {name}")
    with lasting_output():
        if name in ("-h", "--help", "--version"):
            print(f"{NAME} {__version__}" if name == "--version" else help_text(program))
            return ExitCode.FINISHED
        print(f"error: {name}: no such command; {nearest_first(name, SUBCOMMANDS)}", file=sys.stderr)
        return ExitCode.BAD_INPUT


def help_text(program: str) -> str:
    """Return what `--help` prints."""
    rows = (f"  {row.name:<10} {row.about}" for row in SUBCOMMANDS.values())
    return f"""\
usage: {program} COMMAND ...

What do BatchNorm's parts do? Trains networks with BatchNorm in some layers only, and shows what that changes.

commands:
{chr(10).join(rows)}

{program} COMMAND --help tells more of each; --version tells the version. To start:
  {program} study run quickstart_digits
  {program} analysis summary output"""


if __name__ == "__main__":
    sys.exit(main(program="python -m batchnorm"))
