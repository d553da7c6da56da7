"""What a run costs beside its training: recording, resuming, memory."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from benchmarks.images import accept_invented_cifar, make_cifar
from benchmarks.loops import Task, our_steps
from benchmarks.measuring import Side, alternate, ratios, spread, table

REPEATS = 3


def recording(folder: Path) -> str:
    """Compare steps that record loss, gamma and beta with steps that never do; 3c3d, 20 steps of 128 images in turn."""
    task = Task("cifar10_3c3d_bn", make_cifar(folder, "cifar10", train=6400, test=1280), evaluation_images=1280)
    sides = [Side(str(every), our_steps, (task.with_keys(log_every_steps=every), 20)) for every in (0, 5, 1)]
    timings = alternate(sides, rounds=15)
    rows = []
    for every, name, goal in (("0", "never", ""), ("5", "every 5 steps", "1.02"), ("1", "every step", "")):
        milliseconds = [1e3 * seconds / 20 for seconds in timings[every].seconds]
        rows.append((name, spread(milliseconds, 1), spread(ratios(timings[every], timings["0"]), 3), goal))
    return table(("LOG_EVERY_STEPS", "ms a step", "times as long as never", "to stay below"), rows)


def resume(folder: Path) -> str:
    """Time a run on CIFAR-10 that goes on from a checkpoint, from its start to its first step."""
    task = Task("cifar10_3c3d_bn", make_cifar(folder, "cifar10"))
    config = task.config(num_epochs=3, output_dir=str(folder / "resumed"))
    arguments = [f"{key}={value}" for key, value in config.to_dict().items() if isinstance(value, (str, int, float))]
    command = [sys.executable, "-m", "benchmarks.costs", *arguments]
    interrupted = subprocess.run([*command, "--interrupt"], capture_output=True, text=True)
    assert interrupted.returncode == 75, interrupted.stderr
    imports, rest = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        ended = time.perf_counter()
        imports.append(json.loads(printed))
        rest.append(ended - started - sum(imports[-1].values()))
    rows = [
        ("import torch", spread([each["torch"] for each in imports]), ""),
        ("import torch._dynamo, as torch's optimizers do", spread([each["dynamo"] for each in imports]), ""),
        ("all else, from the process's start to its first step", spread(rest), "1.5"),
    ]
    return table(("resume: 3c3d on CIFAR-10", "s", "to stay below"), rows)


def memory(folder: Path) -> str:
    """Measure the peak memory of runs of three epochs on CIFAR-10: 3c3d, BatchNorm everywhere, batch 128."""
    images = make_cifar(folder, "cifar10")
    rows = []
    for precision in ("fp32", "bf16"):
        task = Task("cifar10_3c3d_bn", images).with_keys(precision=precision, num_epochs=3)
        run = Side("run", our_run, (task, folder / f"memory-{precision}"))
        timings = alternate([run], rounds=1, warm_up=False)
        rows.append((precision, f"{timings['run'].peak_mb:.0f}", "1200"))
    return table(("peak memory of a run", "MB", "to stay below"), rows)


def our_run(task: Task, output: Path) -> Generator[float]:
    """Train a whole run, as the command does."""
    from batchnorm.training import train

    accept_invented_cifar()
    started = time.perf_counter()
    train(task.config(output_dir=str(output)))
    yield time.perf_counter() - started


def _resume(arguments: list[str], *, interrupt: bool) -> None:
    """Train in this process, up to its first step, and print how long what took; or stop a new run after a few steps."""
    started = time.perf_counter()
    import torch

    with_torch = time.perf_counter()
    import torch._dynamo  # noqa: F401

    with_dynamo = time.perf_counter()
    from batchnorm import training
    from batchnorm.command import main

    accept_invented_cifar()
    make_step = training.step

    def step_and_end(*arguments: object) -> None:
        make_step(*arguments)  # type: ignore[arg-type]
        if interrupt:
            signal.raise_signal(signal.SIGTERM)
            return
        print(json.dumps({"torch": with_torch - started, "dynamo": with_dynamo - with_torch}), flush=True)
        os._exit(0)

    training.step = step_and_end  # type: ignore[assignment]
    sys.exit(main(arguments))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _resume([argument for argument in sys.argv[1:] if argument != "--interrupt"], interrupt="--interrupt" in sys.argv)
