"""The analysis from the shell: `python -m batchnorm.analysis COMMAND PATH ...`; each command is one public function."""

from __future__ import annotations

import argparse
import logging
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from batchnorm.analysis import figures, laws, measure
from batchnorm.analysis.runs import find_runs, problem_of
from batchnorm.analysis.shell import Command, chosen_paths, is_chosen
from batchnorm.errors import ExitCode, RunError, UserError
from batchnorm.store import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING, force=True)
    logging.getLogger("batchnorm.analysis").setLevel(logging.INFO)
    parsed = _parser().parse_args(arguments)
    try:
        code = parsed.run(parsed)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FINISHED
    return code or ExitCode.FINISHED


def _list_runs(given: argparse.Namespace) -> None:
    rows = [["status", "epoch", "problem", "mask", "mode", "optimizer", "lr", "seed", "path"]]
    for path in find_runs(given.paths):
        try:
            run = Run(path)
            config = run.config
            row = [run.status.value, f"{max(run.last_epoch, 0)}/{run.length.epochs}"]
            row += [problem_of(run), config.position, config.ablation, config.optimizer, f"{config.lr:.6g}"]
            if is_chosen(run, given):
                rows.append([*row, str(config.random_seed), str(path)])
        except RunError as error:
            rows.append(["unreadable", *[""] * 7, str(error)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))


def _summary(given: argparse.Namespace) -> None:
    from batchnorm.analysis.summary import paired_difference, summary
    from batchnorm.analysis.tables import export, render

    paths = chosen_paths(given)
    table = paired_difference(paths, given.paired, measure=given.measure) if given.paired else summary(paths)
    if given.out:
        export(table, given.out)
        print(given.out)
    else:
        sys.stdout.write(render(table, given.format))


_SUMMARY: dict[str, dict[str, Any]] = {
    "--paired": {"metavar": "REFERENCE", "help": "instead: difference to this mode (or vanilla), seed by seed"},
    "--measure": {"default": "test_acc_final", "metavar": "NAME", "help": "of --paired (default: test_acc_final)"},
    "--format": {"default": "text", "choices": ("text", "csv", "markdown", "latex"), "help": "on the screen"},
    "--out": {"type": Path, "metavar": "FILE", "help": "write to FILE instead, as its suffix says: .csv .md .tex"},
}
_ABOUT_SUMMARY = "table of what each variant reached over its seeds"
_TEXTS = (
    Command("runs", "list the runs with status and progress", "output", _list_runs, draws=False),
    Command("summary", _ABOUT_SUMMARY, "output --out table.tex", _summary, _SUMMARY, draws=False),
    laws.COMMAND,
    measure.COMMAND,
)


def _of_figures() -> list[Command]:
    """Return the command of each figure: of each module of `figures` that is not private."""
    names = [module.name for module in pkgutil.iter_modules(figures.__path__) if not module.name.startswith("_")]
    return [import_module(f"{figures.__name__}.{name}").COMMAND for name in names]


class _Parser(argparse.ArgumentParser):
    def __init__(self, **keywords: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **keywords)

    def error(self, message: str) -> NoReturn:
        """End with one line, as all bad input does."""
        self.exit(ExitCode.BAD_INPUT, f"error: {message}; {self.prog} --help tells more\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m batchnorm.analysis",
        description="Figures and tables from runs. A PATH is a folder, a run or a glob pattern; figures go to plots/ beside.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (*_TEXTS, *_of_figures()):
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
