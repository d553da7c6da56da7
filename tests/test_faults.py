"""What a run survives: kills, signals, full and read-only disks, clocks, races and damaged files, on real processes.

FAULTS in the environment says how often each fault is tried (10 by default; 100 by hand before a release).
"""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from batchnorm import training
from batchnorm.config import RunConfig
from batchnorm.errors import ExitCode
from batchnorm.store import Run, RunDirectory, Status
from batchnorm.study.grid import read_study
from batchnorm.study.status import standings
from tests import command
from tests.conftest import arguments_of
from tests.ready import ready
from tests.study.commands import Started
from tests.study.commands import run as run_study
from tests.systems import TRAIN, environment, failing, trains_at_once
from tests.test_training import assert_same_run

FAULTS = int(os.environ.get("FAULTS", "10"))
RACES = 8
Configure = Callable[..., RunConfig]


SECOND_OR_TWO = {"problem": "mnist_mlp_bn", "position": "011", "optimizer": "SGD", "log_every_steps": 1, "num_epochs": 8}


@pytest.fixture
def make(configure: Configure) -> Configure:
    """Return a function that makes runs of a second or two."""
    return lambda **keys: configure(**{**SECOND_OR_TWO, **keys})


@pytest.fixture(scope="session")
def unbroken(short_run: Configure, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Return a run that nothing happened to; tests only read it."""
    folder = tmp_path_factory.mktemp("unbroken")
    config = short_run(**SECOND_OR_TWO, output_dir=str(folder / "output"))
    code, text = command.run(arguments_of(config), folder / "printed.txt")
    assert code == 0, text
    return config


def assert_nothing_is_lost(config: RunConfig) -> None:
    """Hold a record that was left behind against the mark in its checkpoint; both can be read."""
    directory = RunDirectory(config.directory)
    if not directory.checkpoint.exists():
        return
    mark = torch.load(directory.checkpoint, weights_only=True)["content"]["record"]
    run = Run(config.directory)
    assert len(run.epochs["epoch"]) >= mark["epochs/epoch"][0]
    assert len(run.batches["step"]) >= mark["batches/step"][0]
    assert len(run.snapshot_steps) >= mark["snapshots/step"][0]


def assert_goes_on_to_the_same_end(config: RunConfig, unbroken: RunConfig, tmp_path: Path) -> None:
    code, text = command.run(arguments_of(config), tmp_path / "last.txt")
    assert code == 0, text
    assert_same_run(config.directory, unbroken.directory)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=lambda number: number.name
)
def test_signals_at_random_moments(number: signal.Signals, make: Configure, unbroken: RunConfig, tmp_path: Path) -> None:
    chance = random.Random(number.name)
    seconds = Run(unbroken.directory).epochs
    duration = 1.0 + float(sum(seconds["train_seconds"]) + sum(seconds["eval_seconds"]))
    config, broken = make(), 0
    for life in range(FAULTS):
        process = command.start(arguments_of(config), tmp_path / "life.txt")
        if life % 3 == 0:  # the others may come before the run has begun
            command.wait_for(process, "started" if not RunDirectory(config.directory).checkpoint.exists() else "resumed")
        process.join(chance.uniform(0, duration / 2))
        if process.exitcode is None:
            os.kill(process.pid or 0, number)
        process.join()
        assert process.exitcode in (0, -number, ExitCode.INTERRUPTED), process.text
        assert "Traceback" not in process.text
        if process.exitcode == 0:
            assert_same_run(config.directory, unbroken.directory)
            config = make(output_dir=str(tmp_path / f"again-{life}"))
        else:
            broken += 1
            assert_nothing_is_lost(config)
    assert broken
    assert_goes_on_to_the_same_end(config, unbroken, tmp_path)


@pytest.mark.parametrize("file", ["run.h5", "checkpoint.pt"])
def test_a_file_size_limit(file: str, make: Configure, unbroken: RunConfig, tmp_path: Path) -> None:
    config = make()
    for life in range(3):
        process = command.start(arguments_of(config), tmp_path / "life.txt")
        # Early: run.h5 grows when its first 64 rows are full, in epoch 6, and not again.
        assert command.wait_for(process, "epoch 1/8" if life == 0 else "resumed")
        path = config.directory / file
        limit = path.stat().st_size + 4096 if file == "run.h5" else path.stat().st_size // 2
        resource.prlimit(process.pid or 0, resource.RLIMIT_FSIZE, (limit, limit))
        process.join()
        assert_one_line_at_the_end(process, config)
        assert_nothing_is_lost(config)
    assert_goes_on_to_the_same_end(config, unbroken, tmp_path)


def assert_one_line_at_the_end(process: command.Command, config: RunConfig) -> None:
    assert process.exitcode == ExitCode.BAD_INPUT, process.text
    assert "Traceback" not in process.text
    last = process.text.splitlines()[-1]
    assert last.startswith(f"error: {config.directory}: cannot be written (")
    command_that_goes_on = "the same command without OVERWRITE=true" if config.overwrite else "the same command"
    assert last.endswith(f"; {command_that_goes_on} continues from the last checkpoint")


def test_with_overwrite_a_message_says_that_the_command_without_it_goes_on(
    make: Configure, unbroken: RunConfig, tmp_path: Path
) -> None:
    config = make(overwrite=True)
    process = command.start(arguments_of(config), tmp_path / "life.txt")
    assert command.wait_for(process, "epoch 2/8")
    process.terminate()
    process.join()
    assert process.text.splitlines()[-1].endswith("; the same command without OVERWRITE=true continues")
    process = command.start(arguments_of(config), tmp_path / "life.txt")
    assert command.wait_for(process, "epoch 1/8")
    size = (config.directory / "checkpoint.pt").stat().st_size // 2
    resource.prlimit(process.pid or 0, resource.RLIMIT_FSIZE, (size, size))
    process.join()
    assert_one_line_at_the_end(process, config)
    assert_goes_on_to_the_same_end(make(), unbroken, tmp_path)


def in_a_terminal(config: RunConfig, variables: dict[str, str], *, ignoring: Sequence[signal.Signals] = ()) -> tuple[int, int]:
    """Start a run that a terminal controls; return its process id and the terminal's other side."""
    child, terminal = pty.fork()
    if child == 0:
        for number in ignoring:
            signal.signal(number, signal.SIG_IGN)
        os.execve(TRAIN[0], [*TRAIN, *arguments_of(config)], {**variables, "TERM": "xterm"})
    return child, terminal


def read_until(terminal: int, words: bytes) -> bytes:
    text = b""
    while words not in text:
        text += os.read(terminal, 4096)
    return text


def test_a_terminal_that_closes_stops_the_run_with_a_checkpoint(make: Configure, unbroken: RunConfig, tmp_path: Path) -> None:
    config = make()
    child, terminal = in_a_terminal(config, trains_at_once())
    read_until(terminal, b"epoch 2/8  train")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ExitCode.INTERRUPTED
    assert "stopped by SIGHUP at step" in (config.directory / "run.log").read_text()
    assert_nothing_is_lost(config)
    assert_goes_on_to_the_same_end(config, unbroken, tmp_path)


def test_a_terminal_that_closes_under_nohup_does_not_matter(make: Configure, unbroken: RunConfig) -> None:
    config = make()
    child, terminal = in_a_terminal(config, trains_at_once(), ignoring=[signal.SIGHUP])
    read_until(terminal, b"epoch 2/8  train")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ExitCode.FINISHED
    assert "standard error cannot be written (" in (config.directory / "run.log").read_text()
    assert_same_run(config.directory, unbroken.directory)


def test_a_signal_that_is_ignored_at_the_start_stays_ignored(make: Configure, unbroken: RunConfig) -> None:
    """A script's `command &` ignores SIGINT."""
    config = make()
    child, terminal = in_a_terminal(config, environment(), ignoring=[signal.SIGINT])
    read_until(terminal, b"epoch 2/8  train")
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):
        read_until(terminal, b"finished: ")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ExitCode.FINISHED
    os.close(terminal)
    assert_same_run(config.directory, unbroken.directory)


def test_a_file_system_without_flock_and_fsync(make: Configure, unbroken: RunConfig) -> None:
    config = make()
    missing = ready(failing(FAIL_FLOCK=errno.ENOLCK, FAIL_FSYNC_FOLDER=errno.EINVAL, FAIL_FSYNC_FILE=errno.EINVAL))
    done = subprocess.run([*TRAIN, *arguments_of(config)], capture_output=True, text=True, env=missing)
    assert done.returncode == 0, done.stderr
    assert_same_run(config.directory, unbroken.directory)


def test_a_disk_that_does_not_write_through_is_an_error(make: Configure) -> None:
    config = make()
    variables = ready(failing(FAIL_FSYNC_FOLDER=errno.EIO))
    done = subprocess.run([*TRAIN, *arguments_of(config)], capture_output=True, text=True, env=variables)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "cannot be written ([Errno 5] Input/output error)" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("file", ["run.h5", "checkpoint.pt"])
def test_a_disk_that_cannot_be_read_is_not_called_damage(
    file: str, make: Configure, unbroken: RunConfig, tmp_path: Path
) -> None:
    config = make()
    process = command.start(arguments_of(config), tmp_path / "life.txt")
    assert command.wait_for(process, "epoch 2/8")
    process.terminate()
    process.join()
    for fault in ({"FAIL_READ": errno.EIO}, {"FAIL_OPEN": errno.EMFILE}):
        variables = ready(failing(**fault, FAIL_PATH=file))
        done = subprocess.run([*TRAIN, *arguments_of(config)], capture_output=True, text=True, env=variables)
        assert done.returncode == ExitCode.BAD_INPUT
        reason = os.strerror(next(iter(fault.values())))
        assert done.stderr.splitlines()[-1] == f"error: {config.directory / file}: cannot be read ({reason})"
    assert_goes_on_to_the_same_end(config, unbroken, tmp_path)


def test_memory_that_runs_out_is_one_line(make: Configure, tmp_path: Path) -> None:
    """With a limit between what evaluation took and what training takes: freed memory stays with the process."""
    config = make(problem="digits_2c2d_bn", position="111", batch_size=1000)
    process = command.start(arguments_of(config), tmp_path / "life.txt")
    assert command.wait_for(process, "epoch 0/8")
    taken = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(process.pid or 0, resource.RLIMIT_AS, (taken, taken))
    process.join()
    assert process.exitcode == ExitCode.BAD_INPUT, process.text
    assert "Traceback" not in process.text
    last = process.text.splitlines()[-1]
    assert last.startswith(f"error: {config.directory}: out of memory")
    assert last.endswith("need less; the same command continues from the last checkpoint")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk, as root can."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs to mount a disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def test_a_full_disk(small_disk: Path, make: Configure, unbroken: RunConfig, tmp_path: Path) -> None:
    config = make(output_dir=str(small_disk))
    stopped = 0
    for kilobytes in (1, 40, 400, 6000, 11000, 12000, 12200, 12400):
        remount(small_disk, f"size={kilobytes}k")
        code, text = command.run(arguments_of(config), tmp_path / "life.txt")
        assert "Traceback" not in text
        if code == 0:
            break
        assert code == ExitCode.BAD_INPUT, text
        assert text.splitlines()[-1].startswith("error: ")
        assert "cannot be written" in text.splitlines()[-1]
        stopped += 1
        assert_nothing_is_lost(config)
    assert stopped >= 4
    remount(small_disk, "size=64m")
    assert_goes_on_to_the_same_end(config, unbroken, tmp_path)


def test_a_read_only_disk(small_disk: Path, make: Configure, tmp_path: Path) -> None:
    remount(small_disk, "ro")
    config = make(output_dir=str(small_disk / "output"))
    code, text = command.run(arguments_of(config), tmp_path / "life.txt")
    assert code == ExitCode.BAD_INPUT
    assert text == f"error: OUTPUT_DIR: {config.directory} cannot be written: Read-only file system\n"


def test_a_disk_that_becomes_read_only(small_disk: Path, make: Configure, unbroken: RunConfig, tmp_path: Path) -> None:
    remount(small_disk, "size=64m")
    config = make(output_dir=str(small_disk))
    process = command.start(arguments_of(config), tmp_path / "life.txt")
    assert command.wait_for(process, "epoch 3/8")
    process.kill()
    process.join()
    remount(small_disk, "ro")
    code, text = command.run(arguments_of(config), tmp_path / "life.txt")
    assert (code, text.count("\n")) == (ExitCode.BAD_INPUT, 1), text
    assert "cannot be written" in text
    remount(small_disk, "rw")
    assert_goes_on_to_the_same_end(config, unbroken, tmp_path)


def test_a_clock_that_jumps_back(make: Configure, unbroken: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    real, config, calls = time.time, make(), iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() - 3600 * next(calls))
    assert training.train(config) == Status.FINISHED
    run = Run(config.directory)
    assert (run.epochs["train_seconds"] >= 0).all()
    assert (run.epochs["eval_seconds"] >= 0).all()
    assert_same_run(config.directory, unbroken.directory)


def test_two_processes_race_for_one_directory(make: Configure, tmp_path: Path) -> None:
    alone = make(output_dir=str(tmp_path / "alone"), num_epochs=1)
    assert command.run(arguments_of(alone), tmp_path / "alone.txt")[0] == 0
    for race in range(RACES):
        config = make(output_dir=str(tmp_path / f"race-{race}"), num_epochs=1)
        both = [command.start(arguments_of(config), tmp_path / f"{name}.txt") for name in ("one", "other")]
        for process in both:
            process.join()
        codes = sorted(process.exitcode or 0 for process in both)
        texts = [process.text for process in both]
        assert codes in ([0, 0], [0, ExitCode.BAD_INPUT]), texts
        if codes[1]:
            assert any(text.startswith(f"error: {config.directory}: another process is running it") for text in texts)
            assert any(text.count("\n") == 1 for text in texts)
        else:
            assert any("finished already" in text for text in texts), texts
        assert_same_run(config.directory, alone.directory)


def test_the_lock_of_a_dead_process_is_free(make: Configure, unbroken: RunConfig, tmp_path: Path) -> None:
    config = make()
    process = command.start(arguments_of(config), tmp_path / "life.txt")
    assert command.wait_for(process, "epoch 1/8")
    process.kill()
    process.join()
    lock = RunDirectory(config.directory).lock
    assert lock.exists()
    lock.write_text(str(process.pid))
    assert not RunDirectory(config.directory).is_claimed()
    assert_goes_on_to_the_same_end(config, unbroken, tmp_path)


@pytest.mark.parametrize("file", ["run.h5", "checkpoint.pt"])
def test_damage_in_each_region_of_a_file_is_one_line_or_harmless(
    file: str, make: Configure, unbroken: RunConfig, tmp_path: Path
) -> None:
    config = make(output_dir=str(tmp_path / "cut"))
    process = command.start(arguments_of(config), tmp_path / "life.txt")
    assert command.wait_for(process, "epoch 4/8")
    process.terminate()
    process.join()
    assert process.exitcode == ExitCode.INTERRUPTED
    whole = (config.directory / file).read_bytes()
    chance = random.Random(file)
    refused = 0
    for region in range(2 * FAULTS):
        start, end = (len(whole) * place // FAULTS for place in (region // 2, region // 2 + 1))
        place = chance.randrange(start, end)
        flipped = bytes([*whole[:place][-1:], whole[place] ^ 1 << chance.randrange(8)])[-1:]
        content = whole[:place] + flipped + whole[place + 1 :] if region % 2 else whole[:place]
        damaged = make(output_dir=str(tmp_path / f"damaged-{region}"))
        shutil.copytree(config.directory, damaged.directory)
        (damaged.directory / file).write_bytes(content)
        code, text = command.run(arguments_of(damaged), tmp_path / "life.txt")
        if code == 0:
            assert_same_run(damaged.directory, unbroken.directory)
        else:
            refused += 1
            assert code == ExitCode.BAD_INPUT, (region, place, text)
            errors = [line for line in text.splitlines() if line.startswith("error: ")]
            assert errors == text.splitlines()[-1:], text
            assert "damaged" in errors[0], text
            assert (damaged.directory / file).read_bytes() == content
        assert standings_of(damaged)
        shutil.rmtree(damaged.output_dir)
    assert refused >= FAULTS // 2


def standings_of(config: RunConfig) -> bool:
    """Say that a damaged run can be looked at; whatever it is, it is told in a line."""
    try:
        run = Run(config.directory)
        return run.status in Status and len(run.epochs["epoch"]) >= 0
    except Exception as error:
        return type(error).__name__ == "RunError"


def test_a_study_whose_file_changes_while_it_runs(tmp_path: Path, small_images: Path) -> None:
    path = tmp_path / "small.yaml"
    text = f"PROBLEM: mnist_mlp_bn\nBATCH_SIZE: 32\nOBS_DATASETS: {small_images}\nOUTPUT_DIR: {tmp_path / 'output'}\n"
    first = text + "RANDOM_SEED: [1, 2, 3]\nNUM_EPOCHS: 3\n"
    path.write_text(first)
    study = read_study(path, {})
    started = Started("run", str(path), "--workers=1", output=tmp_path / "printed")
    started.wait_until(lambda: "started 0" in started.text)
    path.write_text(text + "RANDOM_SEED: [7, 3]\nNUM_EPOCHS: 1\n")
    assert started.process.wait() == ExitCode.FINISHED, started.text
    assert [each.status for each in standings(study)] == [Status.FINISHED] * 3
    path.write_text("PROBLEM: [")
    done = run_study("run", str(path))
    assert (done.returncode, done.stderr.count("\n")) == (ExitCode.BAD_INPUT, 1)


def test_too_little_memory_to_load_torch_is_one_line(make: Configure) -> None:
    config = make()
    limited = ["prlimit", f"--as={4 * 10**8}", *TRAIN, *arguments_of(config)]
    done = subprocess.run(limited, capture_output=True, text=True)
    told = f"error: {config.directory}: out of memory; a smaller BATCH_SIZE or fewer runs at a time need less\n"
    assert (done.returncode, done.stderr) == (ExitCode.BAD_INPUT, told)
