from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchnorm.config import split_arguments
from batchnorm.errors import ExitCode
from batchnorm.store import RunDirectory, Status
from batchnorm.study.__main__ import main
from batchnorm.study.grid import read_study
from tests.recorded import record_run
from tests.study.commands import ROOT, environment, run

QUICKSTART = "configs/studies/quickstart_digits.yaml"
RATES = "{log_uniform: [0.01, 1], n: 2, seed: 0}"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["run", "-h"]):
        assert main(arguments) == ExitCode.FINISHED
        shown = capsys.readouterr().out
        for word in (
            "list",
            "status",
            "missing",
            "run",
            "submit",
            "tune",
            "--workers",
            "--devices",
            "--dry-run",
            "--at-once",
            "75",
        ):
            assert word in shown


@pytest.mark.parametrize("command", ["list", "status", "missing", "submit", "tune"])
def test_commands_load_no_torch(command: str, tmp_path: Path) -> None:
    code = (
        "import sys; from batchnorm.study.__main__ import main; import batchnorm.study.local\n"
        "code = main(sys.argv[1:]); assert not {'torch', 'torchvision'} & set(sys.modules); sys.exit(code)"
    )
    more = {"submit": ["--dry-run"], "tune": ["--dry-run", "--then=RANDOM_SEED=2", f"LR={RATES}"]}.get(command, [])
    arguments = [command, QUICKSTART, f"OUTPUT_DIR={tmp_path}", *more]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_answer_by_what_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_run(tmp_path, epochs=3, problem="digits_2c2d_bn", position="all")
    record_run(tmp_path, epochs=3, problem="digits_2c2d_bn", position="all", ablation="fixed_bn", status=Status.RUNNING)
    record_run(tmp_path, epochs=3, problem="digits_2c2d_bn", position="none", status=Status.DIVERGED)
    output = f"OUTPUT_DIR={tmp_path}"
    assert main(["missing", QUICKSTART, output]) == ExitCode.FINISHED
    assert capsys.readouterr().out == "2-4\n"
    assert main(["status", QUICKSTART, output]) == ExitCode.FINISHED
    assert "interrupted     1  2" in capsys.readouterr().out
    assert main(["submit", "--dry-run", QUICKSTART, "--at-once=7", output, "--", "--time=1"]) == ExitCode.FINISHED
    assert f"--array=2-4%7 --time=1 {ROOT / 'sbatch' / 'study.sbatch'}" in capsys.readouterr().out
    assert main(["list", QUICKSTART, output]) == ExitCode.FINISHED
    assert len(capsys.readouterr().out.splitlines()) == 5
    for mode in ("fixed_bn", "fixed_gamma", "fixed_beta"):
        record_run(tmp_path, epochs=3, problem="digits_2c2d_bn", position="all", ablation=mode)
    assert main(["missing", QUICKSTART, output]) == ExitCode.FINISHED
    assert capsys.readouterr().out == "\n"
    assert main(["submit", QUICKSTART, output]) == ExitCode.FINISHED
    assert main(["run", QUICKSTART, output]) == ExitCode.FINISHED
    assert "nothing to do, 5/5 runs" in capsys.readouterr().out
    assert main(["run", QUICKSTART, "--index=1", output]) == ExitCode.FINISHED
    assert main(["run", QUICKSTART, "--index=0", output]) == ExitCode.DIVERGED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst", QUICKSTART], "lst: no such command; did you mean list?"),
        (["list"], "STUDY.yaml"),
        (["list", "absent.yaml"], "STUDY=absent.yaml: no such file"),
        (["list", QUICKSTART, "SEED"], "SEED: not KEY=value"),
        (["list", QUICKSTART, "ABLATON=fixed_bn"], "did you mean ABLATION?"),
        (["run", QUICKSTART, "NUM_EPOCHS=0"], "NUM_EPOCHS=0: must be"),
        (["run", QUICKSTART, "--workers=0"], "--workers"),
        (["run", QUICKSTART, "--workers"], "--workers"),
        (["run", QUICKSTART, "--devices", "gpu0"], "gpu0: must be auto, cpu, cuda or cuda:N"),
        (["run", QUICKSTART, "--index=5"], "--index 5: quickstart_digits has the runs 0 to 4"),
        (["run", QUICKSTART, "--index=x"], "--index"),
        (["run", QUICKSTART, "--wrkers=2"], "--wrkers"),
        (["list", QUICKSTART, "--dry-run"], "--dry-run"),
        (["run", QUICKSTART, "--", "--time=1"], "only submit passes options on"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.BAD_INPUT
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1


def test_options_and_keys_come_in_any_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for arguments in (
        ["submit", "--at-once", "3", QUICKSTART, f"OUTPUT_DIR={tmp_path}", "--dry-run", "LR=0.5"],
        ["submit", "LR=0.5", QUICKSTART, "--dry-run"],
    ):
        code = main(arguments)
        lines.append((code, capsys.readouterr()))
    assert lines[0][0] == ExitCode.FINISHED
    assert "--array=0-4%3" in lines[0][1].out
    assert f"{QUICKSTART}: not KEY=value" in lines[1][1].err  # the study comes before its keys


def test_what_is_left_out_is_told_by_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"OUTPUT_DIR={tmp_path}"
    for mode in ("trained_bn", "fixed_bn", "fixed_gamma"):
        record_run(tmp_path, epochs=3, problem="digits_2c2d_bn", position="all", ablation=mode)
    record_run(tmp_path, epochs=3, problem="digits_2c2d_bn", position="none")
    record_run(tmp_path, epochs=3, problem="digits_2c2d_bn", position="all", ablation="fixed_beta", status=Status.RUNNING)
    run = read_study(Path(QUICKSTART), {"output_dir": str(tmp_path)}).runs[4]
    with RunDirectory(run.config.directory).claim():
        for command, told in (("missing", "\n"), ("submit", "quickstart_digits: nothing to submit\n")):
            assert main([command, QUICKSTART, output]) == ExitCode.FAILED
            shown = capsys.readouterr()
            assert shown.out == told
            assert shown.err == f"skipped 4: another process is running it: {run.config.directory}\n"
        assert main(["run", QUICKSTART, output]) == ExitCode.FAILED
        assert capsys.readouterr().out.splitlines() == [
            f"skipped 4: another process is running it: {run.config.directory}",
            "quickstart_digits: nothing done here, another process is running 1 of 5 runs",
        ]
    record = RunDirectory(run.config.directory).record
    record.write_bytes(record.read_bytes()[:100])
    assert main(["missing", QUICKSTART, output]) == ExitCode.FAILED
    shown = capsys.readouterr()
    assert shown.out == "4\n"
    assert shown.err.startswith("unusable 4: ")
    assert shown.err.count("\n") == 1


@pytest.mark.slow
def test_a_run_of_which_nothing_is_known_is_tried_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [QUICKSTART, f"OUTPUT_DIR={tmp_path}", "POSITION=all", "ABLATION=fixed_bn"]
    record_run(tmp_path, epochs=3, problem="digits_2c2d_bn", position="all", ablation="fixed_bn", status=Status.RUNNING)
    (run,) = read_study(Path(QUICKSTART), split_arguments(arguments[1:])).runs
    RunDirectory(run.config.directory).lock.write_text("7\nanother-host\n0\ncontent\n")  # by a file system without flock
    assert main(["status", *arguments]) == ExitCode.FINISHED
    assert "\n  unknown         1  0\n" in capsys.readouterr().out
    assert main(["missing", *arguments]) == ExitCode.FINISHED
    assert capsys.readouterr().out == "0\n"
    assert main(["run", *arguments]) == ExitCode.FAILED
    told = capsys.readouterr().out
    assert "another-host" in told
    assert told.endswith("quickstart_digits: 1 skipped; 0/1 runs have ended\n")


def test_missing_says_what_slurm_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 'MaxArraySize            = 5'\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "many.yaml"
    seeds = ", ".join(map(str, range(12)))
    path.write_text(f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [{seeds}]\nNUM_EPOCHS: 3\nOUTPUT_DIR: {tmp_path}\n")
    record_run(tmp_path, epochs=3, problem="digits_2c2d_bn", position="all", random_seed=6)
    assert main(["missing", str(path)]) == ExitCode.FINISHED
    assert capsys.readouterr().out.splitlines() == ["0-4", "0,2-4 --offset=5", "0-1 --offset=10"]
    assert main(["submit", "--dry-run", str(path)]) == ExitCode.FINISHED
    calls = [call.split() for call in capsys.readouterr().out.splitlines()]
    assert [call[3] for call in calls] == ["--array=0-4%20", "--array=0,2-4%20", "--array=0-1%20"]
    assert [call[4] for call in calls[1:]] == ["--dependency=afterany:JOB_BEFORE"] * 2
    assert [call[-1] for call in calls[1:]] == ["--offset=5", "--offset=10"]
    assert main(["run", str(path), "--index=1", "--offset=5"]) == ExitCode.FINISHED
    assert "finished already" in capsys.readouterr().out
    assert main(["run", str(path), "--index=2", "--offset=10"]) == ExitCode.BAD_INPUT
    assert "--index 12: many has the runs 0 to 11" in capsys.readouterr().err
    assert main(["run", str(path), "--index=4", "--offset=x"]) == ExitCode.BAD_INPUT
    assert "--offset" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error() -> None:
    study = "configs/studies/positions_cifar10_3c3d.yaml"
    command = f"'{sys.executable}' -m batchnorm.study list {study} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[1] == "0"


def test_exit_code_reaches_the_shell() -> None:
    done = run("list", "absent.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: STUDY=absent.yaml: no such file below {ROOT}, nor among the shipped ones; valid: ")
