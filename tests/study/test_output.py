"""Output that goes away, with real pipes, terminals and disks: a study loses its output and not its work."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm.errors import ExitCode
from batchnorm.store import RunDirectory, Status
from batchnorm.study.grid import Study, read_study
from batchnorm.study.status import standings
from tests.study.commands import COMMAND, ROOT, loaded, wait_for_end

QUICKSTART = "configs/studies/quickstart_digits.yaml"
Write = Callable[..., tuple[str, Study]]


@pytest.fixture
def write(tmp_path: Path, small_images: Path) -> Write:
    """Return a function that writes a study of three runs, of so many epochs each."""

    def to_file(*, epochs: int) -> tuple[str, Study]:
        path = tmp_path / "small.yaml"
        keys = f"PROBLEM: mnist_mlp_bn\nRANDOM_SEED: [1, 2, 3]\nNUM_EPOCHS: {epochs}\nBATCH_SIZE: 32\n"
        path.write_text(f"{keys}OUTPUT_DIR: {tmp_path / 'output'}\nOBS_DATASETS: {small_images}\n")
        return str(path), read_study(path, {})

    return to_file


def shell(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which "$@" is the command with its arguments."""
    command = ["bash", "-c", script, "bash", *COMMAND, *arguments]
    return subprocess.run(command, cwd=ROOT, env=loaded(), capture_output=True, text=True)


def statuses(study: Study) -> list[Status]:
    return [each.status for each in standings(study)]


@pytest.mark.parametrize(
    "script",
    [
        '"$@" | head -n 1 >&2; exit "${PIPESTATUS[0]}"',
        '"$@" >/dev/full 2>&1',
        '"$@" >&- 2>&- <&-',
    ],
    ids=["head", "full disk", "all closed"],
)
def test_a_study_goes_on_to_its_end(script: str, write: Write) -> None:
    path, study = write(epochs=1)
    done = shell(script, "run", path, "--workers=2")
    assert done.returncode == ExitCode.FINISHED, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert statuses(study) == [Status.FINISHED] * 3


def test_ctrl_c_reaches_a_study_whose_reader_died_first(write: Write) -> None:
    """As in `run S | tee log`: the terminal sends SIGINT to both, and tee goes at once."""
    path, study = write(epochs=4000)
    command = [*COMMAND, "run", path, "--workers=2"]
    process = subprocess.Popen(command, cwd=ROOT, env=loaded(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    wait_for_checkpoints(process, study)
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    wait_for_end(process.pid)
    assert process.wait() == ExitCode.INTERRUPTED
    assert statuses(study) == [Status.CUT_OFF, Status.CUT_OFF, Status.MISSING]
    for run in study.runs[:2]:
        assert "stopped by SIGTERM" in RunDirectory(run.config.directory).log.read_text()


def wait_for_checkpoints(process: subprocess.Popen[bytes], study: Study) -> None:
    while not all(RunDirectory(run.config.directory).checkpoint.exists() for run in study.runs[:2]):
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"exit code {process.returncode}")


def test_a_terminal_that_is_closed_under_nohup(write: Write) -> None:
    path, study = write(epochs=2)
    variables = loaded()
    pid, terminal = pty.fork()
    if not pid:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # all that nohup does, where the output goes to the terminal still
        os.chdir(ROOT)
        os.execve(COMMAND[0], [*COMMAND, "run", path, "--workers=1"], variables)
    assert os.read(terminal, 1)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == ExitCode.FINISHED
    assert statuses(study) == [Status.FINISHED] * 3


def test_a_terminal_that_is_closed_stops_a_study_as_ctrl_c_does(write: Write) -> None:
    path, study = write(epochs=4000)
    variables = loaded()
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.execve(COMMAND[0], [*COMMAND, "run", path, "--workers=2"], variables)
    while not all(RunDirectory(run.config.directory).checkpoint.exists() for run in study.runs[:2]):
        if select.select([terminal], [], [], 0.02)[0]:
            assert os.read(terminal, 4096)
    os.close(terminal)
    wait_for_end(pid)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == ExitCode.INTERRUPTED
    assert statuses(study) == [Status.CUT_OFF, Status.CUT_OFF, Status.MISSING]


@pytest.mark.parametrize("arguments", [["list", QUICKSTART], ["status", QUICKSTART], ["missing", QUICKSTART], ["--help"]])
def test_commands_that_inform_end_quietly(arguments: list[str], tmp_path: Path) -> None:
    arguments = [*arguments, f"OUTPUT_DIR={tmp_path}"]
    nobody, end = os.pipe()
    os.close(nobody)
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, env=loaded(), stdout=end, stderr=subprocess.PIPE, text=True
    )  # as | true, which has surely ended
    os.close(end)
    assert (done.returncode, done.stderr) == (ExitCode.FINISHED, "")
    for script in ('"$@" | head -n 0; exit "${PIPESTATUS[0]}"', '"$@" >&-', '"$@" >&- 2>&- <&-'):
        done = shell(script, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (ExitCode.FINISHED, "", "")
    done = shell('"$@" >/dev/full', *arguments)  # an empty list would be a lie
    assert done.returncode == ExitCode.BAD_INPUT
    assert done.stderr == "error: standard output: cannot be written: No space left on device\n"


def test_errors_do_not_come_among_what_was_asked_for(tmp_path: Path) -> None:
    done = shell('"$@" 2>&-', "list", "absent.yaml")
    assert (done.returncode, done.stdout) == (ExitCode.BAD_INPUT, "")


def test_text_that_the_encoding_lacks_is_spelt_out(tmp_path: Path) -> None:
    done = shell('PYTHONIOENCODING=ascii "$@"', "list", QUICKSTART, f"OUTPUT_DIR={tmp_path}/läufe")
    assert (done.returncode, done.stderr) == (ExitCode.FINISHED, "")
    assert [line.split()[-1].startswith(rf"{tmp_path}/l\xe4ufe/") for line in done.stdout.splitlines()] == [True] * 5
    assert shell('"$@"', "list", QUICKSTART, "OUTPUT_DIR=" + "long" * 60).stdout.count("\n") == 5


def maps(process: subprocess.Popen[str], library: str) -> bool:
    try:
        return library in Path(f"/proc/{process.pid}/maps").read_text()
    except ProcessLookupError:
        return False


@pytest.mark.parametrize("library", ["_multiarray_umath", "h5py"])
def test_ctrl_c_while_modules_are_loaded_is_no_traceback(library: str, tmp_path: Path) -> None:
    command = [*COMMAND, "run", QUICKSTART, f"OUTPUT_DIR={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, env=loaded(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not maps(process, library):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed = "".join(process.communicate())
    assert "Traceback" not in printed
    if process.returncode != ExitCode.INTERRUPTED:  # where it had loaded all by then
        assert (process.returncode, printed) == (-signal.SIGINT, "")  # 130 to a shell
