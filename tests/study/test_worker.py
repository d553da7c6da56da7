from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm.config import RunConfig
from batchnorm.store import RunDirectory, Status
from batchnorm.store.run import stand
from batchnorm.study.grid import StudyRun
from batchnorm.study.worker import Ended, Message, Ready, Train, Worker, from_json, to_json, train_one
from tests.study.commands import loaded, wait_for_end
from tests.study.own_problem import PROBLEM, write_own_problem

Configure = Callable[..., RunConfig]


def test_every_message_reads_back_as_itself(configure: Configure) -> None:
    schedule = {"name": "multistep", "milestones": [1, 2], "gamma": 0.3}
    config = configure(optimizer="Momentum", lr_schedule=schedule, max_steps=3, bias_init=0.1, position="0,1,1")
    messages: list[Message] = [Train(config), Ready(2), *map(Ended, Status), Ended(Status.UNUSABLE, 'two\nlines, "quoted"')]
    for message in messages:
        assert "\n" not in to_json(message)
        assert from_json(to_json(message)) == message
    with pytest.raises(ValueError, match="not a message"):
        from_json('{"cuda_devices": 2}')


@pytest.mark.slow
def test_a_worker_answers_how_each_run_stands(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in loaded().items():
        monkeypatch.setenv(name, value)
    worker = Worker.start("cpu")
    assert [type(message) for message in worker.read() or []] == [Ready]
    answers: list[Message] = []
    diverging = configure(max_steps=2, lr=1e30, log_every_steps=1)
    damaged = RunDirectory(configure(max_steps=1).directory)
    damaged.path.mkdir(parents=True)
    damaged.record.write_bytes(b"no HDF5")
    claimed = configure(max_steps=3)
    with RunDirectory(claimed.directory).claim():
        for index, config in enumerate((configure(max_steps=2), diverging, configure(max_steps=1), claimed)):
            worker.give(StudyRun(index, "", config, threads_given=True))
            while not (messages := worker.read()):
                assert messages is not None, worker.wait()
            answers += messages
    worker.dismiss()
    assert worker.read() is None
    assert worker.wait().startswith("its process ended with exit code 0")
    assert [answer.status for answer in answers if isinstance(answer, Ended)] == [
        Status.FINISHED,
        Status.DIVERGED,
        Status.UNUSABLE,
        Status.RUNNING,
    ]


@pytest.mark.slow
def test_a_run_that_was_given_just_before_its_worker_is_dismissed_stops(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in loaded().items():
        monkeypatch.setenv(name, value)
    config = configure(num_epochs=4000)
    worker = Worker.start("cpu")
    worker.give(StudyRun(0, "", config, threads_given=True))
    worker.dismiss()
    wait_for_end(worker.process.pid)
    worker.wait()
    status = stand(config.directory, config.fingerprint()).status
    assert status in (Status.MISSING, Status.CUT_OFF)  # as far as it had come


def test_a_worker_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("batchnorm.study.worker.subprocess.Popen", no_process)
    before, cores = os.listdir("/proc/self/fd"), os.sched_getaffinity(0)  # noqa: PTH208
    with pytest.raises(OSError, match="temporarily unavailable"):
        Worker.start(None, [min(cores)])
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208
    assert os.sched_getaffinity(0) == cores


def test_what_the_machine_lacks_is_one_line(configure: Configure, tmp_path: Path) -> None:
    write_own_problem(tmp_path)
    own = tmp_path / "own.py"
    for wrong, told in (
        ("__import__('torch').empty(10**15)", "out of memory"),
        ("(_ for _ in ()).throw(MemoryError())", "out of memory"),
        ('(_ for _ in ()).throw(RuntimeError("can\'t start new thread"))', "too many threads"),
    ):
        own.write_text(own.read_text().replace("    from torch import nn\n", f"    from torch import nn\n    {wrong}\n"))
        ended = train_one(configure(problem=f"{own}:tiny", tuning_conf=str(tmp_path / "own.yaml"), max_steps=1))
        assert ended.status == Status.UNUSABLE
        assert told in ended.error
        assert "\n" not in ended.error
        own = tmp_path / f"{own.stem}_.py"
        own.write_text(PROBLEM)


def test_how_a_worker_died_is_told() -> None:
    worker = Worker.start(None)
    worker.process.kill()
    while worker.read():
        pass
    assert worker.wait().startswith(f"its process died by {signal.SIGKILL.name}; out of memory?")
