"""What a study gains from workers side by side, and what starting a worker costs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from batchnorm.study.worker import Worker
from benchmarks.measuring import spread, table

STUDY = """\
PROBLEM: digits_2c2d_bn
RANDOM_SEED: [1, 2]
POSITION: all
ABLATION: [trained_bn, fixed_bn, fixed_gamma, fixed_beta]
"""
REPEATS = 3
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
    worker.wait()
    return seconds


def study(folder: Path) -> str:
    """Compare a study of 8 digits runs: two single-threaded workers, against one run after the other on two threads."""
    path = folder / "eight.yaml"
    path.write_text(STUDY)
    ways = {
        "two workers, one thread each": ["--workers=2", "THREADS=1"],
        "in a row on two threads, one process": ["--workers=1", "THREADS=2"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*ways, "in a row on two threads, 8 commands"]}
    for turn in range(REPEATS):

        def run(name: str, *arguments: str) -> float:
            return seconds_of(*COMMAND, str(path), "NUM_EPOCHS=2", f"OUTPUT_DIR={folder}/{turn}/{name}", *arguments)  # noqa: B023

        for name, arguments in ways.items():
            seconds[name].append(run(name, *arguments))
        commands = sum(run(f"command {index}", f"--index={index}", "THREADS=2") for index in range(8))
        seconds["in a row on two threads, 8 commands"].append(commands)
    side_by_side = seconds["two workers, one thread each"]
    rows = [
        (name, spread(taken, 1), spread([one / other for one, other in zip(taken, side_by_side, strict=True)]), goal)
        for (name, taken), goal in zip(seconds.items(), ("", "", "1.4"), strict=True)
    ]
    rows.append(("starting a worker", spread([seconds_to_start() for _ in range(REPEATS)], 1), "", ""))
    return table(("8 runs of 2 epochs, digits_2c2d_bn", "s", "times as long", "to reach"), rows)
