from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchnorm.analysis.bn_plot_functions import performance_across_ablations
from batchnorm.analysis.export import export
from batchnorm.analysis.files import whole_file
from batchnorm.analysis.summary import summary
from batchnorm.analysis.tables import export as export_table
from batchnorm.errors import RunError

ROOT = Path(__file__).parents[2]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_there_when_it_is_complete(tmp_path: Path) -> None:
    place = tmp_path / "new" / "a.csv"
    for content in (b"first", b"second"):
        before = place.read_bytes() if place.exists() else None
        with whole_file(place) as file:
            file.write(content)
            file.flush()
            assert (place.read_bytes() if place.exists() else None) == before
        assert place.read_bytes() == content
    assert list(place.parent.iterdir()) == [place]
    assert place.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.csv").symlink_to(tmp_path / "elsewhere" / "b.csv")
    with whole_file(tmp_path / "a.csv") as file:
        file.write(b"content")
    assert (tmp_path / "a.csv").is_symlink()
    assert (tmp_path / "elsewhere" / "b.csv").read_bytes() == b"content"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    place = tmp_path / "a.csv"
    place.write_bytes(b"before")
    with pytest.raises(error), whole_file(place) as file:
        file.write(b"half")
        raise error
    assert place.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("kind", ["a.csv", "a.csv.gz", "a.json", "table", "figure"])
def test_a_disk_that_fills_up_leaves_no_half_file(output: Path, tmp_path: Path, kind: str) -> None:
    table = summary(output)
    write: dict[str, Callable[[], object]] = {
        "table": lambda: export_table(table, tmp_path / "table.md"),
        "figure": lambda: performance_across_ablations(list(output.glob("*__0,0,1/*/*/*")), save_dir=tmp_path),
    }
    with room_for(500), pytest.raises(RunError, match="cannot be written.*: File too large") as refused:
        write.get(kind, lambda: export(output, tmp_path / kind))()
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(RunError, match=r"a\.csv: cannot be written: Is a directory"), whole_file(tmp_path / "a.csv"):
        pass
    nowhere = Path("/dev/null/a.csv")
    with pytest.raises(RunError, match="the table cannot be written: Not a dir"), whole_file(nowhere, what="the table"):
        pass


def test_ctrl_c_ends_a_command_that_writes_and_leaves_nothing(output: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "batchnorm.analysis", "export", str(output), "--quantity", "gamma"]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "a.csv")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, text=True
    ) as process:
        while process.poll() is None and not any(path.stat().st_size for path in tmp_path.iterdir()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stdout and process.stdout.read() == ""
    assert process.returncode == -signal.SIGINT  # a shell says 130
    assert list(tmp_path.iterdir()) == []
