from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from batchnorm.config import RunConfig, resolve
from batchnorm.errors import RunError
from batchnorm.quantities import METRICS
from batchnorm.store import Run, Status
from batchnorm.store.layout import FORMAT_VERSION
from batchnorm.store.run import check_same_run
from tests.recorded import record_run
from tests.store.records import SLOTS, append_steps, new_writer


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn", position="011", ablation="fixed_gamma", epochs=3)
    for place in (config.directory, str(config.directory), config.directory / "run.h5"):
        run = Run(place)
        assert (run.config, run.status, run.layers, run.mask) == (config, Status.FINISHED, SLOTS, (0, 1, 1))
    assert run.directory == config.directory
    assert set(run.epochs) == {"epoch", "step", *METRICS, "lr", "train_seconds", "eval_seconds"}
    assert run.epochs["step"].tolist() == [0, 20, 40, 60]
    assert run.batches["step"].tolist() == list(range(0, 60, 5))
    assert run.snapshot_steps.tolist() == [*range(0, 60, 5), 60]
    assert run.gamma("conv2").shape == (13, 64)
    assert (run.gamma("conv2") == 1).all()
    assert run.beta("dense1").dtype == np.float32
    assert run.bias("conv1").shape == (13, 32)
    assert run.running_mean("conv2").shape == run.running_var("conv2").shape == (4, 64)
    assert [run.slots_with(parameter) for parameter in ("gamma", "beta", "bias")] == [SLOTS[1:], SLOTS[1:], SLOTS[:1]]


def test_a_slot_without_the_parameter_is_named(tmp_path: Path) -> None:
    run = Run(record_run(tmp_path, problem="digits_2c2d_bn", position="011").directory)
    with pytest.raises(RunError, match="has no gamma of conv1; conv2, dense1 has one"):
        run.gamma("conv1")
    with pytest.raises(RunError, match="has no bias of dense1; conv1 has one"):
        run.bias("dense1")


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run"):
        Run(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is no run: it holds no run.h5"):
        Run(tmp_path)
    (tmp_path / "run.h5").write_bytes(b"not HDF5")
    with pytest.raises(RunError, match=r"run.h5: is damaged .*; OVERWRITE=true starts the run again from the beginning"):
        Run(tmp_path)


def test_a_file_without_our_attributes_is_one_line(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(RunError, match="run.h5: is damaged"):
        Run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config", b"[1, 2]"),
        ("config", b'{"PROBLEM": "digits_2c2d_bn"}'),
        ("fingerprint", b"3"),
        ("length", b'{"hours": 3}'),
        ("slots", b'{"slots": [{"depth": 3}]}'),
        ("slots", b"[]"),
        ("mask", 3),
        ("layers", 3),
        ("format_version", b"two"),
    ],
)
def test_a_file_whose_attributes_are_of_another_kind_is_one_line(tmp_path: Path, name: str, content: object) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn")
    with h5py.File(config.directory / "run.h5", "r+") as file:
        file.attrs[name] = np.bytes_(content) if isinstance(content, bytes) else content
    with pytest.raises(RunError) as refused:
        Run(config.directory)
    assert str(refused.value).startswith(str(config.directory / "run.h5"))
    assert "\n" not in str(refused.value)


def test_attributes_that_another_program_has_copied_as_plain_text_are_read(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn")
    with h5py.File(config.directory / "run.h5", "r+") as file:
        for name in ("config", "fingerprint", "mask", "length", "slots", "versions"):
            file.attrs[name] = file.attrs[name].decode()
    run = Run(config.directory)
    assert (run.config, run.mask, run.status) == (config, (1, 1, 1), Status.FINISHED)


def test_one_opening_serves_all_readings_of_a_block(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn", epochs=3)
    with Run.opened(config.directory) as run:
        (config.directory / "run.h5").rename(tmp_path / "moved.h5")
        assert run.status == Status.FINISHED
        assert run.last_epoch == 3
        assert run.gamma("conv2").shape == (13, 64)
    (tmp_path / "moved.h5").rename(config.directory / "run.h5")
    assert run.of_epochs("step", "test_acc")["step"].tolist() == run.epochs["step"].tolist()
    with pytest.raises(RunError, match="is no run"), Run.opened(tmp_path):
        pass


def test_a_notebook_shows_a_short_table(tmp_path: Path) -> None:
    config = record_run(tmp_path / "<b>&", problem="digits_2c2d_bn", position="011", epochs=3)
    run = Run(config.directory)
    shown = run._repr_html_()
    for text in ("digits_2c2d_bn", "0,1,1", "trained_bn", "conv1, conv2, dense1", "finished, epoch 3 of 3", "&lt;b&gt;&amp;"):
        assert text in shown
    assert f"{100 * run.epochs['test_acc'][-1]:.2f} %" in shown
    assert "<b>" not in shown and shown.startswith("<table>") and shown.endswith("</table>")
    (config.directory / "run.h5").unlink()
    assert "no such file" in run._repr_html_()
    young = record_run(tmp_path, problem="digits_2c2d_bn", recorded_epochs=-1, status=Status.CUT_OFF)
    assert "interrupted, epoch 0 of 4" in Run(young.directory)._repr_html_()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn")
    with h5py.File(config.directory / "run.h5", "r+") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(RunError, match=f"has format version {FORMAT_VERSION + 1}, this package reads up to {FORMAT_VERSION}"):
        Run(config.directory)


def test_a_run_of_an_unregistered_problem_can_be_read(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn", position="011")
    with h5py.File(config.directory / "run.h5", "r+") as file:
        stored = json.loads(file.attrs["config"])
        file.attrs["config"] = np.bytes_(json.dumps({**stored, "PROBLEM": "my_problem_bn"}).encode())
    assert Run(config.directory).config.problem == "my_problem_bn"


def test_another_run_is_named_by_its_differing_keys(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn", batch_size=32)
    other = resolve({"problem": "digits_2c2d_bn", "random_seed": 1, "num_epochs": 4, "batch_size": 16, "l2_reg": 0.1})
    run = Run(config.directory)
    check_same_run(run, config.fingerprint())
    with pytest.raises(
        RunError,
        match=r"BATCH_SIZE \(32 there, 16 here\); L2_REG \(0.0 there, 0.1 here\); OUTPUT_DIR=... keeps both; OVERWRITE=true",
    ):
        check_same_run(run, other.fingerprint())


def test_configuration_is_saved_beside_the_record(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn")
    assert RunConfig.load(config.directory / "config.yaml") == config


@pytest.mark.parametrize("kept", [0, 47, 100, 500, 3000, 20_000, 400_000])
@pytest.mark.parametrize("live", [False, True])
def test_a_truncated_record_is_one_line_at_once(tmp_path: Path, kept: int, live: bool) -> None:
    """HDF5's SWMR reader would wait for ever for the rest of such a file."""
    path = tmp_path / "run.h5"
    writer = new_writer(path)
    append_steps(writer, 0, 200)
    writer.flush()
    if not live:
        writer.close()
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"cut.h5: is damaged"):
        Run(tmp_path / "cut.h5").gamma("dense1")
    writer.close()


def test_a_run_says_which_variant_it_is(tmp_path: Path) -> None:
    for position, mode, variant in (("011", "fixed_gamma", "0,1,1 fixed_gamma"), ("none", "fixed_bn", "vanilla")):
        config = record_run(tmp_path, problem="digits_2c2d_bn", position=position, ablation=mode)
        assert Run(config.directory).variant == variant
