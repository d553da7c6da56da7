"""The problems that come with the package: their facts, and the functions that build their networks.

A new problem is one more line of `_DEEPOBS`, or one more function decorated with `register_problem`, and an entry in
configs/basic_config.yaml. A function's body imports torch, not this module, so that the facts can be read without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batchnorm.problems.registry import register_problem

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _DeepobsNetwork:
    """One of DeepOBS's networks: its class, its images' shape, its slots, what its class takes, the number of classes too."""

    name: str
    input_shape: tuple[int, int, int]
    slots: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    takes_classes: bool = True
    brings_norms: bool = False

    def build(self, classes: int) -> nn.Module:
        from batchnorm.problems import deepobs

        outputs = {"num_outputs": classes} if self.takes_classes else {}
        return deepobs.network(self.name, input_shape=self.input_shape, **outputs, **self.options)


_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)
_2C2D = _DeepobsNetwork("net_mnist_2c2d", _GREY, ("conv1", "conv2", "dense1"))
_MLP = _DeepobsNetwork("net_mlp", _GREY, ("dense1", "dense2", "dense3"))
_3C3D = _DeepobsNetwork("net_cifar10_3c3d", _COLOUR, ("conv1", "conv2", "conv3", "dense1", "dense2"))
_ALLCNNC = _DeepobsNetwork(
    "net_cifar100_allcnnc", _COLOUR, tuple(f"conv{number}" for number in range(1, 10)), takes_classes=False
)


def _wide_resnet(blocks: int) -> _DeepobsNetwork:
    """Describe a Wide ResNet of widening factor 4, with 6 layers for each of the blocks in a group, and 4 more."""
    norms = (f"res_unit{group}{block + 1}.bn{number}" for group in (1, 2, 3) for block in range(blocks) for number in (1, 2))
    options = {"num_residual_blocks": blocks, "widening_factor": 4}
    return _DeepobsNetwork("net_wrn", _COLOUR, (*norms, "bn"), options, brings_norms=True)


_WRN164, _WRN404 = _wide_resnet(2), _wide_resnet(6)
_DEEPOBS = {
    "mnist_2c2d_bn": ("mnist", 10, _2C2D),
    "fmnist_2c2d_bn": ("fmnist", 10, _2C2D),
    "digits_2c2d_bn": ("digits", 10, _2C2D),
    "mnist_mlp_bn": ("mnist", 10, _MLP),
    "fmnist_mlp_bn": ("fmnist", 10, _MLP),
    "cifar10_3c3d_bn": ("cifar10", 10, _3C3D),
    "cifar100_3c3d_bn": ("cifar100", 100, _3C3D),
    "cifar100_allcnnc_bn": ("cifar100", 100, _ALLCNNC),
    "cifar100_wrn164_bn": ("cifar100", 100, _WRN164),
    "cifar100_wrn404_bn": ("cifar100", 100, _WRN404),
    "svhn_3c3d_bn": ("svhn", 10, _3C3D),
    "svhn_wrn164_bn": ("svhn", 10, _WRN164),
}
"""Problem -> its image set, its classes and its network. A Wide ResNet's own BatchNorm layers are its slots."""


def _register(name: str, image_set: str, classes: int, network: _DeepobsNetwork) -> None:
    def make_network() -> nn.Module:
        return network.build(classes)

    make_network.__name__ = name
    dense = tuple(slot for slot in network.slots if slot.startswith("dense"))
    facts: dict[str, Any] = {"image_set": image_set, "classes": classes, "slots": network.slots, "dense": dense}
    register_problem(**facts, brings_norms=network.brings_norms)(make_network)


for _name, _facts in _DEEPOBS.items():
    _register(_name, *_facts)


@register_problem(
    image_set="cifar10",
    classes=10,
    slots=(
        "bn1",
        *(f"layer1.{block}.bn{number}" for block in (0, 1) for number in (1, 2)),
        *(f"layer{group}.{norm}" for group in (2, 3, 4) for norm in ("0.bn1", "0.bn2", "0.downsample.1", "1.bn1", "1.bn2")),
    ),
    brings_norms=True,
)
def cifar10_resnet18_bn() -> nn.Module:
    """Build torchvision's ResNet-18 with a stem for small images."""
    from batchnorm.problems import networks

    return networks.cifar_resnet18(10)


_RESNET8 = ("bn", *(f"block{block}.bn{number}" for block in (1, 2, 3) for number in (1, 2)))


@register_problem(image_set="fmnist", classes=10, slots=_RESNET8, brings_norms=True)
def fmnist_resnet8_bn() -> nn.Module:
    """Build a small residual network."""
    from batchnorm.problems import networks

    return networks.resnet8(1, 10)


@register_problem(image_set="fmnist", classes=10, slots=_RESNET8, brings_norms=True)
def fmnist_resnet8_narrow_bn() -> nn.Module:
    """Build a small residual network with half of the channels."""
    from batchnorm.problems import networks

    return networks.resnet8(1, 10, width=8)


@register_problem(image_set="fmnist", classes=10, slots=("conv1", "conv2", "dense1", "dense2"), dense=("dense1", "dense2"))
def fmnist_lenet_sigmoid_bn() -> nn.Module:
    """Build D2L's LeNet, whose BatchNorm goes before sigmoids."""
    from batchnorm.problems import networks

    return networks.sigmoid_lenet(10)
