"""Measures sides against each other: each in a process of its own, in turn, so that their ratio holds on a shared machine."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Work = Callable[..., Generator[float]]
"""A generator: what is before its first `yield` sets up, then each `next` does one unit of work and yields its seconds."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a function of a module, called in a process of its own."""

    name: str
    work: Work
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Timing:
    """What a side took: seconds of each unit, and the peak memory of its process in MB."""

    seconds: list[float]
    peak_mb: float

    @property
    def median(self) -> float:
        """Median seconds of a unit."""
        return statistics.median(self.seconds)


def alternate(sides: Sequence[Side], *, rounds: int, warm_up: bool = True) -> dict[str, Timing]:
    """Let the sides take turns, A B C A B C ..., and return their timings.

    Args:
        sides: each with a name of its own.
        rounds: how often each has its turn.
        warm_up: let all set up and do a unit before, at the same time; it is not counted.

    Raises:
        RuntimeError: a side failed; its own error has been printed.
    """
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    started = []
    for side in sides:
        ours, its = context.Pipe()
        process = context.Process(target=_serve, args=(its, side.work, side.arguments), daemon=True)
        process.start()
        its.close()
        started.append((side, process, ours))
    try:
        if warm_up:
            for _, _, connection in started:
                connection.send("next")
            for side, _, connection in started:
                _answer(side, connection)
        for _ in range(rounds):
            for side, _, connection in started:
                connection.send("next")
                seconds[side.name].append(_answer(side, connection))
        timings = {}
        for side, _, connection in started:
            connection.send("memory")
            timings[side.name] = Timing(seconds[side.name], peak_mb=_answer(side, connection))
        return timings
    finally:
        for _, process, connection in started:
            connection.close()
            process.join()


def _answer(side: Side, connection: Connection) -> float:
    try:
        return float(connection.recv())
    except EOFError:
        raise RuntimeError(f"{side.name} failed") from None


def _serve(connection: Connection, work: Work, arguments: tuple[Any, ...]) -> None:
    """Answer until nobody asks any more; the side then cleans up behind itself."""
    with contextlib.closing(work(*arguments)) as units, contextlib.suppress(EOFError):
        while True:
            if connection.recv() == "next":
                with contextlib.redirect_stdout(io.StringIO()):  # DeepOBS's runner prints its metrics
                    measured = next(units)
            else:
                measured = peak_memory_mb()
            connection.send(measured)


def peak_memory_mb() -> float:
    """Return the most memory that this process has had, in MB of 10^6 bytes.

    Linux's `ru_maxrss` would not do: it begins with what the process that started this one had.
    """
    with contextlib.suppress(OSError):
        for entry in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if entry.startswith("VmHWM:"):
                return int(entry.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def ratios(slow: Timing, fast: Timing) -> list[float]:
    """Return, turn by turn, how many times as long the slow side took."""
    return [one / other for one, other in zip(slow.seconds, fast.seconds, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Write a median with the lowest and the highest value: `2.31 (2.20-2.44)`."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def machine() -> str:
    """Name processor, its vector units for bf16, cores and versions, as a line."""
    import torch

    facts = dict.fromkeys(("model name", "flags"), "")
    with contextlib.suppress(OSError):
        for entry in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = entry.partition(":")
            if key.strip() in facts:
                facts[key.strip()] = value.strip()
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in facts["flags"].split()]
    parts = [facts["model name"] or platform.machine(), *units, f"{multiprocessing.cpu_count()} cores"]
    return f"{', '.join(parts)}; Python {platform.python_version()}, torch {torch.__version__}"
