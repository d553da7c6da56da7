"""The commands of a study: `python -m batchnorm.study list|status|missing|run|submit STUDY.yaml [KEY=value ...]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from batchnorm.config import is_device, split_arguments
from batchnorm.errors import ConfigError, ExitCode, StudyError, UserError, nearest_first, one_line
from batchnorm.study.grid import Study, read_study
from batchnorm.study.status import check_no_other_runs, format_array, format_list, format_status, standings, to_do

USAGE = """\
usage: python -m batchnorm.study COMMAND STUDY.yaml [KEY=value ...]

A study file holds keys of a run; a list of values is a grid, POSITION also takes prefixes, suffixes, singles and
all_masks. KEY=value replaces the file's value in every run. Every run is checked before anything starts.

commands:
  list      index, variant and directory of each run
  status    finished, running, cut off, diverged and missing runs, how far they are, and the time left
  missing   the indices of the runs to do, as SLURM's --array takes them
  run       train what is left here; Ctrl-C stops all runs after a checkpoint, the same command goes on
              --workers N            processes at a time [one a core on the CPU, one a GPU]
              --devices cuda:0,...   where to train, dealt to the workers in turn
              --index N              train that run only, in this process
  submit    submit what is left to SLURM, as the array job sbatch/study.sbatch
              --dry-run              print the call and do nothing
              --at-once N            array tasks that may run at a time [20]
              -- OPTION ...          more options to sbatch, as -- --time=8:00:00 --partition=long

exit codes: 0 all done (a run that diverged is a result), 1 some run failed, 2 bad input,
  75 stopped by a signal (the same command goes on); run --index N: those of run_trainingLoop.py\
"""
COMMANDS = ("list", "status", "missing", "run", "submit")


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say, and return the exit code."""
    try:
        return run_command(arguments)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoints", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # as in `list ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FINISHED


def run_command(arguments: Sequence[str]) -> int:
    """Do what the arguments say, and return the exit code.

    Raises:
        UserError: they, the study or a directory are wrong.
    """
    options = read_arguments(arguments)
    if options is None:
        print(USAGE)
        return ExitCode.FINISHED
    study = load_study(options)
    if options.command == "run" and options.index is not None:
        from batchnorm.command import train_or_skip

        return train_or_skip(study.run_at(options.index).config)
    if options.command in ("run", "submit"):
        check_no_other_runs(study)
    if options.command == "run":
        from batchnorm.study.local import run_study

        return run_study(study, workers=options.workers, devices=options.devices)
    if options.command == "list":
        print(format_list(study))
        return ExitCode.FINISHED
    found = standings(study)
    if options.command == "status":
        print(format_status(study, found))
        return ExitCode.FINISHED
    missing = [run.index for run in to_do(found)]
    if options.command == "missing":
        print(format_array(missing))
    elif missing:
        from batchnorm.study.slurm import submit

        print(submit(study, missing, at_once=options.at_once, options=options.to_sbatch, dry_run=options.dry_run))
    else:
        print(f"{study.name}: nothing to submit")
    return ExitCode.FINISHED


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace | None:
    """Read the command line; None where it asks for help.

    Raises:
        ConfigError: it is wrong.
        StudyError: there is no such command.
    """
    given, to_sbatch = list(arguments), []
    if "--" in given:
        place = given.index("--")
        given, to_sbatch = given[:place], given[place + 1 :]
    if not given or any(argument in ("-h", "--help") for argument in given):
        return None
    command = given.pop(0)
    if command not in COMMANDS:
        raise StudyError(f"{command}: no such command; {nearest_first(command, COMMANDS)}")
    parser = _OneLineParser(prog="batchnorm.study", add_help=False, allow_abbrev=False)
    parser.add_argument("study", metavar="STUDY.yaml", type=Path)
    parser.add_argument("overrides", metavar="KEY=value", nargs="*")
    if command == "run":
        parser.add_argument("--workers", type=_count)
        parser.add_argument("--devices", type=_devices, default=[])
        parser.add_argument("--index", type=int)
    elif command == "submit":
        parser.add_argument("--dry-run", action="store_true")
        parser.add_argument("--at-once", type=_count, default=20)
    if to_sbatch and command != "submit":
        raise StudyError(f"-- {' '.join(to_sbatch)}: only submit passes options on")
    options = parser.parse_intermixed_args(given)
    options.command, options.to_sbatch = command, to_sbatch
    return options


def load_study(options: argparse.Namespace) -> Study:
    """Read the study with the command line's overrides; local workers have one thread each unless told otherwise.

    Raises:
        ConfigError: the study or an override is wrong.
    """
    local = options.command == "run" and options.index is None
    return read_study(options.study, split_arguments(options.overrides), defaults={"threads": "1"} if local else None)


class _OneLineParser(argparse.ArgumentParser):
    """Raises what argparse would print over several lines."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{' '.join(message.split())}; --help tells the commands and options")


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
