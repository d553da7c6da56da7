from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm
from torch import nn

from batchnorm.assembly import build_network
from batchnorm.config import RunConfig
from batchnorm.data.facts import IMAGE_SETS
from batchnorm.modes import MODES
from batchnorm.norms import BATCHNORM
from batchnorm.problems import deepobs, problems
from batchnorm.seeding import seed_default_generators
from batchnorm.slots import WEIGHT_LAYERS, ChannelBias, find_slots
from tests.images import image_shape

REFERENCES: dict[str, tuple[str, dict[str, int]]] = {  # what DeepOBS's test problems build
    "mnist_2c2d_bn": ("net_mnist_2c2d", {"num_outputs": 10}),
    "fmnist_2c2d_bn": ("net_mnist_2c2d", {"num_outputs": 10}),
    "digits_2c2d_bn": ("net_mnist_2c2d", {"num_outputs": 10}),
    "mnist_mlp_bn": ("net_mlp", {"num_outputs": 10}),
    "fmnist_mlp_bn": ("net_mlp", {"num_outputs": 10}),
    "cifar10_3c3d_bn": ("net_cifar10_3c3d", {"num_outputs": 10}),
    "cifar100_3c3d_bn": ("net_cifar10_3c3d", {"num_outputs": 100}),
    "svhn_3c3d_bn": ("net_cifar10_3c3d", {"num_outputs": 10}),
    "cifar100_allcnnc_bn": ("net_cifar100_allcnnc", {}),
    "cifar100_wrn164_bn": ("net_wrn", {"num_outputs": 100, "num_residual_blocks": 2, "widening_factor": 4}),
    "cifar100_wrn404_bn": ("net_wrn", {"num_outputs": 100, "num_residual_blocks": 6, "widening_factor": 4}),
    "svhn_wrn164_bn": ("net_wrn", {"num_outputs": 10, "num_residual_blocks": 2, "widening_factor": 4}),
}

OWN = ("cifar10_resnet18_bn", "fmnist_resnet8_bn", "fmnist_resnet8_narrow_bn", "fmnist_lenet_sigmoid_bn")


def reference(problem: str, seed: int) -> nn.Module:
    name, options = REFERENCES[problem]
    return deepcopy(_built(name, tuple(options.items()), seed))  # drawing some of the weights takes a second


@cache
def _built(name: str, options: tuple[tuple[str, int], ...], seed: int) -> nn.Module:
    seed_default_generators(seed, "initial weights")
    return deepobs.unfolded_network(name, **dict(options))


def parity_config(configure: Callable[..., RunConfig], problem: str, **keys: object) -> RunConfig:
    # The wide ResNet's own BatchNorm is DeepOBS's network; all others are without.
    return configure(problem=problem, position="all" if "wrn" in problem else "none", **keys)


def test_all_problems_are_there() -> None:
    assert set(problems()) == {*REFERENCES, *OWN}
    assert all(problem.image_set in IMAGE_SETS for problem in problems().values())
    lengths = {
        "2c2d": 3,
        "mlp": 3,
        "3c3d": 5,
        "allcnnc": 9,
        "wrn164": 13,
        "wrn404": 37,
        "resnet18": 20,
        "resnet8": 7,
        "lenet": 4,
    }
    for name, problem in problems().items():
        assert len(problem.slots) == lengths[name.split("_")[1]]


@pytest.mark.parametrize("name", [*REFERENCES, *OWN])
def test_dense_slots_and_norms_of_their_own_are_told(name: str, configure: Callable[..., RunConfig]) -> None:
    net, problem = build_network(configure(problem=name, position="none")), problems()[name]
    assert problem.dense == tuple(slot for slot in problem.slots if isinstance(net.get_submodule(slot), nn.Linear))
    own = {isinstance(net.get_submodule(slot), ChannelBias) for slot in problem.slots}  # what the mask leaves of a norm
    assert own == {problem.brings_norms}


@pytest.mark.parametrize("problem", REFERENCES)
def test_without_a_mask_it_is_deepobs_network_bit_for_bit(problem: str, configure: Callable[..., RunConfig]) -> None:
    theirs, ours = reference(problem, 3), build_network(parity_config(configure, problem))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
    images = torch.rand(4, *image_shape(problem), generator=torch.Generator().manual_seed(0))
    for training in (False, True):
        logits = []
        for net in (theirs, ours):
            torch.manual_seed(8)  # the same dropout noise
            logits.append(net.train(training)(images))
        assert torch.equal(logits[0], logits[1])
    theirs, ours = reference(problem, 3).eval(), build_network(parity_config(configure, problem)).eval()
    ours.to(memory_format=torch.channels_last)
    channels_last = ours(images.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(theirs(images), channels_last, rtol=1e-4, atol=1e-5)


def test_initial_weights_drawn_in_parts_are_scipys_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, float] = {"a": -2, "b": 2, "loc": 0, "scale": 0.05}
    whole = truncnorm.rvs(**keys, size=600_000, random_state=np.random.RandomState(3))
    sizes: list[int] = []
    draw = truncnorm.rvs

    def noting(*, size: int, **more: object) -> object:
        sizes.append(size)
        return draw(size=size, **more)

    monkeypatch.setattr(truncnorm, "rvs", noting)
    deepobs._forget_deepobs()  # another test of this process may have imported all of it, with scipy's own
    deepobs._networks.cache_clear()
    seed_default_generators(712, "initial weights")  # no other test draws these, so none has kept them
    net = deepobs.unfolded_network("net_mnist_2c2d", num_outputs=10)
    assert max(sizes) <= 2**18 < net.get_parameter("dense1.weight").numel() <= sum(sizes)
    parts = deepobs._TruncatedNormal().rvs(**keys, size=600_000, random_state=np.random.RandomState(3))
    assert np.array_equal(parts, whole)


@pytest.mark.parametrize(
    "problem", ["fmnist_2c2d_bn", "fmnist_mlp_bn", "cifar10_3c3d_bn", "cifar100_allcnnc_bn", "svhn_wrn164_bn"]
)
def test_gradients_are_deepobs_too(problem: str, configure: Callable[..., RunConfig]) -> None:
    images = torch.rand(4, *image_shape(problem), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    gradients = []
    for net in (reference(problem, 3), build_network(parity_config(configure, problem))):
        torch.manual_seed(8)
        nn.functional.cross_entropy(net.train()(images), labels).backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    for mine, other in zip(*gradients, strict=True):
        assert mine is not None
        assert other is not None
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("problem", REFERENCES)
def test_slots_are_those_of_the_network(problem: str, configure: Callable[..., RunConfig]) -> None:
    assert find_slots(reference(problem, 3)) == problems()[problem].slots
    full = build_network(configure(problem=problem, position="all"))
    batchnorms = [module for module in full.modules() if isinstance(module, BATCHNORM)]
    assert len(batchnorms) == len(problems()[problem].slots)
    normalised = [layer for layer in full.modules() if isinstance(layer, WEIGHT_LAYERS) and layer.bias is not None]
    assert len(normalised) == (0 if "allcnnc" in problem else 1)  # the output layer alone keeps its bias


@pytest.mark.parametrize("problem", OWN)
def test_a_network_of_the_packages_own_takes_masks(problem: str, configure: Callable[..., RunConfig]) -> None:
    slots = problems()[problem].slots
    images = torch.rand(4, *image_shape(problem), generator=torch.Generator().manual_seed(0))
    for mask in ((1,) * len(slots), (0,) * len(slots), tuple(place % 2 for place in range(len(slots)))):
        net = build_network(configure(problem=problem, position=",".join(map(str, mask)))).train()
        norms = [
            isinstance(net.get_submodule(slot), BATCHNORM) or "batchnorm" in dict(net.get_submodule(slot).named_children())
            for slot in slots
        ]
        assert norms == [digit == 1 for digit in mask]
        nn.functional.cross_entropy(net(images), torch.tensor([0, 1, 2, 3])).backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


def test_resnet18_is_torchvisions_but_for_its_stem(configure: Callable[..., RunConfig]) -> None:
    from torchvision.models import resnet18

    net = build_network(configure(problem="cifar10_resnet18_bn", position="all"))
    seed_default_generators(3, "initial weights")
    theirs = resnet18(num_classes=10).state_dict()
    ours = net.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name != "conv1.weight")
    features = nn.Sequential(*list(net.children())[:4])(torch.zeros(1, 3, 32, 32))
    assert features.shape == (1, 64, 32, 32)  # nothing is made smaller before the first block


def test_resnet8_passes_on_every_second_pixel_and_channels_of_zeros() -> None:
    from batchnorm.problems.networks import ResidualBlock

    block = ResidualBlock(2, 3, 2)
    nn.init.zeros_(block.bn2.weight)
    images = torch.rand(1, 2, 4, 4)
    assert torch.equal(block(images), torch.cat([images[:, :, ::2, ::2], torch.zeros(1, 1, 2, 2)], dim=1))


def test_the_narrow_resnet8_has_half_of_the_channels() -> None:
    wide, narrow = (problems()[name].make_network() for name in ("fmnist_resnet8_bn", "fmnist_resnet8_narrow_bn"))
    channels = [[norm.num_features for norm in net.modules() if isinstance(norm, nn.BatchNorm2d)] for net in (wide, narrow)]
    assert channels == [[16, 16, 16, 32, 32, 64, 64], [8, 8, 8, 16, 16, 32, 32]]
    assert narrow(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_the_sigmoid_lenet_is_d2ls(configure: Callable[..., RunConfig]) -> None:
    net = build_network(configure(problem="fmnist_lenet_sigmoid_bn", position="all"))
    shapes = [tuple(parameter.shape) for parameter in net.parameters() if parameter.ndim > 1]
    assert shapes == [(6, 1, 5, 5), (16, 6, 5, 5), (120, 256), (84, 120), (10, 84)]
    limit = (6 / (25 + 6 * 25)) ** 0.5  # of Xavier's uniform distribution
    assert 0.9 * limit < float(net.get_parameter("conv1.layer.weight").detach().abs().max()) <= limit


def test_every_mask_and_mode_starts_from_the_same_weights(configure: Callable[..., RunConfig]) -> None:
    nets = [
        build_network(configure(problem="cifar10_3c3d_bn", position=position, ablation=mode))
        for position in ("none", "00111", "all")
        for mode in MODES
        if (position, mode) != ("none", "bn_only")  # trains nothing, and is refused
    ]
    weights = [[parameter for parameter in net.parameters() if parameter.ndim > 1] for net in nets]
    for others in weights[1:]:
        assert all(torch.equal(mine, other) for mine, other in zip(weights[0], others, strict=True))


def test_another_seed_starts_from_other_weights(configure: Callable[..., RunConfig]) -> None:
    nets = [build_network(configure(problem="cifar10_3c3d_bn", random_seed=seed)) for seed in (1, 2)]
    assert not torch.equal(next(nets[0].parameters()), next(nets[1].parameters()))


def test_biases_start_where_asked(configure: Callable[..., RunConfig]) -> None:
    for bias_init, value in (("deepobs", 0.05), (0.0, 0.0), (0.3, 0.3)):
        net = build_network(configure(problem="digits_2c2d_bn", position="011", bias_init=bias_init))
        biases = [layer.bias for layer in net.modules() if isinstance(layer, WEIGHT_LAYERS) and layer.bias is not None]
        assert len(biases) == 2  # conv1, dense2
        assert all((bias == torch.tensor(value)).all() for bias in biases)
