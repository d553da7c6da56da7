"""Keeps SLURM's daemons while its standard input is open, then ends all jobs and them: whatever ended who wanted them.

A process in a session of its own, so that neither Ctrl-C nor a kill of the tests leaves daemons behind.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

SECONDS = 30
MUNGE_FILES = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munged.seed"}


def main(folder: Path) -> None:
    """Start munged, slurmctld and slurmd, and stop them when the input ends."""
    with ExitStack() as daemons:
        options = [f"--{option}={folder / file}" for option, file in MUNGE_FILES.items()]
        daemons.enter_context(daemon(folder, "munged", "--force", "--foreground", *options))
        wait(lambda: (folder / "munge.socket").exists())
        daemons.enter_context(daemon(folder, "slurmctld", "-D"))
        daemons.enter_context(daemon(folder, "slurmd", "-D", "-N", platform.node()))
        sys.stdin.read()
        subprocess.run(["scancel", "--user=root"], capture_output=True)
        wait(lambda: not subprocess.run(["squeue", "-h"], capture_output=True).stdout.strip())


@contextmanager
def daemon(folder: Path, *command: str) -> Iterator[None]:
    """Keep one daemon while the block runs; what it prints goes to a file."""
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait(happened: Callable[[], bool]) -> None:
    """Ask again and again, for some time."""
    end = time.monotonic() + SECONDS
    while not happened() and time.monotonic() < end:
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
