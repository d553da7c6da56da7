"""Runs `python -m batchnorm.study` as users do, in a process of its own, and looks at its workers."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from batchnorm.store import RunDirectory
from batchnorm.study.grid import Study
from tests.ready import ready, served

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "batchnorm.study"]
SECONDS_TO_STOP = 180  # its runs' next step is far less away


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, in which the package is found from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def loaded() -> dict[str, str]:
    """Return such an environment in which a study's workers have torch loaded."""
    return ready(environment())


def _environment(command: str, more: dict[str, str]) -> dict[str, str]:
    """Return that of a command; with variables of its own, it starts its workers as users' do."""
    return loaded() if command in ("run", "tune") and not more else environment(**more)


def run(*arguments: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    variables = _environment(arguments[0], more)
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=cwd, env=variables)


class Started:
    """A command that goes on; what it prints goes to a file."""

    def __init__(self, *arguments: str, output: Path, **more: str) -> None:
        self.output = output
        with output.open("w") as file:
            command = [*COMMAND, *arguments]
            variables = _environment(arguments[0], more)
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=variables)

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.output.read_text()

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait until something has happened; fail where the command ends before."""
        while not happened():
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            assert happened(), self.text
            return

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        return _children(self.process.pid)

    def stop(self, number: signal.Signals) -> int:
        """Ask it to stop by a signal, and return its exit code."""
        self.process.send_signal(number)
        wait_for_end(self.process.pid)
        return self.process.wait()


def wait_for_end(pid: int) -> None:
    """Wait until a process that was asked to stop has ended; fail where it goes on, and say what it and its workers do."""
    end = os.pidfd_open(pid)
    try:
        if not select.select([end], [], [], SECONDS_TO_STOP)[0]:
            ours = [child for child in _children(pid) if not gone(child)]
            doing = [_doing(each) for each in (pid, *ours, *served())]
            for each in (pid, *ours):
                os.kill(each, signal.SIGKILL)
            raise AssertionError("goes on though it was asked to stop\n" + "\n".join(doing))
    finally:
        os.close(end)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _doing(pid: int) -> str:
    """Say how a process takes signals, where it waits, and what it has open."""
    try:
        about = Path(f"/proc/{pid}")
        command = (about / "cmdline").read_bytes().replace(b"\0", b" ").decode()[-200:]
        status = [line for line in (about / "status").read_text().splitlines() if line.startswith(("State", "Sig", "ShdPnd"))]
        files = [f"{link.name}: {link.readlink()}" for link in (about / "fd").iterdir()]
        return f"{pid} {command}\n  {' '.join(status)}\n  {(about / 'wchan').read_text()}\n  {', '.join(files)}"
    except OSError as error:
        return f"{pid} {error}"


def gone(pid: int) -> bool:
    """Say whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def process_at(study: Study, index: int) -> int:
    """Return the process that trains a run, 0 where there is none: it has the record open."""
    record = RunDirectory(study.runs[index].config.directory).record.resolve()
    for process in served():
        try:
            if any(link.resolve() == record for link in Path(f"/proc/{process}/fd").iterdir()):
                return process
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return 0
