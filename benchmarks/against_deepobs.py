"""How many times as fast as DeepOBS's own loop: epochs, training batches alone, evaluation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.images import find_fashion_mnist, make_cifar
from benchmarks.loops import (
    Task,
    deepobs_batches,
    deepobs_epochs,
    deepobs_evaluations,
    our_batches,
    our_epochs,
    our_evaluations,
)
from benchmarks.measuring import Side, alternate, ratios, spread, table

HEADER = ("", "DeepOBS, s", "ours, s", "times as fast", "to reach", "peak MB, DeepOBS / ours")


def cifar10(folder: Path) -> str:
    """Compare epochs of 3c3d on CIFAR-10: 312 steps of 128 images, and three evaluations of 10,000."""
    task = Task("cifar10_3c3d_bn", make_cifar(folder, "cifar10"))
    return _epochs(task, {"fp32": 2.2, "bf16": 3.7})


def cifar100(folder: Path) -> str:
    """Compare a twentieth of an epoch of All-CNN-C on CIFAR-100: 8 steps of 256 images, and three evaluations of 512."""
    images = make_cifar(folder, "cifar100", train=2560, test=512)
    return _epochs(Task("cifar100_allcnnc_bn", images, evaluation_images=512), {"fp32": 1.5, "bf16": 4.0}, warm_up=True)


def fmnist(folder: Path) -> str:
    """Compare epochs of 2c2d on the real Fashion-MNIST: 390 steps of 128 images, and three evaluations of 10,000."""
    task = Task("fmnist_2c2d_bn", find_fashion_mnist(folder))
    return _epochs(task, {"fp32": 1.8, "bf16": 3.0})


def batches(folder: Path) -> str:
    """Compare augmented CIFAR-10 training batches of 128 images, alone and on one core."""
    task = Task("cifar10_3c3d_bn", make_cifar(folder, "cifar10"), threads=1)
    sides = [Side("DeepOBS", deepobs_batches, (task, 30)), Side("ours", our_batches, (task,))]
    timings = alternate(sides, rounds=9)
    per_second = {name: [128 / seconds for seconds in timing.seconds] for name, timing in timings.items()}
    times = ratios(timings["DeepOBS"], timings["ours"])
    rows = [("augmented CIFAR-10, one core", *(spread(values, 0) for values in per_second.values()), spread(times, 1), "5")]
    return table(("", "DeepOBS, images/s", "ours, images/s", "times as fast", "to reach"), rows)


def evaluation(folder: Path) -> str:
    """Compare the evaluation of 3c3d on 10,000 CIFAR-10 test images."""
    task = Task("cifar10_3c3d_bn", make_cifar(folder, "cifar10"))
    sides = [
        Side("DeepOBS", deepobs_evaluations, (task,)),
        Side("fp32", our_evaluations, (task,)),
        Side("bf16", our_evaluations, (task.with_keys(precision="bf16"),)),
    ]
    return _against_deepobs(sides, {"fp32": 4.0, "bf16": 4.0}, rounds=5, warm_up=True)


def _epochs(task: Task, goals: Mapping[str, float], *, warm_up: bool = False) -> str:
    ours = [Side(precision, our_epochs, (task.with_keys(precision=precision),)) for precision in goals]
    return _against_deepobs([Side("DeepOBS", deepobs_epochs, (task,)), *ours], goals, rounds=3, warm_up=warm_up)


def _against_deepobs(sides: Sequence[Side], goals: Mapping[str, float], *, rounds: int, warm_up: bool) -> str:
    timings = alternate(sides, rounds=rounds, warm_up=warm_up)
    reference = timings["DeepOBS"]
    rows = [
        (
            name,
            spread(reference.seconds, 1),
            spread(timings[name].seconds, 1),
            spread(ratios(reference, timings[name])),
            f"{goal:g}",
            f"{reference.peak_mb:.0f} / {timings[name].peak_mb:.0f}",
        )
        for name, goal in goals.items()
    ]
    return table(HEADER, rows)
