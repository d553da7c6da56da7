from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batchnorm.analysis import figures
from batchnorm.analysis.__main__ import main
from tests.analysis.conftest import cut_off, record

COMMANDS = (
    *("runs", "summary", "performance", "ablations", "rates", "means", "surface", "betas"),
    *("thresholds", "norms", "statistics_gap", "landscape", "sharpness"),
)
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
    modules = "bn_plot_functions, curves, decimate, looks, runs, summary, surfaces, tables, variants, __main__"
    unwanted = "{'torch', 'matplotlib.pyplot', 'tkinter'}"
    script = f"import sys; from batchnorm.analysis import {modules}; print(*({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_help_waits_for_no_library_that_draws_or_counts() -> None:
    script = "import sys; from batchnorm.analysis import bn_plot_functions, __main__\n"
    script += "try: __main__.main(['--help'])\nexcept SystemExit: print({'matplotlib', 'pandas', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


def test_max_steps_shortens_the_run_that_is_listed(shell: Shell, tmp_path: Path) -> None:
    record(tmp_path, epochs=3, max_steps=15)
    _, out, _ = shell("runs", tmp_path)
    assert out.splitlines()[1].split()[:2] == ["finished", "1/1"]


def test_a_mode_of_another_version_is_listed_tabulated_and_drawn(shell: Shell, output: Path, tmp_path: Path) -> None:
    import h5py

    shutil.copytree(output, tmp_path / "output", ignore=shutil.ignore_patterns("plots"))
    (strange,) = (tmp_path / "output").glob("1__*0,0,1/*/*/fixed_bn/run.h5")
    with h5py.File(strange, "r+") as file:
        for name in ("config", "fingerprint"):
            values = {**json.loads(file.attrs[name]), "ABLATION": "bn_of_tomorrow"}
            file.attrs[name] = np.bytes_(json.dumps(values).encode())
    code, out, _ = shell("runs", tmp_path)
    assert code == 0 and "bn_of_tomorrow" in out
    code, out, _ = shell("summary", tmp_path, "--format", "latex")
    assert code == 0 and r"bn\_of\_tomorrow" in out
    code, _, err = shell("performance", tmp_path, "--mask", "none", "001", "--save-dir", tmp_path)
    assert (code, err) == (0, "")
    assert shell("surface", strange, "--save-dir", tmp_path)[0] == 0
    assert shell("means", tmp_path, "--mask", "none", "all", "001", "--seed", 1, "--save-dir", tmp_path)[0] == 0


def test_each_module_of_figures_is_a_command(shell: Shell) -> None:
    _, out, _ = shell("--help")
    names = {path.stem for path in Path(figures.__file__).parent.glob("[!_]*.py")}
    assert names <= {line.split()[0] for line in out.splitlines() if line.strip()}
