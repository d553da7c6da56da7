"""Local workers, real ones: each test starts `python -m batchnorm.study run` in a process of its own.

In most of them workers have torch loaded (`tests.ready`); those that tests/test_installing.py starts load it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchnorm.config import RunConfig, resolve
from batchnorm.errors import ExitCode
from batchnorm.store import RunDirectory, Status
from batchnorm.study.grid import Study, read_study
from batchnorm.study.local import plan_lanes, share_cores
from batchnorm.study.status import standings
from batchnorm.training import train
from tests.study.commands import COMMAND, ROOT, SECONDS_TO_STOP, Started, environment, gone, process_at, run
from tests.study.own_problem import write_own_problem
from tests.test_training import assert_same_run

SHORT = "PROBLEM: mnist_mlp_bn\nNUM_EPOCHS: 1\nBATCH_SIZE: 32\n"
LONG = "PROBLEM: mnist_mlp_bn\nNUM_EPOCHS: 20\nBATCH_SIZE: 32\n"
Write = Callable[..., tuple[str, Study]]


@pytest.fixture
def write(tmp_path: Path, small_images: Path) -> Write:
    def to_file(text: str) -> tuple[str, Study]:
        path = tmp_path / "small.yaml"
        path.write_text(f"{text}OUTPUT_DIR: {tmp_path / 'output'}\nOBS_DATASETS: {small_images}\n")
        return str(path), read_study(path, {})

    return to_file


def statuses(study: Study) -> list[Status]:
    return [each.status for each in standings(study)]


def has_checkpoint(study: Study, index: int) -> bool:
    return RunDirectory(study.runs[index].config.directory).checkpoint.exists()


def test_one_worker_trains_run_after_run_as_a_process_of_its_own_does(write: Write, tmp_path: Path) -> None:
    path, study = write(SHORT + "RANDOM_SEED: [1, 2]\nPOSITION: [none, all]\nABLATION: [trained_bn, fixed_bn]\n")
    done = run("run", path, "--workers=1")
    assert done.returncode == ExitCode.FINISHED, done.stdout + done.stderr
    assert statuses(study) == [Status.FINISHED] * 6
    lines = done.stdout.splitlines()
    assert lines[0] == "small: 6 of 6 runs to do, 1 workers"
    assert lines[-1] == "small: 6 finished; 6/6 runs have ended"
    last = study.runs[5].config
    assert_same_run(last.directory, trained_alone(last, tmp_path))
    assert run("run", path).stdout == "small: nothing to do, 6/6 runs\n"


def trained_alone(config: RunConfig, folder: Path) -> Path:
    """Train a run once more, in this process, and return its directory."""
    kept = ("problem", "random_seed", "position", "ablation", "num_epochs", "batch_size", "obs_datasets")
    keys = {name: getattr(config, name) for name in kept}
    alone = resolve({**keys, "output_dir": str(folder / "alone"), "threads": 1})
    train(alone)
    return alone.directory


def test_ctrl_c_stops_all_workers_and_the_same_command_goes_on(write: Write, tmp_path: Path) -> None:
    path, study = write(LONG + "RANDOM_SEED: [1, 2, 3]\n")
    command = Started("run", path, "--workers=2", output=tmp_path / "printed")
    command.wait_until(lambda: has_checkpoint(study, 0) and has_checkpoint(study, 1))
    workers = command.workers()
    assert command.stop(signal.SIGINT) == ExitCode.INTERRUPTED, command.text
    assert all(gone(worker) for worker in workers)
    assert "stopped; the same command continues" in command.text
    assert Status.RUNNING not in statuses(study)
    assert statuses(study)[2] == Status.MISSING
    before = run("status", path)
    assert "interrupted" in before.stdout
    done = run("run", path, "--workers=2")
    assert done.returncode == ExitCode.FINISHED, done.stdout + done.stderr
    assert statuses(study) == [Status.FINISHED] * 3
    for each in study.runs:
        assert_same_run(each.config.directory, trained_alone(each.config, tmp_path))


@pytest.fixture(params=["ignored", "blocked"])
def without_sigterm(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let what is started take no SIGTERM, as after `trap '' TERM` in a script."""
    before = signal.getsignal(signal.SIGTERM)
    if request.param == "ignored":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("without_sigterm")
def test_ctrl_c_stops_workers_of_a_study_that_takes_no_sigterm(write: Write, tmp_path: Path) -> None:
    path, study = write(LONG.replace("20", "4000") + "RANDOM_SEED: 1\n")
    command = Started("run", path, output=tmp_path / "printed", MINE="1")  # so that its worker is a real one
    command.wait_until(lambda: has_checkpoint(study, 0))
    assert command.stop(signal.SIGINT) == ExitCode.INTERRUPTED, command.text
    assert statuses(study) == [Status.CUT_OFF]


def test_a_killed_worker_takes_no_other_run_with_it(write: Write, tmp_path: Path) -> None:
    path, study = write(LONG + "RANDOM_SEED: [1, 2, 3]\n")
    command = Started("run", path, "--workers=2", output=tmp_path / "printed")
    command.wait_until(lambda: has_checkpoint(study, 0) and has_checkpoint(study, 1))
    victims = [process_at(study, index) for index in (0, 1)]
    assert all(victims)
    for victim in victims:  # the first one's run goes on once more, and ends
        os.kill(victim, signal.SIGKILL)
    command.wait_until(lambda: command.text.count("it continues from its checkpoint") == 2)
    command.wait_until(lambda: process_at(study, 1) != 0)  # the second one's is killed again
    os.kill(process_at(study, 1), signal.SIGKILL)
    assert command.process.wait() == ExitCode.FAILED, command.text
    assert statuses(study) == [Status.FINISHED, Status.CUT_OFF, Status.FINISHED]
    assert "failed 1: 1,1,1 trained_bn RANDOM_SEED=2" in command.text
    assert "its process died by SIGKILL; out of memory?" in command.text
    assert "the end of run.log:" in command.text
    assert command.text.splitlines()[-1] == "small: 2 finished, 1 failed; 2/3 runs have ended"
    assert run("run", path).returncode == ExitCode.FINISHED
    assert statuses(study) == [Status.FINISHED] * 3


def test_workers_stop_where_the_process_that_started_them_is_killed(write: Write, tmp_path: Path) -> None:
    path, study = write(LONG.replace("20", "4000") + "RANDOM_SEED: 1\n")
    command = Started("run", path, output=tmp_path / "printed")
    command.wait_until(lambda: has_checkpoint(study, 0))
    (worker,) = command.workers()
    end = os.pidfd_open(worker)
    command.process.kill()
    command.process.wait()
    assert select.select([end], [], [], SECONDS_TO_STOP)[0]
    os.close(end)
    assert statuses(study) == [Status.CUT_OFF]
    assert "stopped by SIGTERM" in RunDirectory(study.runs[0].config.directory).log.read_text()


def test_overwrite_starts_afresh_once_and_the_command_that_goes_on_is_named(write: Write, tmp_path: Path) -> None:
    text = "PROBLEM: mnist_mlp_bn\nBATCH_SIZE: 32\nRANDOM_SEED: [1, 2, 3]\nNUM_EPOCHS: 1\n"
    path, study = write(text)
    assert run("run", path, "--workers=1", "RANDOM_SEED=1").returncode == ExitCode.FINISHED
    path, study = write(text.replace("EPOCHS: 1", "EPOCHS: [1, 400]").replace("[1, 2, 3]", "[1, 2]"))
    before = record_of(study, 0)
    command = Started("run", path, "--workers=1", "OVERWRITE=true", output=tmp_path / "printed")
    command.wait_until(lambda: "\nstarted 1:" in command.text and has_checkpoint(study, 1))
    assert command.stop(signal.SIGTERM) == ExitCode.INTERRUPTED, command.text
    assert command.text.endswith("stopped; the same command without OVERWRITE=true continues\n")
    assert record_of(study, 0) != before
    assert statuses(study)[:2] == [Status.FINISHED, Status.CUT_OFF]
    kept, epochs = record_of(study, 0), standings(study)[1].progress.epochs_done
    command = Started("run", path, "--workers=1", output=tmp_path / "again")
    log = RunDirectory(study.runs[1].config.directory).log
    command.wait_until(lambda: "resumed at step" in log.read_text() and standings(study)[1].progress.epochs_done > epochs)
    assert command.stop(signal.SIGTERM) == ExitCode.INTERRUPTED, command.text
    assert command.text.endswith("stopped; the same command continues\n")
    assert record_of(study, 0) == kept


def record_of(study: Study, index: int) -> tuple[int, int]:
    found = RunDirectory(study.runs[index].config.directory).record.stat()
    return found.st_ino, found.st_mtime_ns


def test_overwrite_in_the_file_is_undone_by_a_key(write: Write, tmp_path: Path) -> None:
    path, study = write(LONG.replace("20", "4000") + "RANDOM_SEED: 1\nOVERWRITE: true\n")
    command = Started("run", path, output=tmp_path / "printed")
    command.wait_until(lambda: has_checkpoint(study, 0))
    assert command.stop(signal.SIGINT) == ExitCode.INTERRUPTED, command.text
    assert command.text.endswith("stopped; the same command with OVERWRITE=false continues\n")


def test_a_worker_that_dies_before_it_begins_overwrites_still(write: Write, tmp_path: Path) -> None:
    path, study = write(LONG.replace("20", "8") + "RANDOM_SEED: 1\n")
    config = study.runs[0].config
    assert run("run", path).returncode == ExitCode.FINISHED
    before = record_of(study, 0)
    command = Started("run", path, "OVERWRITE=true", output=tmp_path / "printed")
    command.wait_until(lambda: "\nstarted 0:" in command.text)
    (worker,) = command.workers()
    os.kill(worker, signal.SIGKILL)
    assert command.process.wait() == ExitCode.FINISHED, command.text
    assert "\nagain 0: its process died by SIGKILL; out of memory?; it " in command.text
    assert record_of(study, 0) != before
    assert "already" not in RunDirectory(config.directory).log.read_text()


def test_a_run_that_is_stopped_alone_is_told_by_the_exit_code(write: Write, tmp_path: Path) -> None:
    path, study = write("PROBLEM: mnist_mlp_bn\nBATCH_SIZE: 32\nRANDOM_SEED: 1\nNUM_EPOCHS: [4000, 1]\n")
    command = Started("run", path, "--workers=1", output=tmp_path / "printed")
    command.wait_until(lambda: has_checkpoint(study, 0))
    (worker,) = command.workers()
    os.kill(worker, signal.SIGTERM)
    assert command.process.wait() == ExitCode.INTERRUPTED, command.text
    assert statuses(study) == [Status.CUT_OFF, Status.FINISHED]
    assert command.text.endswith("stopped; the same command continues\n")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_workers_have_cores_of_their_own(write: Write, tmp_path: Path) -> None:
    path, study = write(LONG.replace("20", "4000") + "RANDOM_SEED: [1, 2]\n")
    bound = {"OMP_PROC_BIND": "true", "OMP_PLACES": "{0}", "GOMP_CPU_AFFINITY": "0"}
    command = Started("run", path, "--workers=2", output=tmp_path / "printed", **bound)
    command.wait_until(lambda: has_checkpoint(study, 0) and has_checkpoint(study, 1))
    cores = [cores_of(worker) for worker in command.workers()]
    assert command.stop(signal.SIGTERM) == ExitCode.INTERRUPTED, command.text
    assert cores[0] and cores[1] and not cores[0] & cores[1]
    assert cores[0] | cores[1] == os.sched_getaffinity(0)


def cores_of(process: int) -> set[int]:
    """Return the cores that any thread of a process may use."""
    return set().union(*(os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{process}/task").iterdir()))


def test_shares_of_the_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))
    assert share_cores(1, threads=1) == [cores]
    assert share_cores(len(cores), threads=1) == [[core] for core in cores]
    assert share_cores(len(cores) + 1, threads=1) == [[]] * (len(cores) + 1)
    assert share_cores(2, threads=len(cores)) == [[], []]


def test_what_python_prints_at_its_start_is_no_message(write: Write, tmp_path: Path) -> None:
    path, study = write(SHORT + "RANDOM_SEED: 1\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\nprint('hello')\nprint('hello', file=sys.stderr)\n")
    done = run("run", path, PYTHONPATH=f"{tmp_path / 'site'}:{ROOT}")
    assert done.returncode == ExitCode.FINISHED, done.stdout + done.stderr
    assert done.stdout.count("hello") == 1  # the command's own process
    assert statuses(study) == [Status.FINISHED]


def test_workers_that_die_at_their_start_are_one_line(write: Write, tmp_path: Path) -> None:
    path, _ = write(SHORT + "RANDOM_SEED: [1, 2]\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "torch.py").write_text("raise ImportError('cannot map memory')\n")
    done = run("run", path, "--workers=2", PYTHONPATH=f"{tmp_path / 'site'}:{ROOT}")
    assert done.returncode == ExitCode.BAD_INPUT, done.stdout + done.stderr
    died = "its process ended with exit code 1 | ImportError: cannot map memory"
    assert done.stderr == f"error: no worker starts: {died}; 2 runs wait for one\n"


def test_too_few_open_files_are_one_line(write: Write) -> None:
    path, _ = write(SHORT + "RANDOM_SEED: [1, 2]\n")
    command = ["bash", "-c", 'ulimit -n 9; exec "$@"', "bash", *COMMAND, "run", path, "--workers=2"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == ExitCode.BAD_INPUT, done.stdout + done.stderr
    assert done.stderr == "error: no worker starts: Too many open files; 2 runs wait for one\n"


def test_what_goes_wrong_in_one_run_is_told_at_the_end(write: Write) -> None:
    path, study = write(SHORT + "RANDOM_SEED: [1, 2, 3]\nLR: [0.1, 1e30]\nLOG_EVERY_STEPS: 1\n")
    held = RunDirectory(study.runs[4].config.directory)
    damaged = RunDirectory(study.runs[2].config.directory)
    damaged.path.mkdir(parents=True)
    damaged.record.write_bytes(b"no HDF5")
    with held.claim():
        done = run("run", path, "--workers=1")
    assert done.returncode == ExitCode.FAILED
    assert [status.value for status in statuses(study)] == [
        "finished",
        "diverged",
        "unusable",
        "diverged",
        "missing",
        "diverged",
    ]
    assert f"skipped 4: another process is running it: {held.path}" in done.stdout
    told = done.stdout[done.stdout.index("\nfailed 2:") :]
    assert "run.h5: is damaged" in told
    assert done.stdout.splitlines()[-1] == "small: 1 finished, 3 diverged, 1 failed; 4/6 runs have ended"
    again = run("run", path, "OVERWRITE=true", "LR=0.1", "RANDOM_SEED=2")
    assert again.returncode == ExitCode.FINISHED
    assert statuses(study)[2] == Status.FINISHED


def test_workers_find_a_problem_in_a_users_own_file(write: Write, tmp_path: Path) -> None:
    path, study = write(
        write_own_problem(tmp_path) + "RANDOM_SEED: 1\nPOSITION: ['01', all]\nMAX_STEPS: 3\nBATCH_SIZE: [16, 32]\n"
    )
    done = run("run", path, "--workers=2")
    assert done.returncode == ExitCode.FINISHED, done.stdout + done.stderr
    assert statuses(study) == [Status.FINISHED] * 4
    own = tmp_path / "own.py"
    own.write_text(own.read_text() + "# edited\n")
    again = run("run", path)
    assert again.returncode == ExitCode.BAD_INPUT
    assert "holds another run: PROBLEM_FILE" in again.stderr


def test_nothing_starts_where_something_is_wrong(tmp_path: Path, small_images: Path) -> None:
    for text, arguments, message in (
        (SHORT + "RANDOM_SEED: [1, 2, -3]\n", [], "RANDOM_SEED=-3: must be"),
        (SHORT + "RANDOM_SEED: [1, 2]\nDEVICE: [cuda:97]\n", [], "DEVICE=cuda:97: this machine has"),
        (SHORT + "RANDOM_SEED: [1, 2]\n", ["--devices=cpu,cuda:98"], "DEVICE=cuda:98: this machine has"),
    ):
        path = tmp_path / "wrong.yaml"
        path.write_text(f"{text}OUTPUT_DIR: {tmp_path / 'output'}\nOBS_DATASETS: {small_images}\n")
        done = run("run", str(path), *arguments)
        assert done.returncode == ExitCode.BAD_INPUT
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "output").exists()


def test_lanes() -> None:
    def runs(**keys: object) -> list[RunConfig]:
        return [resolve({"problem": "mnist_mlp_bn", "random_seed": seed, "threads": 1, **keys}) for seed in range(9)]

    cores = len(os.sched_getaffinity(0))
    assert plan_lanes(runs(), workers=None, devices=[], gpus=0) == [None] * min(9, cores)
    assert plan_lanes(runs(device="cpu"), workers=None, devices=[], gpus=4) == [None] * min(9, cores)
    assert plan_lanes(runs(threads=cores), workers=None, devices=[], gpus=0) == [None]
    assert plan_lanes(runs(), workers=None, devices=[], gpus=1) == [None]
    assert plan_lanes(runs(), workers=3, devices=[], gpus=1) == [None] * 3
    assert plan_lanes(runs(), workers=None, devices=[], gpus=2) == ["cuda:0", "cuda:1"]
    assert plan_lanes(runs(), workers=3, devices=["cuda:0", "cuda:1"], gpus=2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert plan_lanes(runs(), workers=None, devices=["cuda:1"], gpus=2) == ["cuda:1"]
    assert plan_lanes(runs()[:2], workers=7, devices=[], gpus=0) == [None] * 2
