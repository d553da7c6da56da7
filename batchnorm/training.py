"""Trains one run: `train` sets it up, `fit` is the loop, `evaluate` the metrics."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from batchnorm.ablation import read_slots
from batchnorm.checkpoint import restore_checkpoint_, save_atomically
from batchnorm.config import RunConfig
from batchnorm.data.batches import Batches
from batchnorm.data.sources import IMAGE_SETS, ImageSet, load_image_set
from batchnorm.errors import RunError, one_line
from batchnorm.logs import log_to_file, logger, progress
from batchnorm.machine import choose_memory_format, describe_versions, merge_versions, prepare_torch
from batchnorm.memory import keep_freed_memory
from batchnorm.optim import build_optimizer, build_schedule
from batchnorm.problems import build_problem, find_problem
from batchnorm.recording import Diverged, Recorder
from batchnorm.rundir import RunDirectory
from batchnorm.seeding import seed_default_generators
from batchnorm.stop import Interrupted, StopRequest, stop_on_signals
from batchnorm.store import SPLITS, Mark, Run, RunWriter, Status, check_same_run, ended_status


@dataclass
class TrainingState:
    """A training as it stands: all that a step changes, and what it needs.

    Attributes:
        loss: from images and labels, the training loss; compiled where the run asks for it.
        autocast: opens the context in which the network computes.
        step: counts the updates made.
    """

    config: RunConfig
    net: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    batches: Batches
    device: torch.device
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    autocast: Callable[[], AbstractContextManager[Any]]
    step: int = 0

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the run's result, its images among it."""
        return {**self.config.fingerprint(), "images": self.batches.digest}

    @property
    def total_steps(self) -> int:
        """Updates in the whole run."""
        whole = self.config.num_epochs * self.batches.steps_per_epoch
        return whole if self.config.max_steps is None else min(whole, self.config.max_steps)

    @property
    def total_epochs(self) -> int:
        """Epochs in the whole run, the last one partial where MAX_STEPS ends it."""
        return -(-self.total_steps // self.batches.steps_per_epoch)

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def training_batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Serve what is left of an epoch's batches."""
        first_step = (epoch - 1) * self.batches.steps_per_epoch
        left = min(self.batches.steps_per_epoch, self.total_steps - first_step) if epoch else 0
        done = self.step - first_step if epoch else 0
        steps = zip(range(left - done), self.batches.training(epoch, skip=done), strict=False)
        title = f"epoch {epoch}/{self.total_epochs}"
        return (batch for _, batch in progress(steps, total=left, done=done, title=title))


def fit(state: TrainingState, recorder: Recorder) -> None:
    """Train to the end, from wherever the state and its record stand; epoch 0 is the evaluation before training.

    Raises:
        Interrupted: somebody asked for it.
        Diverged: a loss is not finite.
    """
    for epoch in range(recorder.epochs, state.total_epochs + 1):
        run_epoch(state, recorder, epoch)


def run_epoch(state: TrainingState, recorder: Recorder, epoch: int) -> None:
    """Train for one epoch, evaluate, and record both.

    Raises:
        Interrupted: somebody asked for it.
        Diverged: a loss is not finite.
    """
    started = time.perf_counter()
    state.net.train()
    for images, labels in state.training_batches(epoch):
        step(state, images, labels, recorder)
        recorder.stop_if_asked()
    recorder.training_done(epoch)
    trained = time.perf_counter()
    metrics = {}
    for split in SPLITS:
        metrics[f"{split}_loss"], metrics[f"{split}_acc"] = evaluate(state, split, epoch, recorder.stop_if_asked)
    evaluated = time.perf_counter()
    log_epoch(state, epoch, metrics, seconds=evaluated - started)
    recorder.epoch(epoch, metrics, train_seconds=trained - started, eval_seconds=evaluated - trained)


def step(state: TrainingState, images: torch.Tensor, labels: torch.Tensor, recorder: Recorder) -> None:
    """Make one update; the host waits for the device nowhere in it, but where the recorder's block of rows is full."""
    seed_default_generators(state.config.random_seed, "dropout", state.step)
    state.optimizer.zero_grad()
    loss = state.loss(images, labels)
    loss.backward()
    recorder.step(loss)
    state.optimizer.step()
    state.schedule.step()
    state.step += 1


@torch.no_grad()
def evaluate(state: TrainingState, split: str, epoch: int, between_batches: Callable[[], None]) -> tuple[float, float]:
    """Return the mean loss per image and the accuracy on `train`, `valid` or `test`; the training is left as it was."""
    state.net.eval()
    total_loss = torch.zeros((), dtype=torch.float64, device=state.device)
    correct = torch.zeros((), dtype=torch.int64, device=state.device)
    images_seen = 0
    with state.autocast():  # around all batches: it casts the weights once
        for images, labels in state.batches.evaluation(split, epoch):
            logits = state.net(images).float()
            total_loss += cross_entropy(logits, labels, reduction="none").sum(dtype=torch.float64)
            correct += (logits.argmax(dim=1) == labels).sum()
            images_seen += len(labels)
            between_batches()
    return total_loss.item() / images_seen, correct.item() / images_seen


def train(config: RunConfig) -> Status:
    """Train a run from its beginning or from where it stopped, and return how it ended.

    Raises:
        UserError: the run cannot be trained as it is asked for.
        Interrupted: it was asked to stop, and can go on from its checkpoint.
    """
    with stop_on_signals() as stop:
        state = set_up_training(config)
        directory = RunDirectory(config.directory)
        with directory.claim(), log_to_file(directory.log), one_line_if_disk_fails(directory):
            if not config.overwrite and (ended := ended_status(directory, state.fingerprint)):
                logger.info("%s already: %s", ended.name.lower(), directory.path)
                return ended
            return run_to_end(state, open_record(state, directory, stop))


def run_to_end(state: TrainingState, recorder: Recorder) -> Status:
    """Fit, and leave the directory as the outcome asks: the final weights of a finished run, or a checkpoint."""
    try:
        fit(state, recorder)
    except Diverged as divergence:
        recorder.finish(Status.DIVERGED)
        logger.error("diverged: %s; what was recorded stays in %s", divergence, recorder.directory.path)
        return Status.DIVERGED
    except Interrupted as interrupted:
        recorder.close()
        logger.warning("stopped by %s at step %d of %d; the same command goes on", interrupted, state.step, state.total_steps)
        raise
    save_atomically(recorder.directory.final_model, state.net.state_dict())
    recorder.finish(Status.FINISHED)
    logger.info("finished: %s", recorder.directory.path)
    return Status.FINISHED


def set_up_training(config: RunConfig, *, facts: ImageSet | None = None) -> TrainingState:
    """Read a run's images and build its network; the training stands before its first step.

    Args:
        config: the run.
        facts: in place of what is known of the problem's image set.

    Raises:
        UserError: there are no such images, or no such device.
    """
    problem = find_problem(config.problem)
    device = prepare_torch(config)
    batches = Batches(
        facts or IMAGE_SETS[problem.image_set],
        load_image_set(problem.image_set, Path(config.obs_datasets)),
        random_seed=config.random_seed,
        batch_size=config.batch_size,
        device=device,
        memory_format=choose_memory_format(config, device),
    )
    net = build_problem(config)
    keep_freed_memory()  # from here on: what images and initial weights took while they were made has gone back
    return new_training(config, net, batches, device=device)


def new_training(config: RunConfig, net: nn.Module, batches: Batches, *, device: torch.device) -> TrainingState:
    """Bring a network to the device, and give it all that it is trained with."""
    net.to(device=device, memory_format=batches.memory_format)  # type: ignore[call-overload]
    optimizer = build_optimizer(net, config.optimizer, lr=config.lr, hyperparameters=config.opt_hpars, l2_reg=config.l2_reg)
    schedule = build_schedule(optimizer, config.lr_schedule, epochs=config.num_epochs, steps_per_epoch=batches.steps_per_epoch)
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    if config.precision == "bf16":
        autocast = partial(torch.autocast, device.type, dtype=torch.bfloat16)

    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with autocast():
            return cross_entropy(net(images), labels)

    if config.compile:
        loss = torch.compile(loss, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else "default")
    return TrainingState(config, net, optimizer, schedule, batches, device, loss, autocast)


def open_record(state: TrainingState, directory: RunDirectory, stop: StopRequest) -> Recorder:
    """Go on with the directory's record and bring the state to its checkpoint, or start a new record.

    Raises:
        RunError: the directory holds another run, or a damaged one.
    """
    config, slots = state.config, find_problem(state.config.problem).slots
    parameters = read_slots(state.net, slots)
    versions = describe_versions(config, state.device, state.batches.memory_format)
    if directory.record.exists() and not config.overwrite:
        run = Run(directory.path)
        check_same_run(run, state.fingerprint)
        if directory.checkpoint.exists():
            mark: Mark = restore_checkpoint_(directory.checkpoint, state)
            writer = RunWriter.resume(directory.record, mark, versions=merge_versions(run.versions, versions))
            logger.info("resumed at step %d of %d: %s", state.step, state.total_steps, directory.path)
            return Recorder(writer, directory, state=state, parameters=parameters, stop=stop)
    directory.clear()
    config.save(directory.config)
    widths = {slot: len(value) for slot, value in {**parameters.gamma, **parameters.bias}.items()}
    writer = RunWriter.create(
        directory.record, config, fingerprint=state.fingerprint, layers=slots, widths=widths, versions=versions
    )
    logger.info("started: %s", directory.path)
    return Recorder(writer, directory, state=state, parameters=parameters, stop=stop)


def log_epoch(state: TrainingState, epoch: int, metrics: Mapping[str, float], *, seconds: float) -> None:
    """Tell how an epoch went."""
    parts = [f"{split} {metrics[f'{split}_loss']:.4f} {metrics[f'{split}_acc']:6.2%}" for split in SPLITS]
    logger.info("epoch %d/%d  %s  %.1f s", epoch, state.total_epochs, "  ".join(parts), seconds)


@contextmanager
def one_line_if_disk_fails(directory: RunDirectory) -> Iterator[None]:
    """Turn a full or failing disk into one line; what is recorded up to the last checkpoint stays.

    Raises:
        RunError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        reason = "no space left on the device" if _is_full(error) else one_line(error)
        raise RunError(
            f"{directory.path}: cannot be written ({reason}); the same command goes on from the last checkpoint"
        ) from None


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
