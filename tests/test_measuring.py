from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from batchnorm.analysis.__main__ import main
from batchnorm.config import RunConfig
from batchnorm.errors import RunError
from batchnorm.measuring import measure
from batchnorm.quantities import QUANTITIES
from batchnorm.store import Run, RunDirectory
from batchnorm.store.files import files_of
from batchnorm.training import train

Configure = Callable[..., RunConfig]
WHAT = ["statistics_gap", "representations", "landscape"]


def test_what_is_measured_afterwards_is_what_the_run_would_have_recorded(configure: Configure) -> None:
    during = configure(position="011", measure="full", output_dir=f"{configure().output_dir}/during")
    after = configure(position="011", measure="none", save_epochs="all", output_dir=f"{configure().output_dir}/after")
    for config in (during, after):
        train(config)
    one, other = Run(during.directory), Run(after.directory)
    with pytest.raises(RunError, match="has no loss variation"):
        other.read("loss_variation")
    measure(other, WHAT)
    compared = 0
    for name, quantity in QUANTITIES.items():
        if quantity.measurement in WHAT and quantity.per == "run":
            assert np.array_equal(one.read(name), other.read(name), equal_nan=True), name
            assert one.index(name)["step"].tolist() == other.index(name)["step"].tolist() == [0, 11, 22]
            compared += 1
        elif quantity.measurement in WHAT:
            assert one.slots_with(name) == other.slots_with(name) == one.layers
            for slot in one.layers:
                assert np.array_equal(one.read(name, slot), other.read(name, slot), equal_nan=True), (name, slot)
                compared += 1
    assert compared == 6 + 3 + 6 * 3


def test_measuring_again_replaces_a_measurement_and_keeps_the_others(configure: Configure) -> None:
    config = configure(position="011", measure="none", save_epochs="1")
    train(config)
    run = Run(config.directory)
    measure(run, ["landscape"])
    measure(run, ["statistics_gap"], epochs=[2])
    assert run.index("loss_variation")["epoch"].tolist() == [1, 2]
    assert run.index("probe_acc_running")["epoch"].tolist() == [2]
    measure(run, ["landscape"], epochs=[1])
    assert run.read("loss_variation").shape == (1,)
    assert run.read("probe_acc_running").shape == (1,)
    assert run.changed_datasets() == []


def test_what_cannot_be_measured_is_one_line(
    configure: Configure, fashion_mnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(problem="fmnist_mlp_bn", measure="none", max_steps=3)
    train(config)
    arguments = ["measure", str(config.directory), "--what"]
    assert main([*arguments, "landscpe"]) == 2
    assert "--what landscpe: no such measurement; did you mean landscape?" in capsys.readouterr().err
    assert main([*arguments, "landscape", "--epoch", "5"]) == 2
    assert "kept no weights of epoch 5; kept: 1 (SAVE_EPOCHS)" in capsys.readouterr().err
    weights = RunDirectory(config.directory).final_model
    weights.write_bytes(weights.read_bytes()[:-100])
    assert main([*arguments, "landscape"]) == 2
    assert re.fullmatch(rf".*{weights}: cannot be read \(.*\)\n", capsys.readouterr().err)
    assert not RunDirectory(config.directory).measured.exists()
    elsewhere = RunConfig.from_dict({**config.to_dict(), "OBS_DATASETS": str(fashion_mnist)})
    run = Run(config.directory)
    run.config = elsewhere
    with pytest.raises(RunError, match="was trained on other images"):
        measure(run, ["landscape"])


@pytest.mark.filterwarnings("error")
def test_after_the_last_update_a_step_is_as_long_as_that_one(configure: Configure) -> None:
    """A schedule that ends at 0 leaves no step to look along."""
    config = configure(position="011", measure="landscape", lr_schedule={"name": "trapezoidal", "cooldown_epochs": 1.0})
    train(config)
    run = Run(config.directory)
    assert run.epochs["lr"][-1] == 0
    names = ("loss_variation", "gradient_predictiveness", "effective_smoothness")
    during = [run.read(name) for name in names]
    assert all(np.isfinite(values).all() and (values > 0).all() for values in during)
    measure(run, ["landscape"])
    with h5py.File(RunDirectory(run.directory).measured) as file:
        afterwards = [file[f"landscape/probes/{name}"][-1] for name in names]
    assert afterwards == [values[-1] for values in during]


def test_what_cannot_be_written_leaves_nothing(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure(position="011", measure="none", max_steps=3)
    train(config)
    run = Run(config.directory)
    measure(run, ["landscape"])
    before = sorted(run.directory.iterdir())

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("batchnorm.store.measured.sync", full)
    with pytest.raises(RunError, match="measured.h5: cannot be written: No space left on device"):
        measure(run, ["landscape"])
    assert sorted(run.directory.iterdir()) == before
    monkeypatch.undo()
    directory = RunDirectory(run.directory)
    directory.measured.write_bytes(b"no HDF5")
    with pytest.raises(RunError, match="measured.h5: is damaged; delete it, and measure again"):
        measure(run, ["landscape"])
    left_over = directory.measured.with_name("measured.h5.0123456789ab.new")
    left_over.touch()
    assert [file.part for file in files_of(directory) if file.path == left_over] == ["left over"]
