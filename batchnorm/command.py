"""The command line of one run: reading it, answering `--help`, and turning outcomes into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields

from batchnorm.config import RunConfig, read_command_line
from batchnorm.errors import ExitCode, UserError, one_line
from batchnorm.masks import Ablation
from batchnorm.optim import OPTIMIZERS, SCHEDULES
from batchnorm.problems import problems
from batchnorm.rundir import RunDirectory
from batchnorm.store import Status, ended_status


def main(arguments: Sequence[str]) -> int:
    """Train the run that the arguments name, and return the exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(help_text())
        return ExitCode.FINISHED
    try:
        return train_or_skip(read_command_line(arguments))
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return ExitCode.INTERRUPTED


def train_or_skip(config: RunConfig) -> int:
    """Train a run, unless it has ended already: that is answered at once, without torch and without images.

    Raises:
        UserError: the run cannot be trained as it is asked for.
    """
    status = None if config.overwrite else ended_status(RunDirectory(config.directory), config.fingerprint())
    if status is not None:
        print(f"{status.name.lower()} already: {config.directory} (OVERWRITE=true starts it afresh)")
    else:
        from batchnorm.logs import log_to_console
        from batchnorm.stop import Interrupted
        from batchnorm.training import train

        log_to_console()
        try:
            status = train(config)
        except Interrupted:
            return ExitCode.INTERRUPTED
    return ExitCode.DIVERGED if status == Status.DIVERGED else ExitCode.FINISHED


def help_text() -> str:
    """Return every key with its default and meaning, every problem with its slots, every mode, optimizer and schedule."""
    lines = [
        "usage: python run_trainingLoop.py KEY=value ...",
        "",
        "Trains one run: a DeepOBS problem with BatchNorm where the mask puts it, in one mode. The same command again goes",
        "on where the run stopped; a finished run is left as it is.",
        "",
        "keys (in any case), [default]:",
    ]
    for entry in fields(RunConfig):
        default = entry.metadata["default"]
        if default is None:
            default = str(entry.default).lower() if isinstance(entry.default, bool) else str(entry.default)
        lines.append(f"  {entry.name.upper():<16} {entry.metadata['help']} [{default}]")
    lines += ["", "problems and their slots (a mask has one digit for each):"]
    lines += [f"  {name:<20} {', '.join(problem.slots)}" for name, problem in problems().items()]
    lines += ["", "modes (BatchNorm normalises in each of them):"]
    for mode in Ablation:
        gamma = "trained" if mode.trains_gamma else "stays 1"
        beta = "trained" if mode.trains_beta else "stays 0"
        lines.append(f"  {mode.value:<12} gamma {gamma}, beta {beta}")
    lines += ["", "optimizers and their hyperparameters:"]
    lines += [f"  {name:<9} {', '.join(['lr', *spec.hyperparameters])}" for name, spec in OPTIMIZERS.items()]
    lines += ["", "schedules (LR_SCHEDULE=...) and their settings, in epochs:"]
    for name, schedule in SCHEDULES.items():
        settings = [*schedule.required, *(f"[{setting}]" for setting in schedule.optional)]
        lines.append(f"  {name:<21} {', '.join(settings)}")
    lines += ["", "exit codes: 0 finished, 2 bad input, 3 diverged, 75 stopped by a signal (the same command goes on)"]
    return "\n".join(lines)
