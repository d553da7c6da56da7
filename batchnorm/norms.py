"""What may normalise a slot: torch's own layers where it has them, and batch norm taken apart.

    batch     (z - mean) / sqrt(var + eps), mean and biased variance of a channel over the batch and its positions
    center    z - mean: the batch's mean, nothing is divided
    scale     z / sqrt(var + eps): the batch's variance about its mean, nothing is subtracted
    instance  as batch, over each image alone
    group:G   over each image and each of G groups of channels
    layer     over each image and all channels: group:1

The first three may take their statistics over parts of the batch: ghost batch norm.

All scale by gamma and shift by beta per channel. Those that use the batch keep running averages of what they use, and of
nothing else, for evaluation, as torch does: momentum 0.1, eps 1e-5, unless given. `batchnorm.modes.NORMS` is the table of
them, torch-free.
Sources: Ioffe and Szegedy, 1502.03167; Hoffer et al., 1705.08741 (ghost); Ulyanov et al., 1607.08022; Wu and He, 1803.08494;
Ba et al., 1607.06450 (here with gamma and beta per channel, as group norm has them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn.functional import batch_norm

from batchnorm.modes import Wanted, groups_of, norm_kind

BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
OWN_NORMS = (*BATCHNORM, nn.GroupNorm, nn.LayerNorm, *_INSTANCE_NORM.values())
"""Norms that a network may bring: its slots are where they stand."""


class AffineNorm(nn.Module):
    """A norm of our own, with gamma and beta. Computes in float32 at least, gives back what comes.

    Args:
        num_features: channels, along dimension 1.
        eps: as torch's.
    """

    def __init__(self, num_features: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise, scale and shift features of shape (B, C, ...)."""
        shape = _by_channel(features)
        normalised = self.normalise(features.to(torch.promote_types(features.dtype, torch.float32)))
        weight, bias = self.weight, self.bias  # None where a treatment has none
        if weight is not None:
            normalised = normalised * weight.view(shape)
        if bias is not None:
            normalised = normalised + bias.view(shape)
        return normalised.to(features.dtype)

    def normalise(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features normalised."""
        raise NotImplementedError


class BatchStatistics(AffineNorm):
    """A norm that uses statistics of the batch.

    Attributes:
        statistics: the buffers that follow them, and where these start.

    Args:
        num_features: channels, along dimension 1.
        eps: as torch's.
        momentum: of the running averages.
        images: over how many the statistics are taken in training (ghost batch norm); None: over the whole batch. The running
            averages follow the mean over the batch's parts, once.
    """

    statistics: tuple[tuple[str, float], ...]

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1, images: int | None = None) -> None:
        super().__init__(num_features, eps=eps)
        self.momentum, self.images = momentum, images
        for name, start in self.statistics:
            self.register_buffer(name, torch.full((num_features,), start))

    def normalise(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise by the batch in training, by running averages in evaluation."""
        return self.by_batch(features) if self.training else self.by_running_averages(features)

    def by_batch(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features normalised part by part, and let the running averages follow."""
        normalised, found = zip(*map(self.by_part, features.tensor_split(parts_of(self, len(features)))), strict=True)
        with torch.no_grad():
            for (name, _), values in zip(self.statistics, zip(*found, strict=True), strict=True):
                average: torch.Tensor = getattr(self, name)
                value = values[0] if len(values) == 1 else torch.stack(values).mean(dim=0)
                average.lerp_(value.detach().to(average.dtype), self.momentum)
        return normalised[0] if len(normalised) == 1 else torch.cat(normalised)

    def by_part(self, features: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Return one part of a batch normalised, and its statistics, of shape (C,) each."""
        raise NotImplementedError

    def by_running_averages(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features normalised by the running averages."""
        raise NotImplementedError


def parts_of(norm: nn.Module, images: int) -> int:
    """Return in how many parts a norm takes its statistics over a batch; parts are equal where their size divides it."""
    size = getattr(norm, "images", None)
    return 1 if size is None else max(1, round(images / size))


class Center(BatchStatistics):
    """Subtracts the batch's mean, and divides by nothing."""

    statistics = (("running_mean", 0.0),)
    running_mean: torch.Tensor

    def by_part(self, features: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Subtract the mean."""
        mean = features.mean(dim=_all_but_channels(features))
        return features - mean.view(_by_channel(features)), (mean,)

    def by_running_averages(self, features: torch.Tensor) -> torch.Tensor:
        """Subtract the running mean."""
        return features - self.running_mean.view(_by_channel(features))


class Scale(BatchStatistics):
    """Divides by the batch's standard deviation, and subtracts nothing."""

    statistics = (("running_var", 1.0),)
    running_var: torch.Tensor

    def by_part(self, features: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Divide by the deviation."""
        others = _all_but_channels(features)
        mean = features.mean(dim=others, keepdim=True)
        variance = (features - mean).square().mean(dim=others)
        values = features.numel() // features.shape[1]
        return self._divided(features, variance), (variance * (values / (values - 1)),)

    def by_running_averages(self, features: torch.Tensor) -> torch.Tensor:
        """Divide by the running deviation."""
        return self._divided(features, self.running_var)

    def _divided(self, features: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        return features * (variance + self.eps).rsqrt().view(_by_channel(features))


class Ghost(BatchStatistics):
    """Batch norm over parts of the batch, by torch's own kernel."""

    statistics = (("running_mean", 0.0), ("running_var", 1.0))
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def by_part(self, features: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Subtract the mean and divide by the deviation."""
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        normalised = batch_norm(features, mean, variance, training=True, momentum=1.0, eps=self.eps)  # which writes both
        return normalised, (mean, variance)

    def by_running_averages(self, features: torch.Tensor) -> torch.Tensor:
        """Subtract the running mean and divide by the running deviation."""
        return batch_norm(features, self.running_mean, self.running_var, eps=self.eps)


class AlongAxis(nn.Module):
    """A norm for features of shape (B, C, positions), in a place where C stands elsewhere, or positions have other dimensions.

    Args:
        norm: takes the place of a network's own.
        axis: of the channels: 1 or -1.
    """

    def __init__(self, norm: nn.Module, axis: int) -> None:
        super().__init__()
        self.norm, self.axis = norm, axis

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise features of shape (B, C, ...) or (B, ..., C)."""
        moved = features.movedim(self.axis, 1)
        normalised: torch.Tensor = self.norm(moved.flatten(2) if moved.ndim > 2 else moved.unsqueeze(2))
        return normalised.reshape(moved.shape).movedim(1, self.axis)


def _by_channel(features: torch.Tensor) -> tuple[int, ...]:
    """Return the shape in which a channel's numbers stand along dimension 1."""
    return (-1, *(1,) * (features.ndim - 2))


def _all_but_channels(features: torch.Tensor) -> list[int]:
    return [dim for dim in range(features.ndim) if dim != 1]


OF_BATCH = (*BATCHNORM, BatchStatistics)
"""Norms that use statistics of the batch in training and running ones in evaluation."""
NORM_LAYERS = (*OWN_NORMS, AffineNorm)


def _batch(wanted: Wanted) -> nn.Module:
    if wanted.images is not None:
        return Ghost(wanted.channels, **wanted.batch, images=wanted.images)
    return BATCHNORM[max(wanted.positions - 1, 0)](wanted.channels, **wanted.batch)


MAKERS: Mapping[str, Callable[[Wanted], nn.Module]] = {
    "batch": _batch,
    "center": lambda wanted: Center(wanted.channels, **wanted.batch, images=wanted.images),
    "scale": lambda wanted: Scale(wanted.channels, **wanted.batch, images=wanted.images),
    "group": lambda wanted: nn.GroupNorm(wanted.groups, wanted.channels, **wanted.eps),
    "layer": lambda wanted: nn.GroupNorm(1, wanted.channels, **wanted.eps),
    "instance": lambda wanted: _INSTANCE_NORM[wanted.positions](wanted.channels, affine=True, **wanted.eps),
}
"""How those norms of `batchnorm.modes.NORMS` are made that do not say it themselves."""


def make_norm(
    norm: str,
    channels: int,
    positions: int,
    *,
    like: torch.Tensor,
    momentum: float | None = None,
    eps: float | None = None,
    images: int | None = None,
) -> nn.Module:
    """Return a new norm with gamma 1 and beta 0.

    Args:
        norm: as `NORM` takes it: `batch`, `group:4`, ...
        channels: along dimension 1.
        positions: how many dimensions come behind them: 2 in an image, 0 after a linear layer.
        like: its device and type are the norm's.
        momentum: of running averages, in a norm that has them; None: torch's 0.1.
        eps: None: torch's 1e-5.
        images: in a part of the batch over which a norm that uses the batch takes its statistics; None: the whole batch.

    Raises:
        ValueError: there is no such norm, or it cannot stand there.
    """
    kind, groups = norm_kind(norm), groups_of(norm)
    if kind.over == ("positions",) and not positions:
        raise ValueError(f"{norm}: a layer that gives one value per channel and image leaves nothing to normalise")
    if channels % groups:
        raise ValueError(f"{norm}: does not divide {channels} channels")
    of_eps = {} if eps is None else {"eps": eps}
    of_batch = of_eps | ({} if momentum is None else {"momentum": momentum})
    made: nn.Module = (kind.make or MAKERS[kind.name])(Wanted(channels, positions, groups, images, of_eps, of_batch))
    return made.to(device=like.device, dtype=like.dtype)


def freeze_statistics_(net: nn.Module, *, frozen: bool) -> None:
    """Let norms that use the batch use their running statistics in training too, and keep them; or no longer.

    A network that is put into training mode forgets it. Probes that look at the training's loss do as it says.
    """
    for module in net.modules():
        if isinstance(module, OF_BATCH):
            module._statistics_are_frozen = frozen  # type: ignore[assignment]
            module.train(module.training and not frozen)


def has_frozen_statistics(norm: nn.Module) -> bool:
    """Say whether `freeze_statistics_` froze a norm's statistics."""
    return bool(getattr(norm, "_statistics_are_frozen", False))


def channels_of(norm: nn.Module) -> int:
    """Return how many channels a norm has."""
    if isinstance(norm, nn.LayerNorm):
        return norm.normalized_shape[-1]
    channels = norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
    assert isinstance(channels, int)
    return channels


def is_own_norm(module: nn.Module) -> bool:
    """Say whether a module is a norm of a network's own that may be a slot.

    A LayerNorm over more than one dimension is none: it has no gamma and beta by channel.
    """
    return isinstance(module, OWN_NORMS) and not (isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1)


def axis_of(module: nn.Module) -> int:
    """Return along which dimension a slot's channels stand: 1, or -1 where a LayerNorm of the network's own has them last.

    A LayerNorm may be of a class that moves the channels itself, as ConvNeXt's: what it takes says where it has them.
    """
    if not isinstance(module, nn.LayerNorm):
        found: int = getattr(module, "axis", 1)
        return found
    if type(module) is nn.LayerNorm:
        return -1
    channels = channels_of(module)
    like, side = next(module.parameters(), torch.empty(())), 2 if channels == 1 else 1
    try:
        with torch.no_grad():
            module.forward(torch.zeros(1, channels, side, side, device=like.device, dtype=like.dtype))  # past all hooks
    except (RuntimeError, ValueError):
        return -1
    return 1
