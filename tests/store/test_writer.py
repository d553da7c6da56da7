from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from batchnorm.errors import RunError
from batchnorm.quantities import chosen
from batchnorm.store import Run, RunWriter, SlotParts, Status
from tests.store.records import append_steps, facts_of, new_writer


def test_a_record_is_read_while_it_grows(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "run.h5")
    run = Run(tmp_path / "run.h5")
    for stop in (7, 100, 301):
        append_steps(writer, writer.rows("batches"), stop)
        writer.flush()
        assert run.snapshot_steps.tolist() == list(range(stop))
        assert run.gamma("conv2").shape == (stop, 64)
        assert run.status == Status.CUT_OFF
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
        start = writer.rows("batches")
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
    writer = RunWriter.resume(path, mark=mark, **facts_of(), versions={"torch": "3"})
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


def test_a_record_goes_on_whose_slots_have_nothing_to_show(tmp_path: Path) -> None:
    """Convs without a bias and without a norm: what is recorded of snapshots is their steps."""
    facts = {**facts_of(), "slots": [SlotParts("conv1", 32, frozenset({"layer"}))]}
    writer = RunWriter.create(tmp_path / "run.h5", **facts, versions={})
    writer.append("snapshots", {"step": [0, 5]})
    mark = writer.flush()
    writer.close()
    writer = RunWriter.resume(tmp_path / "run.h5", mark=mark, **facts, versions={})
    assert writer.rows("snapshots") == 2
    assert writer.flush() == mark
    writer.close()


def test_a_record_goes_on_without_a_quantity_that_it_did_not_begin_with(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "run.h5")
    mark = writer.flush()
    writer.close()
    more = chosen(["weights", "statistics_gap"])
    writer = RunWriter.resume(tmp_path / "run.h5", mark=mark, **facts_of(), versions={}, quantities=more)
    assert writer.flush() == mark
    assert not {quantity.axis for quantity in writer.quantities} & {"updates", "probes"}
    writer.close()


def test_rows_that_changed_since_the_mark_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    writer = new_writer(path)
    append_steps(writer, 0, 150)
    mark = writer.flush()
    writer.close()
    with h5py.File(path, "r+") as file:
        file["snapshots/gamma/conv2"][77, 3] += 1
    with pytest.raises(
        RunError,
        match=r"run.h5: is damaged \(snapshots/gamma/conv2\); OUTPUT_DIR=.*; OVERWRITE=true starts the run again",
    ):
        RunWriter.resume(path, mark=mark, **facts_of(), versions={})


def test_rows_that_are_missing_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    writer = new_writer(path)
    append_steps(writer, 0, 10)
    mark = {name: [rows + (name == "batches/step"), crc] for name, (rows, crc) in writer.flush().items()}
    writer.close()
    with pytest.raises(RunError, match=r"is damaged \(batches/step\)"):
        RunWriter.resume(path, mark=mark, **facts_of(), versions={})
