from __future__ import annotations

import pytest

from batchnorm.errors import ExitCode
from batchnorm.study.__main__ import main
from batchnorm.study.commands import COMMANDS, Call, Command, Option

QUICKSTART = "configs/studies/quickstart_digits.yaml"


def test_a_row_of_the_table_is_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def paths(call: Call) -> ExitCode:
        for run in call.study().runs[: call.options["at_most"]]:
            print(run.config.directory)
        return ExitCode.FINISHED

    row = Command("paths", "the directory of each run", paths, (Option("--at-most N", "no more of them", int, 3),))
    monkeypatch.setitem(COMMANDS, row.name, row)
    assert main(["--help"]) == ExitCode.FINISHED
    shown = capsys.readouterr().out
    assert "\n  paths     the directory of each run\n              --at-most N            no more of them\n" in shown
    for arguments, lines in (([], 3), (["--at-most=1"], 1)):
        assert main(["paths", QUICKSTART, *arguments]) == ExitCode.FINISHED
        assert len(capsys.readouterr().out.splitlines()) == lines
    assert main(["paths", QUICKSTART, "--at-most=x"]) == ExitCode.BAD_INPUT
    assert main(["paths", QUICKSTART, "--", "--time=1"]) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 2
