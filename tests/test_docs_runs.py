"""Runs the commands of docs/runs.md, and holds its message and its table of files against the real ones."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchnorm.errors import RunClaimedError
from batchnorm.store import RunDirectory, Status
from tests.recorded import record_run
from tests.systems import environment
from tests.test_moving import needs_rsync

PAGE = (Path(__file__).parent.parent / "docs" / "runs.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
]


def test_the_commands(tmp_path: Path) -> None:
    needs_rsync()
    for seed in (1, 2):
        run = record_run(tmp_path / "output", problem="digits_2c2d_bn", random_seed=seed).directory
        (run / "final_model.pth").write_bytes(b"weights")
    printed = {}
    for command in COMMANDS:
        line = command.replace("python ", f"{shlex.quote(sys.executable)} ", 1)
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), command
        printed[command] = done.stdout
    assert "would free 14 B in 2 files of 2 runs; --yes deletes them\n" in printed["python -m batchnorm.analysis prune output"]
    assert "freed 14 B" in printed["python -m batchnorm.analysis prune output --what final --yes"]
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["copy", "results"]
    shutil.rmtree(tmp_path / "results" / next(tmp_path.glob("copy/1__*")).name)
    subprocess.run(["bash", "-c", COMMANDS[-1]], cwd=tmp_path, check=True)
    assert len(list(tmp_path.glob("results/**/run.h5"))) == 2


def test_the_files_of_a_run() -> None:
    directory = RunDirectory(Path())
    named = set(re.findall(r"^\| `([^`]+)` \|", PAGE, flags=re.MULTILINE))
    files = ("record", "config", "log", "checkpoint", "final_model", "measured", "lock")
    assert named == {*(str(getattr(directory, name)) for name in files), str(directory.weights(5))}


def test_the_message_of_a_claim_of_another_host(tmp_path: Path) -> None:
    directory = RunDirectory(record_run(tmp_path, problem="digits_2c2d_bn", status=Status.CUT_OFF).directory)
    directory.lock.write_text("4242\nnode17\n1\ncontent\n")
    with pytest.raises(RunClaimedError) as claimed, directory.claim():
        pass
    (shown,) = re.findall(r"^error: (output/\.\.\.: .*)$", PAGE, flags=re.MULTILINE)
    assert str(claimed.value).replace(str(directory.path), "output/...") == shown
    directory.lock.unlink()
    with directory.claim():
        pass
