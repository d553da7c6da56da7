from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import batchnorm
from batchnorm import find_slots, masked
from batchnorm.errors import ConfigError
from batchnorm.norms import Scale


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


def test_a_network_that_cannot_be_traced_takes_slots_by_name() -> None:
    net = Branching()
    with pytest.raises(ValueError, match=r"torch\.fx cannot trace body\.choice \(Choice\): symbolically traced"):
        masked(net, "1")
    treated = masked(net, "10", slots=["stem.1", "body.choice.head.0"])
    assert isinstance(treated.get_submodule("stem.1.batchnorm"), nn.BatchNorm1d)
    assert treated(torch.rand(6, 3, 5, 5)).shape == (6, 2)


@pytest.mark.parametrize(
    ("mask", "more", "told"),
    [
        ("011", {}, "POSITION=011: has 3 digits"),
        ("01", {"mode": "fixed"}, "ABLATION=fixed: unknown mode"),
        ("01", {"norm": "batsch"}, "NORM=batsch: no such norm; did you mean batch"),
        ("10", {"norm": "group:3"}, "NORM=group:3: does not divide 4 channels in 0"),
        ("1", {"slots": ["33"]}, "slots=33: the network has no such module"),
        ("1", {"slots": ["1"]}, "slots=1: holds no conv or linear layer, and is no BatchNorm"),
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
