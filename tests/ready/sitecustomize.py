"""What Python does first in an environment of `tests.ready`: what takes long to load, it hands to the server there."""

import os
import sys

TAKES_LONG_TO_LOAD = (
    *("batchnorm.study.worker", " --index", "batchnorm train ", "run_trainingLoop.py", "import load_image_set"),
    "batchnorm.analysis ",
)


def _hand_over(address: str) -> None:
    """Let the server run it, and end as that ends."""
    import json
    import signal
    import socket

    passed = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    ignored = {number for number in passed if signal.getsignal(number) == signal.SIG_IGN}
    streams = {
        name: [stream.encoding, stream.errors, stream.line_buffering]
        for name in ("stdin", "stdout", "stderr")
        if (stream := getattr(sys, name))
    }
    files = [file for file in map(int, os.listdir("/proc/self/fd")) if _is_passed_on(file)]  # noqa: PTH208
    own = os.path.dirname(__file__)  # noqa: PTH120
    request = {
        "arguments": sys.orig_argv[1:],
        "path": [entry for entry in sys.path if entry != own],
        "folder": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
        "cores": sorted(os.sched_getaffinity(0)),
        "ignored": sorted(ignored),
        "streams": streams,
        "files": files,
    }
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    text = json.dumps(request).encode()
    socket.send_fds(connection, [len(text).to_bytes(8, "big")], files)
    connection.sendall(text)
    answers = connection.makefile()
    pid = int(answers.readline())
    for file in files:
        os.close(file)
    for number in passed - ignored:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
    code = int(answers.readline())
    if code < 0:
        if -code in passed:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _is_passed_on(file: int) -> bool:
    try:
        return os.get_inheritable(file)
    except OSError:
        return False  # the list's own


if _address := os.environ.get("TESTS_READY"):
    _asked = " ".join(sys.orig_argv[1:])
    if any(words in _asked for words in TAKES_LONG_TO_LOAD) and not _asked.startswith("-X"):
        _hand_over(_address)
