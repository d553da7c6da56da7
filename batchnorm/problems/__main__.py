"""The command line of problems: `python -m batchnorm.problems check PROBLEM`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from batchnorm.data.facts import IMAGE_SETS
from batchnorm.errors import ConfigError, ExitCode, UserError, nearest_first, one_line
from batchnorm.stop import end_on_interrupt
from batchnorm.streams import lasting_output

PROGRAM = "python -m batchnorm.problems"
COMMANDS = ("check",)
USAGE = """\
usage: {program} check PROBLEM [OBS_DATASETS=data]

Tries a problem, a name or path/to/file.py:function, as a run does. Prints its slots as register_problem takes them, the
layers that are no slots and why, how many parameters it has, one forward and backward pass, and an entry for TUNING_CONF.
It needs no images, unless they are OwnImages(...) whose size only they tell.

image sets, channels x height x width, and classes:
{image_sets}

exit codes: 0 a run would take it, 2 something is to be put right; one line says what"""


def main(arguments: Sequence[str], *, program: str = PROGRAM) -> int:
    """Do what the arguments say, and return the exit code; `program` is what was typed in front of them."""
    with lasting_output():
        if not arguments or {"-h", "--help"} & {*arguments}:
            print(usage(program))
            return ExitCode.FINISHED
        try:
            name, *rest = arguments
            if name not in COMMANDS:
                raise ConfigError(f"{name}: no such command; {nearest_first(name, COMMANDS)}")
            places = [text for text in rest if text.startswith("OBS_DATASETS=")]
            rest = [text for text in rest if text not in places]
            if len(rest) != 1 or len(places) > 1:
                raise ConfigError(f"{name} takes one problem, a name or path/to/file.py:function; --help tells more")
            from batchnorm.problems.check import check  # torch with it

            told, wrong = check(rest[0].removeprefix("PROBLEM="), *(text.partition("=")[2] for text in places))
            print(told)
            if wrong:
                raise ConfigError(f"PROBLEM={rest[0].removeprefix('PROBLEM=')}: {wrong}")
        except UserError as error:
            sys.stdout.flush()
            print(f"error: {one_line(error)}", file=sys.stderr)
            return ExitCode.BAD_INPUT
        return ExitCode.FINISHED


def usage(program: str) -> str:
    """Return what `--help` prints."""
    rows = (f"  {name:<9} {facts.size:<12} {facts.classes:>3}" for name, facts in IMAGE_SETS.items())
    return USAGE.format(program=program, image_sets="\n".join(rows))


def as_program(arguments: Sequence[str], *, program: str = PROGRAM) -> int:
    """Run `main` as a process of its own does: Ctrl-C ends it quietly."""
    end_on_interrupt()
    return main(arguments, program=program)


if __name__ == "__main__":
    sys.exit(as_program(sys.argv[1:]))
