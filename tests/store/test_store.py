from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from batchnorm.config import RunConfig, resolve
from batchnorm.errors import RunError
from batchnorm.store import RunDirectory
from batchnorm.store import EPOCH_COLUMNS, FORMAT_VERSION, Run, RunWriter, Status, check_same_run
from tests.recorded import WIDTHS, record_run

SLOTS = ("conv1", "conv2", "dense1")


def new_writer(path: Path, **keys: object) -> RunWriter:
    config = resolve({"problem": "digits_2c2d_bn", "random_seed": 1, "position": "011", **keys})
    return RunWriter.create(
        path, config, fingerprint=config.fingerprint(), layers=SLOTS, widths=WIDTHS[config.problem], versions={"torch": "2"}
    )


def append_steps(writer: RunWriter, start: int, stop: int) -> None:
    steps = np.arange(start, stop)
    writer.append({"batches/step": steps, "batches/loss": steps / 3, "batches/lr": steps * 0 + 0.1, "snapshots/step": steps})
    for name, width in (
        ("bias/conv1", 32),
        ("gamma/conv2", 64),
        ("beta/conv2", 64),
        ("gamma/dense1", 1024),
        ("beta/dense1", 1024),
    ):
        writer.append({f"snapshots/{name}": np.add.outer(steps, np.arange(width) / width)})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn", position="011", ablation="fixed_gamma", epochs=3)
    for place in (config.directory, str(config.directory), config.directory / "run.h5"):
        run = Run(place)
        assert (run.config, run.status, run.layers, run.mask) == (config, Status.FINISHED, SLOTS, (0, 1, 1))
    assert run.directory == config.directory
    assert set(run.epochs) == {"epoch", "step", *EPOCH_COLUMNS}
    assert run.epochs["step"].tolist() == [0, 20, 40, 60]
    assert run.batches["step"].tolist() == list(range(0, 60, 5))
    assert run.snapshot_steps.tolist() == [*range(0, 60, 5), 60]
    assert run.gamma("conv2").shape == (13, 64)
    assert (run.gamma("conv2") == 1).all()
    assert run.beta("dense1").dtype == np.float32
    assert run.bias("conv1").shape == (13, 32)
    assert run.running_mean("conv2").shape == run.running_var("conv2").shape == (4, 64)
    assert [run.slots_with(parameter) for parameter in ("gamma", "beta", "bias")] == [SLOTS[1:], SLOTS[1:], SLOTS[:1]]


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn", position="010", epochs=2)
    with h5py.File(config.directory / "run.h5", "r") as file:
        assert set(file.attrs) == {"format_version", "config", "fingerprint", "layers", "mask", "versions"}
        assert json.loads(file.attrs["config"])["POSITION"] == "0,1,0"
        assert file.attrs["layers"].tolist() == [b"conv1", b"conv2", b"dense1"]
        names: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: names.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        metrics = {f"epochs/{split}_{metric}" for split in ("train", "valid", "test") for metric in ("loss", "acc")}
        assert set(names) == metrics | {
            "status", "epochs/epoch", "epochs/step", "epochs/lr", "epochs/train_seconds", "epochs/eval_seconds",
            "batches/step", "batches/loss", "batches/lr", "snapshots/step", "snapshots/gamma/conv2", "snapshots/beta/conv2",
            "snapshots/bias/conv1", "snapshots/bias/dense1", "running/mean/conv2", "running/var/conv2",
        }  # fmt: skip
        assert names["status"].shape == ()
        assert names["status"].dtype == np.int8
        assert names["epochs/train_loss"].dtype == np.float64
        assert names["snapshots/step"].dtype == np.int64
        assert names["snapshots/gamma/conv2"].dtype == np.float32
        assert all(item.maxshape[0] is None for name, item in names.items() if name != "status")


def test_a_slot_without_the_parameter_is_named(tmp_path: Path) -> None:
    run = Run(record_run(tmp_path, problem="digits_2c2d_bn", position="011").directory)
    with pytest.raises(RunError, match="has no gamma of conv1; conv2, dense1 has one"):
        run.gamma("conv1")
    with pytest.raises(RunError, match="has no bias of dense1; conv1 has one"):
        run.bias("dense1")


def test_a_record_is_read_while_it_grows(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "run.h5")
    run = Run(tmp_path / "run.h5")
    for stop in (7, 100, 301):
        append_steps(writer, writer.rows("batches/step"), stop)
        writer.flush()
        assert run.snapshot_steps.tolist() == list(range(stop))
        assert run.gamma("conv2").shape == (stop, 64)
        assert run.status == Status.RUNNING
        code = f"import h5py; print(h5py.File({str(tmp_path / 'run.h5')!r}, 'r', swmr=True)['batches/loss'][-1])"
        plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert float(plain.stdout) == (stop - 1) / 3
    writer.finish(Status.DIVERGED)
    assert run.status == Status.DIVERGED


def _write_until_killed(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    writer = new_writer(path)
    append_steps(writer, 0, 64)
    writer.flush()
    ready.set()
    while True:
        start = writer.rows("batches/step")
        append_steps(writer, start, start + 64)
        writer.flush()


@pytest.mark.parametrize("attempt", range(3))
def test_a_record_is_read_after_sigkill_and_goes_on(tmp_path: Path, attempt: int) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_write_until_killed, args=(tmp_path / "run.h5", ready))
    process.start()
    assert ready.wait(60)
    process.join(0.05 * attempt)
    process.kill()
    process.join()
    run = Run(tmp_path / "run.h5")
    rows = len(run.snapshot_steps)
    assert rows >= 64
    assert rows % 64 == 0
    assert np.array_equal(run.gamma("conv2"), np.add.outer(np.arange(rows), np.arange(64) / 64).astype(np.float32))


def test_resuming_goes_on_from_the_mark_and_drops_what_came_later(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    writer = new_writer(path)
    append_steps(writer, 0, 150)
    mark = writer.flush()
    append_steps(writer, 150, 190)
    writer.close()
    writer = RunWriter.resume(path, mark, versions={"torch": "3"})
    append_steps(writer, 150, 210)
    assert writer.flush()["batches/step"][0] == 210
    writer.finish(Status.FINISHED)
    whole = new_writer(tmp_path / "whole.h5")
    append_steps(whole, 0, 210)
    whole.finish(Status.FINISHED)
    resumed, unbroken = Run(path), Run(tmp_path / "whole.h5")
    assert resumed.versions == {"torch": "3"}
    assert resumed.config == unbroken.config
    for slot in ("conv2", "dense1"):
        assert np.array_equal(resumed.gamma(slot), unbroken.gamma(slot))
    assert np.array_equal(resumed.batches["loss"], unbroken.batches["loss"])
    assert not list(tmp_path.glob("*.new"))


def test_rows_that_changed_since_the_mark_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    writer = new_writer(path)
    append_steps(writer, 0, 150)
    mark = writer.flush()
    writer.close()
    with h5py.File(path, "r+") as file:
        file["snapshots/gamma/conv2"][77, 3] += 1
    with pytest.raises(RunError, match=r"run.h5: is damaged \(snapshots/gamma/conv2\); OVERWRITE=true starts the run afresh"):
        RunWriter.resume(path, mark, versions={})


def test_rows_that_are_missing_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    writer = new_writer(path)
    append_steps(writer, 0, 10)
    mark = {name: [rows + (name == "batches/step"), crc] for name, (rows, crc) in writer.flush().items()}
    writer.close()
    with pytest.raises(RunError, match=r"is damaged \(batches/step\)"):
        RunWriter.resume(path, mark, versions={})


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run"):
        Run(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is no run: it holds no run.h5"):
        Run(tmp_path)
    (tmp_path / "run.h5").write_bytes(b"not HDF5")
    with pytest.raises(RunError, match=r"run.h5: is damaged .*; OVERWRITE=true starts the run afresh"):
        Run(tmp_path)


def test_a_file_without_our_attributes_is_one_line(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(RunError, match="run.h5: is damaged"):
        Run(tmp_path)


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
    with pytest.raises(RunError, match=r"BATCH_SIZE \(32 there, 16 here\); L2_REG \(0.0 there, 0.1 here\); OVERWRITE=true"):
        check_same_run(run, other.fingerprint())


def test_a_claimed_directory_lets_nobody_else_in(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    assert not directory.is_claimed()
    with directory.claim():
        assert directory.is_claimed()
        with pytest.raises(RunError, match="another process is at this run"), directory.claim():
            pass
    assert not directory.is_claimed()
    with directory.claim():
        pass


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    from batchnorm.errors import ConfigError

    with (
        pytest.raises(ConfigError, match="OUTPUT_DIR: .* cannot be written: Not a directory"),
        RunDirectory(tmp_path / "file" / "run").claim(),
    ):
        pass


def test_configuration_is_saved_beside_the_record(tmp_path: Path) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn")
    assert RunConfig.load(config.directory / "config.yaml") == config


@pytest.mark.parametrize("kept", [0, 47, 100, 500, 3000, 20_000])
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
