"""Hands a study to SLURM: the text of the sbatch call, and making it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from batchnorm import shipped
from batchnorm.errors import StudyError, one_line
from batchnorm.study.grid import Study
from batchnorm.study.status import format_array

SCRIPT = Path("sbatch/study.sbatch")
FOLDER = Path("output/slurm")
"""Where the sbatch scripts put their logs, and `submit` the runs that it submitted."""
_PYTHON = "BATCHNORM_PYTHON"
"""The variable that tells the sbatch scripts which Python to use; without it they take `python`."""
_MAX_ARRAY_SIZE = 1001
_SECONDS_TO_ANSWER = 30


def frozen_study(study: Study) -> tuple[Path, str]:
    """Return where the runs of a submission are written down, and their text.

    A job looks its run up when it starts, perhaps days later: in this file, so that editing the study or the tuning file
    meanwhile changes nothing for what is submitted. THREADS that nobody gave is left to the machine that the job runs on.
    """
    name = study.name.encode(errors="backslashreplace").decode()  # a file's name may hold bytes that are no text
    text = f"# {name} as it was submitted: its runs by index\n" + study.to_text()
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return FOLDER / f"{study.name}-{digest}.yaml", text


def max_array_size() -> int:
    """Return how many tasks an array may have here, and so the first index that it may not: SLURM's default where none is said.

    Raises:
        StudyError: arrays are switched off.
    """
    try:
        shown = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, errors="replace", timeout=_SECONDS_TO_ANSWER
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        shown = ""
    said = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, re.MULTILINE)
    size = int(said[1]) if said else _MAX_ARRAY_SIZE
    if not size:
        raise StudyError("SLURM takes no job arrays here (MaxArraySize=0); use: run")
    return size


@dataclass(frozen=True)
class Array:
    """Some runs of a study as SLURM takes them: the indices of an array's tasks, and how far above them the runs' are."""

    tasks: tuple[int, ...]
    offset: int

    @property
    def arguments(self) -> list[str]:
        """What the script passes on to `run --index`."""
        return [f"--offset={self.offset}"] if self.offset else []

    def __str__(self) -> str:
        """Write it as `missing` tells it: `0-3,7`, or `0-3,7 --offset=1001`."""
        return " ".join([format_array(self.tasks), *self.arguments])


def arrays(indices: Iterable[int], size: int) -> list[Array]:
    """Deal runs to as many arrays as their indices ask for, each with tasks from 0 to size - 1.

    >>> [str(array) for array in arrays([0, 1, 1000, 1001, 2005], 1001)]
    ['0-1,1000', '0 --offset=1001', '3 --offset=2002']
    """
    dealt = groupby(sorted(indices), lambda index: index // size)
    return [Array(tuple(index % size for index in group), number * size) for number, group in dealt]


def sbatch_call(
    name: str,
    frozen: Path,
    array: Array,
    *,
    at_once: int,
    options: Sequence[str] = (),
    after: str | None = None,
    script: Path = SCRIPT,
) -> list[str]:
    """Return the call that submits some runs of a study as an array.

    Args:
        name: the study's, which becomes the job's.
        frozen: the file that holds the runs.
        array: the runs.
        at_once: how many may run at one time.
        options: what sbatch is told besides; it overrides the script's `#SBATCH` lines, and ours.
        after: the job that must have ended before, so that `at_once` holds for all arrays of a study together.
        script: what each task runs; SLURM copies it.
    """
    limits = [f"--array={format_array(array.tasks)}%{at_once}", *([f"--dependency=afterany:{after}"] if after else [])]
    return ["sbatch", "--parsable", f"--job-name={name}", *limits, *options, str(script), str(frozen), *array.arguments]


def submit(study: Study, indices: Sequence[int], *, at_once: int, options: Sequence[str], dry_run: bool) -> str:
    """Submit some runs of a study and return a line for each array; `dry_run` submits and writes nothing.

    The jobs use the Python that this one is, also where no environment is activated.

    Raises:
        StudyError: sbatch is not there, or does not take the job.
    """
    frozen, text = frozen_study(study)
    dealt = arrays(indices, max_array_size())
    script = shipped.find(SCRIPT, among=shipped.SCRIPTS).absolute()
    if dry_run:
        afters = [None] + ["JOB_BEFORE"] * (len(dealt) - 1)
        calls = zip(dealt, afters, strict=True)
        return "\n".join(
            shlex.join(sbatch_call(study.name, frozen, array, at_once=at_once, options=options, after=after, script=script))
            for array, after in calls
        )
    _write(frozen, text)
    told: list[str] = []
    job: str | None = None
    for array in dealt:
        call = sbatch_call(study.name, frozen, array, at_once=at_once, options=options, after=job, script=script)
        try:
            job = _submitted(call)
        except StudyError as error:
            raise StudyError(" | ".join([str(error), *told])) from None
        told.append(f"submitted {len(array.tasks)} runs as job {job}: {shlex.join(call)}")
    return "\n".join(told)


def _write(frozen: Path, text: str) -> None:
    """Write the frozen study, all or nothing: jobs that were submitted before may be waiting to read the same one.

    Raises:
        StudyError: it cannot be written.
    """
    temporary = frozen.with_name(f"{frozen.name}.{os.getpid()}")
    try:
        frozen.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(frozen)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StudyError(f"{frozen}: cannot be written: {error.strerror or one_line(error)}") from None


def _submitted(call: Sequence[str]) -> str:
    """Make a call of sbatch and return the job's number.

    Raises:
        StudyError: sbatch is not there, or does not take the job.
    """
    environment = {**os.environ, _PYTHON: sys.executable}
    try:
        answer = subprocess.run(call, capture_output=True, text=True, errors="replace", check=True, env=environment)
    except FileNotFoundError:
        raise StudyError("sbatch: not found; submit on a machine of the cluster, or use: run") from None
    except OSError as error:
        raise StudyError(f"sbatch: cannot be started: {error.strerror or one_line(error)}") from None
    except subprocess.CalledProcessError as refused:
        raise StudyError(f"sbatch refused: {' '.join(refused.stderr.split())}; the call was: {shlex.join(call)}") from None
    return answer.stdout.strip().partition(";")[0]  # a cluster's name may follow
