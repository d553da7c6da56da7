from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchnorm.streams import LastingStream, lasting_output
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
