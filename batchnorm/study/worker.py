"""A worker of a local study: trains run after run in one process, so that torch is imported once.

`local` talks to it in lines of JSON: a run's configuration on standard input, how it ended on standard output. When its
input ends, the run that it is at writes its checkpoint, and the worker goes: also where the process that started it died.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import traceback
from queue import SimpleQueue

from batchnorm.command import train_or_skip
from batchnorm.config import RunConfig
from batchnorm.errors import ExitCode, RunClaimedError, UserError
from batchnorm.study.local import Ready, Reply


def main() -> int:
    """Serve until the input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a run prints must not come among the replies
    jobs: SimpleQueue[str] = SimpleQueue()
    at_work = threading.Event()
    threading.Thread(target=_listen, args=(jobs, at_work), daemon=True).start()

    import torch

    import batchnorm.training  # noqa: F401  (now, not while the first run's time is taken)

    print(Ready(torch.cuda.device_count()).to_json(), file=replies)
    while job := jobs.get():
        at_work.set()
        reply = train_one(RunConfig.from_dict(json.loads(job)))
        at_work.clear()
        gc.collect()
        torch.cuda.empty_cache()  # other workers may share the device; does nothing where none is in use
        print(reply.to_json(), file=replies)
    return ExitCode.FINISHED


def train_one(config: RunConfig) -> Reply:
    """Train one run; whatever goes wrong in it ends with it."""
    try:
        return Reply(int(train_or_skip(config)))
    except RunClaimedError as claimed:
        return Reply(ExitCode.BAD_INPUT, error=str(claimed), claimed=True)
    except UserError as error:
        return Reply(ExitCode.BAD_INPUT, error=str(error))
    except Exception:
        return Reply(ExitCode.FAILED, error=traceback.format_exc())


def _listen(jobs: SimpleQueue[str], at_work: threading.Event) -> None:
    """Pass jobs on; at the end of the input stop the run that goes on, as SIGTERM stops a run anywhere."""
    for line in sys.stdin:
        jobs.put(line)
    jobs.put("")
    if at_work.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
