"""For whoever has a GPU: steps, the input pipeline and evaluation there, apart, and whether two runs have the same bits."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.costs import our_run
from benchmarks.images import make_cifar
from benchmarks.loops import Task, deepobs_epochs, our_batches, our_epochs, our_evaluations, our_steps
from benchmarks.measuring import Side, alternate, ratios, spread, table

PROBLEMS = ("cifar10_3c3d_bn", "cifar100_3c3d_bn", "cifar100_allcnnc_bn")
WAYS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp32, COMPILE": {"compile": True},
    "bf16, COMPILE": {"precision": "bf16", "compile": True},
}


def cuda(
    folder: Path,
    *,
    device: str = "cuda",
    problems: Sequence[str] = PROBLEMS,
    ways: Sequence[str] = tuple(WAYS),
    train: int = 50_000,
    steps: int = 50,
    rounds: int = 5,
) -> str:
    """Measure on a GPU: epochs against DeepOBS, steps, batches and evaluation apart, and bit equality of two runs.

    Epochs against DeepOBS take long, so these take 2 rounds fewer, but one at least.

    Raises:
        ConfigError: there is no such device.
    """
    from batchnorm.config import resolve
    from batchnorm.machine import prepare_torch

    prepare_torch(resolve({"problem": problems[0], "random_seed": 1, "device": device}))
    held_out = train // 5
    parts, equal = [], []
    for problem in problems:
        task = Task(problem, make_cifar(folder, problem.partition("_")[0], train=train, test=held_out), held_out)
        for name in ways:
            way = task.with_keys(device=device, **WAYS[name])
            sides = [
                Side("step", our_steps, (way, steps)),
                Side("batch", our_batches, (way,)),
                Side("evaluation", our_evaluations, (way,)),
            ]
            timings = alternate(sides, rounds=rounds)
            milliseconds = (1e3 * timings["step"].median / steps, 1e3 * timings["batch"].median)
            parts.append((problem, name, *(f"{each:.2f}" for each in milliseconds), f"{timings['evaluation'].median:.2f}"))
            equal.append((problem, name, _two_runs_are_equal(way, folder / f"equal-{problem}-{name}", steps)))
    images = make_cifar(folder, problems[0].partition("_")[0], train=train, test=held_out)
    first = Task(problems[0], images, held_out)
    sides = [Side("DeepOBS", deepobs_epochs, (first,)), Side("ours", our_epochs, (first.with_keys(device=device),))]
    timings = alternate(sides, rounds=max(1, rounds - 2))
    times = ratios(timings["DeepOBS"], timings["ours"])
    against = [(problems[0], *(spread(timing.seconds) for timing in timings.values()), spread(times))]
    return "\n\n".join(
        [
            table(("an epoch and its evaluations, fp32", "DeepOBS, s", "ours, s", "times as fast"), against),
            table(("problem", "way", "ms a step", "of it ms for the batch", "s to evaluate"), parts),
            table(("problem", "way", "two runs have the same bits"), equal),
        ]
    )


def _two_runs_are_equal(task: Task, folder: Path, steps: int) -> str:
    """Train twice, in a process each, and hold gamma, beta and losses against each other."""
    from batchnorm.store import Run

    names = ("one", "other")
    run = task.with_keys(max_steps=steps, log_every_steps=1)
    alternate([Side(name, our_run, (run, folder / name)) for name in names], rounds=1, warm_up=False)
    one, other = (Run(next((folder / name).rglob("run.h5"))) for name in names)
    same = one.batches["loss"].tobytes() == other.batches["loss"].tobytes() and all(
        getattr(one, parameter)(slot).tobytes() == getattr(other, parameter)(slot).tobytes()
        for parameter in ("gamma", "beta")
        for slot in one.slots_with(parameter)
    )
    apart = statistics.fmean(abs(one.batches["loss"] - other.batches["loss"]))
    return "yes" if same else f"NO, losses are {apart:.1e} apart"
