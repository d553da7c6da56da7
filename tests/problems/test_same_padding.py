from __future__ import annotations

import pytest
import torch
from torch import nn

from batchnorm.problems.deepobs import import_deepobs
from batchnorm.problems.same_padding import fold_same_padding_


@pytest.mark.parametrize("size", [7, 8, 15, 16, 31, 32])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kind", ["tfconv2d", "tfmaxpool2d"])
def test_folded_layers_give_the_same_bits(kind: str, kernel: int, stride: int, size: int) -> None:
    utils = import_deepobs().testproblems.testproblems_utils
    channels = {"in_channels": 3, "out_channels": 4} if kind == "tfconv2d" else {}
    layer = getattr(utils, kind)(**channels, kernel_size=kernel, stride=stride, tf_padding_type="same")
    net = nn.Sequential(nn.ReLU(), layer)
    images = torch.randn(2, 3, size, size)
    expected = net(images)
    fold_same_padding_(net, torch.zeros(1, 3, size, size))
    assert torch.equal(net(images), expected)


def test_symmetric_padding_leaves_no_extra_layer() -> None:
    utils = import_deepobs().testproblems.testproblems_utils
    net = nn.Sequential(
        utils.tfconv2d(3, 4, 3, tf_padding_type="same"), nn.ReLU(), utils.tfmaxpool2d(3, 2, tf_padding_type="same")
    )
    fold_same_padding_(net, torch.zeros(1, 3, 8, 8))
    assert [type(layer).__name__ for layer in net] == ["Conv2d", "ReLU", "MaxPool2d"]


def test_other_padding_stays() -> None:
    utils = import_deepobs().testproblems.testproblems_utils
    net = nn.Sequential(utils.tfconv2d(3, 4, 3, stride=2, tf_padding_type="same"), nn.ReLU())
    fold_same_padding_(net, torch.zeros(1, 3, 8, 8))
    folded = net[0]
    assert isinstance(folded, nn.Sequential)
    assert isinstance(folded[0], nn.ZeroPad2d)
    assert folded[0].padding == (0, 1, 0, 1)
