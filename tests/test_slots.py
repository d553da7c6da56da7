from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from batchnorm.errors import ConfigError
from batchnorm.feeds import Feed, find_feeds
from batchnorm.modes import MODES, Affine, Mode, Trains, Treatment, all_masks, treatments
from batchnorm.problems.reordering import pool_before_relu_
from batchnorm.quantities import QUANTITIES
from batchnorm.slots import ChannelAffine, ChannelBias, fill_biases_, find_slots, freeze_weights_, read_slots, treat_


class Functional(nn.Module):
    """A network of no DeepOBS make: activations as functions, a skip connection, pooling before the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 4, 3))
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.skip = nn.Conv2d(4, 4, 1)
        self.hidden = nn.Linear(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stem(images).relu()
        features = functional.relu(self.pool(self.branch(features))) + self.skip(self.pool(features))
        return self.head(torch.tanh(self.hidden(features.mean(dim=(2, 3)))))  # type: ignore[no-any-return]


def small() -> nn.Sequential:
    torch.manual_seed(0)
    layers = {"conv1": nn.Conv2d(3, 4, 3), "relu1": nn.ReLU(), "flatten": nn.Flatten(), "dense1": nn.Linear(144, 5)}
    return nn.Sequential(OrderedDict(layers | {"relu2": nn.ReLU(), "dense2": nn.Linear(5, 2)}))


def with_own_norms() -> nn.Sequential:
    layers = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5)]
    return nn.Sequential(*layers, nn.ReLU())


def test_slots_are_the_weight_layers_that_feed_an_activation() -> None:
    assert find_slots(small()) == ("conv1", "dense1")
    assert find_slots(Functional()) == ("stem", "branch", "hidden")


def test_slots_of_torchvisions_models_are_their_batchnorms() -> None:
    from torchvision.models import resnet18

    net = resnet18(weights=None)
    slots = find_slots(net)
    assert slots[:3] == ("bn1", "layer1.0.bn1", "layer1.0.bn2")
    assert len(slots) == 20


def test_slots_of_torchvisions_vgg_are_its_weight_layers() -> None:
    from torchvision.models import vgg11

    with torch.device("meta"):
        net = vgg11(weights=None)
    assert len(find_slots(net)) == 10


class Twice(nn.Module):
    """Calls a layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for layer in (self.stem, self.hidden, self.hidden):
            features = layer(features).relu()
        return self.head(features)  # type: ignore[no-any-return]


class OtherName(Twice):
    """Calls its layers by other names than their first."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([self.stem, self.hidden])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            features = layer(features).relu()
        return self.head(features)  # type: ignore[no-any-return]


def test_a_layer_that_is_called_twice_is_one_slot_with_one_norm() -> None:
    torch.manual_seed(1)
    net, features = Twice(), torch.randn(8, 3)
    assert find_slots(net) == ("stem", "hidden")
    hidden = functional.relu(net.stem(features))
    for _ in range(2):
        hidden = functional.relu(functional.batch_norm(hidden @ net.hidden.weight.T, None, None, training=True))
    expected = net.head(hidden)
    treat_(net, treatments((0, 1), "trained_bn"))
    assert torch.allclose(net(features), expected, atol=1e-6)
    assert [name for name, each in net.named_modules() if isinstance(each, nn.BatchNorm1d)] == ["hidden.batchnorm"]
    assert find_feeds(net, ("stem", "hidden"))["hidden"] == Feed(None, "head", True)
    with pytest.raises(ConfigError, match="^PLACEMENT=after: hidden is called several times"):
        treat_(Twice(), (Treatment(), AFTER))


def test_a_norm_stands_under_each_name_of_a_layer() -> None:
    """It stood under the first alone, where nothing called it, and the layer had lost its bias."""
    net, plain = OtherName(), OtherName()
    plain.load_state_dict(net.state_dict())
    treat_(net, treatments((0, 1), "trained_bn"))
    features = torch.randn(8, 3)
    hidden = functional.relu(plain.stem(features)) @ plain.hidden.weight.T
    expected = plain.head(functional.batch_norm(hidden, None, None, training=True).relu())
    assert torch.allclose(net(features), expected, atol=1e-6)
    shared = nn.Linear(4, 4)
    blocks = nn.Sequential(nn.Sequential(nn.Identity(), shared), nn.ReLU(), shared, nn.ReLU())
    assert find_slots(blocks) == ("0.1",)


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.ReLU()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(images) if images.sum() > 0 else -images

    with pytest.raises(ValueError, match="cannot be found"):
        find_slots(Branching())


@pytest.mark.parametrize("build", [small, Functional])
def test_batchnorm_stands_where_the_mask_says_and_nowhere_else(build: type[nn.Module]) -> None:
    slots = find_slots(build())
    for mask in all_masks(len(slots)):
        net = build()
        weights = [parameter.clone() for parameter in net.parameters() if parameter.ndim > 1]
        treat_(net, treatments(mask, "trained_bn"))
        batchnorms = [name for name, module in net.named_modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
        assert batchnorms == [f"{slot}.batchnorm" for slot, digit in zip(slots, mask, strict=True) if digit]
        parameters = {slot.name: slot for slot in read_slots(net, slots)}
        for slot, digit in zip(slots, mask, strict=True):
            layer = next(module for module in net.get_submodule(slot).modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
            assert (layer.bias is None) == bool(digit)
            assert parameters[slot].parts >= ({"gamma", "beta", "running_mean", "norm"} if digit else {"bias"})
            assert not parameters[slot].parts & ({"bias"} if digit else {"gamma", "beta", "running_mean", "norm"})
        after = [parameter for parameter in net.parameters() if parameter.ndim > 1]
        assert all(torch.equal(mine, before) for mine, before in zip(after, weights, strict=True))
        assert net(torch.rand(4, 3, 8, 8)).shape == (4, 2)


def test_batchnorm_acts_between_layer_and_activation() -> None:
    net, images = small().train(), torch.rand(16, 3, 8, 8)
    plain = small()
    treat_(net, treatments((1, 0), "trained_bn"))
    conv = plain.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    features = functional.conv2d(images, conv.weight)
    normalised = (features - features.mean((0, 2, 3), keepdim=True)) / (
        features.var((0, 2, 3), False, keepdim=True) + 1e-5
    ).sqrt()
    assert torch.allclose(net(images), plain[2:](normalised.relu()), atol=1e-5)


def test_inserting_draws_no_random_number() -> None:
    net = small()
    torch.manual_seed(5)
    treat_(net, treatments((1, 1), "trained_bn"))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 digits, the network 2 slots: conv1, dense1"):
        treat_(small(), treatments((1, 0, 1), "trained_bn"))


def test_a_networks_own_batchnorm_becomes_a_bias_where_the_mask_leaves_it_out() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5), nn.BatchNorm1d(5)
    )
    assert find_slots(net) == ("1", "5")
    treat_(net, treatments((0, 1), "trained_bn"))
    bias = net[1]
    assert isinstance(bias, ChannelBias)
    features = torch.rand(2, 4, 6, 6)
    assert torch.equal(bias(features), features)
    nn.init.constant_(bias.bias, 2.0)
    assert torch.equal(bias(features), features + 2)
    assert [slot.bias is not None for slot in read_slots(net, ("1", "5"))] == [True, False]
    assert [slot.channels for slot in read_slots(net, ("1", "5"))] == [4, 5]


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
def test_modes_freeze_what_they_do_not_train(mode: Mode) -> None:
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    nn.init.constant_(own.get_submodule("1").weight, 3.0)  # type: ignore[arg-type]
    nn.init.constant_(own.get_submodule("1").bias, 2.0)  # type: ignore[arg-type]
    for net, starts in ((small(), (1.0, 0.0)), (own, (3.0, 2.0))):
        slots = find_slots(net)
        treat_(net, treatments((1,) * len(slots), mode.name))
        for slot in read_slots(net, slots):
            parts = ((slot.gamma, mode.treatment.gamma), (slot.beta, mode.treatment.beta))
            for (parameter, affine), start in zip(parts, starts, strict=True):
                assert parameter is not None
                assert affine is not None
                assert parameter.requires_grad == affine.trained
                assert parameter.tolist() == [start if affine.trained else affine.value] * len(parameter)


@pytest.mark.parametrize("own", [False, True])
def test_gamma_and_beta_start_where_they_are_asked_to(own: bool) -> None:
    def starts(seed: int, treatments: Sequence[Treatment]) -> list[torch.Tensor | None]:
        net = with_own_norms() if own else small()
        slots = find_slots(net)
        treat_(net, treatments, random_seed=seed)
        return [value for slot in read_slots(net, slots) for value in (slot.gamma, slot.beta)]

    fixed = Treatment("batch", Affine("uniform", trained=False), Affine(0.5, trained=True, asked_for=True))
    trained = Treatment(None, Affine("uniform", trained=True), Affine(-2.0, trained=False))
    gamma, beta, other_gamma, other_beta = starts(1, (fixed, trained))
    assert gamma is not None and beta is not None and other_gamma is not None and other_beta is not None
    assert (gamma.requires_grad, beta.requires_grad, other_gamma.requires_grad, other_beta.requires_grad) == (0, 1, 1, 0)
    assert beta.tolist() == [0.5] * len(beta) and other_beta.tolist() == [-2.0] * len(other_beta)
    assert all(0 <= value < 1 for value in (*gamma.tolist(), *other_gamma.tolist()))
    assert len({*gamma.tolist(), *other_gamma.tolist()}) == len(gamma) + len(other_gamma)
    alone = starts(1, (Treatment(), fixed))[2]  # drawn from a stream of the slot's own: whatever the others are
    assert alone is not None and torch.equal(alone, other_gamma)
    assert not torch.equal(gamma, starts(2, (fixed, trained))[0])  # type: ignore[arg-type]


AFTER = Treatment("batch", Affine(1.0, trained=True), Affine(0.0, trained=True), after=True)


@pytest.mark.parametrize("pools_first", [False, True])
def test_a_norm_after_the_activation_stands_before_the_pooling(pools_first: bool) -> None:
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {"conv": nn.Conv2d(3, 4, 3), "relu": nn.ReLU(), "pool": nn.MaxPool2d(2, ceil_mode=True)}
    layers |= {"flatten": nn.Flatten(), "dense": nn.Linear(36, 5), "tanh": nn.Tanh(), "head": nn.Linear(5, 2)}
    conv, dense, head = (layers[name] for name in ("conv", "dense", "head"))
    net = nn.Sequential(OrderedDict(layers))
    if pools_first:
        pool_before_relu_(net)
    treat_(net, (AFTER, AFTER))
    images = torch.randn(6, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    rectified = functional.batch_norm(functional.conv2d(images, conv.weight).relu(), None, None, training=True)  # type: ignore[arg-type]
    hidden = torch.tanh(functional.max_pool2d(rectified, 2, ceil_mode=True).flatten(1) @ dense.weight.T)  # type: ignore[operator]
    assert torch.allclose(net(images), head(functional.batch_norm(hidden, None, None, training=True)), atol=1e-6)
    feeds = find_feeds(net, ("conv", "dense"))
    assert feeds == {"conv": Feed("conv.layer", "dense.layer", True), "dense": Feed(None, "head", True)}  # tanh lies between
    for slot in read_slots(net, ("conv", "dense")):
        assert slot.parts >= {"norm", "activation", "gamma", "beta", "running_mean", "running_var"}
        assert slot.bias is None
        assert not QUANTITIES["threshold"].is_in(slot.parts)
    again = nn.Sequential(OrderedDict(layers))
    assert "activation" not in read_slots(again, ("head",))[0].parts


def test_gamma_and_beta_alone_after_the_activation_change_nothing_at_the_start() -> None:
    net, plain = small(), small()
    fill_biases_(plain, 0.0)
    treat_(net, (replace(AFTER, norm=None), Treatment()))
    fill_biases_(net, 0.0)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(net(images), plain(images))


@pytest.mark.parametrize(
    ("build", "slot"),
    [
        (Functional, "stem"),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.ReLU(), nn.Linear(3, 2)), "0"),
        (lambda: nn.Sequential(nn.Linear(3, 3), relu := nn.ReLU(), nn.Linear(3, 3), relu), "0"),
    ],
)
def test_an_activation_that_cannot_be_moved_is_one_line(build: Callable[[], nn.Module], slot: str) -> None:
    net = build()
    with pytest.raises(ConfigError, match=f"^PLACEMENT=after: {slot} needs an activation right behind it that is a module"):
        treat_(net, [AFTER] * len(find_slots(net)))
    with pytest.raises(ConfigError, match="^PLACEMENT=after: the network brings norms of its own"):
        treat_(with_own_norms(), (AFTER, AFTER))


def test_gamma_and_beta_without_a_norm_scale_and_shift() -> None:
    net, plain, images = small(), small(), torch.rand(4, 3, 8, 8)
    fill_biases_(plain, 0.0)
    treat_(net, treatments((1, 1), "affine_only"))
    fill_biases_(net, 0.0)
    assert torch.equal(net(images), plain(images))
    conv1, dense1 = read_slots(net, find_slots(plain))
    assert (conv1.norm, conv1.running_mean, conv1.bias) == (None, None, None)
    assert conv1.parts - {"name", "channels"} == {"layer", "trained_layer", "gamma", "trained_gamma", "beta"}
    nn.init.constant_(dense1.gamma, 2.0)  # type: ignore[arg-type]
    nn.init.constant_(dense1.beta, 0.5)  # type: ignore[arg-type]
    dense2 = net[-1]
    hidden = plain[:4](images) * 2 + 0.5
    assert torch.allclose(net(images), dense2(hidden.relu()), atol=1e-6)


def test_an_affine_slot_gives_back_the_type_that_comes() -> None:
    affine, features = ChannelAffine(4), torch.rand(2, 4, 3, 3).bfloat16()
    assert affine(features).dtype == torch.bfloat16
    assert torch.equal(affine(features), features)


@pytest.mark.parametrize(("trains", "layers"), [(Trains.ALL, 6), (Trains.NORMS, 0), (Trains.NORMS_AND_HEAD, 2)])
def test_weights_that_a_mode_does_not_train_are_frozen(trains: Trains, layers: int) -> None:
    net, mask = small(), (1, 0)
    treat_(net, treatments(mask, "trained_bn"))
    freeze_weights_(net, find_slots(small()), trains)
    trained = {name for name, value in net.named_parameters() if value.requires_grad}
    norm = {"conv1.batchnorm.weight", "conv1.batchnorm.bias"}
    head = {"dense2.weight", "dense2.bias"}
    every = {name for name, _ in net.named_parameters()}
    assert trained == {0: norm, 2: norm | head, 6: every}[layers]


def test_the_head_is_the_weight_layer_that_is_called_last() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten())
    treat_(net, treatments((1, 1), "bn_and_head"))
    freeze_weights_(net, ("0", "2"), Trains.NORMS_AND_HEAD)
    trained = {name for name, value in net.named_parameters() if value.requires_grad}
    assert trained == {"0.batchnorm.weight", "0.batchnorm.bias", "2.layer.weight", "2.batchnorm.weight", "2.batchnorm.bias"}


def test_what_a_treatment_does_not_name_is_absent() -> None:
    net = small()
    treat_(net, (Treatment("batch"), Treatment("batch", Affine(0.5, trained=True), Affine(0.25, trained=False))))
    conv1, dense1 = read_slots(net, find_slots(net))
    assert (conv1.gamma, conv1.beta, conv1.bias) == (None, None, None)
    assert dense1.gamma is not None
    assert dense1.beta is not None
    assert (dense1.gamma == 0.5).all()
    assert dense1.gamma.requires_grad
    assert (dense1.beta == 0.25).all()
    assert not dense1.beta.requires_grad
    assert net(torch.rand(4, 3, 8, 8)).shape == (4, 2)


def test_a_norm_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^NORM=bach: no such norm; did you mean batch\?"):
        treat_(small(), (Treatment("bach"), Treatment()))


def test_filling_biases_leaves_beta_alone() -> None:
    net = small()
    treat_(net, treatments((1, 0), "trained_bn"))
    fill_biases_(net, 0.25)
    conv1, dense1 = read_slots(net, ("conv1", "dense1"))
    assert (dense1.bias == 0.25).all()  # type: ignore[union-attr]
    assert (conv1.beta == 0).all()  # type: ignore[union-attr]


def test_a_layer_without_children_is_not_looked_into() -> None:
    class Odd(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features if features.sum() > 0 else -features

    assert find_slots(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Odd(), nn.Linear(2, 2))) == ("0",)
