"""Hands a study to SLURM: the text of the sbatch call, and making it."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from batchnorm.errors import StudyError, one_line
from batchnorm.study.grid import Study
from batchnorm.study.status import format_array

SCRIPT = Path("sbatch/study.sbatch")
FOLDER = Path("output/slurm")
"""Where the sbatch scripts put their logs, and `submit` the runs that it submitted."""


def frozen_study(study: Study) -> tuple[Path, str]:
    """Return where the runs of a submission are written down, and their text.

    A job looks its run up when it starts, perhaps days later: in this file, so that editing the study or the tuning file
    meanwhile changes nothing for what is submitted. THREADS that nobody gave is left to the machine that the job runs on.
    """
    text = f"# {study.name} as it was submitted: its runs by index\n" + study.to_text()
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return FOLDER / f"{study.name}-{digest}.yaml", text


def sbatch_call(
    name: str, frozen: Path, indices: Sequence[int], *, at_once: int, options: Sequence[str] = (), script: Path = SCRIPT
) -> list[str]:
    """Return the call that submits some runs of a study as an array.

    Args:
        name: the study's, which becomes the job's.
        frozen: the file that holds the runs.
        indices: the runs.
        at_once: how many may run at one time.
        options: what sbatch is told besides; it overrides the script's `#SBATCH` lines, and ours.
        script: what each task runs.
    """
    array = f"--array={format_array(indices)}%{at_once}"
    return ["sbatch", "--parsable", f"--job-name={name}", array, *options, str(script), str(frozen)]


def submit(study: Study, indices: Sequence[int], *, at_once: int, options: Sequence[str], dry_run: bool) -> str:
    """Submit some runs of a study and return a line that says so; `dry_run` submits and writes nothing.

    Raises:
        StudyError: sbatch is not there, or does not take the job.
    """
    frozen, text = frozen_study(study)
    call = sbatch_call(study.name, frozen, indices, at_once=at_once, options=options)
    if dry_run:
        return shlex.join(call)
    if not SCRIPT.exists():
        raise StudyError(f"{SCRIPT}: no such file; submit from the repository's root")
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        frozen.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{frozen}: cannot be written: {error.strerror or one_line(error)}") from None
    try:
        answer = subprocess.run(call, capture_output=True, text=True, check=True)
    except OSError:
        raise StudyError("sbatch: not found; submit on a machine of the cluster, or use: run") from None
    except subprocess.CalledProcessError as refused:
        raise StudyError(f"sbatch refused: {' '.join(refused.stderr.split())}; the call was: {shlex.join(call)}") from None
    return f"submitted {len(indices)} runs as job {answer.stdout.strip()}: {shlex.join(call)}"
