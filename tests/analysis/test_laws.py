from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from batchnorm.analysis.__main__ import main
from batchnorm.analysis.laws import Finding, check
from batchnorm.config import RunConfig
from batchnorm.measurements.laws import Standing
from batchnorm.store import Run
from batchnorm.training import train
from tests.analysis.conftest import record

Configure = Callable[..., RunConfig]
EVERY = {"problem": "mnist_2c2d_bn", "num_epochs": 1, "batch_size": 16, "log_every_steps": 1, "measure_steps": 1}


@pytest.fixture(scope="module")
def short_run(short_run: Configure, few_images: Path) -> Configure:
    return lambda **keys: short_run(obs_datasets=str(few_images), **keys)


def standings(run: Run) -> dict[tuple[int, str], Standing]:
    return {(each.verdict.law, each.what): each.verdict.standing for each in check(run)}


def broken(run: Run) -> list[Finding]:
    return [each for each in check(run) if each.verdict.standing == Standing.BROKEN]


def test_real_runs_keep_every_law_that_applies(configure: Configure) -> None:
    config = configure(**EVERY, position="111")
    train(config)
    found = standings(Run(config.directory))
    kept = {key for key, standing in found.items() if standing == Standing.KEPT}
    assert kept == {
        (5, "record"), (5, "bytes"), (4, "conv1"), (4, "conv2"),
        *((law, slot) for law in (2, 3) for slot in ("conv1", "conv2", "dense1")),
    }  # fmt: skip
    assert not [key for key, standing in found.items() if standing == Standing.BROKEN]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"ghost": 16}, "GHOST: a channel has a variance in each part"),
        ({"placement": "after"}, "PLACEMENT=after: of a channel that a ReLU nearly always stops"),
        ({"ablation": "fixed_gamma"}, "gamma is fixed"),
    ],
    ids=str,
)
def test_where_law_2_cannot_be_measured_it_is_told(tmp_path: Path, keys: dict[str, object], why: str) -> None:
    found = check(
        Run(record(tmp_path, **keys, epochs=1, steps_per_epoch=2, optimizer="Momentum", measure="basic", measured=True))
    )
    of_law_2 = [each.verdict for each in found if each.verdict.law == 2]
    assert len(of_law_2) == 3 and all(verdict.where.startswith(why) for verdict in of_law_2)


@pytest.mark.parametrize(
    "keys",
    [
        {"position": "none"},
        {"position": "011", "ablation": "fixed_beta"},
        {"position": "111", "ablation": "fixed_gamma"},
        {"position": "111", "ablation": "fixed_bn", "l2_reg": 0.01},
        {"position": "111", "optimizer": "Momentum", "lr": 0.01},
        {"position": "111", "precision": "bf16"},
        {"position": "111", "lr": 1e30},
        {"position": "111", "measure": "none", "log_every_steps": 3},
        {"position": "111", "evaluate_every": 2, "num_epochs": 2},
    ],
    ids=str,
)
def test_no_real_run_breaks_a_law(configure: Configure, keys: dict[str, object]) -> None:
    config = configure(**{**EVERY, **keys})
    train(config)
    assert broken(Run(config.directory)) == []


def test_laws_apply_where_their_settings_make_them_exact(configure: Configure) -> None:
    config = configure(**EVERY, position="011", ablation="fixed_gamma", optimizer="Momentum")
    train(config)
    found = standings(Run(config.directory))
    assert found[1, "gamma of conv2"] == Standing.KEPT
    assert found[1, "beta of conv2"] == Standing.DOES_NOT_APPLY
    assert {found[law, "conv1"] for law in (2, 3)} == {Standing.DOES_NOT_APPLY}
    assert (4, "conv1") not in found


@pytest.fixture(scope="module")
def recorded(short_run: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = short_run(**EVERY, position="111", max_steps=8, output_dir=str(tmp_path_factory.mktemp("recorded")))
    train(config)
    return config.directory


@pytest.fixture
def finished(recorded: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished run, which a test may change."""
    return shutil.copytree(recorded, tmp_path / "finished")


@pytest.mark.parametrize(
    ("dataset", "place", "law"),
    [("snapshots/gamma/conv1", (4, 3), 4), ("snapshots/beta/dense1", (4, 3), 5), ("updates/updated_squared/conv2", 5, 3)],
)
def test_a_forged_record_is_told(
    finished: Path, dataset: str, place: object, law: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(finished / "run.h5", "r+") as file:
        file[dataset][place] += 0.5
    laws = {each.verdict.law for each in broken(Run(finished))}
    assert {law, 5} <= laws
    assert any(dataset in each.verdict.where for each in broken(Run(finished)) if each.what == "bytes")
    assert main(["laws", str(finished)]) == 1
    assert "broken" in capsys.readouterr().out


def test_a_half_rewritten_record_is_told(finished: Path) -> None:
    with h5py.File(finished / "run.h5", "r+") as file:
        file["snapshots/gamma/conv2"][4:] = 1.0
        file["epochs/test_acc"][1] = 1.5
    assert len(broken(Run(finished))) >= 2


def test_the_command_says_what_stands(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laws", str(finished)]) == 0
    text = capsys.readouterr().out
    assert "2 blind to the scale of the weights" in text
    assert "more do not apply; --all says why" in text
    assert main(["laws", str(finished), "--all"]) == 0
    assert "no normalised slot is the slot's only consumer" in capsys.readouterr().out


def test_a_record_copied_elsewhere_keeps_its_laws(finished: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / "elsewhere")
    assert broken(Run(copy)) == []


def test_the_trained_network_is_returned(configure: Configure) -> None:
    config = configure(problem="mnist_mlp_bn", position="011", save_epochs="0,1", ablation="fixed_beta")
    train(config)
    run = Run(config.directory)
    assert sorted(run.kept_epochs()) == [0, 1, 2]
    for epoch, row in ((0, 0), (1, -1), (2, -1)):
        net = run.network(epoch)
        gamma = net.get_parameter("dense2.batchnorm.weight").detach().numpy()
        if epoch != 1:
            assert np.array_equal(gamma, run.gamma("dense2")[row])
    last = run.network()
    assert not last.training
    assert torch.equal(last.state_dict()["dense1.bias"], run.network(2).state_dict()["dense1.bias"])
    with pytest.raises(Exception, match=r"kept no weights of epoch 7; kept: 0, 1, 2"):
        run.network(7)
