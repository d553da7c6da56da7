"""The sides of the comparisons with DeepOBS: DeepOBS 1.1.2 as its own runner drives it, and our loop.

DeepOBS is untouched: its network with BatchNorm inserted, its loaders, its `get_batch_loss_and_accuracy`, its evaluation.
Its L2 term is off, as ours is. Each side is a generator: it sets up, then does one unit of work at each `next`, and yields
its seconds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.images import accept_invented_cifar

if TYPE_CHECKING:
    from batchnorm.assembly import Training
    from batchnorm.config import RunConfig
    from batchnorm.training import Keeper


@dataclass(frozen=True)
class Task:
    """What both sides train: a problem with BatchNorm everywhere and all of it trained, on the images under a folder.

    Attributes:
        problem: its name.
        images: an OBS_DATASETS.
        evaluation_images: how many are split off for validation, and drawn for train-eval.
        threads: of each side.
        keys: more keys of our run, by field name.
    """

    problem: str
    images: Path
    evaluation_images: int = 10_000
    threads: int = 2
    keys: tuple[tuple[str, Any], ...] = ()

    def with_keys(self, **keys: Any) -> Task:
        """Return the same task with other keys of our run."""
        return replace(self, keys=(*self.keys, *keys.items()))

    def config(self, **more: Any) -> RunConfig:
        """Return our run."""
        from batchnorm.config import resolve

        keys = {"problem": self.problem, "random_seed": 1, "obs_datasets": str(self.images), "threads": self.threads}
        return resolve({**keys, **dict(self.keys), **more})


def deepobs_problem(task: Task) -> Any:
    """Set up DeepOBS's test problem with BatchNorm in each slot."""
    import torch

    from batchnorm.modes import treatments
    from batchnorm.problems.deepobs import import_deepobs
    from batchnorm.slots import find_slots, treat_

    torch.set_num_threads(task.threads)
    pytorch = import_deepobs()
    import deepobs

    accept_invented_cifar()
    deepobs.config.set_data_dir(str(task.images))
    name = task.problem.removesuffix("_bn")
    problem = getattr(pytorch.testproblems, name)(task.config().batch_size, weight_decay=0.0)
    problem.set_up()
    data_set = getattr(pytorch.datasets, name.partition("_")[0])
    problem.data = data_set(problem._batch_size, train_eval_size=task.evaluation_images)
    treat_(problem.net, treatments((1,) * len(find_slots(problem.net)), "trained_bn"))
    problem.net.to(problem._device)
    problem.regularization_groups = problem.get_regularization_groups()
    return problem


def deepobs_epochs(task: Task) -> Generator[float]:
    """Train and evaluate as DeepOBS's StandardRunner does between two of its evaluations; a unit is an epoch."""
    import torch

    problem = deepobs_problem(task)
    optimizer = torch.optim.SGD(problem.net.parameters(), lr=task.config().lr)
    losses = []
    while True:
        started = time.perf_counter()
        problem.train_init_op()
        steps = 0
        while True:
            try:
                optimizer.zero_grad()
                loss, _ = problem.get_batch_loss_and_accuracy()
                loss.backward()
                optimizer.step()
            except StopIteration:
                break
            if steps % 10 == 0:  # its default interval of logging
                losses.append(loss.item())
            steps += 1
        for phase in ("TRAIN", "VALID", "TEST"):
            _deepobs_evaluate(problem, phase)
        yield time.perf_counter() - started


def deepobs_evaluations(task: Task) -> Generator[float]:
    """Evaluate on the test images; a unit is all of them."""
    problem = deepobs_problem(task)
    while True:
        started = time.perf_counter()
        _deepobs_evaluate(problem, "TEST")
        yield time.perf_counter() - started


def deepobs_batches(task: Task, batches: int) -> Generator[float]:
    """Make training batches, and nothing else; yields seconds a batch."""
    loader = deepobs_problem(task).data._train_dataloader
    while True:
        serving = iter(loader)
        next(serving)
        started = time.perf_counter()
        for _ in range(batches):
            next(serving)
        yield (time.perf_counter() - started) / batches


def _deepobs_evaluate(problem: Any, phase: str) -> None:
    from batchnorm.problems.deepobs import import_deepobs

    import_deepobs().runners.runner.PTRunner.evaluate(problem, phase)


def our_training(task: Task, folder: Path) -> tuple[Training, Keeper]:
    """Set a run up to its first step, with its record under a folder."""
    from batchnorm.assembly import assemble
    from batchnorm.data.sources import facts_of
    from batchnorm.problems import find_problem
    from batchnorm.stop import StopRequest
    from batchnorm.store import RunDirectory, Standing, Status
    from batchnorm.training import Keeper, open_record

    accept_invented_cifar()
    config = task.config(num_epochs=10_000, output_dir=str(folder))
    facts = replace(facts_of(find_problem(task.problem).image_set), evaluation_images=task.evaluation_images)
    training = assemble(config, facts=facts)
    directory = RunDirectory(config.directory)
    directory.path.mkdir(parents=True)
    recorder = open_record(training, directory, Standing(Status.MISSING))
    return training, Keeper(training, recorder, directory, StopRequest())


def our_epochs(task: Task) -> Generator[float]:
    """Train, evaluate and record as `python run_trainingLoop.py` does, checkpoints and all; a unit is an epoch."""
    from batchnorm.training import run_epoch

    with tempfile.TemporaryDirectory() as folder:
        training, keeper = our_training(task, Path(folder))
        for epoch in range(1, training.config.num_epochs + 1):
            started = time.perf_counter()
            run_epoch(training, epoch, keeper.recorder, keeper)
            yield time.perf_counter() - started


def our_steps(task: Task, steps: int) -> Generator[float]:
    """Train and record, without evaluation; a unit is a number of steps."""
    from batchnorm.training import step

    with tempfile.TemporaryDirectory() as folder:
        training, keeper = our_training(task, Path(folder))
        training.net.train()
        epoch = 1
        batches = training.batches.training(epoch)
        while True:
            started = time.perf_counter()
            for _ in range(steps):
                if (batch := next(batches, None)) is None:
                    epoch += 1
                    batches = training.batches.training(epoch)
                    batch = next(batches)
                step(training, *batch, keeper.recorder)
            synchronize(training)
            yield time.perf_counter() - started


def our_evaluations(task: Task) -> Generator[float]:
    """Evaluate on the test images; a unit is all of them."""
    from batchnorm.training import evaluate

    with tempfile.TemporaryDirectory() as folder:
        training, _ = our_training(task, Path(folder))
        while True:
            started = time.perf_counter()
            evaluate(training, "test", 1, lambda: None)
            yield time.perf_counter() - started


def our_batches(task: Task) -> Generator[float]:
    """Make training batches, and nothing else; an epoch of them, its random draws too. Yields seconds a batch."""
    with tempfile.TemporaryDirectory() as folder:
        training, _ = our_training(task, Path(folder))
        epoch = 0
        while True:
            epoch += 1
            started = time.perf_counter()
            for _ in training.batches.training(epoch):
                pass
            synchronize(training)
            yield (time.perf_counter() - started) / training.batches.steps_per_epoch


def synchronize(training: Training) -> None:
    """Wait for an accelerator."""
    import torch

    if training.device.type == "cuda":
        torch.cuda.synchronize(training.device)
