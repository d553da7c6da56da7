"""Records that are healthy and cannot be read, told from records whose content is bad."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import h5py
import pytest

from batchnorm.config import RunConfig
from batchnorm.errors import RunError
from batchnorm.store import Run, RunDirectory, Status, stand
from batchnorm.store.hdf5 import is_whole, open_for_reading
from tests.recorded import record_run
from tests.systems import PYTHON, as_stranger, failing, open_folder

READ = """\
import sys
from pathlib import Path
from batchnorm.store import Run, stand
try:
    run = Run(sys.argv[1])
    print(len(run.gamma("conv1")))
except Exception as error:
    print(type(error).__name__, error)
standing = stand(Path(sys.argv[1]), {})
print(standing.status.value, standing.reason)
"""
REFUSED = """\
import sys
from pathlib import Path
from batchnorm.store import stand
standing = stand(Path(sys.argv[1]), {})
print(standing.status.value, standing.reason)
"""


@pytest.fixture
def recorded(tmp_path: Path) -> RunConfig:
    return record_run(tmp_path, problem="digits_2c2d_bn")


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"swmr": True},
        {"locking": False},
        {"locking": "best-effort"},
        {"libver": "latest"},
        {"swmr": True, "locking": False},
    ],
    ids=str,
)
def test_a_record_is_read_beside_an_open_handle(recorded: RunConfig, mode: str, options: dict[str, Any]) -> None:
    if mode == "r+" and options.get("swmr"):
        options = {**options, "swmr": False}
    with h5py.File(recorded.directory / "run.h5", mode, **options) as file:
        run = Run(recorded.directory)
        assert run.status == Status.FINISHED
        assert run.gamma("conv1").tobytes() == file["snapshots/gamma/conv1"][()].tobytes()
        assert stand(recorded.directory, {**recorded.fingerprint()}).status == Status.FINISHED
    assert Run(recorded.directory).status == Status.FINISHED


@pytest.mark.parametrize(("call", "code"), [("FAIL_READ", errno.EIO), ("FAIL_OPEN", errno.EMFILE), ("FAIL_OPEN", errno.EACCES)])
def test_what_the_system_does_not_let_us_read_is_not_damaged(recorded: RunConfig, call: str, code: int) -> None:
    variables = failing(**{call: code}, FAIL_PATH="run.h5")
    command = [*PYTHON, READ, str(recorded.directory)]
    printed = subprocess.run(command, capture_output=True, text=True, env=variables, check=True).stdout.splitlines()
    record = recorded.directory / "run.h5"
    assert printed == [
        f"RunError {record}: cannot be read ({os.strerror(code)})",
        f"unusable {record}: cannot be read ({os.strerror(code)})",
    ]


def test_reads_that_fail_after_the_file_is_open(recorded: RunConfig) -> None:
    """EIO in the midst of the rows, which HDF5 tells in another way."""
    code = READ.replace("    print(len(run", "    import os; os.environ['FAIL_READ'] = '5'\n    print(len(run")
    done = subprocess.run(
        [*PYTHON, code, str(recorded.directory)], capture_output=True, text=True, env=failing(FAIL_PATH="run.h5")
    )
    assert done.stdout.startswith(f"RunError {recorded.directory / 'run.h5'}: cannot be read (Input/output error)\n"), done


def test_bad_content_is_damaged(recorded: RunConfig) -> None:
    record = recorded.directory / "run.h5"
    record.write_bytes(record.read_bytes()[:500])
    with pytest.raises(RunError, match=r"is damaged \(.*OVERWRITE=true"):
        Run(recorded.directory)


def test_another_users_directory_is_one_reason() -> None:
    with open_folder() as folder:
        config = record_run(folder, problem="digits_2c2d_bn")
        record = config.directory / "run.h5"
        told = f"unusable {record}: cannot be read (Permission denied)"
        record.chmod(0o600)
        assert as_stranger(REFUSED, config.directory) == told
        record.chmod(0o644)
        assert as_stranger(REFUSED, config.directory).startswith("unusable ")  # the fingerprint {} is another run's
        config.directory.parent.chmod(0o700)
        assert as_stranger(REFUSED, config.directory) == told


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for name, reason in (("a" * 300, "File name too long"), ("a\0b", "embedded null byte")):
        standing = stand(tmp_path / name, {})
        assert (standing.status, standing.run) == (Status.UNUSABLE, None)
        assert reason in standing.reason
        with pytest.raises(RunError, match=reason):
            Run(tmp_path / name)


def test_a_name_of_bytes_that_are_no_text_is_read(recorded: RunConfig) -> None:
    strange = recorded.directory.with_name("\udcff")
    recorded.directory.rename(strange)
    assert Run(strange).status == Status.FINISHED


def test_a_closed_record_is_known_to_be_whole_and_others_are_not(recorded: RunConfig) -> None:
    record = RunDirectory(recorded.directory).record
    closed = record.read_bytes()
    for content, whole in ((closed, True), (closed[:-1], False), (closed + bytes(8), False)):  # the last: as one that grows
        record.write_bytes(content)
        try:
            with open_for_reading(record) as file:
                assert is_whole(file) == whole
        except RunError as error:  # HDF5 before 2.0 does not open one that lacks its end
            assert h5py.version.hdf5_version_tuple < (2, 0, 0) and content == closed[:-1] and "is damaged" in str(error)
