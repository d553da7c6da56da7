"""The problems that come with the package: their facts, and the functions that build their networks.

A new problem is one more function here, and an entry in configs/basic_config.yaml. Its body imports torch, not this
module, so that the facts can be read without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchnorm.problems import register_problem

if TYPE_CHECKING:
    from torch import nn

SLOTS_2C2D = ("conv1", "conv2", "dense1")
SLOTS_3C3D = ("conv1", "conv2", "conv3", "dense1", "dense2")
SLOTS_MLP = ("dense1", "dense2", "dense3")
SLOTS_ALLCNNC = tuple(f"conv{number}" for number in range(1, 10))
SLOTS_WRN164 = (*(f"res_unit{group}{block}.bn{number}" for group in (1, 2, 3) for block in (1, 2) for number in (1, 2)), "bn")


@register_problem(image_set="mnist", classes=10, slots=SLOTS_2C2D)
def mnist_2c2d_bn() -> nn.Module:
    """2c2d on MNIST."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_mnist_2c2d", input_shape=(1, 28, 28), num_outputs=10)


@register_problem(image_set="fmnist", classes=10, slots=SLOTS_2C2D)
def fmnist_2c2d_bn() -> nn.Module:
    """2c2d on Fashion-MNIST."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_mnist_2c2d", input_shape=(1, 28, 28), num_outputs=10)


@register_problem(image_set="digits", classes=10, slots=SLOTS_2C2D)
def digits_2c2d_bn() -> nn.Module:
    """2c2d on scikit-learn's digits: small enough to try things out, and in no need of a download."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_mnist_2c2d", input_shape=(1, 28, 28), num_outputs=10)


@register_problem(image_set="mnist", classes=10, slots=SLOTS_MLP)
def mnist_mlp_bn() -> nn.Module:
    """The MLP on MNIST."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_mlp", input_shape=(1, 28, 28), num_outputs=10)


@register_problem(image_set="fmnist", classes=10, slots=SLOTS_MLP)
def fmnist_mlp_bn() -> nn.Module:
    """The MLP on Fashion-MNIST."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_mlp", input_shape=(1, 28, 28), num_outputs=10)


@register_problem(image_set="cifar10", classes=10, slots=SLOTS_3C3D)
def cifar10_3c3d_bn() -> nn.Module:
    """3c3d on CIFAR-10."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_cifar10_3c3d", input_shape=(3, 32, 32), num_outputs=10)


@register_problem(image_set="cifar100", classes=100, slots=SLOTS_3C3D)
def cifar100_3c3d_bn() -> nn.Module:
    """3c3d on CIFAR-100."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_cifar10_3c3d", input_shape=(3, 32, 32), num_outputs=100)


@register_problem(image_set="cifar100", classes=100, slots=SLOTS_ALLCNNC)
def cifar100_allcnnc_bn() -> nn.Module:
    """All-CNN-C on CIFAR-100; its last conv feeds a ReLU too."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_cifar100_allcnnc", input_shape=(3, 32, 32))


@register_problem(image_set="svhn", classes=10, slots=SLOTS_3C3D)
def svhn_3c3d_bn() -> nn.Module:
    """3c3d on SVHN."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_cifar10_3c3d", input_shape=(3, 32, 32), num_outputs=10)


@register_problem(image_set="svhn", classes=10, slots=SLOTS_WRN164)
def svhn_wrn164_bn() -> nn.Module:
    """Wide ResNet 16-4 on SVHN: it brings BatchNorm of its own, whose layers are its slots."""
    from batchnorm.problems import deepobs

    return deepobs.network("net_wrn", input_shape=(3, 32, 32), num_outputs=10, num_residual_blocks=2, widening_factor=4)
