"""The analysis from the shell: `python -m batchnorm.analysis COMMAND PATH ...`; each command is one public function."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from batchnorm.analysis.runs import RunPath, find_runs, open_runs, settings, state_of
from batchnorm.errors import ConfigError, ExitCode, RunError, UserError
from batchnorm.masks import Ablation, parse_mask
from batchnorm.store import Run

_Arguments = argparse.Namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING, force=True)
    logging.getLogger("batchnorm.analysis").setLevel(logging.INFO)
    parsed = _parser().parse_args(arguments)
    try:
        parsed.command(parsed)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.FINISHED


def _list_runs(given: _Arguments) -> None:
    rows = [["status", "epoch", "problem", "mask", "mode", "optimizer", "lr", "seed", "path"]]
    for path in find_runs(given.paths):
        try:
            run = Run(path)
            row = [state_of(run), f"{max(run.last_epoch, 0)}/{run.config.num_epochs}"]
        except RunError as error:
            rows.append(["unreadable", *[""] * 7, str(error)])
            continue
        if _is_wanted(run, given):
            config = run.config
            facts = [config.problem, config.position, config.ablation, config.optimizer, f"{config.lr:.6g}"]
            rows.append([*row, *facts, str(config.random_seed), str(path)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))


def _summary(given: _Arguments) -> None:
    from batchnorm.analysis.summary import export, paired_difference, render, summary

    paths = _paths(given)
    table = paired_difference(paths, given.paired, measure=given.measure) if given.paired else summary(paths)
    if given.out:
        export(table, given.out)
        print(given.out)
    else:
        sys.stdout.write(render(table, given.format))


def _performance(given: _Arguments) -> None:
    from batchnorm.analysis.bn_plot_functions import performance_across_ablations

    performance_across_ablations(_paths(given), given.smooth, **_look(given))


def _ablations(given: _Arguments) -> None:
    from batchnorm.analysis.bn_plot_functions import compare_ablation_performance

    compare_ablation_performance(_paths(given), given.metric, **_look(given))


def _rates(given: _Arguments) -> None:
    from batchnorm.analysis.bn_plot_functions import compare_multiple_lr

    compare_multiple_lr(_paths(given), **_look(given))


def _means(given: _Arguments) -> None:
    from batchnorm.analysis.bn_plot_functions import paramMean_perLayer

    runs = open_runs(_paths(given))
    vanilla, full = _only(runs, _is_vanilla, "vanilla"), _only(runs, _is_full, "full BatchNorm")
    paramMean_perLayer(vanilla.directory, full.directory, [run.directory for run in _of_one_mask(runs)], **_look(given))


def _surface(given: _Arguments) -> None:
    from batchnorm.analysis.bn_plot_functions import bn_params_3Dsurface

    for path in _paths(given):
        bn_params_3Dsurface(not given.unsorted, given.parameter, path, **_look(given))


def _betas(given: _Arguments) -> None:
    from batchnorm.analysis.bn_plot_functions import compare_3Dsurface_betas, compare_contour_betas

    runs = open_runs(_paths(given))
    vanilla, full = _only(runs, _is_vanilla, "vanilla"), _only(runs, _is_full, "full BatchNorm")
    partial = _of_one_mask(runs)
    trained = _only(partial, lambda run: run.config.mode == Ablation.TRAINED_BN, "trained_bn of one mask")
    fixed = _only(partial, lambda run: run.config.mode == Ablation.FIXED_GAMMA, "fixed_gamma of one mask")
    four = [run.directory for run in (vanilla, full, trained, fixed)]
    for draw in (compare_3Dsurface_betas, compare_contour_betas):
        draw(not given.unsorted, *four, **_look(given))


def _of_one_mask(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that are compared with the references: those of another mask, or else of the full one."""
    return [run for run in runs if any(run.mask) and not all(run.mask)] or [run for run in runs if all(run.mask)]


def _is_vanilla(run: Run) -> bool:
    return not any(run.mask)


def _is_full(run: Run) -> bool:
    return all(run.mask) and run.config.mode == Ablation.TRAINED_BN


def _only(runs: Sequence[Run], is_meant: Callable[[Run], bool], name: str) -> Run:
    found = [run for run in runs if is_meant(run)]
    if not found:
        raise RunError(f"{runs[0].directory}: no run of {name} is among the {len(runs)} given")
    if len(found) > 1:
        differing = "seed" if settings(found[0]) == settings(found[1]) and found[0].mask == found[1].mask else "mask or setting"
        raise RunError(
            f"{found[1].directory}: is a second run of {name}, of another {differing}; choose one by --seed, --mask, ..."
        )
    return found[0]


def _paths(given: _Arguments) -> list[RunPath]:
    """Return the runs that are meant."""
    found = find_runs(given.paths)
    if all(getattr(given, name) is None for name in _SELECTION):
        return list(found)
    wanted: list[RunPath] = [path for path in found if _is_wanted(Run(path), given)]
    if not wanted:
        chosen = [f"--{name} {' '.join(map(str, value))}" for name in _SELECTION if (value := getattr(given, name)) is not None]
        raise RunError(f"{given.paths[0]}: no run there has {', '.join(chosen)}")
    return wanted


def _is_wanted(run: Run, given: _Arguments) -> bool:
    config = run.config
    facts: dict[str, Any] = {
        "problem": config.problem,
        "mode": config.ablation,
        "optimizer": config.optimizer,
        "seed": config.random_seed,
        "lr": config.lr,
        "epochs": config.num_epochs,
    }
    chosen = all(getattr(given, name) is None or value in getattr(given, name) for name, value in facts.items())
    return chosen and (given.mask is None or any(_is_mask(text, run) for text in given.mask))


def _is_mask(text: str, run: Run) -> bool:
    try:
        return parse_mask(text, run.layers) == run.mask
    except ConfigError:  # a mask of another problem's length
        return False


def _look(given: _Arguments) -> dict[str, Any]:
    look: dict[str, Any] = {"style": given.style, "save_dir": given.save_dir}
    if getattr(given, "slots", None):
        look["slots"] = given.slots
    return look


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one line, as all bad input does."""
        self.exit(ExitCode.BAD_INPUT, f"error: {message}; {self.prog} --help tells more\n")


_SELECTION = ("problem", "mask", "mode", "optimizer", "seed", "lr", "epochs")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m batchnorm.analysis",
        description="Figures and tables from runs. A PATH is a folder, a run or a glob pattern; figures go to plots/ beside.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[_Arguments], None], about: str, example: str, *, draws: bool = True) -> _Parser:
        made: _Parser = commands.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            epilog=f"example:\n  python -m batchnorm.analysis {name} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(command=command)
        made.add_argument("paths", nargs="+", metavar="PATH", help="a folder with runs below it, a run, or a glob pattern")
        if draws:
            made.add_argument("--style", metavar="FORMAT", help="paper format of tueplots: neurips, icml, aistats2022, ...")
            made.add_argument("--save-dir", type=Path, metavar="DIR", help="where to save (default: plots/ next to the runs)")
        chosen = made.add_argument_group("choose among the runs found; each may take several values")
        chosen.add_argument("--problem", nargs="+", metavar="NAME")
        chosen.add_argument("--mask", nargs="+", metavar="MASK", help="0,0,1 | 001 | all | none")
        chosen.add_argument("--mode", nargs="+", choices=[mode.value for mode in Ablation], metavar="MODE")
        chosen.add_argument("--optimizer", nargs="+", metavar="NAME")
        chosen.add_argument("--seed", nargs="+", type=int, metavar="SEED")
        chosen.add_argument("--lr", nargs="+", type=float, metavar="RATE")
        chosen.add_argument("--epochs", nargs="+", type=int, metavar="N")
        return made

    def add_slots(made: _Parser) -> None:
        made.add_argument("--slots", nargs="+", metavar="SLOT", help="draw these slots only: conv1 dense1 ...")

    add("runs", _list_runs, "list the runs with status and progress", "output", draws=False)
    made = add("summary", _summary, "table of what each variant reached over its seeds", "output --out table.tex", draws=False)
    made.add_argument("--paired", metavar="REFERENCE", help="instead: difference to this mode (or vanilla), seed by seed")
    made.add_argument("--measure", default="test_acc_final", metavar="NAME", help="of --paired (default: test_acc_final)")
    made.add_argument("--format", default="text", choices=("text", "csv", "markdown", "latex"), help="on the screen")
    made.add_argument("--out", type=Path, metavar="FILE", help="write to FILE instead, as its suffix says: .csv .md .tex")
    made = add("performance", _performance, "loss and accuracy of vanilla and one mask's modes", "output --mask none 001")
    made.add_argument("--smooth", action="store_true", help="smooth (Savitzky-Golay) over faint recorded lines")
    made = add("ablations", _ablations, "a panel for each mask with all its modes", "output --metric test_acc")
    made.add_argument("--metric", default="test_loss", metavar="NAME", help="{train,valid,test}_{loss,acc} (test_loss)")
    add("rates", _rates, "one variant across learning rates", "output --mask none")
    add_slots(add("means", _means, "mean gamma and beta per slot beside the references", "output --mask none all 001 --seed 1"))
    made = add("surface", _surface, "a parameter's channels over steps, run by run", "output --mode trained_bn --mask all")
    made.add_argument("--parameter", default="gamma", choices=("gamma", "beta", "bias"), help="default: gamma")
    made.add_argument("--unsorted", action="store_true", help="leave the channels in the network's order")
    add_slots(made)
    made = add("betas", _betas, "beta of vanilla, full BatchNorm and one mask's modes", "output --mask none all 001 --seed 1")
    made.add_argument("--unsorted", action="store_true", help="leave the channels in the network's order")
    add_slots(made)
    return parser


if __name__ == "__main__":
    sys.exit(main())
