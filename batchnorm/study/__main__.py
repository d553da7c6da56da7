"""The command line of studies: `python -m batchnorm.study COMMAND STUDY.yaml [KEY=value ...]`; `commands` has the commands."""

from __future__ import annotations

import signal
import sys

from batchnorm.stop import end_on_interrupt

if __name__ == "__main__":
    end_on_interrupt()  # while all is loaded

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from batchnorm.config import split_arguments
from batchnorm.errors import ConfigError, ExitCode, StudyError, UserError, nearest_first, one_line
from batchnorm.study.commands import COMMANDS, Call, Command
from batchnorm.study.output import open_streams, tell

USAGE = """\
usage: {program} COMMAND STUDY.yaml [KEY=value ...]

A study file holds keys of a run; a list of values is a grid, POSITION also takes prefixes, suffixes, singles and
all_masks. RANDOM_SEED: 1-5,9 and LR: {{log_uniform: [1e-3, 1], n: 12, seed: 0}} are lists too: these seeds, and 12 rates
drawn once. KEY=value replaces the file's value in every run. Every run is checked before anything starts.

commands:
{commands}

exit codes: 0 all done (a run that diverged is a result), 1 some run failed, is unusable, or was left out because another
  process is running it, 2 bad input, 75 stopped by a signal (the same command continues, without OVERWRITE=true),
  130 Ctrl-C before anything began; run --index N: those of run_trainingLoop.py"""
PROGRAM = "python -m batchnorm.study"


def main(arguments: Sequence[str], *, program: str = PROGRAM) -> ExitCode:
    """Do what the arguments say, and return the exit code; `program` is what was typed in front of them."""
    given, passed_on = list(arguments), []
    if "--" in given:
        place = given.index("--")
        given, passed_on = given[:place], given[place + 1 :]
    try:
        if not given or "-h" in given or "--help" in given:
            tell(usage(program))
            return ExitCode.FINISHED
        command, call = read_arguments(given, passed_on)
        return command.do(call)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


def usage(program: str) -> str:
    """Return what `--help` prints."""
    lines = []
    for command in COMMANDS.values():
        lines.append(f"  {command.name:<9} {command.about}")
        lines += [f"{'':<14}{option.usage:<22} {option.about}" for option in command.options]
    return USAGE.format(program=program, commands="\n".join(lines))


def read_arguments(given: Sequence[str], passed_on: Sequence[str]) -> tuple[Command, Call]:
    """Read the command line; `passed_on` is what stands in it after `--`.

    Raises:
        ConfigError: it is wrong.
        StudyError: there is no such command.
    """
    name, *rest = given
    if name not in COMMANDS:
        raise StudyError(f"{name}: no such command; {nearest_first(name, COMMANDS)}")
    takers = [each.name for each in COMMANDS.values() if any(option.usage.startswith("-- ") for option in each.options)]
    if passed_on and name not in takers:
        raise StudyError(f"-- {' '.join(passed_on)}: only {' and '.join(takers)} passes options on")
    parser = _OneLineParser(prog="batchnorm.study", add_help=False, allow_abbrev=False)
    parser.add_argument("study", metavar="STUDY.yaml", type=Path)
    parser.add_argument("overrides", metavar="KEY=value", nargs="*")
    for option in COMMANDS[name].options:
        flag, takes_value, _ = option.usage.partition(" ")
        if not takes_value:
            parser.add_argument(flag, action="store_true")
        elif flag != "--":
            parser.add_argument(flag, type=option.read, default=option.default)
    options = vars(parser.parse_intermixed_args(rest))
    return COMMANDS[name], Call(options.pop("study"), split_arguments(options.pop("overrides")), options, passed_on)


class _OneLineParser(argparse.ArgumentParser):
    """Raises what argparse would print over several lines."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{' '.join(message.split())}; --help tells the commands and options")


def as_program(arguments: Sequence[str], *, program: str = PROGRAM) -> ExitCode:
    """Run `main` as a process of its own does: whatever its streams are, and with Ctrl-C as Python has it while it works."""
    open_streams()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main(arguments, program=program)
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(as_program(sys.argv[1:]))
