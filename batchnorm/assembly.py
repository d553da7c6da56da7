"""From a `RunConfig` to a training before its first step: images, network, optimizer, schedule."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from batchnorm.config import RunConfig, RunLength, nothing_to_normalise, one_value_per_channel
from batchnorm.data.batches import Batches
from batchnorm.data.facts import IMAGE_SETS, ImageSet
from batchnorm.data.own import OwnImages
from batchnorm.data.sources import ImageArrays, facts_of, load_image_set
from batchnorm.errors import ConfigError, DataError, RunError, one_line
from batchnorm.feeds import Feed, find_feeds, positions, slot_modules
from batchnorm.machine import choose_memory_format, keep_freed_memory, prepare_torch
from batchnorm.modes import OWN, groups_of, norm_kind, trained_weights
from batchnorm.norms import OF_BATCH, freeze_statistics_
from batchnorm.optim import AffineRule, build_optimizer, build_schedule, rate_of_update
from batchnorm.probing import Probe
from batchnorm.problems import Problem, find_problem
from batchnorm.problems.fitting import check_fit, check_slots, make_network
from batchnorm.slots import Slot, fill_biases_, freeze_weights_, read_slots, treat_


@dataclass
class Training:
    """A training as it stands: all that a step changes, and what it needs.

    Attributes:
        config: the run.
        net: the network with its treatments.
        slots: what stands in its slots.
        feeds: what stands around them.
        optimizer, schedule: of its trained parameters.
        batches: its images.
        device: where it all lies.
        loss: from images and labels, the training loss; compiled where the run asks for it.
        autocast: opens the context in which the network computes.
        step: counts the updates made.
    """

    config: RunConfig
    net: nn.Module
    slots: tuple[Slot, ...]
    feeds: Mapping[str, Feed]
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
    def length(self) -> RunLength:
        """How long the whole run is."""
        return self.config.length(self.batches.steps_per_epoch)

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def steps_left(self, epoch: int) -> int:
        """Return how many of an epoch's updates are still to be made; epoch 0, before training, has none."""
        return min(epoch * self.length.steps_per_epoch, self.length.steps) - self.step if epoch else 0

    def is_due(self, epoch: int, *, every: int) -> bool:
        """Say whether something that is done each so many epochs is done after this one: after the first and last always."""
        return epoch % every == 0 or epoch == self.length.epochs

    def begin_epoch(self, epoch: int) -> None:
        """Put the network into training mode; from FREEZE_STATS_AFTER on, its norms use their running statistics there."""
        self.net.train()
        if self.config.freeze_stats_after is not None:
            freeze_statistics_(self.net, frozen=epoch >= self.config.freeze_stats_after)

    def training_batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Serve what is left of an epoch's batches."""
        left = self.steps_left(epoch)
        served = self.batches.training(epoch, skip=self.step - (epoch - 1) * self.length.steps_per_epoch) if left else iter(())
        return (batch for _, batch in zip(range(left), served, strict=False))

    def probe(self, *, step: int | None = None, lr: float | None = None) -> Probe:
        """Return what measurements at this moment may look at.

        Args:
            step: how many updates the network has had; by default those of this training.
            lr: the learning rate of the next update; by default this training's. After the last update that one's rate
                stands instead: schedules end at 0, where no step along the gradient can be taken.
        """
        updates = self.step if step is None else step
        rate = self.lr if lr is None else lr
        if updates == self.length.steps:
            config = self.config
            rate = rate_of_update(
                updates - 1,
                config.lr_schedule,
                lr=config.lr,
                epochs=config.num_epochs,
                steps_per_epoch=self.batches.steps_per_epoch,
            )
        return Probe(self.net, self.slots, self.batches, lr=rate)

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides how the training goes on; random numbers are functions of seed, stream and step."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = int(state["step"])


def assemble(config: RunConfig, *, facts: ImageSet | OwnImages | None = None) -> Training:
    """Read a run's images and build its network; the training stands before its first step.

    Args:
        config: the run.
        facts: in place of what is known of the problem's image set.

    Raises:
        UserError: there are no such images, no such device, or the problem does not fit its network or images.
    """
    problem = find_problem(config.problem)
    device = prepare_torch(config)
    arrays = load_image_set(problem.image_set, Path(config.obs_datasets))
    check_labels(problem, arrays, config)
    batches = Batches(
        facts or facts_of(problem.image_set),
        arrays,
        random_seed=config.random_seed,
        batch_size=config.batch_size,
        device=device,
        memory_format=choose_memory_format(config, device),
    )
    net = build_network(config)
    if not isinstance(problem.image_set, str):
        check_fit(problem, net, problem.slots, arrays.train_images.shape[1:])
    check_batch(config, net, arrays)
    keep_freed_memory()  # from here on: what images and initial weights took while they were made has gone back
    return assemble_with(config, net, batches, device=device)


def assemble_with(config: RunConfig, net: nn.Module, batches: Batches, *, device: torch.device) -> Training:
    """Bring a network to the device, and give it all that it is trained with."""
    net.to(device=device, memory_format=batches.memory_format)  # type: ignore[call-overload]
    names = find_problem(config.problem).slots
    optimizer = build_optimizer(
        net,
        config.optimizer,
        lr=config.lr,
        hyperparameters=config.opt_hpars,
        l2_reg=config.l2_reg,
        affine=[part for slot in read_slots(net, names) for part in (slot.gamma, slot.beta) if part is not None],
        rule=AffineRule(config.affine_lr_scale, config.l2_affine),
    )
    schedule = build_schedule(optimizer, config.lr_schedule, epochs=config.num_epochs, steps_per_epoch=batches.steps_per_epoch)
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    if config.precision == "bf16":
        autocast = partial(torch.autocast, device.type, dtype=torch.bfloat16)

    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with autocast():
            return cross_entropy(net(images), labels)

    if config.compile:
        loss = torch.compile(loss, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else "default")
    slots = _slots_with_neighbours(net, names, batches)
    return Training(config, net, slots, find_feeds(net, names), optimizer, schedule, batches, device, loss, autocast)


def _slots_with_neighbours(net: nn.Module, names: Sequence[str], batches: Batches) -> tuple[Slot, ...]:
    """Read a network's slots, and find the layers that alone feed them and alone take what they give."""
    around = slot_modules(net, names)
    sizes = positions(net, batches.first_test_images(2)[0], around)  # of one, a norm without running statistics has no variance
    return tuple(
        replace(slot, layer=around[slot.name].layer, consumer=around[slot.name].consumer, positions=sizes[slot.name])
        for slot in read_slots(net, names)
    )


def build_network(config: RunConfig) -> nn.Module:
    """Build a run's network on the CPU: the problem's initial weights, and the mask's and mode's treatments in its slots.

    The weights are a function of the seed alone: every mask and mode starts from the same ones, bit for bit.

    Raises:
        ConfigError: the problem is registered with other slots than its network has, or does not fit its images.
    """
    problem = find_problem(config.problem)
    net = make_network(problem, config.random_seed)
    check_slots(problem, net)
    if isinstance(problem.image_set, str):
        check_fit(problem, net, problem.slots, IMAGE_SETS[problem.image_set].shape)
    treat_(net, config.treatments, random_seed=config.random_seed)
    if config.bias_init != "deepobs":
        fill_biases_(net, float(config.bias_init))
    if config.freeze_stats_after and not any(isinstance(module, OF_BATCH) for module in net.modules()):
        raise ConfigError(f"FREEZE_STATS_AFTER={config.freeze_stats_after}: the network's own norms keep no running statistics")
    freeze_weights_(net, problem.slots, trained_weights(config.ablation))
    return net


def load_network(config: RunConfig, weights: Path) -> nn.Module:
    """Build a run's network with weights that it has kept, on the CPU, in evaluation mode.

    Raises:
        RunError: they cannot be read, or are not of this network.
    """
    net = build_network(config)
    load_weights_(net, weights)
    return net.eval()


def load_weights_(net: nn.Module, weights: Path) -> None:
    """Give a network weights that a run has kept, wherever the network is.

    Raises:
        RunError: they cannot be read, or are not of this network.
    """
    try:
        net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise RunError(f"{weights}: cannot be read ({one_line(error)[:120]})") from None


def check_labels(problem: Problem, arrays: ImageArrays, config: RunConfig) -> None:
    """Hold the images' labels against the classes that the network tells apart.

    Raises:
        DataError: a label lies beyond them.
    """
    for labels in (arrays.train_labels, arrays.test_labels):
        for label in (int(labels.min()), int(labels.max())):
            if not 0 <= label < problem.classes:
                raise DataError(
                    f"OBS_DATASETS={config.obs_datasets}: {facts_of(problem.image_set).title} holds the label {label}, "
                    f"but {problem.name} tells {problem.classes} classes apart, 0 to {problem.classes - 1}"
                )


def check_batch(config: RunConfig, net: nn.Module, arrays: ImageArrays) -> None:
    """See that each mean and variance is taken over more than one value: one alone has no variance.

    Raises:
        ConfigError: BATCH_SIZE or GHOST is too small for a slot that the mask normalises, or the norm has nothing to normalise
            there.
    """
    over = norm_kind(config.norm).over
    if "images" in over and config.images_of_statistics > 1:
        return
    single: list[str] = []

    def note(name: str, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        channels, positions = inputs[0].shape[1], inputs[0][0, 0].numel()
        if positions * (channels // groups_of(config.norm) if "channels" in over else 1) == 1:
            single.append(name)

    norms = {slot.name: slot.norm for slot in read_slots(net, find_problem(config.problem).slots) if slot.norm is not None}
    if config.norm == OWN:
        norms = {name: norm for name, norm in norms.items() if isinstance(norm, OF_BATCH)}
    hooks = [norm.register_forward_pre_hook(partial(note, name)) for name, norm in norms.items()]
    net.eval()
    try:
        with torch.no_grad():
            net(torch.zeros(2, *arrays.train_images.shape[1:]))  # of one, torch itself refuses some
    except ValueError:  # as it does of one value for each image
        if not single:
            raise
    finally:
        net.train()
        for hook in hooks:
            hook.remove()
    if single:
        raise one_value_per_channel(config, single) if "images" in over else nothing_to_normalise(config.norm, single)
