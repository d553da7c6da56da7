"""The analysis from the shell: `python -m batchnorm.analysis COMMAND PATH ...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from batchnorm.stop import end_on_interrupt

PROGRAM = "python -m batchnorm.analysis"


def main(arguments: Sequence[str] | None = None, *, program: str = PROGRAM) -> int:
    """Run one command and return the exit code; `program` is what was typed in front of the arguments."""
    from batchnorm.analysis.commands import run_command  # what takes time to import

    return run_command(arguments, program)


def as_program(arguments: Sequence[str], *, program: str = PROGRAM) -> int:
    """Run `main` as a process of its own does: Ctrl-C ends it quietly, and figures are drawn without a window."""
    end_on_interrupt()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's is no backend elsewhere, and nothing here is shown in a window
    return main(arguments, program=program)


if __name__ == "__main__":
    sys.exit(as_program(sys.argv[1:]))
