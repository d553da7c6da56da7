"""What measurements cost: processor time of each, as a share of an epoch; in one process, in turn with training steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.images import find_fashion_mnist, make_cifar
from benchmarks.loops import Task, our_training
from benchmarks.measuring import spread, table

if TYPE_CHECKING:
    from batchnorm.assembly import Training

STEPS, ROUNDS = 5, 3


def measurements(folder: Path) -> str:
    """Measure each measurement's share of an epoch's processor time: batch 128, three evaluations of 10,000, one thread."""
    from batchnorm.quantities import BASIC, FULL, MEASUREMENTS

    fashion, cifar = find_fashion_mnist(folder), make_cifar(folder, "cifar10")
    rows = []
    for title, problem, images, position, names in (
        ("2c2d, BatchNorm everywhere", "fmnist_2c2d_bn", fashion, "all", MEASUREMENTS),
        ("2c2d, vanilla", "fmnist_2c2d_bn", fashion, "none", MEASUREMENTS),
        ("3c3d, BatchNorm everywhere", "cifar10_3c3d_bn", cifar, "all", BASIC),
    ):
        task = Task(problem, images, threads=1).with_keys(position=position, measure="none")
        steps, epoch = _in_steps(task, folder / title.replace(" ", "_"), names)
        shares = {name: [each / epoch for each in values] for name, values in steps.items()}
        for name in names:
            goal = "2 %" if name in BASIC else ""
            rows.append((title, name, spread(steps[name], 1), _percent(shares[name]), goal))
        if set(FULL) <= set(names):
            together = [sum(values) for values in zip(*(shares[name] for name in FULL), strict=True)]
            rows.append((title, "full", "", _percent(together), "15 %"))
    return table(("network", "measurement", "steps", "share of an epoch", "to stay below"), rows)


def _percent(shares: list[float]) -> str:
    return f"{spread([100 * share for share in shares], 1)} %"


def _in_steps(task: Task, folder: Path, names: tuple[str, ...]) -> tuple[dict[str, list[float]], float]:
    """Return what each measurement takes in an epoch, in training steps, round by round; and what an epoch takes."""
    from batchnorm.training import evaluate, step

    training, keeper = our_training(task, folder)
    batches = (batch for epoch in range(1, 1000) for batch in training.batches.training(epoch))

    def train() -> None:
        training.net.train()
        for _ in range(STEPS):
            step(training, *next(batches), keeper.recorder)

    measures = {name: _measurement(training, name) for name in names}
    for warm_up in (train, *measures.values()):
        warm_up()
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        one = _seconds(train) / STEPS
        for name, measure in measures.items():
            times = training.batches.steps_per_epoch / training.config.measure_steps if name == "weights" else 1
            taken[name].append(times * _seconds(measure) / one)
    evaluated = statistics.median(
        _seconds(lambda: evaluate(training, "test", 0, lambda: None)) / (_seconds(train) / STEPS) for _ in range(3)
    )
    return taken, training.batches.steps_per_epoch + 3 * evaluated


def _measurement(training: Training, name: str) -> Callable[[], None]:
    """Return what makes a measurement once, as the recorder does; weights after a step, whose gradients are still there."""
    from batchnorm.probing import begin_update
    from batchnorm.quantities import RECORDED

    quantities = [quantity for quantity in RECORDED if quantity.measurement == name and quantity.read is not None]

    def weights() -> None:
        running = {slot.name: slot.running_var.clone() for slot in training.slots if slot.running_var is not None}
        for slot in training.slots:
            update = begin_update(slot, training.lr, images=128, running_var=running.get(slot.name))
            for quantity in quantities:
                if quantity.is_in(slot.parts) and quantity.read is not None:
                    quantity.read(update)

    def probe() -> None:
        probe = training.probe()
        for quantity in quantities:
            assert quantity.read is not None
            if quantity.per == "run":
                quantity.read(probe)
            else:
                for slot in training.slots:
                    quantity.read(probe, slot)

    return weights if name == "weights" else probe


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
