from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from batchnorm.assembly import assemble, build_network
from batchnorm.config import RunConfig
from batchnorm.errors import ConfigError
from batchnorm.problems import find_problem
from batchnorm.problems.fitting import check_slots
from batchnorm.slots import ChannelBias, read_slots

OWN = """
from torch import nn
from batchnorm.problems import register_problem

@register_problem(image_set={image_set!r}, classes=10, slots={slots})
def small_bn():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10))
"""


def own_problem(configure: Callable[..., RunConfig], folder: Path, *, position: str = "all", **facts: object) -> RunConfig:
    """Return a run of a problem in a file of the user's own."""
    file = folder / "mine.py"
    file.write_text(OWN.format(**{"image_set": "mnist", "slots": ("1",), **facts}))
    tuning = folder / "tuning.yaml"
    tuning.write_text("small_bn: {batch_size: 32, num_epochs: 1, SGD: {opt_hpars: {lr: 0.1}}}")
    return configure(problem=f"{file}:small_bn", tuning_conf=str(tuning), max_steps=2, position=position)


def test_a_training_stands_before_its_first_step(configure: Callable[..., RunConfig]) -> None:
    training = assemble(configure(position="011", max_steps=12))
    assert training.step == 0
    assert [slot.norm is not None for slot in training.slots] == [False, True, True]
    assert (training.length.steps, training.length.epochs, training.length.steps_per_epoch) == (12, 2, 11)
    assert [training.steps_left(epoch) for epoch in (0, 1)] == [0, 11]
    training.step = 11
    assert training.steps_left(2) == 1
    assert len(list(training.training_batches(2))) == 1


def test_slots_that_the_network_has_not_are_one_line(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = own_problem(configure, tmp_path, slots=("stem", "3"))
    with pytest.raises(ConfigError) as error:
        assemble(config)
    wrong, right = "is registered with slots=('stem', '3')", "its network has ('1',); register it with those, in this order"
    assert str(error.value) == f"PROBLEM=small_bn: {wrong}, {right}"
    assert not config.directory.exists()


@pytest.mark.parametrize("position", ["all", "none", "01"])
def test_a_problem_without_slots_is_told_them(configure: Callable[..., RunConfig], tmp_path: Path, position: str) -> None:
    """As docs/extending.md says to write first; it was a ValueError of the mask."""
    config = own_problem(configure, tmp_path, slots=(), position=position)
    with pytest.raises(ConfigError, match=r"is registered with slots=\(\), its network has \('1',\); register it with those"):
        assemble(config)
    assert not config.directory.exists()


def test_a_network_without_a_slot_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^PROBLEM=mine: its network has no slot: no conv or linear layer whose output"):
        check_slots(replace(find_problem("digits_2c2d_bn"), name="mine", slots=()), nn.Sequential(nn.Linear(4, 2)))


def test_an_unknown_image_set_is_one_line(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"image_set=mnits: no such image set; did you mean mnist\? Valid: mnist, fmnist"):
        assemble(own_problem(configure, tmp_path, image_set="mnits"))


def test_a_network_that_cannot_be_traced_is_one_line() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activation = nn.ReLU()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.activation(images) if images.sum() > 0 else -images

    net = nn.Sequential(Branching())
    problem = replace(find_problem("digits_2c2d_bn"), name="mine")
    with pytest.raises(ConfigError, match="PROBLEM=mine: the network's slots cannot be found"):
        check_slots(problem, net)


def test_biases_in_place_of_a_networks_own_norms_start_where_they_are_asked_to(configure: Callable[..., RunConfig]) -> None:
    keys = {"problem": "fmnist_resnet8_narrow_bn", "position": "0" + "1" * 6}
    plain, filled = (build_network(configure(**keys, bias_init=start)) for start in ("deepobs", 0.5))
    taken_out, *norms = read_slots(filled, find_problem("fmnist_resnet8_narrow_bn").slots)
    assert taken_out.bias is not None and (taken_out.bias == 0.5).all()
    assert all((slot.beta == 0).all() for slot in norms if slot.beta is not None)
    left = {name for name, value in filled.named_parameters() if not value.equal(plain.get_parameter(name))}
    biases = {f"{name}.bias" for name, module in filled.named_modules() if isinstance(module, (nn.Linear, ChannelBias))}
    assert left == biases


def test_weights_are_a_function_of_the_seed_alone(configure: Callable[..., RunConfig]) -> None:
    one, other = (build_network(configure(position=position)) for position in ("none", "all"))
    for mine, theirs in zip(*([value for value in net.parameters() if value.ndim > 1] for net in (one, other)), strict=True):
        assert mine.equal(theirs)
