"""The two sides of most comparisons: DeepOBS 1.1.2 as its own runner drives it, and our loop. One unit is one epoch.

DeepOBS is untouched: its network with BatchNorm inserted, its loaders, its `get_batch_loss_and_accuracy`, its evaluation.
Its L2 term is off, as ours is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """What both sides train: a problem with BatchNorm everywhere, on the images under a folder.

    `evaluation_images` are split off for validation, and drawn for train-eval.
    """

    problem: str
    images: Path
    evaluation_images: int
    threads: int = 2
    batch_size: int | None = None


def deepobs_problem(task: Task) -> Any:
    """Set up DeepOBS's test problem, on the CPU or where DeepOBS puts it, with BatchNorm in each slot."""
    import torch

    from batchnorm.ablation import find_slots, insert_batchnorm_
    from batchnorm.problems.deepobs import import_deepobs

    torch.set_num_threads(task.threads)
    pytorch = import_deepobs()
    import deepobs
    import torchvision.datasets.cifar

    torchvision.datasets.cifar.check_integrity = lambda path, *_: Path(path).is_file()  # invented images have other checksums
    deepobs.config.set_data_dir(str(task.images))
    name = task.problem.removesuffix("_bn")
    image_set = name.partition("_")[0]
    problem = getattr(pytorch.testproblems, name)(our_config(task).batch_size, weight_decay=0.0)
    problem.set_up()
    data_set = getattr(pytorch.datasets, image_set)
    problem.data = data_set(problem._batch_size, train_eval_size=task.evaluation_images)
    insert_batchnorm_(problem.net, (1,) * len(find_slots(problem.net)))
    problem.net.to(problem._device)
    problem.regularization_groups = problem.get_regularization_groups()
    return problem


def deepobs_epochs(task: Task) -> Iterator[float]:
    """Train and evaluate as DeepOBS's StandardRunner does between two of its evaluations."""
    import torch

    problem = deepobs_problem(task)
    evaluate = deepobs_evaluate()
    optimizer = torch.optim.SGD(problem.net.parameters(), lr=our_config(task).lr)
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
            evaluate(problem, phase)
        yield time.perf_counter() - started


def deepobs_evaluate() -> Any:
    """Return DeepOBS's own evaluation of one phase."""
    from batchnorm.problems.deepobs import import_deepobs

    return import_deepobs().runners.runner.PTRunner.evaluate


def our_config(task: Task, **keys: Any) -> Any:
    """Return the run: BatchNorm everywhere, all trained, the shipped hyperparameters."""
    from batchnorm.config import resolve

    given = {"problem": task.problem, "random_seed": 1, "obs_datasets": str(task.images), "threads": task.threads, **keys}
    if task.batch_size is not None:
        given["batch_size"] = task.batch_size
    return resolve(given)


def our_training(task: Task, folder: Path, **keys: Any) -> Any:
    """Set a run up to its first step, with its record under a folder; returns its state and its recorder."""
    import torchvision.datasets.cifar

    from batchnorm.data.sources import IMAGE_SETS
    from batchnorm.problems import find_problem
    from batchnorm.rundir import RunDirectory
    from batchnorm.stop import StopRequest
    from batchnorm.training import open_record, set_up_training

    torchvision.datasets.cifar.check_integrity = lambda path, *_: Path(path).is_file()
    config = our_config(task, num_epochs=10_000, output_dir=str(folder), **keys)
    facts = replace(IMAGE_SETS[find_problem(task.problem).image_set], evaluation_images=task.evaluation_images)
    state = set_up_training(config, facts=facts)
    directory = RunDirectory(config.directory)
    directory.path.mkdir(parents=True)
    return state, open_record(state, directory, StopRequest())


def our_epochs(task: Task, keys: dict[str, Any]) -> Iterator[float]:
    """Train, evaluate and record as `python run_trainingLoop.py` does, checkpoints and all."""
    from batchnorm.training import run_epoch

    with tempfile.TemporaryDirectory() as folder:
        state, recorder = our_training(task, Path(folder), **keys)
        for epoch in range(1, state.config.num_epochs + 1):
            started = time.perf_counter()
            run_epoch(state, recorder, epoch)
            yield time.perf_counter() - started
