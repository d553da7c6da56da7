"""Runs a study on this machine: workers take run after run, each in a process of its own. No torch here, only in them.

A worker that dies takes no other run with it: another one takes its place, and the run goes on once from its checkpoint;
where that one dies too, the run has failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import IO, Any

from batchnorm.config import RunConfig, available_cores
from batchnorm.errors import ConfigError, ExitCode, StudyError
from batchnorm.rundir import RunDirectory
from batchnorm.stop import StopRequest, stop_on_signals
from batchnorm.study.display import Display, open_display, summary
from batchnorm.study.grid import Study, StudyRun
from batchnorm.study.status import Standing, State, epochs_of, standings, to_do

_POLL_SECONDS = 1.0
_SECONDS_BETWEEN_LOOKS = 3.0
_LOG_TAIL_LINES = 8
_DEATHS_PER_RUN = 2
_FAILED_STARTS = 3


@dataclass(frozen=True)
class Ready:
    """What a worker says first: it has started, and sees so many CUDA devices."""

    cuda_devices: int

    def to_json(self) -> str:
        """Write one line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Reply:
    """What a worker says when its run has ended: the run's exit code, what went wrong, whether another process is at it."""

    exit_code: int
    error: str = ""
    claimed: bool = False

    def to_json(self) -> str:
        """Write one line."""
        return json.dumps(asdict(self))


class Outcome(str, Enum):
    """How a run's turn ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    STOPPED = "stopped"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass
class Worker:
    """A worker's process, the device it trains on, and the run it is at."""

    process: subprocess.Popen[bytes]
    jobs: IO[bytes]
    replies: IO[bytes]
    printed: IO[bytes]
    device: str | None
    ready: bool = False
    run: StudyRun | None = None
    unread: bytes = b""

    @classmethod
    def start(cls, device: str | None) -> Worker:
        """Start a process; in a session of its own, so that Ctrl-C reaches it through us only."""
        printed = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        process = subprocess.Popen(
            [sys.executable, "-m", "batchnorm.study.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            start_new_session=True,
            bufsize=0,
        )
        assert process.stdin and process.stdout
        return cls(process, process.stdin, process.stdout, printed, device)

    def give(self, run: StudyRun) -> None:
        """Hand it a run; where the worker has died, the end of its replies tells."""
        self.run = run
        config = run.config if self.device is None else replace(run.config, device=self.device)
        with contextlib.suppress(BrokenPipeError):
            self.jobs.write((json.dumps(config.to_dict()) + "\n").encode())

    def dismiss(self) -> None:
        """Let it go: at once where it is idle, after a checkpoint where it is at a run."""
        self.jobs.close()

    def read(self) -> list[dict[str, Any]] | None:
        """Return the replies that have come, or None when it is gone."""
        chunk = os.read(self.replies.fileno(), 65536)
        if not chunk:
            return None
        *lines, self.unread = (self.unread + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def bury(self) -> str:
        """Wait for its end and return how it died, with the last lines that it printed."""
        code = self.process.wait()
        how = f"its process died by {signal.Signals(-code).name}" if code < 0 else f"its process ended with exit code {code}"
        hint = "; out of memory?" if code == -signal.SIGKILL else ""
        self.printed.seek(0)
        printed = self.printed.read().decode(errors="replace").splitlines()
        for stream in (self.jobs, self.replies, self.printed):
            stream.close()
        return "\n".join([how + hint, *printed[-_LOG_TAIL_LINES:]])


@dataclass
class _Progress:
    """All that changes while a study runs."""

    found: dict[int, Standing]
    waiting: deque[StudyRun]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)
    failed_starts: int = 0


def run_study(study: Study, *, workers: int | None, devices: Sequence[str]) -> ExitCode:
    """Train what is left of a study, and return FAILED if any run failed, INTERRUPTED if somebody stopped it.

    Args:
        study: its runs.
        workers: how many processes; by default one a device, on the CPU one for the cores that a run's THREADS takes.
        devices: where to train, dealt to the workers in turn; none: where each run's DEVICE says.

    Raises:
        UserError: there is no such device, or no worker can be started.
    """
    found = {each.run.index: each for each in standings(study)}
    progress = _Progress(found, deque(to_do(found.values())))
    for each in found.values():
        if each.state == State.RUNNING:
            print(f"skipped {each.run.index}: another process is at it: {each.run.config.directory}", flush=True)
    if not progress.waiting:
        print(f"{study.name}: nothing to do, {summary(list(found.values()), [])}", flush=True)
        return ExitCode.FINISHED
    lanes = plan_lanes([run.config for run in progress.waiting], workers=workers, devices=devices)
    display = open_display(workers=len(lanes), runs=len(found))
    display.say(f"{study.name}: {len(progress.waiting)} of {len(found)} runs to do, {len(lanes)} workers")
    try:
        with stop_on_signals() as stop:
            _work(progress, lanes, display, stop)
    finally:
        display.close()
    return _conclude(study, progress, stopped=bool(stop))


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


def _work(progress: _Progress, lanes: Sequence[str | None], display: Display, stop: StopRequest) -> None:
    """Keep one worker a lane at work until nothing waits and all have gone."""
    selector = selectors.DefaultSelector()
    workers: dict[int, Worker] = {}

    def start(lane: int) -> None:
        workers[lane] = Worker.start(lanes[lane])
        selector.register(workers[lane].replies, selectors.EVENT_READ, lane)

    dismissed, next_look = False, 0.0
    try:
        for lane in range(len(lanes)):
            start(lane)
        while workers:
            if stop and not dismissed:
                dismissed = True
                progress.waiting.clear()
                display.say("stopping: the runs write their checkpoints (once more: at once)")
                for worker in workers.values():
                    worker.dismiss()
            for key, _ in selector.select(_POLL_SECONDS):
                lane = key.data
                worker = workers[lane]
                replies = worker.read()
                for reply in replies or []:
                    _take_reply(worker, reply, progress, display)
                    _next_run(worker, progress, display)
                if replies is None:
                    selector.unregister(key.fileobj)
                    del workers[lane]
                    _take_end(worker, progress, display, stopped=bool(stop))
                    if progress.waiting:
                        start(lane)
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS
                _look(workers, progress)
            at_work = [workers[lane].run if lane in workers else None for lane in range(len(lanes))]
            display.show(list(progress.found.values()), at_work)
    finally:
        for worker in workers.values():
            worker.process.kill()
            worker.bury()
        selector.close()


def _take_reply(worker: Worker, message: dict[str, Any], progress: _Progress, display: Display) -> None:
    if "cuda_devices" in message:
        _check_devices(worker, Ready(**message), [each.run.config for each in progress.found.values()])
        worker.ready = True
        progress.failed_starts = 0
        return
    reply, run = Reply(**message), worker.run
    assert run is not None
    worker.run = None
    if reply.claimed:
        outcome = Outcome.SKIPPED
    else:
        outcome = {
            ExitCode.FINISHED: Outcome.FINISHED,
            ExitCode.DIVERGED: Outcome.DIVERGED,
            ExitCode.INTERRUPTED: Outcome.STOPPED,
        }.get(ExitCode(reply.exit_code), Outcome.FAILED)
    _note(run, outcome, progress, display, error=reply.error)


def _note(run: StudyRun, outcome: Outcome, progress: _Progress, display: Display, *, error: str) -> None:
    """Keep how a run's turn ended, and say so."""
    progress.outcomes[run.index] = outcome
    if outcome == Outcome.FAILED:
        progress.errors[run.index] = error
    state = {
        Outcome.FINISHED: State.FINISHED,
        Outcome.DIVERGED: State.DIVERGED,
        Outcome.STOPPED: State.CUT_OFF,
        Outcome.SKIPPED: State.RUNNING,
        Outcome.FAILED: State.UNUSABLE,
    }[outcome]
    progress.found[run.index] = replace(progress.found[run.index], state=state)
    where = "another process is at it" if outcome == Outcome.SKIPPED else str(run.config.directory)
    display.say(f"{outcome.value} {run.index}: {run.variant}  {where}  [{summary(list(progress.found.values()), [])}]")


def _next_run(worker: Worker, progress: _Progress, display: Display) -> None:
    if not progress.waiting:
        worker.dismiss()
        return
    run = progress.waiting.popleft()
    display.say(f"started {run.index}: {run.variant}")
    progress.found[run.index] = replace(progress.found[run.index], state=State.RUNNING)
    worker.give(run)


def _take_end(worker: Worker, progress: _Progress, display: Display, *, stopped: bool) -> None:
    """See whether a worker that has gone left a run behind: that one goes on once more, then it has failed."""
    run, how = worker.run, worker.bury()
    if stopped:
        if run:
            _note(run, Outcome.STOPPED, progress, display, error="")
    elif run:
        progress.deaths[run.index] += 1
        if progress.deaths[run.index] >= _DEATHS_PER_RUN:
            _note(run, Outcome.FAILED, progress, display, error=how)
        else:
            display.say(f"again {run.index}: {how.splitlines()[0]}; it goes on from its checkpoint: {run.variant}")
            progress.waiting.appendleft(replace(run, config=replace(run.config, overwrite=False)))
    elif not worker.ready:
        progress.failed_starts += 1
        if progress.failed_starts >= _FAILED_STARTS:
            raise StudyError(f"no worker starts: {' | '.join(how.splitlines()[:1] + how.splitlines()[-1:])}")


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


def _look(workers: dict[int, Worker], progress: _Progress) -> None:
    """Read from their records how far the runs are."""
    for worker in workers.values():
        if worker.run and (epochs := epochs_of(worker.run.config)):
            index = worker.run.index
            progress.found[index] = replace(progress.found[index], progress=epochs)


def _conclude(study: Study, progress: _Progress, *, stopped: bool) -> ExitCode:
    """Print what failed, with the tails of the logs, and the sum of it all."""
    for index, error in sorted(progress.errors.items()):
        run = study.runs[index]
        print(f"\nfailed {index}: {run.variant}  {run.config.directory}\n{_indented(error.splitlines())}")
        if tail := _log_tail(run.config):
            print(f"  the end of {RunDirectory(run.config.directory).log.name}:\n{_indented(tail)}")
    counts = Counter(progress.outcomes.values())
    parts = [f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome]]
    found = list(progress.found.values())
    print(f"{study.name}: {', '.join(parts) or 'no run ended'}; {summary(found, [])} have ended", flush=True)
    if progress.errors:
        return ExitCode.FAILED
    if stopped:
        print("stopped; the same command goes on", flush=True)
        return ExitCode.INTERRUPTED
    return ExitCode.FINISHED


def _log_tail(config: RunConfig) -> list[str]:
    try:
        return RunDirectory(config.directory).log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    except OSError:
        return []


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
