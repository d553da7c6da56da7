"""How long the analysis takes on invented runs of All-CNN-C's size: 350 epochs, 10,900 snapshots of 1,252 channels."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from batchnorm.modes import MODES
from benchmarks.measuring import peak_memory_mb, spread, table

_Result = TypeVar("_Result")
EPOCHS = 350
STEPS_PER_EPOCH = 156  # 40,000 images in batches of 256; 350 epochs, one snapshot in 5 steps: 10,921
REPEATS = 3
PEAK_MEMORY_MB = 600


@dataclass(frozen=True)
class Task:
    """One thing to measure, and the seconds that it should stay below."""

    name: str
    limit: float
    work: Callable[[Path], None]


def open_and_read_metrics(output: Path) -> None:
    """Open a run and read its metrics."""
    from batchnorm.store import Run

    run = Run(_full(output))
    assert len(run.epochs["test_acc"]) == EPOCHS + 1
    assert len(run.batches["loss"])


def read_one_slot(output: Path) -> None:
    """Read one slot's whole trajectory."""
    from batchnorm.store import Run

    assert Run(_full(output)).gamma("conv5").shape[1] == 192


def draw_surface(output: Path) -> None:
    """Draw and save nine slots' heat maps and surfaces."""
    from batchnorm.analysis.bn_plot_functions import bn_params_3Dsurface

    bn_params_3Dsurface(True, "gamma", _full(output))


def draw_performance(output: Path) -> None:
    """Draw and save five runs' loss and accuracy."""
    from batchnorm.analysis.bn_plot_functions import performance_across_ablations

    paths = [run.parent for run in output.rglob("run.h5")]
    assert len(paths) == 5
    performance_across_ablations(paths)


TASKS = (
    Task("open a run and read its metrics", 0.3, open_and_read_metrics),
    Task("read one slot's trajectory (10,921 x 192)", 0.5, read_one_slot),
    Task("bn_params_3Dsurface, 9 slots, PNG and PDF", 10.0, draw_surface),
    Task("performance_across_ablations, 5 runs, PNG and PDF", 3.0, draw_performance),
)


def analysis(folder: Path) -> str:
    """Measure figures and reading on runs of All-CNN-C's size, each in a process of its own; imports aside."""
    output = folder / "analysis"
    _in_new_process(_record_runs, output)
    rows = []
    for task in TASKS:
        measured = [_in_new_process(_measure, task, output) for _ in range(REPEATS)]
        seconds, processor, peak = zip(*measured, strict=True)
        megabytes = f"{statistics.median(peak):.0f}"
        rows.append((task.name, spread(seconds), f"{task.limit:g}", spread(processor), megabytes, str(PEAK_MEMORY_MB)))
    return table(("", "s", "to stay below", "CPU s", "peak MB", "to stay below"), rows)


def _measure(task: Task, output: Path) -> tuple[float, float, float]:
    """Return seconds by the clock and of the processor, imports aside, and the process's peak memory in MB."""
    import batchnorm.analysis.bn_plot_functions  # noqa: F401  (imports are not what is measured)

    start, busy = time.perf_counter(), time.process_time()
    task.work(output)
    seconds, processor = time.perf_counter() - start, time.process_time() - busy
    return seconds, processor, peak_memory_mb()


def _record_runs(output: Path) -> None:
    from tests.recorded import record_run

    mask = "1,1,1,1,1,1,1,1,1"
    for position, modes in (("none", ["trained_bn"]), (mask, list(MODES))):
        for mode in modes:
            record_run(
                output,
                epochs=EPOCHS,
                steps_per_epoch=STEPS_PER_EPOCH,
                problem="cifar100_allcnnc_bn",
                random_seed=4842821,
                position=position,
                ablation=mode,
            )


def _full(output: Path) -> Path:
    (run,) = output.glob("*__1,1,1,1,1,1,1,1,1/*/*/trained_bn")
    return run


def _in_new_process(work: Callable[..., _Result], *arguments: object) -> _Result:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()
