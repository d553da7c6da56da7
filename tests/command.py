"""Runs the command as users do, in processes of their own; a fork server has the imports done, which take seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from batchnorm.store import RunDirectory

ROOT = Path(__file__).parent.parent
_context = multiprocessing.get_context("forkserver")
_PRELOADED = ["batchnorm.training", "torchvision", "torch._dynamo", "scipy.stats", "sklearn.datasets", "tests.command"]
_context.set_forkserver_preload([*_PRELOADED, "tests.ready.frozen"])


class Command(ForkServerProcess):
    """A started command; what it prints goes to `output`."""

    output: Path

    @property
    def text(self) -> str:
        return self.output.read_text()


def processes() -> ForkServerContext:
    """Return what starts processes that have the imports done."""
    _serve_this_package()
    return _context


def start(arguments: list[str], output: Path) -> Command:
    """Start `run_trainingLoop.py` with these arguments; images in CIFAR's format need not have CIFAR's checksums."""
    output.write_text("")
    _serve_this_package()
    process = Command(target=_main, args=(arguments, str(output)))
    process.output = output
    process.start()
    return process


def _serve_this_package() -> None:
    """Let the fork server, where it is not there yet, start in the repository: it imports what it finds in its directory."""
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(here)


def run(arguments: list[str], output: Path) -> tuple[int, str]:
    """Run `run_trainingLoop.py` to its end, and return its exit code and what it printed."""
    process = start(arguments, output)
    process.join()
    assert process.exitcode is not None
    return process.exitcode, process.text


def python(arguments: list[str], output: Path, *, folder: Path = ROOT) -> tuple[int, str]:
    """Run `python ARGUMENTS` in the repository or in a copy of it, with that package, and with torch loaded already."""
    output.write_text("")
    _serve_this_package()
    process = Command(target=_python, args=(str(folder), arguments, str(output)))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, output.read_text()


def wait_for(process: Command, text: str) -> bool:
    """Wait until the command has printed a text; False where it ended before."""
    while text not in process.text:
        process.join(0.02)
        if process.exitcode is not None:
            return text in process.text
    return True


def checkpoint_steps(directory: Path) -> int:
    """Return the step of a run's checkpoint, 0 where there is none."""
    import torch

    path = RunDirectory(directory).checkpoint
    with contextlib.suppress(FileNotFoundError):
        return int(torch.load(path, weights_only=True)["content"]["step"])
    return 0


def _print_to(output: str) -> None:
    handle = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)


def _python(folder: str, arguments: list[str], output: str) -> None:
    _print_to(output)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("batchnorm", "benchmarks", "deepobs"):
            del sys.modules[name]
    os.chdir(folder)
    sys.path.insert(0, folder)
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "-c", "exec"), {"__name__": "__main__"})
    elif arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def _main(arguments: list[str], output: str) -> None:
    _print_to(output)
    import torchvision.datasets.cifar
    import torchvision.datasets.svhn

    for module in (torchvision.datasets.cifar, torchvision.datasets.svhn):
        module.check_integrity = lambda path, *_: Path(path).is_file()

    from batchnorm.command import main

    code = int(main(arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
