"""The commands of a study: one function and one row of `COMMANDS` each; the usage text and the reading of options follow."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchnorm import shipped
from batchnorm.config import is_device, unheard
from batchnorm.errors import DataError, ExitCode, StudyError
from batchnorm.store import Status
from batchnorm.study.grid import Study, read_study, study_file
from batchnorm.study.output import outlast_output, tell
from batchnorm.study.status import (
    RunStanding,
    as_data,
    check_no_other_runs,
    check_output_dirs,
    format_list,
    format_status,
    skipped,
    standings,
    to_do,
)
from batchnorm.tuning import tuning_file


@dataclass(frozen=True)
class Call:
    """A command as it was called: the study file, overrides, the command's options by name, and what stands after `--`."""

    path: Path
    overrides: Mapping[str, str]
    options: Mapping[str, Any]
    passed_on: Sequence[str] = ()

    def study(self, **defaults: str) -> Study:
        """Read the study; `defaults` are values of fields that neither its file nor the call gives.

        Standard error says which shipped files were taken, and what stands in the environment alone.
        """
        study = read_study(self.path, self.overrides, defaults=defaults)
        told = [shipped.told("STUDY", self.path, study_file(self.path))]
        for text in dict.fromkeys(run.config.tuning_conf for run in study.runs):
            told.append(shipped.told("TUNING_CONF", Path(text), tuning_file(Path(text))))
        told += unheard(study.runs[0].config)
        print("".join(f"{line}\n" for line in told if line), end="", file=sys.stderr, flush=True)
        return study


def list_runs(call: Call) -> ExitCode:
    """Print all runs."""
    tell(format_list(call.study()))
    return ExitCode.FINISHED


def status(call: Call) -> ExitCode:
    """Print how the study stands; nothing is changed, and no run is disturbed."""
    study = call.study()
    if call.options["watch"]:
        if call.options["json"]:
            raise StudyError("--json: goes without --watch; call it again for what is new")
        from batchnorm.study.watch import watch

        watch(study)
    elif call.options["json"]:
        tell(json.dumps(as_data(study, standings(study)), indent=1))
    else:
        tell(format_status(study, standings(study)))
    return ExitCode.FINISHED


def missing(call: Call) -> ExitCode:
    """Print the indices of the runs to do, a line for each array that SLURM takes, and tell what is left out or unusable."""
    from batchnorm.study import slurm

    found = standings(call.study())
    indices = [run.index for run in to_do(found)]
    tell("\n".join(map(str, slurm.arrays(indices, slurm.max_array_size()))) if indices else "")
    for each in found:
        if each.status == Status.UNUSABLE and not each.run.config.overwrite:
            print(f"{each.status.value} {each.run.index}: {each.reason}", file=sys.stderr)
    unusable = any(each.status == Status.UNUSABLE and not each.run.config.overwrite for each in found)
    return ExitCode.FAILED if _tell_skipped(found) or unusable else ExitCode.FINISHED


def run(call: Call) -> ExitCode:
    """Train what is left, or one run; local workers have one thread each unless told otherwise."""
    index = call.options["index"]
    study = call.study(**({} if index is not None else {"threads": "1"}))
    goes_on = _goes_on(call, study)
    outlast_output()
    try:
        if index is not None:
            from batchnorm.command import train_or_skip

            return train_or_skip(study.run_at(index + call.options["offset"]).config).exit_code
        from batchnorm.study.local import run_study

        check_no_other_runs(study)
        return run_study(study, workers=call.options["workers"], devices=call.options["devices"], goes_on=goes_on)
    except KeyboardInterrupt:
        print(f"interrupted; {goes_on} continues from the last checkpoints", file=sys.stderr)
        return ExitCode.INTERRUPTED


def tune(call: Call) -> ExitCode:
    """Train a grid, pick each variant's best values by validation, and train these on seeds that tuning has not seen."""
    from batchnorm.study import tune as tuning
    from batchnorm.study.local import run_study

    options = call.options
    study = call.study(threads="1")
    plan = tuning.plan(study, call.path, over=options["over"], by=options["by"], then=options["then"])
    out = options["out"] or tuning.usual_place(study)
    tuning.check_place(out)
    if options["dry_run"]:
        tell(tuning.format_plan(study, plan, out))
        return ExitCode.FINISHED
    outlast_output()
    try:
        check_no_other_runs(study)
        code = run_study(study, workers=options["workers"], devices=options["devices"])
        if code != ExitCode.FINISHED:
            print(f"{study.name}: nothing is picked before all of its runs have ended", flush=True)
            return code
        picks = tuning.pick(plan)
        second = tuning.second_study(picks, plan, name=out.stem)
        tuning.write(second, picks, plan, out)
        print("\n".join([*map(str, picks.best), f"written: {out}"]), flush=True)
        print("".join(f"{line}\n" for line in tuning.warnings(picks)), end="", file=sys.stderr, flush=True)
        check_no_other_runs(second)
        return run_study(second, workers=options["workers"], devices=options["devices"])
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last checkpoints", file=sys.stderr)
        return ExitCode.INTERRUPTED


def prefetch(call: Call) -> ExitCode:
    """Download the images of all runs that are absent, read them all, and say what is there."""
    from batchnorm.study.images import images_of

    code = ExitCode.FINISHED
    for images in images_of(call.study().runs):
        try:
            train, test = images.fetch()
            tell(f"{images}: {train:,} training and {test:,} test images")
        except DataError as error:  # the others may be there
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = ExitCode.BAD_INPUT
    return code


def submit(call: Call) -> ExitCode:
    """Submit what is left."""
    from batchnorm.study import slurm
    from batchnorm.study.images import check_images

    outlast_output()
    options = dict(call.options)
    must_have_images = not options.pop("images_elsewhere")
    study = call.study()
    check_no_other_runs(study)
    found = standings(study)
    left = to_do(found)
    if must_have_images and not options["dry_run"]:
        check_images(left)
    check_output_dirs(left)
    indices = [run.index for run in left]
    told = slurm.submit(study, indices, options=call.passed_on, **options) if indices else "nothing to submit"
    print(told if indices else f"{study.name}: {told}", flush=True)
    if any(run.config.overwrite for run in study.runs) and not call.options["dry_run"]:
        print(f"to submit later what is left of it: {_goes_on(call, study)}", flush=True)
    return ExitCode.FAILED if _tell_skipped(found) else ExitCode.FINISHED


def _tell_skipped(found: Sequence[RunStanding]) -> bool:
    """Say on standard error which runs are left out, because another process is at them, and whether there are any."""
    left_out = skipped(found)
    for each in left_out:
        print(f"skipped {each.run.index}: another process is running it: {each.run.config.directory}", file=sys.stderr)
    return bool(left_out)


def _goes_on(call: Call, study: Study) -> str:
    """Say in words which command goes on with a study that has begun: OVERWRITE=true would begin it again."""
    if not any(run.config.overwrite for run in study.runs):
        return "the same command"
    return "the same command " + ("without OVERWRITE=true" if "overwrite" in call.overrides else "with OVERWRITE=false")


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 4096:
        raise argparse.ArgumentTypeError(f"{text}: must be an integer from 1 to 4096")
    return number


def _not_negative(text: str) -> int:
    if not (text.isdecimal() and text.isascii()):
        raise argparse.ArgumentTypeError(f"{text}: must be an integer >= 0")
    return int(text)


def _devices(text: str) -> list[str]:
    devices = text.split(",")
    for device in devices:
        if not is_device(device):
            raise argparse.ArgumentTypeError(f"{device}: must be auto, cpu, cuda or cuda:N, several with commas")
    return devices


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        usage: its name, with a word for its value where it takes one; `-- OPTION ...` lets the command take what stands there.
        about: what it does.
        read: turns its text into its value; its ArgumentTypeError says what is wrong.
        default: its value where it is not given; False for an option without a value.
    """

    usage: str
    about: str
    read: Callable[[str], Any] = str
    default: Any = None


_AT_ONCE = (
    Option("--workers N", "processes at a time [one a core on the CPU, one a GPU]", _count),
    Option("--devices cuda:0,...", "where to train, given to the workers in turn", _devices, ()),
)
"""Options of the commands that train here."""


@dataclass(frozen=True)
class Command:
    """One command: the word for it, what it does in words, what does it, and its options."""

    name: str
    about: str
    do: Callable[[Call], ExitCode]
    options: tuple[Option, ...] = ()


COMMANDS = {
    row.name: row
    for row in (
        Command("list", "index, variant and directory of each run", list_runs),
        Command(
            "status",
            "finished, running, interrupted, diverged and missing runs, how far they are, and the time left",
            status,
            (
                Option("--watch", "show it again and again, in place on a terminal, until all runs have ended or Ctrl-C"),
                Option("--json", "as JSON, for other programs"),
            ),
        ),
        Command("missing", "the indices of the runs to do as SLURM's --array takes them, a line an array", missing),
        Command(
            "run",
            "train what is left here; Ctrl-C stops all runs after a checkpoint, the same command (without OVERWRITE) continues",
            run,
            (
                *_AT_ONCE,
                Option("--index N", "train that run only, in this process", int),
                Option("--offset N", "added to --index: for SLURM's arrays, whose indices are limited [0]", _not_negative, 0),
            ),
        ),
        Command(
            "tune",
            "train a grid here, pick each variant's best values by validation, train these on new seeds; again: continues",
            tune,
            (
                Option("--over LR,...", "the keys that are picked [LR]", default="LR"),
                Option(
                    "--by valid_acc",
                    "or valid_loss: what picks, at the last epoch, mean over seeds [valid_acc]",
                    default="valid_acc",
                ),
                Option("--then RANDOM_SEED=...", "the seeds on which the picks are trained; tuning must not use them"),
                Option("--out FILE", "where the second study is written [STUDY-tuned.yaml beside OUTPUT_DIR]", Path),
                Option("--dry-run", "print what would be trained, and the picks where the grid has ended"),
                *_AT_ONCE,
            ),
        ),
        Command("prefetch", "download the images of all runs where they are absent, and read them", prefetch),
        Command(
            "submit",
            "submit what is left to SLURM, as the array job sbatch/study.sbatch",
            submit,
            (
                Option("--dry-run", "print the call and do nothing"),
                Option("--at-once N", "array tasks that may run at a time [20]", _count, 20),
                Option(
                    "--images-elsewhere", "images that are absent here are no error: the jobs' machines have or download them"
                ),
                Option("-- OPTION ...", "more options to sbatch, as -- --time=8:00:00 --partition=long"),
            ),
        ),
    )
}
