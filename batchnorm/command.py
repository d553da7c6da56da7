"""The command line of one run: reading it, answering `--help`, and turning outcomes into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields

from batchnorm.config import RunConfig, read_command_line, unheard
from batchnorm.data.facts import IMAGE_SETS
from batchnorm.errors import ExitCode, RunError, UserError, command_that_goes_on, is_out_of_memory, one_line, out_of_memory
from batchnorm.modes import MODES, NORMS, Trains
from batchnorm.optim import OPTIMIZERS, SCHEDULES
from batchnorm.problems import problems
from batchnorm.store import Status, stand
from batchnorm.streams import lasting_output

PROGRAM = "python run_trainingLoop.py"


def main(arguments: Sequence[str], *, program: str = PROGRAM) -> int:
    """Train the run that the arguments name, and return the exit code; `program` is what was typed in front of them."""
    with lasting_output():
        if any(argument in ("-h", "--help") for argument in arguments):
            print(help_text(program))
            return ExitCode.FINISHED
        try:
            config = read_command_line(arguments)
            for line in unheard(config):
                print(line, file=sys.stderr)
            return train_or_skip(config).exit_code
        except UserError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            return ExitCode.BAD_INPUT
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return ExitCode.INTERRUPTED


def train_or_skip(config: RunConfig) -> Status:
    """Train a run, unless it has ended already: that is answered at once, without torch and without images.

    Raises:
        UserError: the run cannot be trained as it is asked for.
    """
    if not config.overwrite:
        status = stand(config.directory, config.fingerprint()).usable().status
        if status.has_ended:
            again = "OUTPUT_DIR=... trains it once more elsewhere, OVERWRITE=true here"
            print(f"{status.value} already: {config.directory} ({again})")
            return status
    from batchnorm.logs import log_to_console
    from batchnorm.stop import Interrupted

    try:
        from batchnorm.training import train

        log_to_console()
        return train(config)
    except Interrupted:
        return Status.CUT_OFF
    except (MemoryError, RuntimeError, ImportError) as error:  # before the run has begun; later its training says so
        if not is_out_of_memory(error):
            raise
        raise RunError(f"{config.directory}: {out_of_memory(error)}") from None


def help_text(program: str = PROGRAM) -> str:
    """Return every key with its default and meaning, every problem with its slots, every mode, optimizer and schedule."""
    lines = [
        f"usage: {program} KEY=value ...",
        "",
        "Trains one run: a DeepOBS problem with BatchNorm where the mask puts it, in one mode. The same command again",
        "continues where the run stopped; a finished run is left as it is.",
        "",
        "keys (in any case), [default]:",
    ]
    for entry in fields(RunConfig):
        default = entry.metadata["shown"]
        if default is None:
            default = str(entry.default).lower() if isinstance(entry.default, bool) else str(entry.default)
        lines.append(f"  {entry.name.upper():<18} {entry.metadata['help']} [{default}]")
    lines += [
        "",
        "problems and their slots (a mask has one digit for each); path/to/file.py:function takes one from your file:",
    ]
    lines += [f"  {name:<20} {', '.join(problem.slots)}" for name, problem in problems().items()]
    sets = ", ".join(f"{name} {facts.size}" for name, facts in IMAGE_SETS.items())
    lines += ["", f"image sets for a problem of your own, channels x height x width: {sets}"]
    lines += ["", "modes, what becomes of a slot under the mask:"]
    for mode in MODES.values():
        treatment = mode.treatment
        parts = [f"{treatment.norm or 'no'} norm", f"gamma {treatment.gamma}", f"beta {treatment.beta}"]
        trains = [] if mode.trains is Trains.ALL else [f"trains {mode.trains.value}"]
        lines.append(f"  {mode.name:<12} {', '.join([*parts, *trains])}")
    lines += ["", "norms (NORM=...), how a mode normalises:"]
    lines += [f"  {norm.name + (':G' if norm.groups else ''):<12} {norm.meaning}" for norm in NORMS.values()]
    lines += ["", "optimizers and their hyperparameters:"]
    lines += [f"  {name:<9} {', '.join(['lr', *spec.hyperparameters])}" for name, spec in OPTIMIZERS.items()]
    lines += ["", "schedules (LR_SCHEDULE=...) and their settings, in epochs:"]
    for name, schedule in SCHEDULES.items():
        settings = [*schedule.required, *(f"[{setting}]" for setting in schedule.optional)]
        lines.append(f"  {name:<21} {', '.join(settings)}")
    stopped = f"75 stopped by a signal ({command_that_goes_on(overwrite=False)}, without OVERWRITE=true)"
    lines += ["", f"exit codes: 0 finished, 2 bad input, 3 diverged, {stopped}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], program="python -m batchnorm.command"))
