"""The example of docs/effects.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", Path("docs/effects.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(example, "docs/effects.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "conv1 x conv2" in shown
    assert "seeds_for_margin" in shown
    assert "gamma need not be trained" in shown
