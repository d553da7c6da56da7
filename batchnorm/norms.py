"""What may normalise a slot: torch's own layers where it has them, and batch norm taken apart.

    batch     (z - mean) / sqrt(var + eps), mean and biased variance of a channel over the batch and its positions
    center    z - mean: the batch's mean, nothing is divided
    scale     z / sqrt(var + eps): the batch's variance about its mean, nothing is subtracted
    instance  as batch, over each image alone
    group:G   over each image and each of G groups of channels
    layer     over each image and all channels: group:1

All scale by gamma and shift by beta per channel. Those that use the batch keep running averages of what they use, and of
nothing else, for evaluation, as torch does: momentum 0.1, eps 1e-5, unless given. `batchnorm.modes.NORMS` is the table of
them, torch-free.
Sources: Ioffe and Szegedy, 1502.03167; Ulyanov et al., 1607.08022; Wu and He, 1803.08494; Ba et al., 1607.06450 (here with
gamma and beta per channel, as group norm has them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from batchnorm.modes import groups_of, norm_kind

BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class BatchStatistic(nn.Module):
    """A norm that uses one statistic of the batch: `Center` and `Scale`. Computes in float32 at least, gives back what comes.

    Attributes:
        statistic: the buffer that follows it, and where that starts.

    Args:
        num_features: channels, along dimension 1.
        eps: as torch's.
        momentum: of the running average.
    """

    statistic: tuple[str, float]

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        name, start = self.statistic
        self.register_buffer(name, torch.full((num_features,), start))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise, scale and shift features of shape (B, C, ...)."""
        shape = (-1, *(1,) * (features.ndim - 2))
        normalised = self.normalise(features.to(torch.promote_types(features.dtype, torch.float32)), shape)
        weight, bias = self.weight, self.bias  # None where a treatment has none
        if weight is not None:
            normalised = normalised * weight.view(shape)
        if bias is not None:
            normalised = normalised + bias.view(shape)
        return normalised.to(features.dtype)

    def normalise(self, features: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Return the features normalised; `shape` lets a channel's numbers stand along dimension 1."""
        raise NotImplementedError

    def follow(self, average: torch.Tensor, value: torch.Tensor) -> None:
        """Let a running average follow a batch's value."""
        with torch.no_grad():
            average.lerp_(value.detach().to(average.dtype), self.momentum)


class Center(BatchStatistic):
    """Subtracts the batch's mean, and divides by nothing."""

    statistic = "running_mean", 0.0
    running_mean: torch.Tensor

    def normalise(self, features: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Subtract the mean: the batch's in training, the running one in evaluation."""
        if not self.training:
            return features - self.running_mean.view(shape)
        mean = features.mean(dim=[dim for dim in range(features.ndim) if dim != 1])
        self.follow(self.running_mean, mean)
        return features - mean.view(shape)


class Scale(BatchStatistic):
    """Divides by the batch's standard deviation, and subtracts nothing."""

    statistic = "running_var", 1.0
    running_var: torch.Tensor

    def normalise(self, features: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Divide by the deviation: the batch's in training, the running one in evaluation."""
        variance = self.running_var
        if self.training:
            others = [dim for dim in range(features.ndim) if dim != 1]
            mean = features.mean(dim=others, keepdim=True)
            variance = (features - mean).square().mean(dim=others)
            values = features.numel() // features.shape[1]
            self.follow(self.running_var, variance * (values / (values - 1)))
        return features * (variance + self.eps).rsqrt().view(shape)


OF_BATCH = (*BATCHNORM, Center, Scale)
"""Norms that use statistics of the batch in training and running ones in evaluation."""
NORM_LAYERS = (*OF_BATCH, nn.GroupNorm, *_INSTANCE_NORM.values())


def make_norm(
    norm: str, channels: int, positions: int, *, like: torch.Tensor, momentum: float | None = None, eps: float | None = None
) -> nn.Module:
    """Return a new norm with gamma 1 and beta 0.

    Args:
        norm: as `NORM` takes it: `batch`, `group:4`, ...
        channels: along dimension 1.
        positions: how many dimensions come behind them: 2 in an image, 0 after a linear layer.
        like: its device and type are the norm's.
        momentum: of running averages, in a norm that has them; None: torch's 0.1.
        eps: None: torch's 1e-5.

    Raises:
        ValueError: there is no such norm, or it cannot stand there.
    """
    kind = norm_kind(norm).name
    if kind == "instance" and not positions:
        raise ValueError(f"{norm}: a layer that gives one value per channel and image leaves nothing to normalise")
    if kind == "group" and channels % groups_of(norm):
        raise ValueError(f"{norm}: does not divide {channels} channels")
    eps_of: dict[str, Any] = {} if eps is None else {"eps": eps}
    both = eps_of | ({} if momentum is None else {"momentum": momentum})
    makers: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: BATCHNORM[max(positions - 1, 0)](channels, **both),
        "center": lambda: Center(channels, **both),
        "scale": lambda: Scale(channels, **both),
        "group": lambda: nn.GroupNorm(groups_of(norm), channels, **eps_of),
        "layer": lambda: nn.GroupNorm(1, channels, **eps_of),
        "instance": lambda: _INSTANCE_NORM[positions](channels, affine=True, **eps_of),
    }
    return makers[kind]().to(device=like.device, dtype=like.dtype)


def channels_of(norm: nn.Module) -> int:
    """Return how many channels a norm has."""
    channels = norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
    assert isinstance(channels, int)
    return channels
