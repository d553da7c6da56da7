"""Runs a study on this machine: workers take run after run, each in a process of its own. No torch here, only in them.

A worker that dies takes no other run with it: another one takes its place, and the run goes on once from its checkpoint;
where that one dies too, the run has failed. Output that goes away, or a worker that cannot be started, ends no run either.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchnorm.config import RunConfig, available_cores
from batchnorm.errors import ConfigError, ExitCode, RunError, StudyError, one_line
from batchnorm.stop import StopRequest, stop_on_signals
from batchnorm.store import Run, RunDirectory, Status
from batchnorm.study.display import Display, open_display, summary
from batchnorm.study.grid import Study, StudyRun
from batchnorm.study.images import fetch_absent
from batchnorm.study.status import RunStanding, check_output_dirs, progress_of, skipped, standing, standings, to_do
from batchnorm.study.worker import Ended, Message, Ready, Worker

_POLL_SECONDS = 1.0
_SECONDS_BETWEEN_LOOKS = 3.0
_LOG_TAIL_LINES = 8
_DEATHS_PER_RUN = 2
_FAILED_STARTS = 3
_TURN_WORDS: Mapping[Status, str] = {
    Status.FINISHED: Status.FINISHED.value,
    Status.DIVERGED: Status.DIVERGED.value,
    Status.CUT_OFF: "stopped",
    Status.RUNNING: "skipped",
    Status.UNUSABLE: "failed",
}
"""What is said of a run's turn by how the run stands after it: `RUNNING` where another process is at it."""


_Stamp = tuple[int, int] | None


@dataclass
class _Work:
    """All that changes while a study runs, and what the records looked like before."""

    found: dict[int, RunStanding]
    waiting: deque[StudyRun]
    before: Mapping[int, _Stamp]
    ended: dict[int, Status] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)
    failed_starts: int = 0
    no_start: str = ""


def run_study(study: Study, *, workers: int | None, devices: Sequence[str], goes_on: str = "the same command") -> ExitCode:
    """Train what is left of a study, and return how that went: INTERRUPTED if somebody stopped it or one of its runs.

    FAILED if a run failed, or was left out because another process is at it.

    Args:
        study: its runs.
        workers: how many processes; by default one a device, on the CPU one for the cores that a run's THREADS takes.
        devices: where to train, given to the workers in turn; none: where each run's DEVICE says.
        goes_on: the command that goes on where this one stops, in words.

    Raises:
        UserError: images are absent, OUTPUT_DIR cannot be written, there is no such device, or no worker can be started.
    """
    found = {each.run.index: each for each in standings(study)}
    waiting = to_do(found.values())
    work = _Work(found, deque(waiting), {run.index: _stamp(run) for run in waiting})
    left_out = skipped(found.values())
    for each in left_out:
        word = _TURN_WORDS[Status.RUNNING]
        print(f"{word} {each.run.index}: another process is running it: {each.run.config.directory}", flush=True)
    if not waiting:
        done = f"nothing to do, {summary(list(found.values()), [])}"
        told = f"nothing done here, another process is running {len(left_out)} of {len(found)} runs" if left_out else done
        print(f"{study.name}: {told}", flush=True)
        return ExitCode.FAILED if left_out else ExitCode.FINISHED
    if not hasattr(os, "fork"):
        raise StudyError("runs are trained on Linux and macOS; this system can read and analyse them")
    check_output_dirs(waiting)
    fetch_absent(waiting)
    lanes = plan_lanes([run.config for run in waiting], workers=workers, devices=devices)
    display = open_display(workers=len(lanes), runs=len(found))
    display.say(f"{study.name}: {len(waiting)} of {len(found)} runs to do, {len(lanes)} workers")
    try:
        with stop_on_signals() as stop:
            _keep_at_work(work, lanes, display, stop)
    finally:
        display.close()
    return _conclude(study, work, stopped=bool(stop), left_out=bool(left_out), goes_on=goes_on)


def plan_lanes(
    configs: Sequence[RunConfig], *, workers: int | None, devices: Sequence[str], gpus: int | None = None
) -> list[str | None]:
    """Return each worker's device, None for what the run itself says; never more workers than runs.

    >>> plan_lanes([config] * 9, workers=3, devices=["cuda:0", "cuda:1"])  # doctest: +SKIP
    ['cuda:0', 'cuda:1', 'cuda:0']
    """
    gpus = count_gpus() if gpus is None else gpus
    choices: Sequence[str | None] = devices or [None]
    if not devices and gpus > 1 and all(config.device == "auto" for config in configs):
        choices = [f"cuda:{index}" for index in range(gpus)]
    if workers is None:
        on_cpu = all((device or config.device) == "cpu" for config in configs for device in choices)
        on_auto = not gpus and all((device or config.device) in ("auto", "cpu") for config in configs for device in choices)
        per_run = max(config.threads for config in configs)
        workers = max(1, available_cores() // per_run) if on_cpu or on_auto else len(choices)
    return [choices[place % len(choices)] for place in range(min(workers, len(configs)))]


def count_gpus() -> int:
    """Count the NVIDIA devices that a process may use, without torch: their driver's list, or CUDA_VISIBLE_DEVICES."""
    listed = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not listed:
        return listed
    return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])


def share_cores(workers: int, *, threads: int) -> list[list[int]]:
    """Return the cores of each worker: shares of all that this process may use, none where they are too few to share.

    >>> share_cores(2, threads=1)  # doctest: +SKIP
    [[0, 1], [2, 3]]
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if workers * threads > len(cores):
        return [[]] * workers
    return [cores[place * len(cores) // workers : (place + 1) * len(cores) // workers] for place in range(workers)]


def _keep_at_work(work: _Work, lanes: Sequence[str | None], display: Display, stop: StopRequest) -> None:
    """Keep one worker a lane at work until nothing waits and all have gone.

    Raises:
        UserError: there is no such device, or no worker can be started, or none any more.
    """
    selector = selectors.DefaultSelector()
    workers: dict[int, Worker] = {}
    shares = share_cores(len(lanes), threads=max(run.config.threads for run in work.waiting))

    def start(lane: int) -> None:
        try:
            worker = Worker.start(lanes[lane], shares[lane])
        except OSError as error:
            work.no_start = error.strerror or one_line(error)
            display.say(f"worker {lane} cannot be started: {work.no_start}")
            return
        workers[lane] = worker
        selector.register(worker.replies, selectors.EVENT_READ, lane)

    dismissed, next_look = False, 0.0
    try:
        for lane in range(len(lanes)):
            start(lane)
        while workers:
            if stop and not dismissed:
                dismissed = True
                work.waiting.clear()
                for worker in workers.values():
                    worker.dismiss()
                display.say("stopping: the runs write their checkpoints (once more: at once)")
            for key, _ in selector.select(_POLL_SECONDS):
                lane = key.data
                worker = workers[lane]
                messages = worker.read()
                for message in messages or []:
                    _take(message, worker, work, display)
                    _next_run(worker, work, display, stop)
                if messages is None:
                    selector.unregister(key.fileobj)
                    del workers[lane]
                    _take_end(worker, work, display, stopped=bool(stop))
                    if work.waiting and not stop and work.failed_starts < _FAILED_STARTS:
                        start(lane)
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS
                _look(workers, work)
            at_work = [workers[lane].run if lane in workers else None for lane in range(len(lanes))]
            display.show(list(work.found.values()), at_work)
        if work.waiting and not stop:
            raise StudyError(f"no worker starts: {work.no_start}; {len(work.waiting)} runs wait for one")
    finally:
        for worker in workers.values():
            worker.process.kill()
            worker.wait()
        selector.close()


def _take(message: Message, worker: Worker, work: _Work, display: Display) -> None:
    """Take what a worker says; either way it is free for a run now."""
    if isinstance(message, Ready):
        _check_devices(worker, message, [each.run.config for each in work.found.values()])
        worker.ready = True
        work.failed_starts = 0
        return
    assert isinstance(message, Ended)
    assert worker.run is not None
    _end_turn(worker.run, message, work, display)
    worker.run = None


def _end_turn(run: StudyRun, ended: Ended, work: _Work, display: Display) -> None:
    """Keep how a run's turn ended, and say so."""
    work.ended[run.index] = ended.status
    if ended.status == Status.UNUSABLE:
        work.errors[run.index] = ended.error
    work.found[run.index] = replace(work.found[run.index], status=ended.status)
    where = ended.error if ended.status == Status.RUNNING else str(run.config.directory)
    sum_of_all = summary(list(work.found.values()), [])
    display.say(f"{_TURN_WORDS[ended.status]} {run.index}: {run.variant}  {where}  [{sum_of_all}]")


def _next_run(worker: Worker, work: _Work, display: Display, stop: StopRequest) -> None:
    if stop or not work.waiting:
        worker.dismiss()
        return
    run = work.waiting.popleft()
    display.say(f"started {run.index}: {run.variant}")
    work.found[run.index] = replace(work.found[run.index], status=Status.RUNNING)
    worker.give(run)


def _take_end(worker: Worker, work: _Work, display: Display, *, stopped: bool) -> None:
    """See whether a worker that has gone left a run behind: that one goes on once more, then it has failed."""
    run, how = worker.run, worker.wait()
    if stopped:
        if run:
            status = standing(run).status  # it may have come to its end just then
            _end_turn(run, Ended(status if status.has_ended and _has_begun(run, work) else Status.CUT_OFF), work, display)
    elif run:
        work.deaths[run.index] += 1
        if work.deaths[run.index] >= _DEATHS_PER_RUN:
            _end_turn(run, Ended(Status.UNUSABLE, how), work, display)
            return
        begun = _has_begun(run, work)
        goes_on = "it continues from its checkpoint" if begun else "it had not started, and starts again"
        display.say(f"again {run.index}: {how.splitlines()[0]}; {goes_on}: {run.variant}")
        overwrite = run.config.overwrite and not begun
        work.waiting.appendleft(replace(run, config=replace(run.config, overwrite=overwrite)))
    elif not worker.ready:
        work.failed_starts += 1
        work.no_start = " | ".join(dict.fromkeys([how.splitlines()[0], how.splitlines()[-1]]))


def _stamp(run: StudyRun) -> _Stamp:
    """Return what tells a run's record from the one that was there before, None where there is none."""
    try:
        found = RunDirectory(run.config.directory).record.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _has_begun(run: StudyRun, work: _Work) -> bool:
    """Say whether this call has begun a run: with OVERWRITE=true, what lay there before is gone."""
    return not run.config.overwrite or _stamp(run) != work.before[run.index]


def _check_devices(worker: Worker, ready: Ready, configs: Sequence[RunConfig]) -> None:
    """See before the first run that the devices are there: only a worker, with torch, can tell.

    Raises:
        ConfigError: one is not.
    """
    for device in {worker.device or config.device for config in configs}:
        index = int(device.partition(":")[2] or 0)
        if device.startswith("cuda") and index >= ready.cuda_devices:
            there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(ready.cuda_devices))])
            raise ConfigError(f"DEVICE={device}: this machine has {ready.cuda_devices or 'no'} CUDA devices; valid: {there}")


def _look(workers: Mapping[int, Worker], work: _Work) -> None:
    """Read from their records how far the runs are; of a run that has just begun there may be nothing to read."""
    for run in (worker.run for worker in workers.values() if worker.run):
        with contextlib.suppress(RunError):
            work.found[run.index] = replace(work.found[run.index], progress=progress_of(Run(run.config.directory)))


def _conclude(study: Study, work: _Work, *, stopped: bool, left_out: bool, goes_on: str) -> ExitCode:
    """Print what failed, with the tails of the logs, the sum of it all, and which command goes on."""
    told: dict[str, int] = {}
    for index, error in sorted(work.errors.items()):
        run = study.runs[index]
        print(f"\nfailed {index}: {run.variant}  {run.config.directory}")
        general = error.replace(str(run.config.directory), "")
        if (first := told.setdefault(general, index)) != index:
            print(f"    as run {first}")
            continue
        print(_indented(error.splitlines()))
        if tail := _log_tail(run.config):
            print(f"  the end of {RunDirectory(run.config.directory).log.name}:\n{_indented(tail)}")
    if work.errors:
        print(f"\n{goes_on} tries again what failed, and continues with the rest")
    counts = Counter(work.ended.values())
    parts = [f"{counts[status]} {word}" for status, word in _TURN_WORDS.items() if counts[status]]
    found = list(work.found.values())
    print(f"{study.name}: {', '.join(parts) or 'no run ended'}; {summary(found, [])} have ended", flush=True)
    if work.errors:
        return ExitCode.FAILED
    if stopped or counts[Status.CUT_OFF]:
        print(f"stopped; {goes_on} continues", flush=True)
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED if left_out or counts[Status.RUNNING] else ExitCode.FINISHED


def _log_tail(config: RunConfig) -> list[str]:
    try:
        return RunDirectory(config.directory).log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    except OSError:
        return []


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
