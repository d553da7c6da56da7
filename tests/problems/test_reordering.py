from __future__ import annotations

import copy
import itertools
from collections import OrderedDict

import pytest
import torch
from torch import nn

from batchnorm.modes import treatments
from batchnorm.problems import problems
from batchnorm.problems.reordering import pool_before_relu_
from batchnorm.slots import find_slots, treat_


def chain() -> nn.Sequential:
    """Return a network with two pools behind ReLUs, padded and overlapping, and one that has none before it."""
    torch.manual_seed(0)
    layers = {
        "conv1": nn.Conv2d(3, 8, 3),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        "conv2": nn.Conv2d(8, 6, 3, padding=1),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(3, 2, padding=1),
        "pool3": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "dense": nn.Linear(6 * 2 * 2, 4),
    }
    return nn.Sequential(OrderedDict(layers))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", [(0, 0), (1, 1)], ids=str)
def test_outputs_and_gradients_keep_their_bits(
    layout: torch.memory_format, precision: torch.dtype, mask: tuple[int, int]
) -> None:
    plain = chain()
    reordered = copy.deepcopy(plain)
    pool_before_relu_(reordered)
    names = "conv1 pool1 relu1 conv2 pool2 pool3 relu2"
    assert [name for name, _ in reordered.named_children()] == [*names.split(), "flatten", "dense"]
    images = torch.randn(16, 3, 18, 18, generator=torch.Generator().manual_seed(1)).round(decimals=1)  # equal values too
    images[0] = -1.0  # windows without a positive value
    results = []
    for net in (plain, reordered):
        treat_(net, treatments(mask, "trained_bn"))
        net.to(memory_format=layout)
        inputs = images.contiguous(memory_format=layout).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            logits = net(inputs)
        logits.float().square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
        results.append({"logits": logits, "inputs": inputs.grad, **gradients, **net.state_dict()})
    assert set(results[0]) == set(results[1])
    for name, value in results[0].items():
        assert value is not None
        assert torch.equal(value, results[1][name]), name


def test_a_nan_stays_one() -> None:
    net = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    image = torch.tensor([[[[float("nan"), -1.0], [2.0, 3.0]]]])
    before = net(image)
    pool_before_relu_(net)
    assert before.isnan().all()
    assert net(image).isnan().all()


@pytest.mark.parametrize("problem", problems())
def test_the_problems_networks_pool_first(problem: str) -> None:
    net = problems()[problem].make_network()
    for chained in (module for module in net.modules() if isinstance(module, nn.Sequential)):
        layers = list(chained.children())
        for layer, following in itertools.pairwise(layers):
            assert not (isinstance(layer, nn.ReLU) and isinstance(following, nn.MaxPool2d))
    assert find_slots(net) == problems()[problem].slots
