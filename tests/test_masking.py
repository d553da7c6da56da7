from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import Permute

import batchnorm
from batchnorm import find_slots, masked
from batchnorm.errors import ConfigError
from batchnorm.modes import OWN, Affine, Treatment
from batchnorm.norms import Ghost, Scale, make_norm
from batchnorm.slots import ChannelBias, treat_


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 2))


class Branching(nn.Module):
    """Cannot be traced: what it calls depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(75, 4))
        self.body = nn.ModuleDict({"choice": Choice()})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        chosen: torch.Tensor = self.body["choice"](self.stem(images).relu())
        return chosen


class Choice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(4, 2))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features) if features.sum() > 0 else -self.head(features)  # type: ignore[no-any-return]


def test_a_users_network_is_treated_in_a_copy() -> None:
    net, images = network(), torch.rand(6, 3, 5, 5)
    before = net(images)
    assert find_slots(net) == ("0", "3")
    for mask in ("01", [0, 1], "0,1"):
        treated = masked(net, mask, "fixed_gamma", norm="scale")
        assert torch.equal(net(images), before)
        assert isinstance(treated.get_submodule("3.scalenorm"), Scale)
        frozen = [name for name, value in treated.named_parameters() if not value.requires_grad]
        assert frozen == ["3.scalenorm.weight"]
        assert torch.equal(treated.get_submodule("3.layer").weight, net[3].weight)  # type: ignore[arg-type]
    assert torch.equal(masked(net, "none")(images), before)
    alone = masked(net, "all", "bn_only")
    assert [name for name, value in alone.named_parameters() if value.requires_grad] == [
        f"{slot}.batchnorm.{part}" for slot in "03" for part in ("weight", "bias")
    ]


def test_a_networks_own_batchnorm_stays_as_it_is() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.9), nn.ReLU())
    images = torch.rand(6, 3, 5, 5)
    net(images)
    assert torch.equal(masked(net, "all").eval()(images), net.eval()(images))


def with_layer_norms() -> nn.Sequential:
    """Build a network with the norms of others: of groups, of all channels where they are last, and where they are not."""
    torch.manual_seed(1)
    channels_last = [Permute([0, 2, 3, 1]), nn.LayerNorm(4, eps=1e-6), nn.GELU(), nn.Linear(4, 4), Permute([0, 3, 1, 2])]
    layers = [nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 1), *channels_last, nn.Conv2d(4, 4, 1)]
    return nn.Sequential(*layers, LayerNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))


def test_norms_that_a_network_brings_stay_what_they_are() -> None:
    net, images = with_layer_norms(), torch.rand(6, 3, 5, 5)
    assert find_slots(net) == ("1", "5", "10")
    assert torch.equal(masked(net, "all")(images), net(images))
    for place in ("1", "5", "10"):
        nn.init.constant_(net.get_submodule(place).weight, 3.0)  # type: ignore[arg-type]
    mixed = masked(net, "110", "fixed_gamma,trained_bn")
    group, layer, bias = (mixed.get_submodule(place) for place in ("1", "5", "10"))
    assert isinstance(group, nn.GroupNorm) and isinstance(layer, nn.LayerNorm) and isinstance(bias, ChannelBias)
    assert (group.num_groups, layer.eps) == (2, 1e-6)
    assert (group.weight.tolist(), group.weight.requires_grad) == ([1.0] * 4, False)
    assert (layer.weight.tolist(), layer.weight.requires_grad) == ([3.0] * 4, True)
    nn.init.constant_(bias.bias, 2.0)
    expected = net[:10]
    expected[1] = nn.GroupNorm(2, 4)
    assert torch.allclose(mixed(images), net[11:](expected(images) + 2), atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "center", "scale", "group:2", "instance", "layer", None])
def test_another_norm_finds_the_channels_where_they_are(norm: str | None) -> None:
    net, images = with_layer_norms(), torch.rand(6, 3, 5, 5)
    scale = net.get_submodule("5").weight
    assert isinstance(scale, nn.Parameter)
    nn.init.uniform_(scale)
    treated = masked(net, "010", norm=norm) if norm else masked(net, "010", "affine_only")
    net[1] = net[10] = nn.Identity()
    features = net[:4](images)
    normalised = make_norm(norm, 4, 2, like=images, eps=1e-6)(features) if norm else features
    assert torch.allclose(treated(images), net[6:](normalised.movedim(1, -1) * scale), atol=1e-5)


def test_what_a_networks_own_norm_has_not_is_refused() -> None:
    net, affine = with_layer_norms(), Affine(1.0, trained=True)
    for treatment, told in (
        (Treatment(OWN, affine, affine, ghost=2), "GHOST=2: the network's own GroupNorm in 1 takes no statistics"),
        (Treatment(OWN, affine, affine, momentum=0.5), "BN_MOMENTUM=0.5: the network's own GroupNorm in 1 takes no"),
        (Treatment("batch", affine, affine, after=True), "PLACEMENT=after: the network brings norms of its own"),
    ):
        with pytest.raises(ConfigError) as error:
            treat_(with_layer_norms(), [treatment] * 3)
        assert str(error.value).startswith(told)
    treat_(net, [Treatment(OWN, affine, affine, eps=0.5), Treatment("batch", affine, affine, ghost=2), Treatment()])
    assert net.get_submodule("1").eps == 0.5
    assert isinstance(net.get_submodule("5.norm"), Ghost)
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm([4, 3, 3]), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    assert find_slots(whole) == ("3",)  # gamma and beta of the LayerNorm are not by channel: it is no slot, and stays


@pytest.mark.parametrize("mode", ["trained_bn", "affine_only"])
def test_a_linear_layer_whose_channels_are_last_is_told_when_it_is_called(mode: str) -> None:
    """Where there are as many tokens as channels, the norm took one for the other."""
    net, images = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(6, 4, 4)
    treated = copy.deepcopy(masked(net, "1", mode))
    with pytest.raises(ConfigError, match=r"^0: its linear layer gives features of shape \(6, 4, 4\), and must give"):
        treated(images)
    assert treated(images[:, 0]).shape == (6, 2)
    assert torch.equal(masked(net, "0", mode)(images), net(images))


def test_a_network_that_cannot_be_traced_takes_slots_by_name() -> None:
    net = Branching()
    with pytest.raises(ValueError, match=r"torch\.fx cannot trace body\.choice \(Choice\): symbolically traced") as error:
        masked(net, "1")
    assert str(error.value).endswith("; masked(..., slots=[...]) takes them by their paths")
    assert "\n" not in str(error.value)
    treated = masked(net, "10", slots=["stem.1", "body.choice.head.0"])
    assert isinstance(treated.get_submodule("stem.1.batchnorm"), nn.BatchNorm1d)
    assert treated(torch.rand(6, 3, 5, 5)).shape == (6, 2)
    with pytest.raises(ConfigError, match=r"^ABLATION=bn_and_head: needs to know which layer is called last: .* body\.choice"):
        masked(net, "10", "bn_and_head", slots=["stem.1", "body.choice.head.0"])


@pytest.mark.parametrize(
    ("mask", "more", "told"),
    [
        ("011", {}, "POSITION=011: has 3 digits"),
        ("01", {"mode": "fixed"}, "ABLATION=fixed: unknown mode"),
        ("01", {"norm": "batsch"}, "NORM=batsch: no such norm; did you mean batch"),
        ("10", {"norm": "group:3"}, "NORM=group:3: does not divide 4 channels in 0"),
        ("1", {"slots": ["33"]}, "slots=33: the network has no such module"),
        ("1", {"slots": ["1"]}, "slots=1: holds no conv or linear layer, and is no norm of the network's own"),
    ],
)
def test_what_does_not_fit_is_one_line(mask: str, more: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        masked(network(), mask, **more)  # type: ignore[arg-type]
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, batchnorm; assert not {'torch', 'numpy', 'omegaconf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'mask'"):
        batchnorm.mask  # noqa: B018
