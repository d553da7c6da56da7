from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from batchnorm.measurements.statistics_gap import precise_statistics, statistics_gap
from tests.measurements.networks import batch, small


def test_precise_statistics_are_those_of_all_values_together() -> None:
    """Each batch is normalised by its own statistics on its way to the second layer."""
    net = small()
    batches = [batch(size, seed)[0] for seed, size in enumerate((8, 16, 5))]
    inputs: dict[str, list[torch.Tensor]] = {"0.batchnorm": [], "4.batchnorm": []}
    copy = small()
    for name, values in inputs.items():
        copy.get_submodule(name).register_forward_hook(
            lambda _, taken, __, values=values: values.append(taken[0].detach().transpose(0, 1).flatten(1))
        )
    for images in batches:
        copy(images)
    found = precise_statistics(net, batches)
    assert set(found) == {f"{name}.running_{kind}" for name in inputs for kind in ("mean", "var")}
    for name, values in inputs.items():
        together = torch.cat(values, dim=1)
        assert torch.allclose(found[f"{name}.running_mean"], together.mean(dim=1), rtol=1e-10)
        assert torch.allclose(found[f"{name}.running_var"], together.var(dim=1, correction=0), rtol=1e-10)


def test_scores_against_a_copy_whose_statistics_are_set() -> None:
    net, (images, labels) = small(), batch(40)
    net(batch(64, 5)[0])  # running statistics that are neither (0, 1) nor the batch's
    training = [batch(32, seed)[0] for seed in (6, 7)]
    found = statistics_gap(net, images, labels, cross_entropy, training_images=training, batch_size=12)

    def naive(**change: torch.Tensor) -> tuple[float, float]:
        copy = small()
        copy.load_state_dict({**net.state_dict(), **change})
        copy.eval()
        logits = copy(images[:36]).detach()
        return float(cross_entropy(logits, labels[:36])), float((logits.argmax(1) == labels[:36]).double().mean())

    for name, (loss, accuracy) in {"running": naive(), "precise": naive(**precise_statistics(net, training))}.items():
        assert math.isclose(found[name].loss, loss, rel_tol=1e-10)
        assert math.isclose(found[name].accuracy, accuracy)
    copy = small()
    logits = torch.cat([copy(images[start : start + 12]) for start in (0, 12, 24)]).detach()
    assert math.isclose(found["batch"].loss, float(cross_entropy(logits, labels[:36])), rel_tol=1e-10)
    assert math.isclose(found["batch"].accuracy, float((logits.argmax(1) == labels[:36]).double().mean()))
    assert len({float(score.loss) for score in found.values()}) == 3


@pytest.mark.parametrize("batch_size", [4, 100])
def test_without_batchnorm_there_is_no_gap(batch_size: int) -> None:
    net, (images, labels) = small((0, 0)), batch(8)
    found = statistics_gap(net, images, labels, cross_entropy, training_images=[images], batch_size=batch_size)
    assert found["running"] == found["precise"] == found["batch"]


def test_precise_and_running_agree_where_running_ones_had_time() -> None:
    net = small()
    images, labels = batch(512)
    for _ in range(200):
        net(images)
    found = statistics_gap(net, images, labels, cross_entropy, training_images=[images], batch_size=512)
    assert math.isclose(found["running"].loss, found["precise"].loss, rel_tol=1e-3)
    assert math.isclose(found["batch"].loss, found["precise"].loss, rel_tol=1e-3)
