"""The commands of the analysis: the table of them, the texts that they print; each figure's stands beside its function."""

from __future__ import annotations

import argparse
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from batchnorm.analysis import compress, figures, laws, measure, prune, report, streams, usage
from batchnorm.analysis.columns import aligned, fitted
from batchnorm.analysis.outcome import ARGUMENTS, FAMILY, TESTS, in_values, outcome_of
from batchnorm.analysis.pairing import COLUMNS
from batchnorm.analysis.runs import LEFT_OUT, find_runs, problem_of, read_each, slot_facts
from batchnorm.analysis.settings import setting_text, varying_settings
from batchnorm.analysis.shell import LISTED_DIGITS, Answer, Command, asked_for, chosen_paths, is_chosen
from batchnorm.errors import ExitCode, UserError
from batchnorm.store import Run


def run_command(arguments: Sequence[str] | None, program: str) -> int:
    """Run one command and return the exit code; `program` is what was typed in front of the arguments.

    Output that goes away or is full takes no work with it: figures are drawn all the same.
    """
    streams.prepare()
    output = streams.Output()
    left_out = _Lines(streams.tell)
    code = ExitCode.FINISHED
    try:
        given = _parser(program).parse_args(arguments)
        with _logging(output, left_out):
            found = given.run(given)
        code = found.code if isinstance(found, Answer) else code
        text = found.text if isinstance(found, Answer) else found
        if isinstance(text, str):
            output.write(text)
    except SystemExit as end:  # argparse has told what is wrong, or written help
        output.write("")
        if end.code or output.error is None:
            raise
    except UserError as error:
        streams.tell(f"error: {error.in_shell}")
        return ExitCode.BAD_INPUT
    if left_out.lines:
        streams.tell(f"{left_out.lines} left out, named above")
    if output.error and not isinstance(output.error, BrokenPipeError):  # `| head` has read enough
        streams.tell(f"error: standard output cannot be written: {output.error.strerror}")
        return ExitCode.BAD_INPUT
    return code


class _Lines(logging.Handler):
    """Writes log lines as they are, and counts them."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self.write = write
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; an error in it says the shell's words."""
        self.lines += 1
        told = [each.in_shell if isinstance(each, UserError) else each for each in record.args or ()]
        self.write(str(record.msg) % tuple(told) if told else record.getMessage())


@contextmanager
def _logging(output: streams.Output, left_out: _Lines) -> Iterator[None]:
    """Send the names of figures' files to standard output, and what is left out to standard error."""
    files = logging.getLogger("batchnorm.analysis")
    handlers = {files: _Lines(lambda line: output.write(f"{line}\n")), LEFT_OUT: left_out}
    before = [(logger, logger.level, logger.propagate) for logger in handlers]
    for logger, handler in handlers.items():
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handlers[logger])
            logger.setLevel(level)
            logger.propagate = propagate


def _list_runs(given: argparse.Namespace) -> str:
    names = ["status", "epoch", "problem", "mask", "mode", "optimizer", "lr", "seed"]

    def row(run: Run) -> tuple[list[str], dict[str, Any]] | None:
        config = run.config
        row = [run.status.value, f"{max(run.last_epoch, 0)}/{run.length.epochs}"]
        row += [problem_of(run), config.position, run.mode, config.optimizer, f"{config.lr:.{LISTED_DIGITS}g}"]
        return ([*row, str(config.random_seed)], run.settings) if is_chosen(run, given) else None

    paths = find_runs(given.paths)
    read = {run.directory: found for run, found in read_each(paths, row, keep_open=True)}
    chosen = {path: read.get(path, (["unreadable", *[""] * 7], {})) for path in paths}
    kinds = ((tuple(cells[2:3] + cells[5:7]), settings) for cells, settings in filter(None, read.values()))
    more = [key for key in varying_settings(kinds) if key not in {*COLUMNS, "PROBLEM"}]
    rows = [[*names, *map(str.lower, more), "path"]]
    for path, found in chosen.items():
        if found is not None:
            cells, settings = found
            rows.append([*cells, *(setting_text(settings, key) for key in more), str(path)])
    width = None if given.wide else streams.terminal_width()
    return aligned(rows) if width is None else fitted(rows, width, whole="--wide shows all columns")


def _summary(given: argparse.Namespace) -> str:
    from batchnorm.analysis.summary import MEASURES, paired_difference, summary
    from batchnorm.analysis.tables import export, render

    chosen = list(dict.fromkeys(given.measure or ()))
    if given.paired:
        if len(chosen) > 1:
            raise UserError(f"--measure {' '.join(chosen)}: --paired takes one")
        if given.mark_best or given.add:
            advice = "--mark-best does not go with --paired; --mark-different marks what differs from the reference"
            raise UserError(advice if given.mark_best else "--add does not go with --paired")
    elif given.match or given.mark_different:
        raise UserError(f"{'--match' if given.match else '--mark-different'} goes with --paired")
    paths = chosen_paths(given) if asked_for(given) else given.paths  # else each run would be opened twice
    if given.paired:
        measure = (chosen or ["test_acc_final"])[0]
        table = paired_difference(paths, given.paired, measure=measure, match=given.match, mark_different=given.mark_different)
    else:
        table = summary(paths, measures=chosen or MEASURES, measurements=given.add, mark_best=given.mark_best)
    if given.out:
        export(table, given.out, columns=given.columns, whole=given.wide)
        return f"{given.out}\n"
    width = None if given.wide else streams.terminal_width()
    sign = streams.plus_minus()
    return render(table, given.format, plus_minus=sign, width=width, columns=given.columns, whole=given.wide)


def _effects(given: argparse.Namespace) -> str:
    from batchnorm.analysis.effects import effects, plan
    from batchnorm.analysis.effects.of_records import compare
    from batchnorm.analysis.effects.printed import print_effects, print_plan
    from batchnorm.analysis.effects.table import chosen_families
    from batchnorm.analysis.tables import write

    outcome = outcome_of(given)
    margin, difference = in_values(given.margin, outcome), in_values(given.difference, outcome)
    for name in ("difference", "power", "planned_seeds", "comparisons"):
        if getattr(given, name) is not None and not given.plan:
            raise UserError(f"--{name.replace('_', '-')} goes with --plan")
    found = compare(chosen_paths(given), outcome)
    table = effects(found.table, slots=found.slots, alpha=given.alpha, margin=margin)
    table = table[table["family"].isin(chosen_families(table, given.family))]
    unit = f", in {outcome.unit}" if outcome.unit not in ("", "epochs") else ""
    seeds = sorted(set(found.table["seed"]))
    numbers = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    facts = ", ".join([problem_of(found.runs[0]), *slot_facts(found.runs), found.counted, numbers])
    if given.plan:
        power = 0.8 if given.power is None else given.power
        comparisons = 1 if given.comparisons is None else given.comparisons
        rows = plan(
            table,
            power=power,
            difference=difference,
            margin=margin,
            planned_seeds=given.planned_seeds,
            alpha=given.alpha,
            comparisons=comparisons,
        )
        needed = {"difference": "to find", "margin": "to show"}
        rows = rows.drop(columns=[f"seeds_for_{name}" for name in needed if getattr(given, name) is None])
        family = f" and a family of {comparisons}" if comparisons > 1 else ""
        heading = f"What seeds can show with {100 * power:g} % power{family}: {outcome.words}{unit}. From {facts}. "
        heading += "std: over these seeds; finds: the smallest difference; shows: the smallest margin of equivalence"
        asked = [
            f"; {word}: seeds for {name} {getattr(given, name):g}" for name, word in needed.items() if getattr(given, name)
        ]
        heading += "".join([*asked, "."])
        printed = partial(print_plan, rows, scale=outcome.scale, heading=heading)
    else:
        heading = f"Effects on {outcome.words}{unit}. {facts}."
        printed = partial(print_effects, table, scale=outcome.scale, heading=heading, wide=given.wide, norm=found.norm)
    if given.out:
        write(given.out, printed)
        return f"{given.out}\n"
    return printed(given.format)


def _export(given: argparse.Namespace) -> str:
    from batchnorm.analysis.export import export

    paths = chosen_paths(given) if asked_for(given) else given.paths
    export(paths, given.out, given.quantity, slots=given.slots, every=given.every, columns=given.columns)
    return f"{given.out}\n"


_WIDE = {"--wide": {"action": "store_true", "help": "all columns on a terminal too, however wide"}}
_PRINTED: dict[str, dict[str, Any]] = {
    "--format": {"default": "text", "choices": ("text", "csv", "markdown", "latex"), "help": "on the screen"},
    "--out": {"type": Path, "metavar": "FILE", "help": "write to FILE instead, as its suffix says: .csv .md .tex"},
    **_WIDE,
}
_SUMMARY: dict[str, dict[str, Any]] = {
    "--paired": {"metavar": "REFERENCE", "help": "instead: difference from a mode, vanilla, or '111 trained_bn', by seed"},
    "--match": {"nargs": "+", "metavar": "KEY", "help": "of --paired: keys that must agree; none: seeds alone"},
    "--measure": {"nargs": "+", "metavar": "NAME", "help": "these alone: test_acc_final ...; --paired takes one"},
    "--columns": {"nargs": "+", "metavar": "NAME", "help": "these alone, in this order: variant lr seeds test_acc_final"},
    "--mark-best": {"action": "store_true", "help": "mark the best, and what is not different from it"},
    "--mark-different": {"action": "store_true", "help": "of --paired: test and mark what differs from the reference"},
    "--add": {"nargs": "+", "default": (), "metavar": "NAME", "help": "columns of measurements too: batch_sharpness ..."},
    **_PRINTED,
    "--wide": {"action": "store_true", "help": "whole rows on a terminal too, and in LaTeX nothing lifted into the caption"},
}
_EFFECTS: dict[str, Mapping[str, Any]] = {
    **ARGUMENTS,
    **TESTS,
    **FAMILY,
    "--plan": {"action": "store_true", "help": "instead: what these and more seeds can show"},
    "--difference": {"type": float, "metavar": "D", "help": "of --plan: how many seeds find this, in the unit of --margin"},
    "--power": {"type": float, "metavar": "P", "help": "of --plan: chance to find what is there (default: 0.8)"},
    "--planned-seeds": {"type": int, "metavar": "N", "help": "of --plan: what N seeds can show (default: as many as at hand)"},
    "--comparisons": {"type": int, "metavar": "M", "help": "of --plan: tests in the family that is planned (default: 1)"},
    **_PRINTED,
}
_EXPORT: dict[str, Mapping[str, Any]] = {
    "--out": {"type": Path, "metavar": "FILE", "required": True, "help": "as its suffix says: .csv .csv.gz .json"},
    "--quantity": {"metavar": "NAME", "help": "instead of metrics: trajectories of gamma, beta, weight_norm, ..."},
    "--slots": {"nargs": "+", "metavar": "SLOT", "help": "of --quantity: these slots only: conv1 dense1 ..."},
    "--every": {"type": int, "default": 1, "metavar": "N", "help": "only each N-th recorded moment of a run"},
    "--columns": {"nargs": "+", "metavar": "NAME", "help": "these columns only, in this order"},
}
_ABOUT_EXPORT = "write all runs as one long table: metrics by epoch, or a quantity's trajectories"
_ABOUT_SUMMARY = "table of what each variant reached over its seeds"
_ABOUT_EFFECTS = "table of what slots, modes, gamma and beta do, with intervals over seeds"
_TEXTS = (
    Command("runs", "list the runs with status and progress", "output", _list_runs, _WIDE, draws=False),
    Command("summary", _ABOUT_SUMMARY, "output --out table.tex", _summary, _SUMMARY, draws=False),
    Command("effects", _ABOUT_EFFECTS, "output --problem fmnist_2c2d_bn --out effects.csv", _effects, _EFFECTS, draws=False),
    Command("export", _ABOUT_EXPORT, "output --problem fmnist_2c2d_bn --out runs.csv.gz", _export, _EXPORT, draws=False),
    report.COMMAND,
    laws.COMMAND,
    measure.COMMAND,
    usage.COMMAND,
    prune.COMMAND,
    compress.COMMAND,
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
        several = [name for action in self._actions if action.nargs == "+" for name in action.option_strings]
        hint = "PATH comes first, or after `--` where an option takes several values; " if several else ""
        streams.tell(f"error: {message}; {hint}{self.prog} --help tells more")
        raise SystemExit(ExitCode.BAD_INPUT)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Figures and tables from runs. PATH is a directory, a run, a glob pattern or a study's file.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (*_TEXTS, *_of_figures()):
        command.add_to(commands)
    return parser
