"""The claim on real and on failing file systems, by other processes and other users."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest

from batchnorm.errors import RunClaimedError
from batchnorm.store import Run, RunDirectory, Status
from tests.recorded import record_run
from tests.systems import PYTHON, as_stranger, environment, failing, open_folder, read_only

HOLD = """\
import sys
from pathlib import Path
from batchnorm.store import RunDirectory
with RunDirectory(Path(sys.argv[1])).claim():
    print("held", flush=True)
    sys.stdin.read()
"""
LOOK = "import sys; from pathlib import Path; from batchnorm.store import RunDirectory as D\n"
LOOK += "print(D(Path(sys.argv[1])).is_claimed())"
STATUS = "import sys; from batchnorm.store import Run; print(Run(sys.argv[1]).status.value)"
WITHOUT_FLOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def holding(directory: Path, variables: dict[str, str]) -> subprocess.Popen[str]:
    """Start a process that claims a directory, up to the end of its input."""
    command = [*PYTHON, HOLD, str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate()
    return process.returncode


def run(code: str, directory: Path, variables: dict[str, str]) -> tuple[str, str]:
    done = subprocess.run([*PYTHON, code, str(directory)], capture_output=True, text=True, env=variables, input="")
    return done.stdout.strip(), done.stderr.strip().splitlines()[-1] if done.stderr else ""


def test_a_claim_names_who_holds_it_and_what_to_do(tmp_path: Path) -> None:
    holder = holding(tmp_path, environment())
    lock = tmp_path / ".lock"
    text = f"process {holder.pid} on {socket.gethostname()}\\); if that process has ended, remove {lock}"
    with pytest.raises(RunClaimedError, match=text), RunDirectory(tmp_path).claim():
        pass
    assert ended(holder) == 0
    with RunDirectory(tmp_path).claim():
        assert RunDirectory(tmp_path).is_claimed() is True
    assert lock.read_text() == ""


@pytest.mark.parametrize("code", WITHOUT_FLOCK, ids=errno.errorcode.__getitem__)
def test_where_flock_is_missing_a_claim_keeps_others_out(code: int, tmp_path: Path) -> None:
    variables = failing(FAIL_FLOCK=code)
    holder = holding(tmp_path, variables)
    assert run(LOOK, tmp_path, variables) == ("True", "")
    assert RunDirectory(tmp_path).is_claimed() is True  # though flock works here, and is free
    printed, error = run(HOLD, tmp_path, variables)
    assert printed == ""
    assert f"another process is running it (process {holder.pid} on {socket.gethostname()}); if" in error
    with pytest.raises(RunClaimedError, match=f"process {holder.pid} on"), RunDirectory(tmp_path).claim():
        pass
    assert ended(holder) == 0
    assert run(LOOK, tmp_path, variables) == ("False", "")
    assert run(HOLD, tmp_path, variables) == ("held", "")


def test_a_claim_of_a_dead_process_of_this_host_is_free_without_flock(tmp_path: Path) -> None:
    variables = failing(FAIL_FLOCK=errno.ENOLCK)
    holder = holding(tmp_path, variables)
    holder.kill()
    ended(holder)
    assert (tmp_path / ".lock").read_text().startswith(f"{holder.pid}\n")
    assert run(LOOK, tmp_path, variables) == ("False", "")
    assert run(HOLD, tmp_path, variables) == ("held", "")
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


def test_another_process_of_the_same_id_is_not_the_holder(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(f"{os.getpid()}\n{socket.gethostname()}\n1\ncontent\n")
    assert RunDirectory(tmp_path).is_claimed() is False


def test_a_claim_of_another_host_is_unknown_until_somebody_removes_it(tmp_path: Path) -> None:
    variables = failing(FAIL_FLOCK=errno.ENOLCK)
    lock = tmp_path / ".lock"
    lock.write_text("17\nelsewhere\n1234\nflock\n")
    assert run(LOOK, tmp_path, variables) == ("None", "")
    assert RunDirectory(tmp_path).is_claimed() is False  # here flock works, and is free
    printed, error = run(HOLD, tmp_path, variables)
    assert printed == ""
    assert error.endswith(f"(process 17 on elsewhere); if that process has ended, remove {lock}")
    lock.unlink()
    assert run(HOLD, tmp_path, variables) == ("held", "")


def test_claims_of_many_processes_at_once_are_one(tmp_path: Path) -> None:
    variables = failing(FAIL_FLOCK=errno.ENOSYS)
    (tmp_path / ".lock").write_text(f"{2**22 + 1}\n{socket.gethostname()}\n1\ncontent\n")  # of a process that is dead
    command = [*PYTHON, HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=variables)
        for _ in range(4)
    ]
    printed = []
    for process in processes:
        assert process.stdout is not None
        printed.append(process.stdout.readline())
    for process in processes:
        process.communicate()
    assert sorted(printed) == ["", "", "", "held\n"]


def test_who_died_while_signing_is_named_by_the_file_that_is_left(tmp_path: Path) -> None:
    turn = tmp_path / ".lock.turn"
    turn.write_text("")
    printed, error = run(HOLD, tmp_path, failing(FAIL_FLOCK=errno.ENOLCK))
    assert printed == ""
    assert error.endswith(f"another process is running it; if that process has ended, remove {turn}")
    turn.write_text(f"{2**22 + 1}\n{socket.gethostname()}\n1\ncontent\n")
    assert run(HOLD, tmp_path, failing(FAIL_FLOCK=errno.ENOLCK)) == ("held", "")


def test_looking_writes_nothing(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / "nowhere").is_claimed() is False
    with RunDirectory(tmp_path).claim():
        pass
    lock = tmp_path / ".lock"
    lock.chmod(0o444)
    before = lock.stat()
    assert RunDirectory(tmp_path).is_claimed() is False
    assert (lock.stat().st_mtime_ns, lock.stat().st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


def test_an_interrupted_run_on_a_read_only_mount_is_cut_off(tmp_path: Path) -> None:
    config = record_run(tmp_path / "output", problem="digits_2c2d_bn", recorded_epochs=1, status=Status.CUT_OFF)
    with RunDirectory(config.directory).claim():
        pass
    with read_only(tmp_path / "output") as seen:
        run_there = Run(seen / config.directory.relative_to(tmp_path / "output"))
        stood = run_there.status
        with RunDirectory(config.directory).claim():
            assert (stood, run_there.status) == (Status.CUT_OFF, Status.RUNNING)


def test_another_users_run_is_looked_at_and_unknown_where_that_is_forbidden() -> None:
    with open_folder() as folder:
        config = record_run(folder, problem="digits_2c2d_bn", recorded_epochs=1, status=Status.CUT_OFF)
        directory = RunDirectory(config.directory)
        with directory.claim():
            assert as_stranger(STATUS, directory.path) == "running"
        assert as_stranger(STATUS, directory.path) == "interrupted"
        directory.lock.chmod(0o600)
        assert as_stranger(STATUS, directory.path) == "unknown"
