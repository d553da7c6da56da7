from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import Permute

from batchnorm import masked
from batchnorm.feeds import Feed, find_feeds, positions, slot_modules
from batchnorm.measurements.representations import representations
from batchnorm.modes import treatments
from batchnorm.problems import find_problem
from batchnorm.slots import find_slots, treat_
from tests.test_masking import with_layer_norms
from tests.test_slots import Functional


def chain(activation: nn.Module) -> nn.Sequential:
    layers = {"conv1": nn.Conv2d(3, 4, 3), "pool": nn.MaxPool2d(2), "act1": activation, "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(layers | {"dense1": nn.Linear(36, 5), "act2": nn.ReLU(), "dense2": nn.Linear(5, 2)}))


@pytest.mark.parametrize("mask", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_in_a_chain_each_slot_feeds_the_next(mask: tuple[int, ...]) -> None:
    net = chain(nn.ReLU())
    slots = find_slots(net)
    treat_(net, treatments(mask, "trained_bn"))
    paths = [f"{slot}.layer" if digit else slot for slot, digit in zip(slots, mask, strict=True)]
    assert find_feeds(net, slots) == {
        "conv1": Feed(paths[0], "dense1", homogeneous=True),
        "dense1": Feed(paths[1], "dense2", homogeneous=True),
    }


@pytest.mark.parametrize(
    ("activation", "homogeneous"), [(nn.LeakyReLU(), True), (nn.PReLU(), True), (nn.Sigmoid(), False), (nn.ELU(), False)]
)
def test_an_activation_decides_whether_the_way_is_homogeneous(activation: nn.Module, homogeneous: bool) -> None:
    net = chain(activation)
    feed = find_feeds(net, find_slots(net))["conv1"]
    assert feed == Feed("conv1", "dense1", homogeneous)
    features = -1 - torch.rand(2, 4, 6, 6)  # where positive, an ELU is homogeneous
    way = nn.Sequential(*list(net)[1:4])
    assert torch.allclose(way(3 * features), 3 * way(features), atol=1e-6) == homogeneous


def test_a_sum_and_a_second_user_leave_no_consumer() -> None:
    net = Functional()
    assert find_feeds(net, find_slots(net)) == {
        "stem": Feed("stem.1", None, homogeneous=False),
        "branch": Feed("branch", None, homogeneous=False),
        "hidden": Feed("hidden", "head", homogeneous=False),
    }


def test_a_concatenation_leaves_no_consumer() -> None:
    class Concatenating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(4, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            left, right = functional.relu(self.left(images)), functional.relu(self.right(images))
            return self.head(torch.cat([left, right], dim=1))  # type: ignore[no-any-return]

    feeds = find_feeds(Concatenating(), ("left", "right"))
    assert feeds == {"left": Feed("left", None, False), "right": Feed("right", None, False)}


def test_a_layer_that_is_called_twice_is_nobodys_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.shared(torch.relu(self.shared(torch.relu(self.first(images))))))

    feeds = find_feeds(Twice(), ("first", "shared"))
    assert feeds["first"] == Feed("first", None, False)
    assert feeds["shared"].layer is None


def test_torchvisions_resnet() -> None:
    from torchvision.models import resnet18

    net = resnet18(weights=None)
    feeds = find_feeds(net, find_slots(net))
    assert feeds["bn1"] == Feed("conv1", None, False)  # its output goes into a block and around it
    assert feeds["layer1.0.bn1"] == Feed("layer1.0.conv1", "layer1.0.bn2", homogeneous=True)
    assert feeds["layer1.0.bn2"] == Feed("layer1.0.conv2", None, False)


def test_torchvisions_vgg_is_a_chain() -> None:
    from torchvision.models import vgg11

    with torch.device("meta"):
        net = vgg11(weights=None)
    slots = find_slots(net)
    feeds = find_feeds(net, slots)
    assert [feeds[slot].consumer for slot in slots] == [*slots[1:], "classifier.6"]
    assert all(feed.homogeneous for feed in feeds.values())


@pytest.mark.parametrize(
    ("problem", "homogeneous"),
    [("fmnist_2c2d_bn", True), ("cifar10_3c3d_bn", True), ("mnist_mlp_bn", True)],
)
def test_our_problems_are_chains(problem: str, homogeneous: bool) -> None:
    facts = find_problem(problem)
    net = facts.make_network()
    treat_(net, treatments((1,) * len(facts.slots), "trained_bn"))
    feeds = find_feeds(net, facts.slots)
    assert [feeds[slot].consumer for slot in facts.slots[:-1]] == list(facts.slots[1:])
    assert feeds[facts.slots[-1]].consumer is not None
    for slot, modules in slot_modules(net, facts.slots).items():
        assert feeds[slot].homogeneous == homogeneous
        assert modules.output is modules.norm
        assert modules.layer is not None
        assert modules.layer.weight.shape[0] == len(modules.norm.weight)  # type: ignore[arg-type]


def test_a_wide_resnets_slots_behind_sums_have_no_layer_of_their_own() -> None:
    facts = find_problem("svhn_wrn164_bn")
    feeds = find_feeds(facts.make_network(), facts.slots)
    assert feeds["res_unit11.bn1"] == Feed("conv1", None, homogeneous=False)  # its output goes into two convs
    assert feeds["res_unit11.bn2"] == Feed("res_unit11.conv1", "res_unit11.conv2", homogeneous=True)
    assert feeds["bn"] == Feed(None, "dense", homogeneous=True)


def test_other_norms_of_a_networks_own_are_found_behind_their_layers_wherever_the_channels_are() -> None:
    net = with_layer_norms()
    feeds = find_feeds(net, ("1", "5", "10"))
    assert feeds == {"1": Feed("0", "5", True), "5": Feed("3", "7", False), "10": Feed("9", "13", True)}
    for treated in (masked(net, "all", norm="batch"), masked(net, "all", "affine_only"), masked(net, "none")):
        assert find_feeds(treated, ("1", "5", "10")) == feeds
    modules = slot_modules(net, ("1", "5", "10"))
    assert modules["5"].consumer is net[7]
    assert positions(net[:13], torch.rand(2, 3, 5, 6), modules) == {"1": 12, "5": 12, "10": 12}
    seen = representations(net, torch.rand(2, 3, 5, 5), modules)
    assert [len(each.mean) for each in seen.values()] == [4, 4, 4]


def test_a_conv_that_sees_the_channels_elsewhere_is_not_a_norms_own() -> None:
    mixed = nn.Sequential(nn.Conv2d(3, 4, 3), Permute([0, 2, 1, 3]), nn.LayerNorm(3), nn.Linear(3, 2))
    assert find_feeds(mixed, ("2",)) == {"2": Feed(None, "3", True)}
    for rest in ([nn.Flatten(), nn.Linear(36, 2)], [nn.Conv2d(3, 2, 1)], [nn.MaxPool2d(2), nn.Linear(2, 2)]):
        behind = nn.Sequential(nn.Conv2d(3, 4, 3), Permute([0, 2, 3, 1]), nn.LayerNorm(4), *rest)
        assert find_feeds(behind, ("2",)) == {"2": Feed("0", None, False)}


def test_positions_count_height_times_width() -> None:
    net = chain(nn.ReLU()).train()
    slots = find_slots(net)
    treat_(net, treatments((1, 1), "trained_bn"))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert positions(net, torch.rand(2, 3, 8, 8), slot_modules(net, slots)) == {"conv1": 36, "dense1": 1}
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())


def test_a_slot_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no slot conv7"):
        find_feeds(chain(nn.ReLU()), ("conv7",))
