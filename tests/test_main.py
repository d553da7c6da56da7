from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from batchnorm import __version__
from batchnorm.__main__ import SUBCOMMANDS, main
from tests.systems import environment

CHECK = """\
import sys
from batchnorm.__main__ import main
code = main(sys.argv[1:])
assert not {"torch", "torchvision"} & set(sys.modules)
sys.exit(code)
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment(), capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_alone_it_shows_what_there_is(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: dissect-batchnorm COMMAND ...\n")
    assert all(f"\n  {name} " in shown for name in ("train", "study", "analysis", "shipped"))
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dissect-batchnorm {__version__}\n"


def test_a_wrong_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == f"error: trian: no such command; did you mean train? Valid: {', '.join(SUBCOMMANDS)}\n"
    assert main(["shipped", "quikstart_digits.yaml"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: quikstart_digits.yaml: no such file; did you mean quickstart_digits.yaml?"
    )


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_of_a_command_has_the_words_that_were_typed(name: str, tmp_path: Path) -> None:
    done = run("-m", "batchnorm", name, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m batchnorm {name} ")


def test_the_module_of_one_run_is_a_command_too(tmp_path: Path) -> None:
    done = run("-m", "batchnorm.command", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m batchnorm.command KEY=value ...")
    done = run("-m", "batchnorm.command", "RANDOM_SEED=1", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("--help", "commands:"),
        ("train --help", "keys (in any case)"),
        ("shipped modes", "configs/studies/modes.yaml"),
        ("shipped", "sbatch/study.sbatch"),
        ("study list quickstart_digits", "1,1,1 fixed_bn"),
        ("study submit quickstart_digits --dry-run", "sbatch --parsable"),
        ("analysis --help", "summary"),
    ],
)
def test_it_loads_no_torch_in_any_folder(arguments: str, shown: str, tmp_path: Path) -> None:
    done = run("-c", CHECK, *arguments.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert not list(tmp_path.iterdir())
