"""Trains one run: `train` sets it up, `fit` is the loop, `evaluate` the metrics."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from batchnorm import shipped
from batchnorm.assembly import Training, assemble
from batchnorm.checkpoint import load_checkpoint, save_atomically, save_checkpoint
from batchnorm.config import RunConfig
from batchnorm.errors import RunError, command_that_goes_on, is_out_of_memory, one_line, out_of_memory
from batchnorm.feeds import Feed
from batchnorm.logs import log_to_file, logger, progress
from batchnorm.machine import advice_on_threads, describe_versions, merge_versions, seconds_waited, warn_if_bf16_is_slow
from batchnorm.probing import weight_of
from batchnorm.quantities import METRICS, SPLITS, chosen
from batchnorm.recording import Diverged, Recorder
from batchnorm.seeding import seed_default_generators
from batchnorm.slots import Slot
from batchnorm.stop import Interrupted, StopRequest, stop_on_signals
from batchnorm.store import RunDirectory, RunWriter, SlotParts, Standing, Status, stand
from batchnorm.tuning import tuning_file


@dataclass(frozen=True)
class Keeper:
    """Saves a training's checkpoint beside its record, and stops the training where somebody asked for it."""

    training: Training
    recorder: Recorder
    directory: RunDirectory
    stop: StopRequest

    def save(self) -> None:
        """Save a checkpoint; the record goes as far."""
        training = self.training
        mark = self.recorder.flush()
        save_checkpoint(self.directory.checkpoint, training.state_dict(), record=mark, fingerprint=training.fingerprint)

    def epoch_ended(self, epoch: int) -> None:
        """Save a checkpoint, and the epoch's weights if they are to be kept."""
        if self.training.config.keeps_weights_of(epoch):
            save_atomically(self.directory.weights(epoch), self.training.net.state_dict())
        self.save()

    def stop_if_asked(self) -> None:
        """Save a checkpoint and end the training, if somebody asked for it.

        Raises:
            Interrupted: somebody did.
        """
        if self.stop:
            self.save()
            raise Interrupted(self.stop.signal.name if self.stop.signal else "a request")


def fit(training: Training, recorder: Recorder, keeper: Keeper) -> None:
    """Train to the end, from wherever the training and its record stand; epoch 0 is the evaluation before training.

    Raises:
        Interrupted: somebody asked for it.
        Diverged: a loss is not finite.
    """
    first = max(recorder.epochs, 1)
    for epoch in range(recorder.epochs, training.length.epochs + 1):
        with advice_if_held_up(training) if epoch == first < training.length.epochs else nullcontext():
            run_epoch(training, epoch, recorder, keeper)


def run_epoch(training: Training, epoch: int, recorder: Recorder, keeper: Keeper) -> None:
    """Train for one epoch, evaluate, and record both.

    Raises:
        Interrupted: somebody asked for it.
        Diverged: a loss is not finite.
    """
    started = time.perf_counter()
    training.begin_epoch(epoch)
    for images, labels in with_progress(training, epoch):
        step(training, images, labels, recorder)
        keeper.stop_if_asked()
    recorder.write_block()
    if training.step == training.length.steps:
        recorder.training_ended(training.step, training.lr)
    trained = time.perf_counter()
    metrics = dict.fromkeys(METRICS, math.nan)
    if evaluated := training.is_due(epoch, every=training.config.evaluate_every):
        for split in SPLITS:
            metrics[f"{split}_loss"], metrics[f"{split}_acc"] = evaluate(training, split, epoch, keeper.stop_if_asked)
    if training.is_due(epoch, every=training.config.measure_every):
        recorder.probe(epoch, training.step, training.probe)
    ended = time.perf_counter()
    log_epoch(training, epoch, metrics, seconds=ended - started)
    metrics |= {"train_seconds": trained - started, "eval_seconds": ended - trained}
    recorder.epoch(epoch, training.step, training.lr, metrics, evaluated=evaluated)
    keeper.epoch_ended(epoch)


def step(training: Training, images: torch.Tensor, labels: torch.Tensor, recorder: Recorder) -> None:
    """Make one update; the host waits for the device nowhere in it, but where the recorder's block of rows is full."""
    seed_default_generators(training.config.random_seed, "dropout", training.step)
    training.optimizer.zero_grad()
    recorder.before_step(training.step)
    loss = training.loss(images, labels)
    loss.backward()
    lr = training.lr
    recorder.before_update(training.step, lr, loss)
    training.optimizer.step()
    recorder.after_update(training.step, lr)
    training.schedule.step()
    training.step += 1


@torch.no_grad()
def evaluate(training: Training, split: str, epoch: int, between_batches: Callable[[], None]) -> tuple[float, float]:
    """Return the mean loss per image and the accuracy on `train`, `valid` or `test`; the training is left as it was."""
    training.net.eval()
    total_loss = torch.zeros((), dtype=torch.float64, device=training.device)
    correct = torch.zeros((), dtype=torch.int64, device=training.device)
    images_seen = 0
    with training.autocast():  # around all batches: it casts the weights once
        for images, labels in training.batches.evaluation(split, epoch):
            logits = training.net(images).float()
            total_loss += cross_entropy(logits, labels, reduction="none").sum(dtype=torch.float64)
            correct += (logits.argmax(dim=1) == labels).sum()
            images_seen += len(labels)
            between_batches()
    return total_loss.item() / images_seen, correct.item() / images_seen


def train(config: RunConfig) -> Status:
    """Train a run from its beginning or from where it stopped, and return how it ended.

    Raises:
        UserError: the run cannot be trained as it is asked for.
        Interrupted: it was asked to stop, and can be resumed from its checkpoint.
    """
    with stop_on_signals() as stop:
        directory = RunDirectory(config.directory)
        goes_on = command_that_goes_on(overwrite=config.overwrite)
        training = assemble(config)
        with directory.claim(), log_to_file(directory.log), one_line_if_machine_fails(directory, goes_on):
            standing = decide(directory, training)
            if standing.status.has_ended:
                logger.info("%s already: %s", standing.status.value, directory.path)
                return standing.status
            recorder = open_record(training, directory, standing)
            warn_if_bf16_is_slow(config, training.device)
            return run_to_end(training, recorder, Keeper(training, recorder, directory, stop))


def decide(directory: RunDirectory, training: Training) -> Standing:
    """Say whose run lies in a claimed directory, and how far it is: nobody's, where OVERWRITE=true starts it again.

    Raises:
        RunError: another run, or a damaged one.
    """
    if training.config.overwrite:
        return Standing(Status.MISSING)
    return stand(directory.path, training.fingerprint, claimed_here=True).usable()


def run_to_end(training: Training, recorder: Recorder, keeper: Keeper) -> Status:
    """Fit, and leave the directory as the outcome asks: the final weights of a finished run, or a checkpoint."""
    directory = keeper.directory
    goes_on = command_that_goes_on(overwrite=training.config.overwrite)
    try:
        fit(training, recorder, keeper)
    except Interrupted as interrupted:
        recorder.close()
        steps = training.length.steps
        logger.warning("stopped by %s at step %d of %d; %s", interrupted, training.step, steps, goes_on)
        raise
    except KeyboardInterrupt:
        logger.warning("interrupted; %s from the last checkpoint", goes_on)
        raise
    except Diverged as divergence:
        recorder.finish(Status.DIVERGED)
        logger.error("diverged: %s; what was recorded stays in %s", divergence, directory.path)
        status = Status.DIVERGED
    else:
        save_atomically(directory.final_model, training.net.state_dict())
        recorder.finish(Status.FINISHED)
        logger.info("finished: %s", directory.path)
        status = Status.FINISHED
    directory.checkpoint.unlink(missing_ok=True)
    return status


def open_record(training: Training, directory: RunDirectory, standing: Standing) -> Recorder:
    """Go on with the directory's record and bring the training to its checkpoint, or start a new record.

    Raises:
        RunError: the checkpoint or the record is damaged.
    """
    resumes = standing.run is not None and directory.checkpoint.exists()
    if standing.run is not None and resumes:
        training.config = keep_what_it_began_with(training.config, standing.run.config)
    config = training.config
    versions = describe_versions(config, training.device, training.batches.memory_format)
    slots = [slot_parts(slot, training.feeds[slot.name]) for slot in training.slots]
    facts: dict[str, Any] = {"fingerprint": training.fingerprint, "slots": slots, "length": training.length}
    facts["quantities"] = chosen(config.measurements)
    if standing.run is not None and resumes:
        mark = load_checkpoint(directory.checkpoint, fingerprint=training.fingerprint, load=training.load_state_dict)
        versions = merge_versions(standing.run.versions, versions)
        writer = RunWriter.resume(directory.record, config, mark, versions=versions, **facts)
        logger.info("resumed at step %d of %d: %s", training.step, training.length.steps, directory.path)
    else:
        directory.clear()
        config.save(directory.config)
        writer = RunWriter.create(directory.record, config, versions=versions, **facts)
        logger.info("started: %s", directory.path)
    tuning = Path(config.tuning_conf)
    if line := shipped.told("TUNING_CONF", tuning, tuning_file(tuning)):
        logger.info("%s", line)
    return Recorder(
        writer,
        training.slots,
        device=training.device,
        every=config.log_every_steps,
        measure_every=config.measure_steps,
        images=config.batch_size,
    )


def keep_what_it_began_with(config: RunConfig, began: RunConfig) -> RunConfig:
    """Return a resumed run's configuration: what it measures and keeps stays as it was, and a message says so."""
    names = ("measure", "measure_every", "measure_steps", "evaluate_every", "save_epochs")
    kept = {name: getattr(began, name) for name in names if getattr(began, name) != getattr(config, name)}
    if kept:
        said = ", ".join(f"{name.upper()}={value}" for name, value in kept.items())
        logger.info("resumed with %s, as it began", said)
    return replace(config, **kept)


def slot_parts(slot: Slot, feed: Feed) -> SlotParts:
    """Return what the record says of a slot."""
    weights = 0 if slot.layer is None else weight_of(slot).numel()
    return SlotParts(slot.name, slot.channels, slot.parts, feed.layer, weights, feed.consumer, feed.homogeneous)


def with_progress(training: Training, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Serve what is left of an epoch's batches, with a progress bar."""
    left = training.steps_left(epoch)
    per_epoch = training.length.steps_per_epoch
    total = min(per_epoch, training.length.steps - (epoch - 1) * per_epoch) if epoch else 0
    title = f"epoch {epoch}/{training.length.epochs}"
    return progress(training.training_batches(epoch), total=total, done=total - left, title=title)


@contextmanager
def advice_if_held_up(training: Training) -> Iterator[None]:
    """Log advice where threads of the block have waited for cores that other processes hold."""
    began, before = time.perf_counter(), seconds_waited()
    yield
    waited, seconds = seconds_waited() - before, time.perf_counter() - began
    advice = advice_on_threads(training.config.threads, waited=waited, seconds=seconds)
    if advice and training.device.type == "cpu":
        logger.warning("%s", advice)


def log_epoch(training: Training, epoch: int, metrics: Mapping[str, float], *, seconds: float) -> None:
    """Tell how an epoch went."""
    parts = [f"{split} {metrics[f'{split}_loss']:.4f} {metrics[f'{split}_acc']:6.2%}" for split in SPLITS]
    if not training.is_due(epoch, every=training.config.evaluate_every):
        parts = ["not evaluated"]
    logger.info("epoch %d/%d  %s  %.1f s", epoch, training.length.epochs, "  ".join(parts), seconds)


@contextmanager
def one_line_if_machine_fails(directory: RunDirectory, goes_on: str) -> Iterator[None]:
    """Turn memory that runs out, or a disk that is full or fails, into one line; what was saved stays.

    Raises:
        RunError: in place of the OSError, MemoryError or torch's own.
    """
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise RunError(f"{directory.path}: {out_of_memory(error)}; {goes_on} from the last checkpoint") from None
        if not isinstance(error, OSError):
            raise
        reason = "no space left on the device" if _is_full(error) else one_line(error)
        raise RunError(f"{directory.path}: cannot be written ({reason}); {goes_on} from the last checkpoint") from None


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
