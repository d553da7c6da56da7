"""A process that is handed to the server of `tests.ready` looks as if it had been started in the ordinary way."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ready import ready, served

pytestmark = pytest.mark.slow
SCRIPT = """\
import os, signal, sys, time
if sys.stdout:
    print(sys.argv[1:], os.getcwd(), os.environ.get("MINE"), "torch" in sys.modules, __name__, flush=True)
exec(sys.argv[1])
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Return a command that runs the Python code that follows; a script of this name is handed over."""
    (tmp_path / "run_trainingLoop.py").write_text(SCRIPT)
    return [sys.executable, "run_trainingLoop.py"]


@pytest.mark.parametrize(
    ("code", "ended"),
    [("0", 0), ("sys.exit(75)", 75), ("sys.exit('told')", 1), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", -9)],
)
def test_arguments_folder_environment_streams_and_end(command: list[str], tmp_path: Path, code: str, ended: int) -> None:
    variables = ready({**os.environ, "MINE": "yes"})
    done = subprocess.run([*command, code], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (ended, f"{[code]} {tmp_path} yes True __main__\n")
    told = {"sys.exit('told')": "told", "1 / 0": "ZeroDivisionError: division by zero"}.get(code, "")
    assert done.stderr.splitlines()[-1:] == [told] * bool(told)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_signals_come_through(command: list[str], tmp_path: Path, number: signal.Signals) -> None:
    waiting = [*command, "print(os.getpid(), flush=True); time.sleep(600)"]
    with subprocess.Popen(
        waiting, cwd=tmp_path, env=ready(os.environ), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as started:
        assert started.stdout
        _, pid = started.stdout.readline(), int(started.stdout.readline())
        assert pid in served()
        end = os.pidfd_open(pid)
        started.send_signal(number)
    assert started.returncode == -number
    assert select.select([end], [], [], 60)[0]
    os.close(end)


def test_closed_streams_and_pipes_are_as_they_were(command: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    code = f"os.write({writing}, repr([sys.stdin, sys.stdout, sys.stderr is None]).encode())"
    shell = ["bash", "-c", '"$@" >&- <&-', "bash", *command, code]
    subprocess.run(shell, cwd=tmp_path, env=ready(os.environ), pass_fds=[writing], check=True)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "[None, None, False]"
