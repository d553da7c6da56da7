from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from batchnorm.streams import LastingStream, lasting_output, shown_while_it_lasts
from tests.systems import PYTHON, environment


def test_a_closed_pipe_is_told_once_and_written_to_no_more() -> None:
    reading, writing = os.pipe()
    told: list[str] = []
    with os.fdopen(writing, "w", buffering=1) as pipe:
        stream = LastingStream(pipe, "standard error", told.append)
        stream.write("one\n")
        assert os.read(reading, 100) == b"one\n"
        os.close(reading)
        for _ in range(3):
            stream.write("two\n")
            stream.flush()
        os.write(writing, b"a library's own words\n")
    assert told == ["standard error cannot be written (Broken pipe); the run continues without it"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("step", "is_shown"), [(0.4, True), (0.001, False)])
def test_a_terminal_shows_how_far_it_is_once_it_takes_longer_than_a_second(
    step: float, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(1000.0, step)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with closing(shown_while_it_lasts(range(20), "reading")) as items:
            assert list(items) == list(range(20))
        if is_shown and stream.isatty():
            assert "reading" in stream.getvalue() and "/20" in stream.getvalue()
            assert stream.getvalue().endswith("\r") and stream.getvalue().split("\r")[-2].strip() == ""  # cleared away
        else:
            assert stream.getvalue() == ""


def test_a_full_disk_that_has_room_again_is_written_to(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs to mount a disk")
    try:
        told: list[str] = []
        with (disk / "log").open("w", buffering=1) as log:
            stream = LastingStream(log, "standard output", told.append)
            (disk / "filler").write_bytes(b"\0" * 40_000)
            for number in range(2000):
                stream.write(f"line {number} {'.' * 40}\n")
            assert told == ["standard output cannot be written (No space left on device); the run continues without it"]
            (disk / "filler").unlink()
            stream.write("room again\n")
        assert (disk / "log").read_text().endswith("room again\n")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_character_that_the_encoding_lacks_is_escaped() -> None:
    raw = io.BytesIO()
    stream = LastingStream(io.TextIOWrapper(raw, encoding="ascii", write_through=True), "standard output", print)
    stream.writelines(["1 ± 2 ", "\udcff\n"])
    assert raw.getvalue() == b"1 \\xb1 2 \\udcff\n"


def test_the_streams_come_back_after_the_block() -> None:
    before = sys.stdout, sys.stderr
    with lasting_output():
        assert isinstance(sys.stderr, LastingStream)
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    code = "import os, sys; from batchnorm.streams import lasting_output\n"
    code += "with lasting_output():\n  print('x'); print('y', file=sys.stderr)\n"
    code += "  number = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(number, str(number > 2).encode())"
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', *PYTHON, code, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (done.returncode, (tmp_path / "file").read_text()) == (0, "True")
    assert done.stdout == ("x\n" if closed == "2>&-" else "")
    assert done.stderr == ("y\n" if closed == ">&-" else "")
