"""The analysis from the shell: `python -m batchnorm.analysis COMMAND PATH ...`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    from batchnorm.analysis.commands import run_command  # what takes time to import

    return run_command(arguments)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends quietly, while libraries are imported too
    os.environ["MPLBACKEND"] = "agg"  # a notebook's is no backend elsewhere, and nothing here is shown in a window
    sys.exit(main())
