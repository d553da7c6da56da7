"""How far BatchNorm's running statistics lag: loss and accuracy on fixed images under three kinds of statistics.

    running   the running averages that training keeps
    precise   means and variances over training batches at the present weights
    batch     those of each batch that is evaluated, as in training

Precise statistics: each batch passes once in training mode; with mean m_i and (biased) variance v_i of batch i over n_i values,
the mean is sum n_i m_i / sum n_i, the variance sum n_i (v_i + m_i^2) / sum n_i - mean^2: that of all values together.
Unit: mean loss per image, share of images that are right. Expected: no gap at batch 128, one that grows for small batches.
m_i and v_i are BatchNorm's own, read off running statistics of momentum 1, as fvcore does.
Source: precise BatchNorm, Wu and Johnson, 2105.07576, section 3, and fvcore's `update_bn_stats`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.measurements.probing import Loss, copied_buffers, forward, probing
from batchnorm.norms import OF_BATCH, parts_of
from batchnorm.probing import Probe

TEST_IMAGES, PRECISE_BATCHES = 2000, 20


def score(probe: Probe, statistics: str, metric: str) -> torch.Tensor:
    """Return `loss` or `acc` under `running`, `precise` or `batch` statistics, on fixed test images."""
    found = probe.result(on_test_images)[statistics]
    return found.loss if metric == "loss" else found.accuracy


def on_test_images(probe: Probe) -> dict[str, Score]:
    """Return the scores on fixed test images."""
    size = probe.batches.batch_size
    images, labels = probe.batches.first_test_images(TEST_IMAGES)
    training = (images for images, _ in probe.batches.probe_images(PRECISE_BATCHES, size))
    return statistics_gap(probe.net, images, labels, cross_entropy, training_images=training, batch_size=size)


@dataclass(frozen=True)
class Score:
    """Mean loss per image and accuracy in [0, 1], float64 on the device."""

    loss: torch.Tensor
    accuracy: torch.Tensor


def statistics_gap(
    net: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    loss: Loss,
    *,
    training_images: Iterable[torch.Tensor],
    batch_size: int,
) -> dict[str, Score]:
    """Return the scores under `running`, `precise` and `batch` statistics: one score where no BatchNorm tracks statistics.

    Args:
        net: left as it is.
        images: that are evaluated, in batches of `batch_size`; a last partial one is left out for all three, so that they are
            scores of the same images.
        labels: theirs.
        loss: see `probing.Loss`.
        training_images: batches for the precise statistics, 20 of them mostly.
        batch_size: of the evaluation; the training's, for `batch` to mean what it means there.
    """
    whole = max(len(images) // batch_size, 1) * batch_size
    batches = list(zip(images[:whole].split(batch_size), labels[:whole].split(batch_size), strict=True))
    running = _score(net, batches, loss, batch_statistics=False, statistics={})
    if not any(_tracks(module) for module in net.modules()):
        return {"running": running, "precise": running, "batch": running}
    precise = precise_statistics(net, training_images)
    return {
        "running": running,
        "precise": _score(net, batches, loss, batch_statistics=False, statistics=precise),
        "batch": _score(net, batches, loss, batch_statistics=True, statistics={}),
    }


def precise_statistics(net: nn.Module, training_images: Iterable[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return means and variances of BatchNorm's inputs over batches, under the names of its running statistics.

    The variances are biased by the number of all values, which differs from n / (n - 1) by nothing that is seen. A norm that
    keeps no mean has the mean of its batches' variances, each about the batch's own mean, as it divides by them; ghost batch
    norm means and variances of its parts, averaged batch by batch, as its running statistics have them.
    """
    count: dict[str, int] = {}
    sums: dict[str, dict[str, torch.Tensor]] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def add(_: nn.Module, taken: tuple[torch.Tensor, ...], __: Any) -> None:
            values = taken[0].numel() // taken[0].shape[1]
            found: dict[str, torch.Tensor] = {}
            if (mean := _buffer(module, "running_mean")) is not None:
                found["running_mean"] = values * mean.double()
            if (unbiased := _buffer(module, "running_var")) is not None:
                together = values // parts_of(module, len(taken[0]))
                variance = unbiased.double() * ((together - 1) / together)
                found["running_var"] = values * (variance if mean is None else variance + mean.double().square())
            count[name] = count.get(name, 0) + values
            before = sums.get(name, {})
            sums[name] = {part: before.get(part, torch.zeros_like(value)) + value for part, value in found.items()}

        return module.register_forward_hook(add)

    norms = {name: module for name, module in net.named_modules() if _tracks(module)}
    momenta = {name: module.momentum for name, module in norms.items()}
    hooks = [watch(name, module) for name, module in norms.items()]
    try:
        for module in norms.values():
            module.momentum = 1.0
        with probing(net, batch_statistics=True), torch.no_grad():
            for images in training_images:
                forward(net, images)
    finally:
        for hook in hooks:
            hook.remove()
        for name, momentum in momenta.items():
            norms[name].momentum = momentum
    buffers = copied_buffers(net)
    precise: dict[str, torch.Tensor] = {}
    for name, values in count.items():
        parts = {part: value / values for part, value in sums[name].items()}
        if "running_mean" in parts and "running_var" in parts:
            parts["running_var"] = (parts["running_var"] - parts["running_mean"].square()).clamp_min(0)
        precise |= {f"{name}.{part}": value.to(buffers[f"{name}.{part}"]) for part, value in parts.items()}
    return precise


def _tracks(module: nn.Module) -> bool:
    kept = (_buffer(module, name) is not None for name in ("running_mean", "running_var"))
    return isinstance(module, OF_BATCH) and any(kept)


def _buffer(module: nn.Module, name: str) -> torch.Tensor | None:
    found = getattr(module, name, None)
    return found if isinstance(found, torch.Tensor) else None


def _score(
    net: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss: Loss,
    *,
    batch_statistics: bool,
    statistics: Mapping[str, torch.Tensor],
) -> Score:
    losses, right, seen = [], [], 0
    with probing(net, batch_statistics=batch_statistics), torch.no_grad():
        for images, labels in batches:
            logits = forward(net, images, statistics)
            losses.append(loss(logits, labels).double() * len(labels))
            right.append((logits.argmax(dim=1) == labels).sum())
            seen += len(labels)
    return Score(torch.stack(losses).sum() / seen, torch.stack(right).sum().double() / seen)
