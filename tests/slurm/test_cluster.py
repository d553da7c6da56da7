"""The shipped sbatch scripts and `submit`, as they are, on a real cluster.

Most jobs have torch loaded (`tests.ready`); that of a user's own problem loads it as users' jobs do.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm.store import Run, RunDirectory, Status
from batchnorm.study.grid import Study, read_study
from batchnorm.study.status import standings
from tests.ready import ADDRESS
from tests.recorded import record_run
from tests.slurm.cluster import MAX_ARRAY_SIZE, ROOT, Cluster
from tests.study.commands import process_at
from tests.study.own_problem import write_own_problem
from tests.test_training import assert_same_run

SHORT = "PROBLEM: mnist_mlp_bn\nNUM_EPOCHS: 1\nBATCH_SIZE: 32\nTHREADS: 1\n"
LONG = SHORT.replace("NUM_EPOCHS: 1", "NUM_EPOCHS: 4000")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
Submit = Callable[..., str]


@pytest.fixture
def submit(cluster: Cluster, repository: Path) -> Submit:
    """Return a function that submits a study and returns the job's number, or the whole answer."""

    def call(*arguments: str, whole: bool = False, **more: str) -> str:
        command = [sys.executable, "-m", "batchnorm.study", "submit", *arguments]
        variables = {**cluster.environment, **more}
        done = subprocess.run(command, cwd=repository, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout if whole else done.stdout.partition("as job ")[2].partition(":")[0]

    return call


@pytest.fixture
def write(repository: Path, small_images: Path) -> Callable[[str], tuple[str, Study]]:
    def to_file(text: str) -> tuple[str, Study]:
        path = repository / "small.yaml"
        path.write_text(f"{text}OUTPUT_DIR: {repository / 'output'}\nOBS_DATASETS: {small_images}\n")
        return "small.yaml", read_study(path, {})

    return to_file


Write = Callable[[str], tuple[str, Study]]


def statuses(study: Study) -> list[Status]:
    return [each.status for each in standings(study)]


def sbatch(cluster: Cluster, repository: Path, script: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
    command = ["sbatch", "--parsable", *options, f"sbatch/{script}.sbatch", *arguments]
    done = subprocess.run(command, cwd=repository, env=cluster.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def is_over(cluster: Cluster, *tasks: str) -> bool:
    return all(cluster.job(task).get("JobState") in ENDED for task in tasks)


def log_of(repository: Path, task: str) -> str:
    (path,) = repository.glob(f"output/slurm/*-{task}.log")
    return path.read_text()


def has_epochs(study: Study, index: int) -> bool:
    return standings(study)[index].progress.epochs_done > 0


def test_a_submitted_study_runs_to_its_end_under_its_limit(cluster: Cluster, submit: Submit, write: Write) -> None:
    path, study = write(SHORT + "RANDOM_SEED: 1\nPOSITION: [none, all]\nABLATION: [trained_bn, fixed_bn]\n")
    job = submit(path, "--at-once=2")
    assert cluster.job(job)["ArrayTaskThrottle"] == "2"
    tasks = [f"{job}_{index}" for index in range(3)]
    running: set[int] = set()

    def done() -> bool:
        running.add(sum(cluster.job(task).get("JobState") == "RUNNING" for task in tasks))
        return is_over(cluster, *tasks)

    cluster.wait(done)
    assert max(running) <= 2
    assert statuses(study) == [Status.FINISHED] * 3
    for task in tasks:
        assert cluster.job(task)["ExitCode"] == "0:0"


def test_jobs_find_a_problem_in_a_users_own_file(
    cluster: Cluster, repository: Path, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)  # the study names the file as it lies from here, as its jobs do
    path = repository / "own_study.yaml"
    keys = write_own_problem(repository, shown=".") + "RANDOM_SEED: 1\nPOSITION: '01'\nMAX_STEPS: 3\nTHREADS: 1\n"
    path.write_text(keys + "OUTPUT_DIR: output\n")
    task = f"{submit(path.name, **{ADDRESS: ''})}_0"
    cluster.wait(lambda: is_over(cluster, task))
    assert cluster.job(task)["ExitCode"] == "0:0", log_of(repository, task)
    study = read_study(path, {})
    assert statuses(study) == [Status.FINISHED]
    assert (repository / "output/1__tiny__0,1/Lr_0.1/Ep_1/trained_bn__MAX_STEPS=3/final_model.pth").exists()


def test_more_runs_than_an_array_may_have(cluster: Cluster, repository: Path, submit: Submit) -> None:
    seeds = ", ".join(map(str, range(MAX_ARRAY_SIZE + 2)))
    path = repository / "many.yaml"
    keys = f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [{seeds}]\nNUM_EPOCHS: 1\nMAX_STEPS: 1\nTHREADS: 1\nDEVICE: cpu\n"
    path.write_text(f"{keys}OUTPUT_DIR: {repository / 'output'}\n")
    study = read_study(path, {})
    for seed in range(MAX_ARRAY_SIZE - 1):
        record_run(repository / "output", problem="digits_2c2d_bn", position="all", random_seed=seed, epochs=1, max_steps=1)
    asked = [sys.executable, "-m", "batchnorm.study", "missing", "many.yaml"]
    missing = subprocess.run(asked, cwd=repository, env=cluster.environment, capture_output=True, text=True).stdout
    assert missing.splitlines() == ["9", "0-1 --offset=10"]
    for index in (MAX_ARRAY_SIZE - 1, MAX_ARRAY_SIZE):  # `missing` agrees with what sbatch takes
        test_only = ["sbatch", "--test-only", f"--array={index}", "sbatch/study.sbatch", "many.yaml"]
        taken = subprocess.run(test_only, cwd=repository, env=cluster.environment, capture_output=True, text=True)
        assert (taken.returncode == 0) == (index < MAX_ARRAY_SIZE), taken.stderr
    told = submit("many.yaml", whole=True).splitlines()
    first, second = (line.partition("as job ")[2].partition(":")[0] for line in told)
    tasks = [f"{first}_9", f"{second}_0", f"{second}_1"]
    cluster.wait(lambda: is_over(cluster, *tasks))
    assert [cluster.job(task)["ExitCode"] for task in tasks] == ["0:0"] * 3
    assert cluster.job(tasks[1])["StartTime"] >= cluster.job(tasks[0])["EndTime"]  # --at-once holds for both together
    assert statuses(study) == [Status.FINISHED] * (MAX_ARRAY_SIZE + 2)


def test_daemons_end_where_who_started_them_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    start = "import sys; from pathlib import Path; from tests.slurm.cluster import Cluster\n"
    start += "cluster = Cluster.start(Path(sys.argv[1])); print(cluster.keeper.pid, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", start, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout
        keeper = int(started.stdout.readline())
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        ends = [os.pidfd_open(pid) for pid in (keeper, *map(int, children))]
        started.kill()
    assert len(ends) == 4
    for end in ends:
        assert select.select([end], [], [], 60)[0]
        os.close(end)


def test_the_other_scripts_run_as_shipped(cluster: Cluster, repository: Path, small_images: Path) -> None:
    keys = ["PROBLEM=mnist_mlp_bn", "RANDOM_SEED=7", "NUM_EPOCHS=1", "BATCH_SIZE=32", f"OBS_DATASETS={small_images}"]
    one = sbatch(cluster, repository, "run_one_modelsetting", *keys, "POSITION=0,1,0", "ABLATION=fixed_gamma")
    modes = sbatch(cluster, repository, "run_all_modifications", *keys, "POSITION=110", options=("--array=2-3",))
    positions = sbatch(cluster, repository, "run_multiple_positions", *keys, options=("--array=4",))
    tasks = [one, f"{modes}_2", f"{modes}_3", f"{positions}_4"]
    cluster.wait(lambda: is_over(cluster, *tasks))
    assert [cluster.job(task)["ExitCode"] for task in tasks] == ["0:0"] * 4
    finished = {
        (run.config.position, run.config.ablation)
        for path in repository.glob("output/7__*/*/*/*/run.h5")
        if (run := Run(path)).status == Status.FINISHED
    }
    assert finished == {
        ("0,1,0", "fixed_gamma"),
        ("1,1,0", "fixed_gamma"),
        ("1,1,0", "fixed_beta"),
        ("0,0,1", "trained_bn"),
    }


def test_bad_input_is_not_requeued(cluster: Cluster, repository: Path) -> None:
    bad = sbatch(cluster, repository, "run_one_modelsetting", "PROBLEM=mnist_mlp_bn", "RANDOM_SEED=1", "POSITION=2")
    absent = sbatch(
        cluster, repository, "run_all_modifications", "PROBLEM=digits_2c2d_bn", "RANDOM_SEED=1", options=("--array=9",)
    )
    cluster.wait(lambda: is_over(cluster, bad, f"{absent}_9"))
    for task, message in (
        (bad, "error: POSITION=2: not a mask"),
        (f"{absent}_9", "error: --index 9: modes has the runs 0 to 3"),
    ):
        assert cluster.job(task)["JobState"] == "FAILED"
        assert cluster.job(task)["ExitCode"] == "2:0"
        assert cluster.job(task)["Restarts"] == "0"
        assert message in log_of(repository, task)


def test_cancelled_and_killed_runs_are_taken_up_by_submitting_again(
    cluster: Cluster, repository: Path, submit: Submit, write: Write
) -> None:
    path, study = write(LONG + "RANDOM_SEED: [1, 2, 3]\n")
    job = submit(path, "--at-once=2")
    cluster.wait(lambda: has_epochs(study, 0) and has_epochs(study, 1))
    os.kill(process_at(study, 0), signal.SIGKILL)
    cluster.wait(lambda: is_over(cluster, f"{job}_0"))
    assert cluster.job(f"{job}_0")["ExitCode"] == "137:0"
    assert standings(study)[1].status == Status.RUNNING
    again = subprocess.run(
        [sys.executable, "-m", "batchnorm.study", "missing", path], cwd=repository, capture_output=True, text=True
    ).stdout
    assert again.split(",")[0][0] == "0"
    cluster.wait(lambda: has_epochs(study, 2))
    cluster.call("scancel", job)
    cluster.wait(lambda: is_over(cluster, f"{job}_1", f"{job}_2"))
    for index in (1, 2):
        assert cluster.job(f"{job}_{index}")["JobState"] == "CANCELLED"
        assert "exit code 75" in log_of(repository, f"{job}_{index}")
        assert "in the queue again" not in log_of(repository, f"{job}_{index}")
    assert statuses(study) == [Status.CUT_OFF] * 3
    done = [each.progress.epochs_done for each in standings(study)]
    job = submit(path)
    tasks = [f"{job}_{index}" for index in range(3)]
    cluster.wait(lambda: all(has_more(study, index, done[index]) for index in range(2)))  # there are two GPUs
    cluster.call("scancel", job)
    cluster.wait(lambda: is_over(cluster, *tasks))
    assert all("resumed at step" in RunDirectory(run.config.directory).log.read_text() for run in study.runs[:2])


def has_more(study: Study, index: int, epochs: int) -> bool:
    return standings(study)[index].progress.epochs_done > epochs


def start_again(cluster: Cluster, task: str, *updates: str) -> None:
    """Start a requeued task, which would wait two minutes; SLURM refuses to in the second in which it was requeued."""
    cluster.call("scontrol", "update", f"JobId={task}", "StartTime=now+2", *updates)


def is_told(process: int, number: signal.Signals) -> bool:
    """Say whether a stopped process has been sent a signal, which it gets when it goes on."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (pending,) = (line.split()[1] for line in lines if line.startswith("ShdPnd:"))
    return bool(int(pending, 16) >> number - 1 & 1)


def test_a_run_that_meets_its_time_limit_goes_on_and_ends_as_if_unbroken(
    cluster: Cluster, repository: Path, submit: Submit, write: Write, tmp_path: Path
) -> None:
    # OVERWRITE=true is obeyed by the first start alone
    epochs = 60
    text = SHORT.replace("NUM_EPOCHS: 1", f"NUM_EPOCHS: {epochs}")
    path, study = write(text + "RANDOM_SEED: 5\nPOSITION: '0,1,1'\nABLATION: fixed_beta\nOVERWRITE: true\n")
    task = f"{submit(path, '--', '--time=2', '--signal=B:USR1@110')}_0"

    def is_requeued() -> bool:
        return cluster.job(task).get("JobState") == "PENDING" and cluster.job(task)["Restarts"] != "0"

    while True:  # SLURM warns up to a minute too early: perhaps before the run has begun, which is no harm
        cluster.wait(lambda: has_epochs(study, 0) or is_requeued())
        if has_epochs(study, 0):
            break
        restarts = cluster.job(task)["Restarts"]
        start_again(cluster, task)
        cluster.wait(lambda: cluster.job(task)["Restarts"] != restarts)  # noqa: B023
    if process := process_at(study, 0):  # it stands still until SLURM warns it
        os.kill(process, signal.SIGSTOP)
        cluster.wait(lambda: is_told(process, signal.SIGUSR1), seconds=100, strict=False)  # it may have been, just before
        os.kill(process, signal.SIGCONT)
    cluster.wait(is_requeued)
    assert statuses(study) == [Status.CUT_OFF]
    assert standings(study)[0].progress.epochs_done < epochs
    restarts = cluster.job(task)["Restarts"]
    start_again(cluster, task, "TimeLimit=60")
    elsewhere = {"output_dir": str(tmp_path / "unbroken")}
    command = [sys.executable, "-m", "batchnorm.study", "run", path, "--index=0", f"OUTPUT_DIR={elsewhere['output_dir']}"]
    subprocess.run(command, cwd=repository, env=cluster.environment, check=True, capture_output=True)
    cluster.wait(lambda: is_over(cluster, task))
    assert cluster.job(task)["JobState"] == "COMPLETED", log_of(repository, task)
    assert cluster.job(task)["Restarts"] == restarts
    log = RunDirectory(study.runs[0].config.directory).log.read_text()
    assert "stopped by SIGUSR1" in log
    assert "resumed at step" in log
    assert_same_run(study.runs[0].config.directory, read_study(repository / path, elsewhere).runs[0].config.directory)
