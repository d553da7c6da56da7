"""How long commands over 1,000 runs take, from their start to their end: listing, tables, and how a study stands."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from batchnorm.config import RunConfig
from benchmarks.measuring import spread, table
from benchmarks.studies import seconds_of

STUDY = """\
PROBLEM: digits_2c2d_bn
RANDOM_SEED: 1-250
POSITION: all
ABLATION: [trained_bn, fixed_bn, fixed_gamma, fixed_beta]
NUM_EPOCHS: 10
"""
REPEATS = 3


def many(folder: Path) -> str:
    """Time commands over 1,000 finished runs of 10 epochs, each a process of its own, imports and all."""
    output, study = folder / "output", folder / "thousand.yaml"
    study.write_text(f"{STUDY}OUTPUT_DIR: {output}\n")
    record_all(study)
    analysis, of_study = ([sys.executable, "-m", f"batchnorm.{name}"] for name in ("analysis", "study"))
    ways = {
        "analysis runs": (2, [*analysis, "runs", str(output)]),
        "analysis summary": (4, [*analysis, "summary", str(output)]),
        "analysis export, 11,000 rows": (None, [*analysis, "export", str(output), "--out", str(folder / "runs.csv.gz")]),
        "study status": (3, [*of_study, "status", str(study)]),
    }
    rows = []
    for name, (limit, command) in ways.items():
        seconds, processor = zip(*(measure(command) for _ in range(REPEATS)), strict=True)
        rows.append((name, spread(seconds), str(limit or ""), spread(processor)))
    return table(("1,000 runs", "s", "to stay below", "CPU s"), rows)


def measure(command: Sequence[str]) -> tuple[float, float]:
    """Return seconds by the clock and of the processor that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = seconds_of(*command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def record_all(study: Path, steps_per_epoch: int = 22, *, wandering: bool = False) -> None:
    """Invent the records of a study's runs, as `tests.recorded.record_run` does, on all cores."""
    from batchnorm.study.grid import read_study

    record = partial(_record, steps_per_epoch=steps_per_epoch, wandering=wandering)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for _ in pool.map(record, [run.config for run in read_study(study, {}).runs], chunksize=8):
            pass


def _record(config: RunConfig, *, steps_per_epoch: int, wandering: bool) -> None:
    from tests.recorded import record_run

    record_run(
        Path(config.output_dir),
        epochs=config.num_epochs,
        steps_per_epoch=steps_per_epoch,
        measured=True,
        wandering=wandering,
        problem=config.problem,
        random_seed=config.random_seed,
        position=config.position,
        ablation=config.ablation,
    )
