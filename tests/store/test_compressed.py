from __future__ import annotations

import multiprocessing
import subprocess
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from batchnorm.config import resolve
from batchnorm.errors import RunError
from batchnorm.store import Run, RunLength, RunWriter, Status
from batchnorm.store.compressed import compress
from batchnorm.store.layout import chunk_rows
from tests.recorded import record_run
from tests.store.records import append_steps, new_writer
from tests.systems import PYTHON, environment


def datasets(path: Path) -> dict[str, h5py.Dataset]:
    """Return all datasets, with plain h5py as any reader opens them; the file stays open with them."""
    found: dict[str, h5py.Dataset] = {}
    h5py.File(path, "r").visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return found


def content(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...], bytes]], dict[str, bytes]]:
    """Return each dataset's type, shape and bytes, and each attribute's."""
    with h5py.File(path, "r") as file:
        attributes = {name: np.asarray(value).tobytes() for name, value in file.attrs.items()}
    return {name: (item.dtype.str, item.shape, item[()].tobytes()) for name, item in datasets(path).items()}, attributes


def grown(path: Path, rows: int) -> RunWriter:
    """Begin a record whose numbers wander, and append in the small blocks of epochs."""
    writer = new_writer(path)
    walk = np.random.default_rng(1).normal(0, 1e-4, (rows, 1024)).cumsum(0) + 1
    widths = {"bias of conv1": 32, "gamma of conv2": 64, "beta of conv2": 64, "gamma of dense1": 1024, "beta of dense1": 1024}
    for start in range(0, rows, 31):
        steps = np.arange(start, min(start + 31, rows))
        writer.append("batches", {"step": steps, "batch_loss": steps / 3, "batch_lr": steps * 0 + 0.1})
        writer.append("snapshots", {"step": steps, **{name: walk[steps, :width] for name, width in widths.items()}})
        writer.flush()
    return writer


def test_a_record_that_has_ended_is_compressed_and_keeps_each_bit(tmp_path: Path) -> None:
    for name in ("ended.h5", "growing.h5"):
        grown(tmp_path / name, 500).close()
    compress(tmp_path / "ended.h5")
    assert content(tmp_path / "ended.h5") == content(tmp_path / "growing.h5")
    assert (tmp_path / "growing.h5").stat().st_size > 1.5 * (tmp_path / "ended.h5").stat().st_size
    for name, dataset in datasets(tmp_path / "ended.h5").items():
        if dataset.chunks:
            assert (dataset.compression, dataset.shuffle) == ("gzip", True), name  # every HDF5 reads these
            assert dataset.maxshape[0] is None


@pytest.mark.parametrize("status", [Status.FINISHED, Status.DIVERGED])
def test_to_finish_a_record_compresses_it(tmp_path: Path, status: Status) -> None:
    path = tmp_path / "run.h5"
    writer = grown(path, 200)
    run = Run(path)
    before = run.gamma("dense1"), run.batches["loss"]
    writer.finish(status)
    assert run.status == status
    assert (run.gamma("dense1").tobytes(), run.batches["loss"].tobytes()) == tuple(values.tobytes() for values in before)
    assert run.changed_datasets() == []
    assert datasets(path)["snapshots/gamma/dense1"].compression == "gzip"
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


def test_a_record_that_has_not_ended_is_not_compressed(tmp_path: Path) -> None:
    """In SWMR mode compressed chunks that get longer would leave their old places behind."""
    grown(tmp_path / "run.h5", 100).close()
    assert {dataset.compression for dataset in datasets(tmp_path / "run.h5").values()} == {None}


def test_without_room_for_a_copy_a_record_ends_all_the_same(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "run.h5")
    append_steps(writer, 0, 100)
    (tmp_path / "run.h5.new").mkdir()  # in the way
    writer.finish(Status.FINISHED)
    run = Run(tmp_path / "run.h5")
    assert (run.status, len(run.snapshot_steps), run.changed_datasets()) == (Status.FINISHED, 100, [])


NO_ROOM = """\
import resource, sys
from pathlib import Path
from batchnorm.store.compressed import compress
path, whole = Path(sys.argv[1]), int(sys.argv[2])
for limit in (0, 3_000, 20_000, 90_000, whole // 2, whole - 5_000, whole - 100):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        compress(path)
    except OSError:
        print("no room", sorted(file.name for file in path.parent.iterdir()))
"""


def test_a_disk_without_room_costs_nothing_but_the_room(tmp_path: Path) -> None:
    for name in ("record", "compressed"):
        (tmp_path / name).mkdir()
        grown(tmp_path / name / "run.h5", 300).close()
    path = tmp_path / "record" / "run.h5"
    before = path.read_bytes()
    compress(tmp_path / "compressed" / "run.h5")
    size = (tmp_path / "compressed" / "run.h5").stat().st_size
    done = subprocess.run([*PYTHON, NO_ROOM, path, str(size)], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "no room ['run.h5']\n" * 7
    assert path.read_bytes() == before


def test_rows_that_changed_are_not_put_in_place_of_the_record(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    grown(path, 100).close()
    with h5py.File(path, "r+") as file:
        file["snapshots/beta/conv2"][77, 3] += 1
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"run.h5: is damaged \(snapshots/beta/conv2\)"):
        compress(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


def test_a_record_of_version_1_is_compressed_too(tmp_path: Path) -> None:
    with tarfile.open(Path(__file__).parent / "version_1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    for path in tmp_path.rglob("run.h5"):
        before = content(path)
        compress(path)
        assert content(path) == before
        assert Run(path).length.epochs


def _compress_until_killed(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    while True:
        compress(path)
        ready.set()


@pytest.mark.parametrize("attempt", range(3))
def test_a_kill_leaves_the_whole_record(tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "run.h5"
    writer = grown(path, 300)
    writer.finish(Status.FINISHED)
    before = content(path)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_compress_until_killed, args=(path, ready))
    process.start()
    assert ready.wait(60)
    process.join(0.02 * attempt)
    process.kill()
    process.join()
    assert content(path) == before
    assert Run(path).status == Status.FINISHED


def test_a_short_run_takes_what_its_rows_ask(tmp_path: Path) -> None:
    """With room for 64 rows in each dataset it took 1.2 MB."""
    config = record_run(tmp_path, problem="digits_2c2d_bn", epochs=4, recorded_epochs=2, status=Status.CUT_OFF)
    assert Run(config.directory).ended is None
    assert (config.directory / "run.h5").stat().st_size < 250_000
    ended = record_run(tmp_path / "ended", problem="digits_2c2d_bn", epochs=4)
    assert (ended.directory / "run.h5").stat().st_size < 200_000


def test_a_growing_record_has_room_for_no_more_rows_than_the_run_will_have() -> None:
    keys = {"problem": "digits_2c2d_bn", "random_seed": 1}
    config = resolve({**keys, "log_every_steps": 7, "measure_every": 2})
    rows = {"epochs": 6, "batches": 15, "snapshots": 16, "updates": 4, "probes": 4}
    assert {axis: chunk_rows(axis, config, RunLength(100, 5, 20)) for axis in rows} == rows
    assert chunk_rows("snapshots", config, RunLength(10_000, 500, 20)) == 64
    none = resolve({**keys, "log_every_steps": 0})
    assert [chunk_rows(axis, none, RunLength(100, 5, 20)) for axis in ("batches", "snapshots")] == [1, 1]
