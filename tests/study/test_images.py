from __future__ import annotations

from pathlib import Path

import pytest

from batchnorm.errors import ExitCode
from batchnorm.study.__main__ import main
from batchnorm.study.grid import read_study
from batchnorm.study.images import Images, images_of

STUDY = "PROBLEM: [mnist_mlp_bn, mnist_2c2d_bn, digits_2c2d_bn]\nRANDOM_SEED: [1, 2]\nPOSITION: all\n"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a study's file, in a folder of its own where the shell stands, and without a network."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://localhost:9")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "six.yaml").write_text(STUDY)
    return "six.yaml"


def test_each_image_set_is_wanted_once(study: str, small_images: Path) -> None:
    runs = read_study(Path(study), {"obs_datasets": str(small_images)}).runs
    assert len(runs) == 6
    mnist, digits = images_of(runs)
    assert (mnist, digits) == (Images("mnist", str(small_images)), Images("digits", str(small_images)))
    assert mnist.are_there and digits.are_there
    assert all(Images(name, str(small_images)).are_there for name in ("fmnist", "cifar10", "cifar100", "svhn"))


@pytest.mark.parametrize("command", ["run", "submit"])
def test_absent_images_are_told_once_before_anything_is_made(
    command: str, study: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([command, study]) == ExitCode.BAD_INPUT
    shown = capfd.readouterr()
    (error,) = (line for line in shown.err.splitlines() if line.startswith("error: "))
    assert error.startswith("error: OBS_DATASETS=data: MNIST is absent")
    assert ("study prefetch" in error) == (command == "submit")
    assert "started" not in shown.out
    assert [path.name for path in tmp_path.iterdir()] == [study]


def test_prefetch_reads_what_is_there(study: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["prefetch", study, "PROBLEM=digits_2c2d_bn"]) == ExitCode.FINISHED
    assert capfd.readouterr().out == "digits in OBS_DATASETS=data: 1,498 training and 299 test images\n"


def test_jobs_may_have_images_of_their_own(study: str, capfd: pytest.CaptureFixture[str]) -> None:
    keys = [study, "PROBLEM=mnist_mlp_bn", "--dry-run"]
    assert main(["submit", *keys]) == main(["submit", *keys, "--images-elsewhere"]) == ExitCode.FINISHED
    first, second = capfd.readouterr().out.splitlines()
    assert first == second


@pytest.mark.parametrize("command", ["run", "submit"])
def test_an_output_folder_that_cannot_be_made_is_told_once(
    command: str, study: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([command, study, "PROBLEM=digits_2c2d_bn", "OUTPUT_DIR=file/output"]) == ExitCode.BAD_INPUT
    told = f"error: OUTPUT_DIR=file/output: cannot be written: {tmp_path / 'file'} is no directory"
    assert told in capfd.readouterr().err.splitlines()


def test_a_folder_named_in_the_environment_is_told(
    study: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OBS_DATASETS", "/images")
    told = "OBS_DATASETS of the environment is not read; give it as an argument: OBS_DATASETS=/images"
    assert main(["list", study]) == ExitCode.FINISHED
    assert told in capfd.readouterr().err.splitlines()
    assert main(["list", study, "OBS_DATASETS=/images"]) == ExitCode.FINISHED
    assert told not in capfd.readouterr().err
