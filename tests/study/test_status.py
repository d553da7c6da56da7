from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchnorm.errors import RunError
from batchnorm.store import RunDirectory, Status
from batchnorm.study.grid import Study, read_study
from batchnorm.study.status import (
    check_no_other_runs,
    format_array,
    format_list,
    format_status,
    seconds_left,
    standings,
    to_do,
)
from tests.recorded import record_run

KEYS: dict[str, Any] = {"problem": "digits_2c2d_bn", "position": "all"}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "seeds.yaml"
    path.write_text(
        f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [0, 1, 2, 3, 4, 5, 6]\nNUM_EPOCHS: 4\nOUTPUT_DIR: {tmp_path / 'output'}\n"
    )
    return read_study(path, {})


def record(study: Study, seed: int, **how: Any) -> None:
    record_run(Path(study.runs[0].config.output_dir), **{**KEYS, "random_seed": seed, **how})


def statuses(study: Study) -> list[Status]:
    return [each.status for each in standings(study)]


def test_every_status_is_told_from_the_directory(study: Study) -> None:
    assert statuses(study) == [Status.MISSING] * 7
    record(study, 0)
    record(study, 1, status=Status.DIVERGED, recorded_epochs=2)
    record(study, 2, status=Status.RUNNING, recorded_epochs=1)
    record(study, 3, status=Status.RUNNING, recorded_epochs=3)
    record(study, 4, batch_size=32, named_keys="")
    record(study, 5)
    damaged = RunDirectory(study.runs[5].config.directory).record
    damaged.write_bytes(damaged.read_bytes()[:100])
    with RunDirectory(study.runs[3].config.directory).claim():
        assert statuses(study) == [
            Status.FINISHED,
            Status.DIVERGED,
            Status.CUT_OFF,
            Status.RUNNING,
            Status.UNUSABLE,
            Status.UNUSABLE,
            Status.MISSING,
        ]
        found = standings(study)
        assert [run.index for run in to_do(found)] == [2, 4, 5, 6]
        shown = format_status(study, found)
    assert "BATCH_SIZE (32 there, 64 here)" in found[4].reason
    assert "damaged" in found[5].reason
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[:7] == [
        "seeds: 7 runs",
        "finished 1 0",
        "running 1 3",
        "interrupted 1 2",
        "diverged 1 1",
        "missing 1 6",
        "unusable 2 4-5",
    ]
    assert "2 interrupted: 1,1,1 trained_bn RANDOM_SEED=2 epoch 1/4" in lines
    # an epoch takes 10 s; run 2 has 3 of them left, run 3 one, run 6 all four; the unusable ones need their user
    assert seconds_left(found) == 80
    assert lines[-1] == "42.9% done; time left: about 0:01:20 for one process, 0:01:20 for the 1 now at work"


def test_looking_changes_nothing(study: Study) -> None:
    record(study, 2, status=Status.RUNNING, recorded_epochs=1)
    folder = Path(study.runs[0].config.output_dir)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    standings(study)
    check_no_other_runs(study)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_claimed_directory_without_a_record_is_running(study: Study) -> None:
    with RunDirectory(study.runs[0].config.directory).claim():
        assert statuses(study)[0] == Status.RUNNING


def test_time_left_is_unknown_before_the_first_epoch(study: Study) -> None:
    record(study, 0, status=Status.RUNNING, recorded_epochs=0)
    found = standings(study)
    assert seconds_left(found) is None
    assert "time left: unknown" in format_status(study, found)


def test_the_summary_line_is_true(study: Study) -> None:
    def last() -> str:
        return format_status(study, standings(study)).splitlines()[-1].strip()

    for seed in range(6):
        record(study, seed)
    record(study, 6, batch_size=32, named_keys="")
    assert last() == "85.7% done; nothing is left but what is unusable (1)"
    shutil.rmtree(study.runs[6].config.directory)
    record(study, 6, status=Status.RUNNING, recorded_epochs=4)  # killed between its last epoch and its end
    assert last() == "99.9% done; time left: about 0:00:00 for one process"
    record(study, 6)
    assert last() == "100.0% done; nothing is left"


def test_max_steps_count_for_progress(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nNUM_EPOCHS: 50\nMAX_STEPS: 70\nOUTPUT_DIR: {tmp_path}\n")
    study = read_study(path, {})
    record_run(tmp_path, epochs=50, recorded_epochs=3, status=Status.RUNNING, random_seed=1, max_steps=70, **KEYS)
    progress = standings(study)[0].progress
    assert (progress.epochs_done, progress.epochs) == (3, 4)  # 20 steps an epoch


def test_overwriting_means_all_runs(study: Study, tmp_path: Path) -> None:
    record(study, 0)
    again = read_study(tmp_path / "seeds.yaml", {"overwrite": "true"})
    assert len(to_do(standings(again))) == 7


def test_another_run_in_the_way_is_found_before_the_first_starts(study: Study) -> None:
    record(study, 3, num_epochs=4, batch_size=32, named_keys="")
    with pytest.raises(
        RunError, match=r"^run 3 \(1,1,1 trained_bn RANDOM_SEED=3\): .* holds another run: BATCH_SIZE \(32 there, 64 here\)"
    ):
        check_no_other_runs(study)
    shutil.rmtree(study.runs[3].config.directory)
    check_no_other_runs(study)


def test_list(study: Study) -> None:
    first, *_, last = format_list(study).splitlines()
    assert first.split()[:4] == ["0", "1,1,1", "trained_bn", "RANDOM_SEED=0"]
    assert last.endswith(str(study.runs[6].config.directory))


def test_array() -> None:
    assert format_array([0, 1, 2, 3, 7, 9, 10, 11, 12]) == "0-3,7,9-12"
    assert format_array([5]) == "5"
    assert format_array([]) == ""


@given(st.sets(st.integers(0, 200)))
def test_an_array_reads_back_as_the_indices(indices: set[int]) -> None:
    read: set[int] = set()
    for part in filter(None, format_array(indices).split(",")):
        first, _, last = part.partition("-")
        read |= set(range(int(first), int(last or first) + 1))
    assert read == indices
