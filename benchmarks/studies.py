"""Times a study of 8 digits runs: two single-threaded workers, against one run after the other on two threads.

    python -m benchmarks.study [EPOCHS]

Both in one go, so that their ratio holds where the machine is shared; and what starting a worker costs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from batchnorm.study.local import Worker

STUDY = """\
PROBLEM: digits_2c2d_bn
RANDOM_SEED: [1, 2]
POSITION: all
ABLATION: [trained_bn, fixed_bn, fixed_gamma, fixed_beta]
"""
COMMAND = [sys.executable, "-m", "batchnorm.study", "run"]


def seconds_of(*arguments: str) -> float:
    """Time a command."""
    started = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def seconds_to_start() -> float:
    """Time a worker from its start to its readiness: mostly torch's import."""
    started = time.perf_counter()
    worker = Worker.start(None)
    worker.read()
    seconds = time.perf_counter() - started
    worker.dismiss()
    worker.bury()
    return seconds


def main() -> None:
    """Print the times and their ratios."""
    epochs = sys.argv[1] if len(sys.argv) > 1 else "2"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "eight.yaml"
        path.write_text(STUDY)

        def study(name: str, *arguments: str) -> float:
            return seconds_of(*COMMAND, str(path), f"NUM_EPOCHS={epochs}", f"OUTPUT_DIR={folder}/{name}", *arguments)

        start = min(seconds_to_start() for _ in range(3))
        side_by_side = study("side by side", "--workers=2", "THREADS=1")
        in_a_row = study("in a row", "--workers=1", "THREADS=2")
        commands = sum(study(f"command {index}", f"--index={index}", "THREADS=2") for index in range(8))
    print(f"8 runs of {epochs} epochs, digits_2c2d_bn")
    print(f"  two workers, one thread each         {side_by_side:7.1f} s")
    print(f"  in a row on two threads, one process {in_a_row:7.1f} s   {in_a_row / side_by_side:.2f} times as long")
    print(f"  in a row on two threads, 8 commands  {commands:7.1f} s   {commands / side_by_side:.2f} times as long")
    print(f"  starting a worker                    {start:7.1f} s   a process a run would take {7 * start:.1f} s more")


if __name__ == "__main__":
    main()
