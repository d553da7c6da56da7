from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchnorm import shipped
from batchnorm.errors import StudyError
from batchnorm.study.grid import read_study
from batchnorm.study.slurm import Array, arrays, frozen_study, max_array_size, sbatch_call, submit

STUDY = "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [1, 2]\nLR: 0.1\nNUM_EPOCHS: 3\nPOSITION: '0,1,1'\n"
FROZEN = """\
# two as it was submitted: its runs by index
- PROBLEM: digits_2c2d_bn
  RANDOM_SEED: '1'
  POSITION: 0,1,1
  ABLATION: trained_bn
  TUNING_CONF: configs/basic_config.yaml
  OPTIMIZER: SGD
  LR: '0.1'
  OPT_HPARS: {}
  LR_SCHEDULE: 'null'
  NUM_EPOCHS: '3'
  BATCH_SIZE: '64'
  MAX_STEPS: 'null'
  NORM: batch
  GAMMA_INIT: mode
  BETA_INIT: mode
  BN_MOMENTUM: 'null'
  BN_EPS: 'null'
  GHOST: 'null'
  FREEZE_STATS_AFTER: 'null'
  PLACEMENT: before
  AFFINE_LR_SCALE: '1.0'
  L2_AFFINE: '0.0'
  L2_REG: '0.0'
  BIAS_INIT: deepobs
  PRECISION: fp32
  COMPILE: 'false'
  OBS_DATASETS: data
  OUTPUT_DIR: output
  NAMED_KEYS: ''
  DEVICE: auto
  MEMORY_FORMAT: auto
  LOG_EVERY_STEPS: '5'
  MEASURE: weights
  MEASURE_EVERY: '1'
  MEASURE_STEPS: '25'
  EVALUATE_EVERY: '1'
  SAVE_EPOCHS: none
  DETERMINISTIC: 'true'
  OVERWRITE: 'false'
"""


def test_the_call_is_the_stored_one() -> None:
    call = sbatch_call(
        "two", Path("output/slurm/two-0123.yaml"), Array((0, 1, 2, 7), 0), at_once=5, options=["--time=8:00:00", "-p", "gpu"]
    )
    assert call == [
        "sbatch",
        "--parsable",
        "--job-name=two",
        "--array=0-2,7%5",
        "--time=8:00:00",
        "-p",
        "gpu",
        "sbatch/study.sbatch",
        "output/slurm/two-0123.yaml",
    ]


def test_an_array_behind_the_first_says_its_offset_and_waits() -> None:
    call = sbatch_call("two", Path("two.yaml"), Array((0, 3), 2002), at_once=5, after="17")
    assert call == [
        "sbatch",
        "--parsable",
        "--job-name=two",
        "--array=0,3%5",
        "--dependency=afterany:17",
        "sbatch/study.sbatch",
        "two.yaml",
        "--offset=2002",
    ]


@given(st.sets(st.integers(0, 5000)), st.integers(1, 1001))
def test_arrays_hold_each_run_once_within_the_limit(indices: set[int], size: int) -> None:
    dealt = arrays(indices, size)
    assert all(0 <= task < size for array in dealt for task in array.tasks)
    assert sorted(array.offset + task for array in dealt for task in array.tasks) == sorted(indices)
    assert len(dealt) <= max(indices, default=-1) // size + 1


def test_the_size_of_arrays_is_slurm_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert max_array_size() == 1001
    scontrol = tmp_path / "scontrol"
    for said, size in (("MaxArraySize            = 41", 41), ("slurm_load_ctl_conf error: no contact", 1001)):
        scontrol.write_text(f"#!/bin/sh\necho 'MaxArraySizes = 7'\necho '{said}'\n")
        scontrol.chmod(0o755)
        assert max_array_size() == size
    scontrol.write_text("#!/bin/sh\necho 'MaxArraySize = 0'\n")
    with pytest.raises(StudyError, match="no job arrays"):
        max_array_size()


def test_what_a_job_reads_is_the_stored_text(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(STUDY)
    study = read_study(path, {})
    frozen, text = frozen_study(study)
    assert text == FROZEN + FROZEN.partition("\n")[2].replace("RANDOM_SEED: '1'", "RANDOM_SEED: '2'")
    assert frozen.parent == Path("output/slurm")
    path.write_text(STUDY.replace("[1, 2]", "[5, 6, 7]"))
    copy = tmp_path / "copy.yaml"
    copy.write_text(text)
    assert [run.config for run in read_study(copy, {}).runs] == [run.config for run in study.runs]
    assert frozen_study(read_study(path, {}))[0] != frozen


def test_a_dry_run_prints_the_call_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(STUDY)
    study = read_study(path, {})
    monkeypatch.chdir(tmp_path)
    text = submit(study, [1], at_once=20, options=["--comment=two words"], dry_run=True)
    script, frozen = shipped.ROOT / "sbatch" / "study.sbatch", frozen_study(study)[0]
    assert text == f"sbatch --parsable --job-name=two --array=1%20 '--comment=two words' {script} {frozen}"
    assert [file.name for file in tmp_path.iterdir()] == ["two.yaml"]


def test_a_full_disk_leaves_what_earlier_jobs_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(STUDY)
    study = read_study(path, {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sbatch").mkdir()
    (tmp_path / "sbatch" / "study.sbatch").touch()
    frozen, text = frozen_study(study)
    frozen.parent.mkdir(parents=True)
    frozen.write_text(text)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StudyError, match=r"cannot be written: File too large$"):
            submit(study, [0], at_once=1, options=[], dry_run=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert frozen.read_text() == text
    assert list(frozen.parent.iterdir()) == [frozen]


def test_without_slurm_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(STUDY)
    study = read_study(path, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(StudyError, match="sbatch: not found"):
        submit(study, [0], at_once=1, options=[], dry_run=False)


SBATCH = """\
#!/bin/sh
for last; do :; done
printf '%s\\n' "$@" "$BATCHNORM_PYTHON" > call.txt
cp "$last" read.txt
echo "7;cluster"
"""


def test_from_any_folder_slurm_gets_the_shipped_script_and_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    study = read_study(Path("quickstart_digits"), {})
    assert submit(study, [0, 3], at_once=2, options=[], dry_run=False).startswith("submitted 2 runs as job 7: sbatch ")
    *_, script, frozen, python = (tmp_path / "call.txt").read_text().splitlines()
    assert Path(script) == shipped.ROOT / "sbatch" / "study.sbatch"
    assert python == sys.executable
    assert (tmp_path / "read.txt").read_text() == (tmp_path / frozen).read_text() == frozen_study(study)[1]


def test_a_script_in_this_folder_is_taken_before_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sbatch").mkdir()
    (tmp_path / "sbatch" / "study.sbatch").touch()
    study = read_study(Path("quickstart_digits"), {})
    assert f" {tmp_path / 'sbatch' / 'study.sbatch'} " in submit(study, [0], at_once=1, options=[], dry_run=True)
