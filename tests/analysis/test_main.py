from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm.analysis.__main__ import main
from tests.analysis.conftest import cut_off, record

COMMANDS = ("runs", "summary", "performance", "ablations", "rates", "means", "surface", "betas")
Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str]) -> Shell:
    """Return a function that runs the command here, and gives back exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(shell: Shell, command: str) -> None:
    code, out, _ = shell(command, "--help")
    assert code == 0
    assert f"example:\n  python -m batchnorm.analysis {command} output" in out


def test_runs_lists_status_and_progress(shell: Shell, tmp_path: Path) -> None:
    record(tmp_path, random_seed=1)
    cut = cut_off(tmp_path, random_seed=2)
    damaged = record(tmp_path, random_seed=3)
    (damaged / "run.h5").write_bytes(b"\0" * 1000)
    code, out, _ = shell("runs", tmp_path)
    rows = [row.split() for row in out.splitlines()]
    assert code == 0
    assert rows[1][:3] == ["finished", "4/4", "digits_2c2d_bn"]
    assert rows[2][:3] == ["cut", "off", "2/4"] and rows[2][-1] == str(cut)
    assert rows[3][0] == "unreadable" and str(damaged) in out


def test_runs_can_be_chosen(shell: Shell, output: Path) -> None:
    _, out, _ = shell("runs", output, "--mask", "none", "001", "--seed", 2, "--mode", "trained_bn")
    assert len(out.splitlines()) == 3


def test_summary_is_printed_or_written(shell: Shell, output: Path, tmp_path: Path) -> None:
    code, out, _ = shell("summary", f"{output}/*__0,0,1", "--format", "csv")
    assert code == 0 and len(out.splitlines()) == 5
    code, out, _ = shell("summary", output, "--paired", "vanilla", "--out", tmp_path / "table.md")
    assert code == 0 and (tmp_path / "table.md").read_text().startswith("| problem")


@pytest.mark.parametrize(
    ("arguments", "figures"),
    [
        (("performance", "--mask", "none", "001", "--smooth"), 1),
        (("ablations", "--metric", "test_acc", "--style", "icml"), 1),
        (("rates", "--mask", "none"), 1),
        (("means", "--mask", "none", "all", "001", "--seed", "1", "--slots", "dense1"), 1),
        (("surface", "--mode", "trained_bn", "--mask", "001", "--parameter", "beta"), 2),
        (("betas", "--mask", "none", "all", "001", "--seed", "1", "--slots", "dense1"), 2),
    ],
)
def test_figures_are_drawn_and_their_files_named(
    shell: Shell, output: Path, tmp_path: Path, arguments: tuple[str, ...], figures: int
) -> None:
    command, *options = arguments
    code, out, err = shell(command, output, *options, "--save-dir", tmp_path)
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == sorted(str(path) for path in tmp_path.iterdir())
    assert len(out.splitlines()) == 2 * figures


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("performance", "nowhere"), "error: nowhere: no such run or folder"),
        (("performance",), "error: the following arguments are required: PATH"),
        (("perform", "."), "error: argument COMMAND: invalid choice: 'perform'"),
        (("surface", "OUTPUT", "--mask", "none"), "has no gamma: it has BatchNorm in no slot (mask 0,0,0)"),
        (("performance", "OUTPUT"), "give the modes of one mask"),
        (("performance", "OUTPUT", "--seed", "77"), "no run there has --seed 77"),
        (("performance", "OUTPUT", "--mask", "0x1"), "no run there has --mask 0x1"),
        (("performance", "OUTPUT", "--mask", "001", "--style", "nips"), "error: style=nips: no such paper format"),
        (("means", "OUTPUT"), "is a second run of vanilla, of another seed"),
        (("betas", "OUTPUT", "--mask", "001"), "no run of vanilla is among"),
        (("rates", "OUTPUT"), "give one variant across learning rates"),
        (("summary", "OUTPUT", "--out", "table.xls"), "a table is written as"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(shell: Shell, output: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = shell(*(argument.replace("OUTPUT", str(output)) for argument in arguments))
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1


def test_no_command_is_bad_input(shell: Shell) -> None:
    code, _, err = shell()
    assert code == 2 and err.count("\n") == 1


def test_no_torch_and_no_pyplot() -> None:
    modules = "bn_plot_functions, curves, decimate, runs, style, summary, surfaces, variants, __main__"
    unwanted = "{'torch', 'matplotlib.pyplot', 'tkinter'}"
    script = f"import sys; from batchnorm.analysis import {modules}; print(*({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
