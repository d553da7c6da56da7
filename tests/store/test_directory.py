from __future__ import annotations

from pathlib import Path

import pytest

from batchnorm.errors import ConfigError, RunError
from batchnorm.store import RunDirectory


def test_a_claimed_directory_lets_nobody_else_in(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    assert not directory.is_claimed()
    with directory.claim():
        assert directory.is_claimed()
        with pytest.raises(RunError, match="another process is running it"), directory.claim():
            pass
    assert not directory.is_claimed()
    with directory.claim():
        pass


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(ConfigError, match="OUTPUT_DIR: .* cannot be written: Not a directory"),
        RunDirectory(tmp_path / "file" / "run").claim(),
    ):
        pass
