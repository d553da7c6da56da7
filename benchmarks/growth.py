"""How time and memory grow: with the batch size, threads, how often is recorded, and the number of runs in a study."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.images import make_cifar
from benchmarks.loops import Task, our_steps
from benchmarks.measuring import Side, alternate, table

PROBLEM = "cifar10_3c3d_bn"


def growth(folder: Path) -> str:
    """Measure training steps of 3c3d on CIFAR-10 by batch size, threads and recording, and studies by their number of runs."""
    task = Task(PROBLEM, make_cifar(folder, "cifar10", train=6400, test=1280), evaluation_images=1280)
    return "\n\n".join([_batch_sizes(task), _ways(task), _snapshots(task), _runs(folder)])


def _batch_sizes(task: Task) -> str:
    sizes = (32, 64, 128, 256, 512, 1024)
    measured = _steps([(task.with_keys(batch_size=size), max(2, 1024 // size)) for size in sizes])
    rows = [
        (str(size), f"{1e3 * seconds:.1f}", f"{size / seconds:.0f}", f"{megabytes:.0f}")
        for size, (seconds, megabytes) in zip(sizes, measured, strict=True)
    ]
    return table(("batch size", "ms a step", "images/s", "peak MB"), rows)


def _ways(task: Task) -> str:
    ways = [
        (precision, threads, layout, compiled)
        for precision in ("fp32", "bf16")
        for threads, layout, compiled in (
            (1, "channels_last", False),
            (2, "channels_last", False),
            (2, "contiguous", False),
            (2, "channels_last", True),
        )
    ]
    measured = _steps(
        [
            (replace(task, threads=threads).with_keys(precision=precision, memory_format=layout, compile=compiled), 10)
            for precision, threads, layout, compiled in ways
        ]
    )
    rows = [
        (precision, str(threads), layout, "yes" if compiled else "", f"{1e3 * seconds:.1f}", f"{megabytes:.0f}")
        for (precision, threads, layout, compiled), (seconds, megabytes) in zip(ways, measured, strict=True)
    ]
    return table(("precision", "threads", "layout", "COMPILE", "ms a step", "peak MB"), rows)


def _snapshots(task: Task) -> str:
    often = {"every step": 1, "every 5 steps": 5, "every 50 steps": 50, "never": 0}
    measured = _steps([(task.with_keys(log_every_steps=steps), 50) for steps in often.values()])
    rows = [
        (name, f"{1e3 * seconds:.1f}", f"{megabytes:.0f}") for name, (seconds, megabytes) in zip(often, measured, strict=True)
    ]
    return table(("snapshots", "ms a step", "peak MB"), rows)


def _steps(units: Sequence[tuple[Task, int]]) -> list[tuple[float, float]]:
    """Let tasks take turns at so many steps each, and return for each the seconds of a step and its process's peak MB."""
    sides = [Side(str(index), our_steps, unit) for index, unit in enumerate(units)]
    timings = alternate(sides, rounds=5)
    return [
        (timings[side.name].median / steps, timings[side.name].peak_mb) for side, (_, steps) in zip(sides, units, strict=True)
    ]


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
