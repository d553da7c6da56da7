"""The command as a process, with the streams and the environment that shells and notebooks give it.

Where the environment is not what is tested, processes have their libraries loaded (`tests.ready`).
"""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from batchnorm.analysis.summary import MEASURES
from tests.analysis.conftest import record
from tests.ready import ready

ANALYSIS = (sys.executable, "-m", "batchnorm.analysis")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "PYTHONUNBUFFERED")}


def variables(more: dict[str, str]) -> dict[str, str]:
    return {**ENVIRONMENT, **more} if more else ready(ENVIRONMENT)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "output"
    for seed in (1, 2):
        record(folder, position="none", random_seed=seed)
        record(folder, position="0,0,1", random_seed=seed)
    return folder


def in_bash(redirected: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the analysis with its streams as bash redirects them."""
    command = f"{shlex.join([*ANALYSIS, *map(str, arguments)])} {redirected}"
    return subprocess.run(["bash", "-c", command], capture_output=True, check=False, env=variables(environment))


def into_closed_pipe(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    reading, writing = os.pipe()
    os.close(reading)
    command, env = [*ANALYSIS, *map(str, arguments)], variables(environment)
    try:
        return subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, env=env)
    finally:
        os.close(writing)


@pytest.mark.parametrize("arguments", ["runs OUTPUT", "summary OUTPUT", "--help", "runs --help"])
def test_a_reader_that_has_enough_is_no_error(study: Path, arguments: str) -> None:
    for environment in ({}, {"PYTHONUNBUFFERED": "1"}):
        done = into_closed_pipe(*arguments.replace("OUTPUT", str(study)).split(), **environment)
        assert (done.returncode, done.stderr) == (0, b"")


def test_figures_are_drawn_though_nobody_reads_their_names(study: Path, tmp_path: Path) -> None:
    done = into_closed_pipe("surface", study, "--mask", "001", "--save-dir", tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("redirected", [">&-", "<&- >&-", ">&- 2>&-"])
def test_closed_streams_end_nothing(study: Path, redirected: str) -> None:
    done = in_bash(redirected, "summary", study)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_errors_never_go_where_results_belong(study: Path) -> None:
    done = in_bash("2>&-", "runs", study / "nowhere")
    assert (done.returncode, done.stdout) == (2, b"")
    assert in_bash("2>/dev/full", "runs", study / "nowhere").returncode == 2
    assert len(in_bash("2>&-", "runs", study).stdout.splitlines()) == 5


@pytest.mark.parametrize("arguments", ["runs OUTPUT", "--help"])
def test_a_full_disk_as_output_is_one_line(study: Path, arguments: str) -> None:
    done = in_bash(">/dev/full", *arguments.replace("OUTPUT", str(study)).split())
    assert (done.returncode, done.stderr) == (2, b"error: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("environment", "sign"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "+/-"),
        ({"LC_ALL": "C"}, "+/-"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "+/-"),
        ({"LC_ALL": "C.UTF-8"}, "±"),
    ],
)
def test_the_sign_is_one_that_the_encoding_has(study: Path, environment: dict[str, str], sign: str) -> None:
    done = in_bash("", "summary", study, "--mask", "none", **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    header, row = done.stdout.decode().splitlines()
    assert row.count(f" {sign} ") == len(MEASURES)
    assert header.index("time (s)") == row.index(f"41.0 {sign} 0.0")  # columns stay aligned


def test_names_that_are_no_text_come_out_as_they_are(tmp_path: Path) -> None:
    record(tmp_path / "output")
    strange = os.fsencode(tmp_path) + b"/caf\xe9"
    os.rename(os.fsencode(tmp_path / "output"), strange)  # noqa: PTH104
    record(tmp_path / "plain")
    done = in_bash("", "runs", tmp_path, LC_ALL="C.UTF-8")
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert strange in done.stdout


def test_a_notebooks_backend_is_of_no_concern(study: Path, tmp_path: Path) -> None:
    environment = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = in_bash("", "performance", study, "--save-dir", tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_while_libraries_are_imported_ends_quietly(study: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "batchnorm.analysis", "summary", str(study)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr and process.stdout
        next(line for line in process.stderr if line.endswith("numpy.version\n"))
        process.send_signal(signal.SIGINT)
        told = process.stderr.read() + process.stdout.read()
    assert process.returncode == -signal.SIGINT  # a shell says 130
    assert [line for line in told.splitlines() if not line.startswith("import time:")] == []


def on_a_terminal(width: int, *arguments: object) -> list[str]:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with subprocess.Popen([*ANALYSIS, *map(str, arguments)], stdout=its, stderr=its, env=variables({})):
        os.close(its)
        text = b""
        while block := _read(ours):
            text += block
    os.close(ours)
    return text.decode().splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: the other side is closed
        return b""


@pytest.mark.parametrize("width", [60, 80, 130])
def test_a_summary_fits_the_terminal(study: Path, width: int) -> None:
    lines = on_a_terminal(width, "summary", study)
    assert max(map(len, lines)) <= width
    assert "problem: digits_2c2d_bn" in lines[0]
    text = "\n".join(lines)
    assert text.count("digits_2c2d_bn") == 1
    for count in ("seeds", "diverged", "unfinished"):
        assert f"{count}:" not in text and count in text
    assert ("--wide" in text and "time (s)" in text) == ("41.0 ± 0.0" not in text)


def test_runs_fit_the_terminal(study: Path) -> None:
    lines = on_a_terminal(60, "runs", study)
    assert max(map(len, lines)) <= 60
    assert "status: finished" in lines[0] and any(line.startswith("no room for: path; --wide") for line in lines)


def test_rows_are_whole_where_asked_for_or_where_nobody_looks(study: Path) -> None:
    for command in ("summary", "runs"):
        whole = in_bash("", command, study).stdout.decode().splitlines()
        assert len(whole) == (3 if command == "summary" else 5)
        assert all("digits_2c2d_bn" in row for row in whole[1:])
        assert on_a_terminal(60, command, study, "--wide") == whole


def test_formats_for_files_are_whole_on_a_terminal_too(study: Path) -> None:
    assert len(on_a_terminal(60, "summary", study, "--format", "csv")) == 3
    assert not any("--wide" in line for line in on_a_terminal(60, "summary", study, "--format", "latex"))
