from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from torch import nn

from batchnorm.config import resolve
from batchnorm.data.facts import IMAGE_SETS
from batchnorm.errors import ConfigError
from batchnorm.modes import treatments
from batchnorm.problems import find_problem
from batchnorm.problems.__main__ import main
from batchnorm.problems.check import check
from batchnorm.problems.fitting import check_fit
from batchnorm.slots import treat_
from batchnorm.store import Run, Status
from batchnorm.training import train

FILE = """\
import random

import torch
from torch import nn, relu

from batchnorm.problems import register_problem


class Residual(nn.Module):
    def __init__(self, pixels=784, outputs=10):
        super().__init__()
        self.stem, self.branch = nn.Linear(pixels, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, outputs)

    def forward(self, images):
        h = relu(self.stem(images.flatten(1)))
        return self.head(relu(self.branch(h) + h))


@register_problem(image_set="digits", classes=10, slots=("stem",))
def good():
    return Residual()


@register_problem(image_set="digits", classes=10, slots=())
def no_slots_yet():
    return Residual()


@register_problem(image_set="digits", classes=10, slots=("stem",))
def other_size():
    return Residual(100)


@register_problem(image_set="digits", classes=12, slots=("stem",))
def other_outputs():
    return Residual(outputs=10)


@register_problem(image_set="cifar100", classes=10, slots=("stem",))
def few_classes():
    return Residual()


@register_problem(image_set="digit", classes=10, slots=("stem",))
def misspelt():
    return Residual()


@register_problem(image_set="digits", classes=10, slots=("stem",))
def not_there():
    return Nowhere()


@register_problem(image_set="digits", classes=10, slots=("stem",))
def nothing():
    Residual()


@register_problem(image_set="digits", classes=10, slots=("stem",))
def own_generator():
    net = Residual()
    nn.init.constant_(net.head.bias, random.random())
    return net


@register_problem(image_set="digits", classes=10, slots=())
def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@register_problem(image_set="digits", classes=10, slots=("2",))
def layer_norm():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 10))


class Branch(Residual):
    def forward(self, images):
        h = relu(self.stem(images.flatten(1)))
        relu(self.branch(h))
        return self.head(h)


@register_problem(image_set="digits", classes=10, slots=("stem", "branch"))
def idle_branch():
    return Branch()


@register_problem(image_set="digits", classes=10, slots=("2",))
def untracked():
    norm = nn.BatchNorm1d(8, track_running_stats=False)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), norm, nn.ReLU(), nn.Linear(8, 10))


@register_problem(image_set="digits", classes=10, slots=("1",))
def rows():
    return nn.Sequential(nn.Flatten(1, 2), nn.Linear(28, 28), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_it_tells_what_is_to_be_written(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{file}:good"]) == 0
    told = capsys.readouterr().out.partition("\n\n")[0]
    lines = told.splitlines()
    assert lines[:5] == [
        "good: digits (1 x 28 x 28), 10 classes",
        'slots=("stem",)',
        "no slot: branch, whose output goes into add()",
        "no slot: head, whose output goes into the network's output",
        f"parameters: {785 * 8 + 9 * 8 + 9 * 10:,}",
    ]
    assert [line.partition(": ")[0] for line in lines[5:7]] == ["one step, no norm", "one step, BatchNorm in all slots"]
    entry = check(f"{file}:good")[0].partition("tuned:\n")[2]
    assert set(yaml.safe_load(entry)["good"]) == {"batch_size", "num_epochs", "SGD", "Adam"}


def test_it_tells_that_a_networks_own_norms_are_not_the_default(file: Path) -> None:
    told, wrong = check(f"{file}:layer_norm")
    assert told.splitlines()[2] == "own norms: LayerNorm; kept with NORM=own, by default BatchNorm stands in their place"
    assert not wrong


def trained(file: Path, function: str, **keys: object) -> Run:
    """Train a problem of the file for three steps with all measurements."""
    tuning = file.with_name("tuning.yaml")
    tuning.write_text(f"{function}: {{batch_size: 64, num_epochs: 1, SGD: {{opt_hpars: {{lr: 0.1}}}}}}")
    given = {"problem": f"{file}:{function}", "tuning_conf": str(tuning), "output_dir": f"{file.parent}/output", "threads": 1}
    given |= {"random_seed": 1, "max_steps": 3, "measure": "full", "measure_steps": 1}
    config = resolve({**given, **keys})
    assert train(config) is Status.FINISHED
    return Run(config.directory)


@pytest.mark.parametrize("position", ["none", "all"])
def test_a_slot_that_no_gradient_reaches_trains_as_it_passes(file: Path, position: str) -> None:
    """Its gradient is 0, and it stays where it is."""
    told, wrong = check(f"{file}:idle_branch")
    assert "no gradient reaches branch.weight, branch.bias" in told and not wrong
    run = trained(file, "idle_branch", position=position, l2_reg=0.1)
    assert run.read("gradient_norm", "branch").tolist() == run.read("relative_update", "branch").tolist() == [0.0] * 3
    assert (run.read("gradient_norm", "stem") > 0).all()
    if position == "all":
        assert (run.read("channel_eps", "branch") == 0).all()


def test_a_norm_without_running_statistics_trains_as_it_passes(file: Path) -> None:
    """It takes the variance of the images in evaluation too, so of no single one."""
    assert not check(f"{file}:untracked")[1]
    run = trained(file, "untracked", position="all")
    assert run.slots_with("gamma") == ("2",) and not run.slots_with("running_var")


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        ("no_slots_yet", 'is registered with slots=(); register it with slots=("stem",)'),
        ("other_size", "does not take images of digits, 1 x 28 x 28: RuntimeError in line 16: mat1 and mat2"),
        ("other_size", "image sets, channels x height x width: mnist 1 x 28 x 28, fmnist 1 x 28 x 28, cifar10 3 x 32 x 32"),
        ("other_outputs", "of 2 images its network gives (2, 10); of 12 classes it must give (2, 12)"),
        ("few_classes", "classes=10: must be 100 or more for image_set=cifar100; classes of each image set: mnist 10"),
        ("misspelt", "image_set=digit: no such image set; did you mean digits? Valid: mnist, fmnist, "),
        ("not_there", "its network cannot be built: NameError in line 52: name 'Nowhere' is not defined"),
        ("nothing", "its function must return a torch.nn.Module, not NoneType"),
        ("own_generator", "its initial weights differ when it is built again with the same seed"),
        ("linear", "its network has no slot: "),
        ("rows", "of 2 images, the linear layer in its slot 1 gives (2, 28, 28), and must give (2, channels); flatten"),
        ("goood", "registers no such problem; did you mean good?"),
    ],
)
def test_what_is_wrong_is_one_line(file: Path, function: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"PROBLEM={file}:{function}"]) == 2
    told = capsys.readouterr().err
    assert wrong in told
    assert told.startswith("error: PROBLEM=") and told.count("\n") == 1


@pytest.mark.parametrize("width", [28, 16])
def test_a_linear_slot_whose_channels_are_last_is_refused_before_a_run(file: Path, width: int) -> None:
    """BatchNorm there took the rows of an image for its channels, where there are as many, and failed where there are not."""
    features = "nn.Linear(28, 28), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)"
    assert features in FILE
    file.write_text(FILE.replace(features, features.replace("28)", f"{width})").replace("784", str(28 * width))))
    with pytest.raises(
        ConfigError, match=rf"^PROBLEM=rows: of 2 images, the linear layer in its slot 1 gives \(2, 28, {width}\)"
    ):
        trained(file, "rows")
    assert not (file.parent / "output").exists()
    net = nn.Sequential(nn.Flatten(1, 2), nn.Linear(28, width), nn.ReLU(), nn.Flatten(), nn.Linear(28 * width, 10))
    treat_(net, treatments((1,), "trained_bn"))
    with pytest.raises(ConfigError, match="the linear layer in its slot 1 gives"):
        check_fit(find_problem(f"{file}:rows"), net, ("1",), (1, 28, 28))


def test_help_lists_the_image_sets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in IMAGE_SETS)
    assert main(["chek", "x"]) == 2 and main(["check"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
