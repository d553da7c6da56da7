"""Has torch loaded, and forks a process for each request of `sitecustomize.py`; ends with its standard input."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

PRELOADED = (
    "batchnorm.training", "batchnorm.study.commands", "torchvision", "torch._dynamo", "scipy.stats", "sklearn.datasets",
    "batchnorm.analysis.bn_plot_functions", "batchnorm.analysis.commands", "batchnorm.analysis.tables", "pandas",
    "tests.ready.frozen",
)  # fmt: skip
MOST_FILES = 64


def serve(address: str) -> dict[str, Any] | None:
    """Answer requests until the input ends. In a forked process, return the request that it is to run."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(100)
    died, death = os.pipe()
    for end in (died, death):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(death, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    print("ready", flush=True)
    served: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for source in (listening, died, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    for pid in served:
                        os.kill(pid, signal.SIGKILL)
                    return None
                if key.fileobj is listening:
                    connection, _ = listening.accept()
                    request = _receive(connection)
                    if (pid := os.fork()) == 0:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        for other in (listening, connection, *served.values()):
                            other.close()
                        for end in (died, death):
                            os.close(end)
                        return request
                    for file in request["received"]:
                        os.close(file)
                    served[pid] = connection
                    connection.sendall(f"{pid}\n".encode())
                    selector.register(connection, selectors.EVENT_READ, pid)
                elif key.fileobj == died:
                    os.read(died, 4096)
                    for pid, code in _ended():
                        connection = served.pop(pid)
                        with contextlib.suppress(OSError, KeyError):  # who asked for it was killed
                            selector.unregister(connection)
                            connection.sendall(f"{code}\n".encode())
                        connection.close()
                else:
                    selector.unregister(key.fileobj)
                    if key.data in served:
                        os.kill(key.data, signal.SIGKILL)


def _ended() -> list[tuple[int, int]]:
    """Return the processes that have ended, and how."""
    ended = []
    with contextlib.suppress(ChildProcessError):
        while (end := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append((end[0], os.waitstatus_to_exitcode(end[1])))
    return ended


def _receive(connection: socket.socket) -> dict[str, Any]:
    length, files, _, _ = socket.recv_fds(connection, 8, MOST_FILES)
    with connection.makefile("rb") as sent:
        return {**json.loads(sent.read(int.from_bytes(length, "big"))), "received": files}


def run(request: dict[str, Any]) -> NoReturn:
    """Run what Python was asked to run, as if it had been started with this request's settings."""
    os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    os.sched_setaffinity(0, request["cores"])
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    if signal.SIGINT not in request["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _take_over(request["received"], request["files"])
    for name, mode, file in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
        stream: io.TextIOWrapper | None = None
        if settings := request["streams"].get(name):
            encoding, errors, by_lines = settings
            opened = open(file, f"{mode}b", closefd=False)  # noqa: SIM115
            stream = io.TextIOWrapper(opened, encoding=encoding, errors=errors, line_buffering=by_lines or name == "stderr")
        setattr(sys, name, stream)
    first, *rest = request["arguments"]
    code = 1
    try:
        if first == "-c":
            sys.path[:] = ["", *request["path"]]
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        elif first == "-m":
            sys.path[:] = [os.getcwd(), *request["path"]]  # noqa: PTH109
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.path[:] = [os.path.dirname(os.path.abspath(first)), *request["path"]]  # noqa: PTH100, PTH120
            sys.argv = [first, *rest]
            runpy.run_path(first, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        for printed in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # it is closed, or None
                printed.flush()
        os._exit(code)


def _take_over(received: list[int], numbers: list[int]) -> None:
    """Give received files the numbers that they had, and close the streams that were closed."""
    out_of_the_way = 1000
    kept = [os.dup2(file, out_of_the_way + place, inheritable=False) for place, file in enumerate(received)]
    for file in {*received, 0, 1, 2}:
        with contextlib.suppress(OSError):
            os.close(file)
    for file, number in zip(kept, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    if request := serve(sys.argv[1]):
        run(request)
