"""A worker of a local study: a process that trains run after run, so that torch is imported once. Both ends of it are here.

Messages are lines of JSON, on a pair of pipes of their own, so that whatever prints in the worker cannot come among them: a
run to train; that the worker is ready, and how a run stands after its turn. When the jobs' pipe ends, the run that the worker
is at writes its checkpoint, and the worker goes: also where the process that started it died.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from queue import SimpleQueue
from typing import IO

from batchnorm.command import train_or_skip
from batchnorm.config import RunConfig
from batchnorm.errors import ExitCode, RunClaimedError, UserError, one_line, what_is_short
from batchnorm.store import Status
from batchnorm.study.grid import StudyRun
from batchnorm.study.output import open_streams, outlast_output

_LAST_LINES = 8
_SECONDS_BEFORE_TOLD_AGAIN = 1.0
_BINDINGS = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables by which OpenMP binds threads to cores: the same cores in each process, where several train side by side."""
_START = """\
import sys; sys.path[:] = {path!r}
from batchnorm.study.worker import main
sys.exit(main(*map(int, sys.argv[1:])))"""
"""A worker's program: it finds the same package as we do, also where the current folder holds another."""


@dataclass(frozen=True)
class Train:
    """To a worker: train this run."""

    config: RunConfig


@dataclass(frozen=True)
class Ready:
    """What a worker says first: it has started, and sees so many CUDA devices."""

    cuda_devices: int


@dataclass(frozen=True)
class Ended:
    """What a worker says when a run's turn has ended.

    Attributes:
        status: how the run stands: `RUNNING` where another process is at it, `UNUSABLE` where its training failed.
        error: what went wrong.
    """

    status: Status
    error: str = ""


Message = Train | Ready | Ended


def to_json(message: Message) -> str:
    """Write a message on one line."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)})


def from_json(line: str | bytes) -> Message:
    """Read what `to_json` wrote."""
    match json.loads(line):
        case {"kind": "Train", "config": config}:
            return Train(RunConfig(**config))
        case {"kind": "Ready", "cuda_devices": cuda_devices}:
            return Ready(cuda_devices)
        case {"kind": "Ended", "status": status, "error": error}:
            return Ended(Status(status), error)
        case other:
            raise ValueError(f"not a message: {other}")


@dataclass
class Worker:
    """The parent's handle of a worker: its process, the device it trains on, and the run it is at."""

    process: subprocess.Popen[bytes]
    jobs: IO[bytes]
    replies: IO[bytes]
    printed: IO[bytes]
    device: str | None
    ready: bool = False
    run: StudyRun | None = None
    unread: bytes = b""

    @classmethod
    def start(cls, device: str | None, cores: Collection[int] = ()) -> Worker:
        """Start a process, in a session of its own, so that Ctrl-C reaches it through us only.

        Args:
            device: where it trains; None: where each run says.
            cores: those that it may use; none: all that this process may use.

        Raises:
            OSError: there are too many processes or open files, or no space for what it prints.
        """
        with contextlib.ExitStack() as opened:
            printed = opened.enter_context(tempfile.TemporaryFile())
            their_jobs, jobs = (opened.enter_context(end) for end in _pipe())
            replies, their_replies = (opened.enter_context(end) for end in _pipe())
            ends = their_jobs.fileno(), their_replies.fileno()
            with _on_cores(cores):
                process = subprocess.Popen(
                    [sys.executable, "-c", _START.format(path=sys.path), *map(str, ends)],
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=printed,
                    pass_fds=ends,
                    env={name: value for name, value in os.environ.items() if name not in _BINDINGS},
                    start_new_session=True,
                )
            opened.pop_all()
        their_jobs.close()
        their_replies.close()
        return cls(process, jobs, replies, printed, device)

    def give(self, run: StudyRun) -> None:
        """Hand it a run; where the worker has died, the end of its replies tells."""
        self.run = run
        config = run.config if self.device is None else replace(run.config, device=self.device)
        with contextlib.suppress(BrokenPipeError):
            self.jobs.write((to_json(Train(config)) + "\n").encode())

    def dismiss(self) -> None:
        """Let it go: at once where it is idle, after a checkpoint where it is at a run."""
        self.jobs.close()

    def read(self) -> list[Message] | None:
        """Return the messages that have come, or None when it is gone."""
        chunk = os.read(self.replies.fileno(), 65536)
        if not chunk:
            return None
        *lines, self.unread = (self.unread + chunk).split(b"\n")
        return [from_json(line) for line in lines]

    def wait(self) -> str:
        """Wait for its end and return how it ended, with the last lines that it printed."""
        code = self.process.wait()
        how = f"its process died by {signal.Signals(-code).name}" if code < 0 else f"its process ended with exit code {code}"
        hint = "; out of memory?" if code == -9 else ""  # SIGKILL
        self.printed.seek(0)
        printed = self.printed.read().decode(errors="replace").splitlines()
        for stream in (self.jobs, self.replies, self.printed):
            stream.close()
        return "\n".join([how + hint, *printed[-_LAST_LINES:]])


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    """Return a new pipe's reading and writing end."""
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0)


@contextmanager
def _on_cores(cores: Collection[int]) -> Iterator[None]:
    """Let processes that are started in the block have these cores alone, where the system knows how; none: as we have them."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    ours = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):  # it only makes them faster
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, ours)


def main(jobs_end: int, replies_end: int) -> ExitCode:
    """Be a worker: serve until the jobs end. What a run prints is kept for the parent, and lost where the disk is full."""
    _take_sigterm()
    open_streams()
    outlast_output()
    for end in (jobs_end, replies_end):
        os.set_inheritable(end, False)
    replies = os.fdopen(replies_end, "w", buffering=1)
    jobs: SimpleQueue[str] = SimpleQueue()
    at_work = threading.Event()
    threading.Thread(target=_listen, args=(jobs_end, jobs, at_work), daemon=True).start()

    import torch

    import batchnorm.training  # noqa: F401  (now, not while the first run's time is taken)

    with contextlib.suppress(BrokenPipeError):  # nobody is left to answer: the jobs have ended too
        print(to_json(Ready(torch.cuda.device_count())), file=replies)
        while job := jobs.get():
            at_work.set()
            message = from_json(job)
            assert isinstance(message, Train)
            ended = train_one(message.config)
            at_work.clear()
            gc.collect()
            torch.cuda.empty_cache()  # other workers may share the device; does nothing where none is in use
            print(to_json(ended), file=replies)
    return ExitCode.FINISHED


def _take_sigterm() -> None:
    """Let SIGTERM come through, by which we stop a run ourselves, though the study was started to ignore or to block it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def train_one(config: RunConfig) -> Ended:
    """Train one run; whatever goes wrong in it ends with it."""
    try:
        return Ended(train_or_skip(config))
    except RunClaimedError as claimed:
        return Ended(Status.RUNNING, str(claimed))
    except UserError as error:
        return Ended(Status.UNUSABLE, str(error))
    except Exception as error:
        if (reason := what_is_short(error)) is not None:
            return Ended(Status.UNUSABLE, f"{reason} ({one_line(error)[:120]}); fewer workers need less")
        return Ended(Status.UNUSABLE, traceback.format_exc())


def _listen(jobs_end: int, jobs: SimpleQueue[str], at_work: threading.Event) -> None:
    """Pass jobs on; at their end stop the run that goes on, as SIGTERM stops a run anywhere.

    It is told again until the process has gone: a run that was given just before may begin just then.
    """
    with os.fdopen(jobs_end) as lines:
        for line in lines:
            jobs.put(line)
    jobs.put("")
    while True:
        if at_work.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_BEFORE_TOLD_AGAIN)
