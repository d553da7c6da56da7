from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from batchnorm.command import main
from batchnorm.config import RunConfig
from batchnorm.modes import MODES, NORMS
from batchnorm.problems import problems
from batchnorm.store import Run, RunDirectory, Status
from tests import command, images
from tests.conftest import arguments_of
from tests.recorded import record_run
from tests.systems import ROOT, TRAIN, environment, trains_at_once


def test_help_tells_every_key_problem_and_mode_without_torch() -> None:
    code = "import sys, runpy; sys.argv[1:] = ['--help']\ntry: runpy.run_path('run_trainingLoop.py', run_name='__main__')\n"
    code += "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert text.endswith("0 False\n")
    for entry in fields(RunConfig):
        assert f"  {entry.name.upper()} " in text
    for name, problem in problems().items():
        assert any(line.split()[:1] == [name] and line.endswith(", ".join(problem.slots)) for line in text.splitlines())
    assert all(mode in text for mode in MODES)
    assert all(f"  {norm.name}" in text and norm.meaning in text for norm in NORMS.values())


@pytest.mark.parametrize("arguments", [["RANDOM_SED=1"], ["PROBLEM=digits_2c2d_bn", "RANDOM_SEED=1", "LR=0"], []])
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([f"TUNING_CONF={Path(__file__).parent.parent / 'configs' / 'basic_config.yaml'}", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_same_command_again_says_finished_at_once(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = configure(max_steps=2)
    arguments = arguments_of(config)
    code, text = command.run(arguments, tmp_path / "first.txt")
    assert (code, "finished" in text) == (0, True)
    again = [sys.executable, "-X", "importtime", "run_trainingLoop.py", *arguments, f"OBS_DATASETS={tmp_path}/nowhere"]
    done = subprocess.run(again, capture_output=True, text=True, check=True)
    offered = "OUTPUT_DIR=... trains it once more elsewhere, OVERWRITE=true here"
    assert done.stdout == f"finished already: {config.directory} ({offered})\n"
    assert " torch\n" not in done.stderr


def test_divergence_is_exit_code_3_now_and_again(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    arguments = arguments_of(configure(lr=1e30))
    code, text = command.run(arguments, tmp_path / "first.txt")
    assert (code, "diverged: loss" in text) == (3, True)
    code, text = command.run(arguments, tmp_path / "second.txt")
    assert (code, text.startswith("diverged already")) == (3, True)


def test_a_finished_run_with_other_keys_is_refused_without_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn", batch_size=32, named_keys="")
    assert main([*arguments_of(config), "BATCH_SIZE=16"]) == 2
    assert (
        "holds another run: BATCH_SIZE (32 there, 16 here); OUTPUT_DIR=... keeps both; OVERWRITE=true"
        in capsys.readouterr().err
    )


def test_a_damaged_record_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = record_run(tmp_path, problem="digits_2c2d_bn")
    record = RunDirectory(config.directory).record
    record.write_bytes(record.read_bytes()[:500])
    assert main(arguments_of(config)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_full_disk_stops_the_run_with_one_line_and_room_lets_it_go_on(
    configure: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """A small file system of its own; needs root, as CI has."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        config = configure(output_dir=f"{disk}/output", num_epochs=20, log_every_steps=1)
        filler = disk / "filler"
        filler.write_bytes(b"\0" * 29_000_000)
        code, text = command.run(arguments_of(config), tmp_path / "full.txt")
        assert code == 2
        assert "Traceback" not in text
        assert text.splitlines()[-1].startswith(f"error: {config.directory}: cannot be written (no space left on the device)")
        filler.unlink()
        code, text = command.run(arguments_of(config), tmp_path / "room.txt")
        assert code == 0, text
        assert Run(config.directory).status == Status.FINISHED
        unbroken = configure(output_dir=str(tmp_path / "unbroken"), num_epochs=20, log_every_steps=1)
        assert command.run(arguments_of(unbroken), tmp_path / "unbroken.txt")[0] == 0
        from tests.test_training import assert_same_run

        assert_same_run(config.directory, unbroken.directory)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_help_into_a_closed_pipe_ends_quietly() -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" --help | true; exit ${PIPESTATUS[0]}', "_", *TRAIN], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("redirected", "told"),
    [
        ('"$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}', "standard error cannot be written (Broken pipe); the run continues"),
        ('"$@" >/dev/full 2>&1', "standard error cannot be written (No space left on device); the run continues"),
        ('"$@" 2>&-', "finished: "),
        ('"$@" >&-', "finished: "),
    ],
)
def test_a_run_that_loses_its_output_goes_on(redirected: str, told: str, configure: Callable[..., RunConfig]) -> None:
    config = configure(max_steps=12)
    command = ["bash", "-c", redirected, "_", *TRAIN, *arguments_of(config)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=trains_at_once())
    assert done.returncode == 0, done
    assert Run(config.directory).status == Status.FINISHED
    log = RunDirectory(config.directory).log.read_text()
    assert told in log
    assert all(words in log for words in ("started: ", "epoch 2/2", "finished: "))


INTERRUPT_WHILE_IMPORTING = """\
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "{name}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize("name", ["batchnorm.command", "omegaconf", "h5py._conv", "numpy.linalg", "torch._C", "torch.optim"])
def test_an_interrupt_while_the_command_loads_ends_it_quietly(
    name: str, configure: Callable[..., RunConfig], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT_WHILE_IMPORTING.format(name=name))
    config = configure()
    done = subprocess.run(
        [*TRAIN, *arguments_of(config)], capture_output=True, text=True, env=environment(PYTHONPATH=f"{tmp_path}:{ROOT}")
    )
    assert (done.returncode, done.stdout, done.stderr) == (75, "", "")
    assert not config.directory.exists()


def test_images_with_labels_beyond_the_classes_are_refused_before_anything_starts(
    configure: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write_mnist(tmp_path, "MNIST", train=100, test=50)
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0c")
    config = configure(obs_datasets=str(tmp_path))
    assert main(arguments_of(config)) == 2
    told = f"error: OBS_DATASETS={tmp_path}: MNIST holds the label 12, but mnist_mlp_bn tells 10 classes apart, 0 to 9\n"
    assert capsys.readouterr().err == told
    assert not config.directory.exists()


def test_one_value_per_channel_is_refused_before_anything_starts(
    configure: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(problem="mnist_2c2d_bn", position="011")
    assert main([*arguments_of(config), "BATCH_SIZE=1"]) == 2
    told = "error: BATCH_SIZE=1: gives one value per channel to BatchNorm in dense1, which has no variance; "
    assert capsys.readouterr().err == told + "must be an integer >= 2, or POSITION must leave these slots out\n"
    assert not config.directory.exists()
    assert main(arguments_of(configure(problem="mnist_2c2d_bn", batch_size=1, position="110", max_steps=2))) == 0


def test_a_bug_of_ours_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> RunConfig:
        raise AssertionError("ours")

    monkeypatch.setattr("batchnorm.command.read_command_line", broken)
    with pytest.raises(AssertionError, match="ours"):
        main(["PROBLEM=digits_2c2d_bn"])
