from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from batchnorm.measurements.batch_sharpness import batch_sharpness
from batchnorm.measurements.landscape import landscape
from batchnorm.measurements.probing import Loss, forward, probing
from batchnorm.measurements.representations import representations
from batchnorm.measurements.sharpness import sharpness
from batchnorm.measurements.statistics_gap import statistics_gap
from tests.measurements.networks import batch, slots_of, small

Probe = Callable[[nn.Module, Loss], object]


def look(net: nn.Module, loss: Loss) -> object:
    return representations(net, batch(wide=False)[0], slots_of(net))


def gap(net: nn.Module, loss: Loss) -> object:
    images, labels = batch(wide=False)
    return statistics_gap(net, images, labels, loss, training_images=[images, images + 1], batch_size=8)


def land(net: nn.Module, loss: Loss) -> object:
    return landscape(net, *batch(wide=False), loss, lr=0.1)


def curve(net: nn.Module, loss: Loss) -> object:
    return batch_sharpness(net, [batch(wide=False), batch(seed=2, wide=False)], loss)


def largest(net: nn.Module, loss: Loss) -> object:
    return sharpness(net, *batch(wide=False), loss)


def fails(_: torch.Tensor, __: torch.Tensor) -> torch.Tensor:
    raise ZeroDivisionError


def touched() -> nn.Sequential:
    """A network as training leaves it: gradients, statistics and modes of several kinds, a fixed gamma, dropout."""
    net = small(dropout=0.5, wide=False)
    net.get_submodule("0.batchnorm").weight.requires_grad_(False)
    cross_entropy(net(batch(wide=False)[0]), batch(wide=False)[1]).backward()
    net.get_submodule("4.batchnorm").eval()
    return net


@pytest.mark.parametrize("loss", [cross_entropy, fails])
@pytest.mark.parametrize("probe", [look, gap, land, curve, largest])
def test_a_probe_leaves_all_as_it_was(probe: Probe, loss: Loss) -> None:
    net = touched()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    storage = {name: value.data_ptr() for name, value in net.state_dict().items()}
    grads = {name: (value.grad, None if value.grad is None else value.grad.clone()) for name, value in net.named_parameters()}
    trained = {name: value.requires_grad for name, value in net.named_parameters()}
    modes = {name: module.training for name, module in net.named_modules()}
    drawn = torch.get_rng_state()
    if loss is fails and probe is not look:
        with pytest.raises(ZeroDivisionError):
            probe(net, loss)
    else:
        probe(net, loss)
    assert torch.equal(torch.get_rng_state(), drawn)
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name
        assert value.data_ptr() == storage[name], name
    for name, parameter in net.named_parameters():
        grad, content = grads[name]
        assert parameter.grad is grad, name
        assert content is None or torch.equal(parameter.grad, content), name  # type: ignore[arg-type]
        assert parameter.requires_grad == trained[name], name
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("probe", [look, gap, land, curve, largest])
def test_a_probe_is_a_function_of_its_arguments(probe: Probe) -> None:
    """Not of dropout's draws, of the modes before, of gradients that are off, or of autocast around it."""
    net = touched()
    first = repr(probe(net, cross_entropy))
    net.eval()
    torch.manual_seed(7)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert repr(probe(net, cross_entropy)) == first


def test_a_probed_network_normalises_by_the_batch_without_dropout() -> None:
    net, images = small(dropout=0.5), batch()[0]
    plain = small().train()
    with probing(net):
        assert torch.equal(forward(net, images), plain(images))
    with probing(net, batch_statistics=False):
        assert torch.equal(forward(net, images), small().eval()(images))
