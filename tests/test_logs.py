from __future__ import annotations

import os
import subprocess

import pytest

from tests.systems import PYTHON, environment

LOG = "from batchnorm.logs import log_to_console, logger; log_to_console(); logger.error('diverged')"


@pytest.mark.parametrize(("terminal", "coloured"), [("xterm", True), ("dumb", False)])
def test_a_terminal_without_colours_gets_none(terminal: str, coloured: bool) -> None:
    variables = environment(TERM=terminal)
    variables.pop("NO_COLOR", None)
    master, slave = os.openpty()
    subprocess.run([*PYTHON, LOG], stderr=slave, env=variables, check=True)
    text = os.read(master, 1000)
    os.close(slave)
    os.close(master)
    assert b"diverged" in text
    assert (b"\x1b[" in text) == coloured
