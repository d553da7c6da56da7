"""Networks that are not DeepOBS's: residual ones, and a LeNet with sigmoids. Plain PyTorch."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional


def cifar_resnet18(classes: int) -> nn.Module:
    """Build torchvision's ResNet-18 with the stem that is usual for 32x32 images: a 3x3 convolution, and no pooling.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016; its 20 BatchNorm layers are slots.
    """
    from torchvision.models import resnet18

    net: nn.Module = resnet18(num_classes=classes)
    stem = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does for its own
    net.conv1 = stem
    net.maxpool = nn.Identity()
    return net


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, and a shortcut without parameters: every second pixel, and channels of zeros."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, channels - channels_in
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (B, channels_in, height, width) to (B, channels, height / stride, width / stride)."""
        shortcut = features
        if self.stride > 1 or self.new_channels:
            shortcut = features[:, :, :: self.stride, :: self.stride]
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        hidden = functional.relu(self.bn1(self.conv1(features)))
        return functional.relu(self.bn2(self.conv2(hidden)) + shortcut)


def resnet8(channels_in: int, classes: int, *, width: int = 16) -> nn.Module:
    """Build the shallowest of the ResNets for small images, 6n + 2 layers with n = 1: 16, 32 and 64 channels.

    He et al. 2016, section 4.2, shortcuts of type A; its 7 BatchNorm layers are slots. Another width has other channels, in
    the same proportion.
    """
    sizes = ((width, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2))
    blocks = [(f"block{number}", ResidualBlock(*size)) for number, size in enumerate(sizes, 1)]
    net = nn.Sequential(
        OrderedDict[str, nn.Module](
            [
                ("conv", nn.Conv2d(channels_in, width, 3, padding=1, bias=False)),
                ("bn", nn.BatchNorm2d(width)),
                ("relu", nn.ReLU()),
                *blocks,
                ("pool", nn.AdaptiveAvgPool2d(1)),
                ("flatten", nn.Flatten()),
                ("dense", nn.Linear(4 * width, classes)),
            ]
        )
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def sigmoid_lenet(classes: int) -> nn.Module:
    """Build LeNet with sigmoids for 28x28 grey images, as D2L's chapter on BatchNorm has it without its BatchNorm.

    Zhang et al., Dive into Deep Learning, section 8.5 (https://d2l.ai); weights start as its `init_cnn` has them.
    """
    net = nn.Sequential(
        OrderedDict[str, nn.Module](
            [
                ("conv1", nn.Conv2d(1, 6, 5)),
                ("sigmoid1", nn.Sigmoid()),
                ("pool1", nn.AvgPool2d(2)),
                ("conv2", nn.Conv2d(6, 16, 5)),
                ("sigmoid2", nn.Sigmoid()),
                ("pool2", nn.AvgPool2d(2)),
                ("flatten", nn.Flatten()),
                ("dense1", nn.Linear(256, 120)),
                ("sigmoid3", nn.Sigmoid()),
                ("dense2", nn.Linear(120, 84)),
                ("sigmoid4", nn.Sigmoid()),
                ("dense3", nn.Linear(84, classes)),
            ]
        )
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return net
