"""Runs benchmarks by name, prints their tables, and keeps them in benchmarks/README.md."""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from batchnorm.errors import ExitCode, UserError, nearest_first
from benchmarks import bits, soak
from benchmarks.against_deepobs import batches, cifar10, cifar100, evaluation, fmnist
from benchmarks.analyses import analysis
from benchmarks.costs import memory, recording, resume
from benchmarks.cuda import cuda
from benchmarks.growth import growth
from benchmarks.many import many
from benchmarks.measurements import measurements
from benchmarks.measuring import machine
from benchmarks.records import records
from benchmarks.report import report
from benchmarks.studies import study

Benchmark = Callable[[Path], str]
BENCHMARKS: Mapping[str, Benchmark] = {
    each.__name__: each
    for each in (
        cifar10,
        cifar100,
        fmnist,
        batches,
        evaluation,
        recording,
        records,
        measurements,
        resume,
        memory,
        growth,
        study,
        analysis,
        many,
        report,
        cuda,
    )
}
ON_A_CPU = tuple(name for name in BENCHMARKS if name != "cuda")
README = Path(__file__).with_name("README.md")


def main(arguments: Sequence[str]) -> int:
    """Run what is named, and return the exit code."""
    if arguments and arguments[0] == "bits":
        return bits.main(arguments[1:])
    if arguments and arguments[0] == "soak":
        return soak.main(arguments[1:])
    alone = {"bits": f"{bits.__doc__} As `bits COMMIT`; --help tells more.", "soak": f"{soak.__doc__} As `soak --minutes 20`."}
    summaries = {**{name: _summary(each) for name, each in BENCHMARKS.items()}, **alone}
    names = "\n".join(f"  {name:<12} {summary}" for name, summary in summaries.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=f"{__doc__}\n\n{names}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="all but cuda where none is given")
    parser.add_argument("--dry", action="store_true", help="print only; leave benchmarks/README.md as it is")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in BENCHMARKS:
            print(f"error: {name}: no such benchmark; {nearest_first(name, BENCHMARKS)}", file=sys.stderr)
            return ExitCode.BAD_INPUT
    for name in options.names or ON_A_CPU:
        print(f"{name}: {_summary(BENCHMARKS[name])}", flush=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                text = BENCHMARKS[name](Path(folder))
        except (UserError, FileNotFoundError) as error:
            print(f"error: {error}", file=sys.stderr)
            return ExitCode.BAD_INPUT
        print(f"\n{text}\n", flush=True)
        if not options.dry:
            README.write_text(with_section(README.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    return ExitCode.FINISHED


def with_section(page: str, name: str, text: str) -> str:
    """Return the page with a benchmark's section replaced, or added at the end."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    measured = f"{datetime.date.today():%Y-%m-%d}, {machine()}"
    section = f"{begin}## {name}\n\n{_summary(BENCHMARKS[name])}\n\n{text}\n\n{measured}\n{end}"
    if begin not in page:
        return f"{page.rstrip()}\n\n{section}"
    before, _, rest = page.partition(begin)
    return before + section + rest.partition(end)[2]


def _summary(benchmark: Benchmark) -> str:
    return (benchmark.__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
