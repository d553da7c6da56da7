"""How time and memory grow: with the batch size, threads, how often is recorded, and the number of runs in a study."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.costs import steps_and_memory
from benchmarks.images import make_cifar
from benchmarks.loops import Task
from benchmarks.measuring import table

PROBLEM = "cifar10_3c3d_bn"


def growth(folder: Path) -> str:
    """Measure training steps of 3c3d on CIFAR-10 by batch size, threads and recording, and studies by their number of runs."""
    task = Task(PROBLEM, make_cifar(folder, "cifar10", train=6400, test=1280), evaluation_images=1280)
    return "\n\n".join([_batch_sizes(task), _ways(task), _snapshots(task), _runs(folder)])


def _batch_sizes(task: Task) -> str:
    rows = []
    for size in (32, 64, 128, 256, 512, 1024):
        seconds, megabytes = steps_and_memory(task.with_keys(batch_size=size), max(2, 1024 // size))
        rows.append((str(size), f"{1e3 * seconds:.1f}", f"{size / seconds:.0f}", f"{megabytes:.0f}"))
    return table(("batch size", "ms a step", "images/s", "peak MB"), rows)


def _ways(task: Task) -> str:
    rows = []
    for precision in ("fp32", "bf16"):
        for threads, layout, compiled in (
            (1, "channels_last", False),
            (2, "channels_last", False),
            (2, "contiguous", False),
            (2, "channels_last", True),
        ):
            way = replace(task, threads=threads).with_keys(precision=precision, memory_format=layout, compile=compiled)
            seconds, megabytes = steps_and_memory(way, 10)
            rows.append(
                (precision, str(threads), layout, "yes" if compiled else "", f"{1e3 * seconds:.1f}", f"{megabytes:.0f}")
            )
    return table(("precision", "threads", "layout", "COMPILE", "ms a step", "peak MB"), rows)


def _snapshots(task: Task) -> str:
    rows = []
    for every, name in ((1, "every step"), (5, "every 5 steps"), (50, "every 50 steps"), (0, "never")):
        seconds, megabytes = steps_and_memory(task.with_keys(log_every_steps=every), 20)
        rows.append((name, f"{1e3 * seconds:.1f}", f"{megabytes:.0f}"))
    return table(("snapshots", "ms a step", "peak MB"), rows)


def _runs(folder: Path) -> str:
    rows = []
    for runs in (1, 2, 4, 8, 16):
        study = folder / f"runs{runs}.yaml"
        study.write_text(f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: {list(range(runs))}\nPOSITION: all\nNUM_EPOCHS: 2\n")
        started = time.perf_counter()
        command = [sys.executable, "-m", "batchnorm.study", "run", str(study), "--workers=2", f"OUTPUT_DIR={folder}/runs{runs}"]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        rows.append((str(runs), f"{seconds:.1f}", f"{seconds / runs:.1f}"))
    return table(("runs in a study (digits, 2 epochs, 2 workers)", "s", "s a run"), rows)
