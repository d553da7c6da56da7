"""Records of format version 1, as that version wrote them, with a network of two small dense layers on the digits.

`version_1.tar.gz` holds finished runs (masks 1,1 and 0,0), one that was stopped at step 31 (0,1), and one whose MAX_STEPS=5
stands in no directory's name.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from batchnorm import training
from batchnorm.analysis.bn_plot_functions import bn_params_3Dsurface, performance_across_ablations
from batchnorm.analysis.summary import summary
from batchnorm.command import main
from batchnorm.config import RunConfig, resolve
from batchnorm.problems import register_problem, registry
from batchnorm.store import Run, Status, stand

if TYPE_CHECKING:
    from torch import nn

Configure = Callable[..., RunConfig]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Unpack the records."""
    with tarfile.open(Path(__file__).parent / "version_1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "output"


@pytest.fixture
def again(output: Path, tmp_path: Path) -> Iterator[Configure]:
    """Return a function that makes the configurations of the stored runs; their problem is registered as it was."""
    before = dict(registry._registry)

    @register_problem(image_set="digits", classes=10, slots=("first", "second"))
    def tiny_bn() -> nn.Module:
        from collections import OrderedDict

        from torch import nn

        layers = {"pool": nn.AvgPool2d(7), "flatten": nn.Flatten(), "first": nn.Linear(16, 6), "relu1": nn.ReLU()}
        return nn.Sequential(OrderedDict(layers, second=nn.Linear(6, 5), relu2=nn.ReLU(), head=nn.Linear(5, 10)))

    (tmp_path / "tuning.yaml").write_text("tiny_bn: {batch_size: 64, num_epochs: 2, SGD: {opt_hpars: {lr: 0.1}}}")
    paths = {"tuning_conf": str(tmp_path / "tuning.yaml"), "output_dir": str(output)}
    keys: dict[str, Any] = {
        "problem": "tiny_bn",
        "random_seed": 1,
        "threads": 1,
        "log_every_steps": 4,
        "measure": "none",
        **paths,
    }
    yield lambda **more: resolve({**keys, "measure": "none", **more})
    registry._registry.clear()
    registry._registry.update(before)


def test_they_are_read_as_they_are(output: Path) -> None:
    run = Run(output / "1__tiny_bn__1,1/Lr_0.1/Ep_2/fixed_gamma")
    assert (run.mask, run.mode, run.status, run.layers) == ((1, 1), "fixed_gamma", Status.FINISHED, ("first", "second"))
    assert (run.length.steps, run.length.epochs, run.length.steps_per_epoch) == (42, 2, 21)
    assert run.snapshot_steps.tolist() == [*range(0, 42, 4), 42]
    assert (run.gamma("first") == 1).all()
    assert run.beta("second").shape == (12, 5)
    assert run.running_var("second").shape == (3, 5)
    assert run.read("batch_loss").shape == (11,)
    short = Run(output / "1__tiny_bn__1,1/Lr_0.1/Ep_2/trained_bn")
    assert (short.length.steps, short.length.epochs) == (5, 1)


def test_they_are_summarised_and_drawn(output: Path, tmp_path: Path) -> None:
    table = summary(output)
    assert table["variant"].tolist() == ["vanilla", "0,1 trained_bn", "1,1 fixed_gamma", "1,1 trained_bn"]
    assert table[["seeds", "unfinished"]].to_numpy().tolist() == [[1, 0], [0, 1], [1, 0], [1, 0]]
    full = [output / "1__tiny_bn__0,0/Lr_0.1/Ep_2/trained_bn", output / "1__tiny_bn__1,1/Lr_0.1/Ep_2/fixed_gamma"]
    assert performance_across_ablations(full, save=False).axes
    assert bn_params_3Dsurface(True, "beta", full[1], save=False).axes


def test_a_finished_one_is_found_finished(again: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    for keys in ({"position": "11", "ablation": "fixed_gamma"}, {"position": "none", "ablation": "fixed_beta"}):
        config = again(**keys)
        assert stand(config.directory, config.fingerprint()).status == Status.FINISHED
        assert training.train(config) == Status.FINISHED


def test_an_interrupted_one_is_resumed(again: Configure, tmp_path: Path) -> None:
    """What it had recorded stays; the rest is that of a fresh run, whose last bits only the machine that began it has."""
    config = again(position="01")
    begun = numbers(config)
    assert training.train(config) == Status.FINISHED
    fresh = again(position="01", output_dir=str(tmp_path / "fresh"))
    assert training.train(fresh) == Status.FINISHED
    resumed, whole = numbers(config), numbers(fresh)
    assert resumed.keys() == whole.keys()
    for name, values in resumed.items():
        assert values.shape == whole[name].shape
        assert np.allclose(values, whole[name], rtol=1e-3, atol=1e-5), name
        rows = (
            31 // 4 + 1 if name.startswith(("batches/", "snapshots/")) else 2 if name.startswith(("epochs/", "running/")) else 0
        )
        assert rows == 0 or values[:rows].tobytes() == begun[name][:rows].tobytes(), name


def numbers(config: RunConfig) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("marks/") and not name.endswith("_seconds"):
            found[name] = item[()]

    with h5py.File(config.directory / "run.h5", swmr=True) as file:
        file.visititems(take)
    return found


def test_another_run_under_the_same_name_is_refused_in_one_line(again: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """Version 1 did not name MAX_STEPS."""
    config = again(position="11")
    arguments = [
        f"{key}={value}" for key, value in config.to_dict().items() if key not in ("OPT_HPARS", "LR_SCHEDULE", "MAX_STEPS")
    ]
    assert main(arguments) == 2
    assert (
        "holds another run: MAX_STEPS (5 there, null here); OUTPUT_DIR=... keeps both; OVERWRITE=true"
        in capsys.readouterr().err
    )
