from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from batchnorm.analysis.__main__ import main
from batchnorm.store import Run, RunDirectory, Status
from batchnorm.store import writer as store_writer
from batchnorm.store.compressed import is_compressed
from tests.analysis.conftest import cut_off, record


@pytest.fixture
def uncompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a finished run whose record was not compressed."""
    with monkeypatch.context() as patch:
        patch.setattr(store_writer, "compress", lambda _: None)
        return record(tmp_path / "output")


def test_records_that_ended_become_smaller_and_the_others_stay(
    uncompressed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    growing = cut_off(tmp_path / "output", random_seed=2)
    before = Run(uncompressed).gamma("dense1").tobytes()
    size = (uncompressed / "run.h5").stat().st_size
    assert main(["compress", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["run", str(uncompressed), "freed"]
    assert out.endswith(" in 1 record\n") and err == ""
    assert (uncompressed / "run.h5").stat().st_size < size
    assert Run(uncompressed).gamma("dense1").tobytes() == before
    assert [is_compressed(run / "run.h5") for run in (uncompressed, growing)] == [True, False]
    assert main(["compress", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing to compress: each record that has ended is compressed\n"


def test_what_is_in_use_or_a_link_is_named(uncompressed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "run.h5").symlink_to(uncompressed / "run.h5")
    assert main(["compress", str(linked)]) == 2
    assert capsys.readouterr().err == f"error: {linked / 'run.h5'}: is a link; give the run's own path: {uncompressed}\n"
    with RunDirectory(uncompressed).claim():
        assert main(["compress", str(uncompressed)]) == 2
        assert "another process is running it" in capsys.readouterr().err
    (uncompressed / "run.h5.new").mkdir()  # in the way
    assert main(["compress", str(uncompressed)]) == 2
    assert "run.h5: cannot be written (" in capsys.readouterr().err
    assert Run(uncompressed).status == Status.FINISHED and not is_compressed(uncompressed / "run.h5")


def test_records_of_version_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(Path(__file__).parents[1] / "store" / "version_1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    assert main(["compress", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(" in 3 records\n")
