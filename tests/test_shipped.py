from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm import shipped
from batchnorm.command import main
from batchnorm.config import RunConfig, read_command_line
from batchnorm.errors import ConfigError
from batchnorm.store import RunDirectory
from batchnorm.study.__main__ import main as study
from batchnorm.study.grid import read_study
from tests.recorded import record_run

ROOT = Path(__file__).parent.parent
QUICKSTART = ROOT / "configs" / "studies" / "quickstart_digits.yaml"
NAME = "quickstart_digits"
DIGITS = ["PROBLEM=digits_2c2d_bn", "RANDOM_SEED=1"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "text",
    ["configs/studies/quickstart_digits.yaml", "./configs/studies/quickstart_digits.yaml", "quickstart_digits.yaml", NAME],
)
def test_a_shipped_file_is_found_by_its_path_or_name(text: str, elsewhere: Path) -> None:
    assert shipped.find(Path(text), among=shipped.STUDIES) == QUICKSTART


def test_what_is_in_this_folder_comes_first(elsewhere: Path) -> None:
    (elsewhere / "quickstart_digits").mkdir()  # a folder is no file
    assert shipped.find(Path("quickstart_digits"), among=shipped.STUDIES) == QUICKSTART
    own = Path("quickstart_digits.yaml")
    own.touch()
    assert shipped.find(own, among=shipped.STUDIES) == own


@pytest.mark.parametrize(
    "text", ["nowhere", "studies/modes", "../configs/basic_config.yaml", "/quickstart_digits", "config.py"]
)
def test_what_is_not_shipped_comes_back_as_it_is(text: str, elsewhere: Path) -> None:
    assert shipped.find(Path(text), among=shipped.STUDIES) == Path(text)


def test_every_shipped_file_is_read_by_its_name(elsewhere: Path) -> None:
    for file in shipped.files(shipped.STUDIES):
        assert read_study(Path(file.stem), {"random_seed": "1", "problem": "fmnist_2c2d_bn"}).name == file.stem
    for text in ("basic_config", "basic_config.yaml", "configs/basic_config.yaml"):
        assert read_command_line([*DIGITS, f"TUNING_CONF={text}"]).num_epochs == 10


def test_the_nearest_shipped_study_is_named(elsewhere: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no such file below .*, nor among the shipped ones; did you mean quickstart_digits\?"
    ):
        read_study(Path("quickstart"), {})


def test_a_run_says_what_it_took_and_is_found_again_from_another_folder(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*DIGITS, f"OUTPUT_DIR={tmp_path / 'output'}", "MAX_STEPS=2", "THREADS=1", "DEVICE=cpu"]
    config = read_command_line(arguments)
    assert main(arguments) == 0
    took = f"TUNING_CONF=configs/basic_config.yaml: the shipped file {ROOT / 'configs' / 'basic_config.yaml'}"
    assert took in RunDirectory(config.directory).log.read_text()
    assert RunConfig.load(config.directory / "config.yaml").tuning_conf == "configs/basic_config.yaml"
    for folder in (tmp_path, ROOT):
        monkeypatch.chdir(folder)
        capsys.readouterr()
        assert main(arguments) == 0
        assert capsys.readouterr().out.startswith(f"finished already: {config.directory}")


def test_from_the_root_nothing_is_said(configure: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert study(["list", "configs/studies/quickstart_digits.yaml"]) == 0
    assert capsys.readouterr().err == ""


def test_a_study_says_first_what_it_took(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_run(elsewhere / "output", epochs=3, problem="digits_2c2d_bn", position="all")
    assert study(["missing", "quickstart_digits"]) == 0
    said = capsys.readouterr()
    assert said.out == "0,2-4\n"
    assert said.err.splitlines() == [
        f"STUDY=quickstart_digits: the shipped file {QUICKSTART}",
        f"TUNING_CONF=configs/basic_config.yaml: the shipped file {ROOT / 'configs' / 'basic_config.yaml'}",
    ]
