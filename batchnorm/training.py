"""Trains one run: `train` sets it up, `fit` is the loop, `evaluate` the metrics."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import subprocess
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
from batchnorm.data.sources import IMAGE_SETS, load_image_set
from batchnorm.errors import ConfigError, RunError, one_line
from batchnorm.logs import log_to_file, logger, progress
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

    `step` counts the updates made; `autocast` opens the context in which the network computes.
    """

    config: RunConfig
    net: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    batches: Batches
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    step: int = 0

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
    """Make one update; the host waits for the device nowhere in it."""
    seed_default_generators(state.config.random_seed, "dropout", state.step)
    state.optimizer.zero_grad()
    with state.autocast():
        loss = cross_entropy(state.net(images), labels)
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
    for images, labels in state.batches.evaluation(split, epoch):
        with state.autocast():
            logits = state.net(images)
        total_loss += cross_entropy(logits.float(), labels, reduction="none").sum(dtype=torch.float64)
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
        device = prepare_torch(config)
        problem = find_problem(config.problem)
        facts = IMAGE_SETS[problem.image_set]
        arrays = load_image_set(problem.image_set, Path(config.obs_datasets))
        memory_format = choose_memory_format(config, device)
        batches = Batches(
            facts,
            arrays,
            random_seed=config.random_seed,
            batch_size=config.batch_size,
            device=device,
            memory_format=memory_format,
        )
        fingerprint = {**config.fingerprint(), "images": arrays.digest}
        del arrays
        state = new_training(config, build_problem(config), batches, device=device, memory_format=memory_format)
        directory = RunDirectory(config.directory)
        with directory.claim(), log_to_file(directory.log), one_line_if_disk_fails(directory):
            if not config.overwrite and (ended := ended_status(directory, fingerprint)):
                logger.info("%s already, by another process meanwhile: %s", ended.name.lower(), directory.path)
                return ended
            versions = describe_versions(config, device, memory_format)
            writer = open_record(config, directory, state, fingerprint=fingerprint, versions=versions, slots=problem.slots)
            recorder = Recorder(writer, directory, fingerprint=fingerprint, state=state, slots=problem.slots, stop=stop)
            return run_to_end(state, recorder, writer, directory, stop)


def run_to_end(
    state: TrainingState, recorder: Recorder, writer: RunWriter, directory: RunDirectory, stop: StopRequest
) -> Status:
    """Fit, and leave the directory as the outcome asks: the final weights of a finished run, or a checkpoint."""
    try:
        fit(state, recorder)
    except Diverged as divergence:
        logger.error("diverged: %s; what was recorded stays in %s", divergence, directory.path)
        writer.finish(Status.DIVERGED)
        directory.checkpoint.unlink(missing_ok=True)
        return Status.DIVERGED
    except Interrupted:
        writer.close()
        name = stop.signal.name if stop.signal else "a request"
        logger.warning("stopped by %s at step %d of %d; the same command goes on", name, state.step, state.total_steps)
        raise
    save_atomically(directory.final_model, state.net.state_dict())
    writer.finish(Status.FINISHED)
    directory.checkpoint.unlink(missing_ok=True)
    logger.info("finished: %s", directory.path)
    return Status.FINISHED


def new_training(
    config: RunConfig, net: nn.Module, batches: Batches, *, device: torch.device, memory_format: torch.memory_format
) -> TrainingState:
    """Bring a network to the device, and give it all that it is trained with."""
    net.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = build_optimizer(net, config.optimizer, lr=config.lr, hyperparameters=config.opt_hpars, l2_reg=config.l2_reg)
    schedule = build_schedule(optimizer, config.lr_schedule, epochs=config.num_epochs, steps_per_epoch=batches.steps_per_epoch)
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    if config.precision == "bf16":
        autocast = partial(torch.autocast, device.type, dtype=torch.bfloat16)
    return TrainingState(config, net, optimizer, schedule, batches, device, autocast)


def open_record(
    config: RunConfig,
    directory: RunDirectory,
    state: TrainingState,
    *,
    fingerprint: Mapping[str, Any],
    versions: Mapping[str, Any],
    slots: tuple[str, ...],
) -> RunWriter:
    """Go on with the directory's record and bring the state to its checkpoint, or start a new record.

    Raises:
        RunError: the directory holds another run, or a damaged one.
    """
    if directory.record.exists() and not config.overwrite:
        run = Run(directory.path)
        check_same_run(run, fingerprint)
        if directory.checkpoint.exists():
            mark: Mark = restore_checkpoint_(directory.checkpoint, state, fingerprint=fingerprint)
            writer = RunWriter.resume(directory.record, mark, versions=merge_versions(run.versions, versions))
            logger.info("resumed at step %d of %d: %s", state.step, state.total_steps, directory.path)
            return writer
    directory.clear()
    config.save(directory.config)
    parameters = read_slots(state.net, slots)
    widths = {slot: len(value) for slot, value in {**parameters.gamma, **parameters.bias}.items()}
    writer = RunWriter.create(directory.record, config, fingerprint=fingerprint, layers=slots, widths=widths, versions=versions)
    logger.info("started: %s", directory.path)
    return writer


def log_epoch(state: TrainingState, epoch: int, metrics: Mapping[str, float], *, seconds: float) -> None:
    """Tell how an epoch went."""
    parts = [f"{split} {metrics[f'{split}_loss']:.4f} {metrics[f'{split}_acc']:6.2%}" for split in SPLITS]
    logger.info("epoch %d/%d  %s  %.1f s", epoch, state.total_epochs, "  ".join(parts), seconds)


def prepare_torch(config: RunConfig) -> torch.device:
    """Set threads, determinism and precision of this process, and return the device to train on.

    Raises:
        ConfigError: there is no such device.
    """
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not config.deterministic
    torch.set_float32_matmul_precision("highest")  # fp32 is fp32: no TF32
    torch.backends.cudnn.allow_tf32 = False
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "auto":
        return torch.device("cuda" if there else "cpu")
    device = torch.device(config.device)
    if device.type == "cuda" and (device.index or 0) >= there:
        valid = ", ".join(["auto", "cpu", *(f"cuda:{index}" for index in range(there))])
        raise ConfigError(f"DEVICE={config.device}: this machine has {there or 'no'} CUDA devices; valid: {valid}")
    return device


def choose_memory_format(config: RunConfig, device: torch.device) -> torch.memory_format:
    """Pick the layout of images and activations.

    On a CPU channels_last is the faster one in both precisions (measured; benchmarks/). On CUDA tensor cores want it
    for bf16, and fp32 convs do not (as cuDNN's documentation has it; not measured by us).
    """
    if config.memory_format != "auto":
        return torch.channels_last if config.memory_format == "channels_last" else torch.contiguous_format
    fast_in_fp32 = device.type == "cpu"
    return torch.channels_last if fast_in_fp32 or config.precision == "bf16" else torch.contiguous_format


def describe_versions(config: RunConfig, device: torch.device, memory_format: torch.memory_format) -> dict[str, Any]:
    """Return what a run runs on; it is recorded, and not part of what the run is."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "deepobs": importlib.metadata.version("deepobs"),
        "cuda": torch.version.cuda,
        "device": f"{device} ({name})",
        "threads": config.threads,
        "memory_format": str(memory_format).removeprefix("torch."),
        "log_every_steps": config.log_every_steps,
        "deterministic": config.deterministic,
        "host": platform.node(),
        "git_commit": _git_commit(),
    }


def merge_versions(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what earlier parts of a resumed run ran on, and warn where that changed."""
    before = {key: value for key, value in earlier.items() if key != "earlier_parts"}
    parts = list(earlier.get("earlier_parts", []))
    if before == dict(now):
        return {**now, "earlier_parts": parts} if parts else dict(now)
    changed = [f"{key} {before.get(key)} -> {now.get(key)}" for key in now if before.get(key) != now.get(key)]
    logger.warning("the run goes on under other conditions, its last bits may differ: %s", "; ".join(changed))
    return {**now, "earlier_parts": [*parts, before]}


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


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
