from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from batchnorm import command
from batchnorm.analysis.__main__ import main as analysis
from batchnorm.config import read_command_line, resolve
from batchnorm.errors import ConfigError, RunError
from batchnorm.problems import find_problem, problem_name, problems
from batchnorm.store import Run
from batchnorm.training import train

FILE = '''\
from batchnorm.problems import register_problem


@register_problem(image_set="digits", classes=10, slots=("hidden",))
def tiny_bn():
    """One hidden layer."""
    from collections import OrderedDict

    from torch import nn

    layers = {"flatten": nn.Flatten(), "hidden": nn.Linear(784, 8), "relu": nn.ReLU(), "head": nn.Linear(8, 10)}
    return nn.Sequential(OrderedDict(layers))
'''
ENTRY = "tiny_bn: {batch_size: 64, num_epochs: 1, SGD: {opt_hpars: {lr: 0.1}}}\n"


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Return the arguments of a run of a problem in a user's own file, with an entry in a file of the user's own."""
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "tuning.yaml").write_text(ENTRY)
    return [
        f"PROBLEM={tmp_path}/mine.py:tiny_bn", f"TUNING_CONF={tmp_path}/tuning.yaml", f"OUTPUT_DIR={tmp_path}/output",
        "RANDOM_SEED=1", "MAX_STEPS=3", "THREADS=1",
    ]  # fmt: skip


def test_a_problem_of_a_users_own_file_trains(own: list[str], tmp_path: Path) -> None:
    config = read_command_line(own)
    assert config.directory == tmp_path / "output/1__tiny_bn__1/Lr_0.1/Ep_1/trained_bn__MAX_STEPS=3"
    assert train(config).value == "finished"
    run = Run(config.directory)
    assert run.layers == ("hidden",)
    assert run.gamma("hidden").shape == (2, 8)
    assert run.fingerprint["PROBLEM"] == "tiny_bn"
    assert len(run.fingerprint["PROBLEM_FILE"]) == 64
    assert "tiny_bn" not in problems()


def test_a_changed_file_is_another_run(own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(read_command_line(own))
    assert command.main(own) == 0
    assert "finished already" in capsys.readouterr().out
    (tmp_path / "mine.py").write_text(FILE.replace("8", "16"))
    assert command.main(own) == 2
    assert "holds another run: PROBLEM_FILE (" in capsys.readouterr().err


def test_weights_are_not_put_into_the_network_of_a_changed_file(
    own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ReLU that became a Tanh takes the same weights, and gives other numbers."""
    config = read_command_line([*own, "MEASURE=none"])
    train(config)
    run = Run(config.directory)
    run.network()
    (tmp_path / "mine.py").write_text(FILE.replace("ReLU", "Tanh"))
    told = f"{config.directory}: the file of PROBLEM={config.problem} has changed since the run was trained: PROBLEM_FILE ("
    with pytest.raises(RunError) as error:
        run.network()
    assert str(error.value).startswith(told)
    before = sorted(config.directory.rglob("*"))
    capsys.readouterr()
    assert analysis(["measure", str(config.directory), "--what", "landscape"]) == 2
    shown = capsys.readouterr().err
    assert told in shown and shown.count("\n") == 1
    assert sorted(config.directory.rglob("*")) == before
    (tmp_path / "mine.py").write_text(FILE)
    assert analysis(["measure", str(config.directory), "--what", "landscape"]) == 0


def test_a_run_is_read_where_its_file_is_gone(own: list[str], tmp_path: Path) -> None:
    config = read_command_line(own)
    train(config)
    (tmp_path / "mine.py").unlink()
    assert Run(config.directory).config == config


@pytest.mark.parametrize(
    ("file", "function", "message"),
    [
        (None, "tiny_bn", r"mine.py: no such file"),
        (FILE, "tiny_bm", r"registers no such problem; did you mean tiny_bn\? Valid: tiny_bn"),
        ("x = 1\n", "tiny_bn", r"registers no such problem; it has none; decorate a function with @register_problem"),
        ("x = 1\ny = z\n", "tiny_bn", r"mine.py cannot be loaded: NameError in line 2: name 'z' is not defined"),
        ("def (:\n", "tiny_bn", r"mine.py cannot be loaded: SyntaxError"),
        ("import nowhere_at_all\n", "tiny_bn", r"cannot be loaded: ModuleNotFoundError in line 1"),
    ],
)
def test_a_file_that_cannot_be_taken_is_one_line(
    own: list[str], tmp_path: Path, file: str | None, function: str, message: str
) -> None:
    if file is None:
        (tmp_path / "mine.py").unlink()
    else:
        (tmp_path / "mine.py").write_text(file)
    with pytest.raises(ConfigError, match=message) as error:
        find_problem(f"{tmp_path}/mine.py:{function}")
    assert "\n" not in str(error.value)
    assert set(problems()) >= {"digits_2c2d_bn"}


def test_names() -> None:
    assert problem_name("digits_2c2d_bn") == "digits_2c2d_bn"
    assert problem_name("a/b.py:mine_bn") == "mine_bn"
    assert problem_name(r"C:\a\b.py:mine_bn") == "mine_bn"
    with pytest.raises(ConfigError, match="no such problem.*path/to/file.py:function takes one from a file of yours"):
        find_problem("mine_bn")


def test_the_catalog_is_read_without_torch() -> None:
    code = "import sys; from batchnorm.problems import problems; problems(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_users_problem_needs_an_entry(own: list[str]) -> None:
    with pytest.raises(ConfigError, match="has no entry for tiny_bn"):
        resolve({"problem": own[0].partition("=")[2], "random_seed": 1})
