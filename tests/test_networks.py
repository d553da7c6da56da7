"""Networks that others have written: their slots are held against a table, and every kind of mask trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from batchnorm import find_slots, masked
from batchnorm.norms import OWN_NORMS
from batchnorm.slots import ChannelBias

SLOTS = json.loads(Path(__file__).with_name("networks.json").read_text())
"""The slots of torchvision's networks. Where they have norms, these are all of them."""


@pytest.mark.parametrize("name", SLOTS)
def test_slots_are_those_of_the_table(name: str) -> None:
    with torch.device("meta"):
        net = getattr(models, name)(weights=None)
    assert list(find_slots(net)) == SLOTS[name]
    own = [path for path, module in net.named_modules() if isinstance(module, OWN_NORMS)]
    assert sorted(SLOTS[name]) == sorted(
        own or [*(f"features.{place}" for place in (0, 3, 6, 8, 11, 13, 16, 18)), "classifier.0", "classifier.3"]
    )


def small_vgg(make: Callable[..., nn.Module]) -> nn.Module:
    """Build a VGG whose dense layers are narrow: as they are they hold a hundred million weights."""
    with torch.device("meta"):
        net = make(weights=None)
        for place, sizes in ((0, (25088, 16)), (3, (16, 16)), (6, (16, 5))):
            net.set_submodule(f"classifier.{place}", nn.Linear(*sizes))
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.reset_parameters()
    return net


class ConvNormAct(nn.Module):
    """A block as timm writes them: an activation that may be none, and a shortcut around it."""

    def __init__(self, channels_in: int, channels: int, *, act: bool = True, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=not norm)
        self.bn = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(features)))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Branches, a shared activation, squeeze and excitation, and functional activations."""

    def __init__(self, *, norm: bool) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 8, norm=norm)
        self.branch1 = ConvNormAct(8, 8, act=False, norm=norm)
        self.branch2 = ConvNormAct(8, 8, norm=norm)
        self.reduce, self.expand = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.act = nn.ReLU()
        self.mix = ConvNormAct(16, 16, act=False, norm=norm)
        self.head1, self.head2 = nn.Linear(16, 8), nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stem = self.stem(images)
        both = torch.cat([self.act(self.branch1(stem)), self.branch2(stem)], dim=1)
        scale = torch.sigmoid(self.expand(self.act(self.reduce(functional.adaptive_avg_pool2d(both, 1)))))
        mixed = functional.relu(self.mix(both * scale) + both)
        return self.head2(functional.gelu(self.head1(mixed.mean((2, 3)))))  # type: ignore[no-any-return]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: models.resnet18(weights=None, num_classes=5),
    "vgg11": lambda: small_vgg(models.vgg11),
    "vgg11_bn": lambda: small_vgg(models.vgg11_bn),
    "mobilenet_v3_small": lambda: models.mobilenet_v3_small(weights=None, num_classes=5),
    "densenet121": lambda: models.densenet121(weights=None, num_classes=5),
    "residual": lambda: Residual(norm=True),
    "residual without norms": lambda: Residual(norm=False),
    "convnext": lambda: models.ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], num_classes=5),
    "vit": lambda: models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5),
}


def test_slots_of_blocks_as_timm_writes_them() -> None:
    assert find_slots(Residual(norm=True)) == ("stem.bn", "branch1.bn", "branch2.bn", "mix.bn")
    plain = ("stem.conv", "branch1.conv", "branch2.conv", "reduce", "expand", "head1")
    assert find_slots(Residual(norm=False)) == plain  # the output of mix goes into a sum


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_mask_trains_and_is_kept(name: str) -> None:
    torch.manual_seed(1)
    net, images = NETWORKS[name](), torch.rand(4, 3, 32, 32)
    slots = find_slots(net)
    for mask in ("all", "none", ",".join(str(place % 2) for place in range(len(slots)))):
        changed = masked(net, mask).train()
        places = [changed.get_submodule(slot) for slot in slots]
        norms = [isinstance(place, OWN_NORMS) or hasattr(place, "batchnorm") for place in places]
        assert norms == {"all": [True] * len(slots), "none": [False] * len(slots)}.get(
            mask, [n % 2 == 1 for n in range(len(slots))]
        )
        if mask == "all" and isinstance(places[0], OWN_NORMS):
            assert torch.equal(masked(net, mask).eval()(images), net.eval()(images))
        trained = [value for value in changed.parameters() if value.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.01)
        functional.cross_entropy(changed(images), torch.arange(4)).backward()
        assert all(value.grad is not None and value.grad.isfinite().all() for value in trained)
        optimizer.step()
        again = masked(NETWORKS[name](), mask)
        again.load_state_dict(changed.state_dict())
        assert torch.equal(again.eval()(images), changed.eval()(images))


@pytest.mark.parametrize("name", ["resnet18", "residual", "convnext", "vit"])
def test_without_a_mask_it_is_the_network_without_its_norms(name: str) -> None:
    net, images = NETWORKS[name]().eval(), torch.rand(2, 3, 32, 32)
    bare = masked(net, "none").eval()
    assert not any(isinstance(module, OWN_NORMS) for module in bare.modules())
    assert sum(isinstance(module, ChannelBias) for module in bare.modules()) == len(find_slots(net))
    for slot in find_slots(net):
        net.set_submodule(slot, nn.Identity())
    assert torch.equal(bare(images), net(images))
