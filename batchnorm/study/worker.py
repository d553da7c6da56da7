"""A worker of a local study: a process that trains run after run, so that torch is imported once. Both ends of it are here.

Messages are lines of JSON: a run to train on the worker's standard input; that it is ready, and how a run stands after its
turn, on its standard output. When its input ends, the run that it is at writes its checkpoint, and the worker goes: also
where the process that started it died.
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
import traceback
from dataclasses import asdict, dataclass, replace
from queue import SimpleQueue
from typing import IO

from batchnorm.command import train_or_skip
from batchnorm.config import RunConfig
from batchnorm.errors import ExitCode, RunClaimedError, UserError
from batchnorm.store import Status
from batchnorm.study.grid import StudyRun

_LAST_LINES = 8


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
        hint = "; out of memory?" if code == -signal.SIGKILL else ""
        self.printed.seek(0)
        printed = self.printed.read().decode(errors="replace").splitlines()
        for stream in (self.jobs, self.replies, self.printed):
            stream.close()
        return "\n".join([how + hint, *printed[-_LAST_LINES:]])


def main() -> ExitCode:
    """Be a worker: serve until the input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a run prints must not come among the replies
    jobs: SimpleQueue[str] = SimpleQueue()
    at_work = threading.Event()
    threading.Thread(target=_listen, args=(jobs, at_work), daemon=True).start()

    import torch

    import batchnorm.training  # noqa: F401  (now, not while the first run's time is taken)

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


def train_one(config: RunConfig) -> Ended:
    """Train one run; whatever goes wrong in it ends with it."""
    try:
        return Ended(train_or_skip(config))
    except RunClaimedError as claimed:
        return Ended(Status.RUNNING, str(claimed))
    except UserError as error:
        return Ended(Status.UNUSABLE, str(error))
    except Exception:
        return Ended(Status.UNUSABLE, traceback.format_exc())


def _listen(jobs: SimpleQueue[str], at_work: threading.Event) -> None:
    """Pass jobs on; at the end of the input stop the run that goes on, as SIGTERM stops a run anywhere."""
    for line in sys.stdin:
        jobs.put(line)
    jobs.put("")
    if at_work.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
