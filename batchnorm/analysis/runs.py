"""The runs that a figure or a table is made of: found, opened, checked against each other, and grouped by what they are."""

from __future__ import annotations

import glob
import json
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from batchnorm.analysis.narrowing import options_for
from batchnorm.analysis.settings import differing_settings, setting_text, what_differs
from batchnorm.analysis.variants import FULL_ROW, legend_place, row_of, under
from batchnorm.config import SLOT_KEYS, RunConfig
from batchnorm.errors import ConfigError, RunError, UserError, one_line
from batchnorm.modes import DEFAULT_MODE, UNTREATED, VANILLA, Mask, Mode, Treatment, format_mask
from batchnorm.problems import problem_name
from batchnorm.store import Run, RunDirectory, Status
from batchnorm.streams import shown_while_it_lasts


class Rows(Protocol):
    """Rows of a data frame, or one of them, with a column `run`."""

    def __getitem__(self, column: str, /) -> Any:
        """Return a column."""
        ...


RunPath = Union[str, Path]  # noqa: UP007  (evaluated at import, on Python 3.10 too)
OneRun = Union[RunPath, Run, Rows]  # noqa: UP007
"""A run: opened, its path, or a row of a data frame with its path in the column `run`, as `frame` gives them."""
RunPaths = Union[OneRun, Iterable[Union[RunPath, Run]]]  # noqa: UP007
"""Runs: folders with runs below them, runs, glob patterns, study files, or rows of a data frame."""
Read = TypeVar("Read")
_STUDY = (".yaml", ".yml")
LEFT_OUT = logging.getLogger(f"{__name__}.left_out")
"""Names what a table or a command over many runs goes on without, a line each."""


def find_runs(arguments: RunPaths) -> list[Path]:
    """Return the run directories that folders, runs, glob patterns and study files lead to, each real one once, in order.

    Links are followed. Folders that cannot be read, and links that lead nowhere, are named in the log `LEFT_OUT`.

    Raises:
        RunError: one does not exist, or none leads to a run.
        ConfigError: a study file is wrong.
    """
    found: dict[str, Path] = {}
    notes: dict[str, None] = {}
    for argument in paths_of(arguments):
        matches = [Path(argument)]
        if not os.path.lexists(argument) and glob.has_magic(str(argument)):
            matches = list(_matches(str(argument)))
        if not any(map(os.path.lexists, matches)):
            where = "" if Path(argument).is_absolute() else f" in {Path.cwd()}"
            raise RunError(f"{argument}: no such run or directory{where}")
        directories, before = list[Path](), len(notes)
        for match in matches:
            try:
                directories += _directories(match, notes)
            except OSError as error:
                notes[_cannot_be_read(match, error)] = None
        if not directories and len(notes) == before:
            notes[f"{argument}: holds no run"] = None
        for directory in directories:
            found.setdefault(os.path.realpath(RunDirectory(directory).record), directory)
    if notes and not found:
        raise RunError(next(iter(notes)))
    for note in notes:
        LEFT_OUT.warning("%s", note)
    return list(found.values())


def _matches(pattern: str) -> Iterator[Path]:
    """Return what a pattern matches, in order. `**` stands for each folder below; glob itself follows loops of links there."""
    head, *rest = re.split(r"(?<![^/])\*\*(?![^/])", pattern, maxsplit=1)
    if not rest:
        yield from map(Path, sorted(glob.glob(pattern)))  # noqa: PTH207  (absolute patterns too)
        return
    for root in sorted(glob.glob(head)) if head else ["."]:  # noqa: PTH207
        for folder in sorted(_folders(Path(root), {})):
            yield from _matches(glob.escape(str(folder)) + rest[0])


def _cannot_be_read(path: RunPath, error: OSError | UnicodeError) -> str:
    return f"{path}: cannot be read ({getattr(error, 'strerror', None) or one_line(error)})"


def as_list(given: RunPaths) -> list[RunPath | Run]:
    """Return runs and paths one by one; of a data frame's rows, each run once.

    Raises:
        RunError: a data frame has no column `run`.
    """
    if isinstance(given, (str, Path, Run)):
        return [given]
    table: Any = given
    names = getattr(table, "columns", getattr(table, "index", None))  # of a data frame; of a row or a column of one
    if names is None or callable(names):  # a list's `index` looks for things
        return [one for each in table for one in as_list(each)]
    if "run" in names:
        return as_list(table["run"])
    if hasattr(table, "columns"):
        raise RunError("the data frame has no column run, which says where the runs of its rows lie")
    return list(dict.fromkeys(table))


def paths_of(given: RunPaths) -> list[RunPath]:
    """Return what was given as paths."""
    return [each.directory if isinstance(each, Run) else each for each in as_list(given)]


def _directories(path: Path, notes: dict[str, None]) -> list[Path]:
    """Return the run directories that a path leads to.

    Raises:
        OSError: it cannot be read.
    """
    record = RunDirectory(path).record
    if path.is_file() and path.suffix == record.suffix:
        return [path.parent]
    if path.is_file() and path.suffix in _STUDY:
        return _of_study(path, notes)
    if record.exists():
        return [path]
    if not path.is_dir():
        return []
    return sorted(folder for folder in _folders(path, notes) if os.path.lexists(folder / record.name))


def _of_study(path: Path, notes: dict[str, None]) -> list[Path]:
    """Return the runs of a study that have begun; how many have not becomes a key of `notes`."""
    from batchnorm.study.grid import read_study

    runs = [run.config.directory for run in read_study(path, {}).runs]
    begun = [directory for directory in runs if RunDirectory(directory).record.exists()]
    if len(begun) < len(runs):
        notes[f"{path}: {len(runs) - len(begun)} of {len(runs)} runs have not begun"] = None
    return begun


def folders_of_study(argument: RunPath) -> list[Path]:
    """Return where the runs of a study's file lie: its OUTPUT_DIR, or several; none for other arguments.

    Raises:
        ConfigError: the study file is wrong.
    """
    path = Path(argument)
    if path.suffix not in _STUDY or not path.is_file():
        return []
    from batchnorm.study.grid import read_study

    return list(dict.fromkeys(Path(run.config.output_dir) for run in read_study(path, {}).runs))


def _folders(root: Path, notes: dict[str, None]) -> Iterator[Path]:
    """Find a folder and all below: through links too, each real folder once.

    What lies there itself comes before what links lead to, so that a link to it adds nothing. A link to a folder above the
    root is a loop. What cannot be followed becomes a key of `notes`.

    Raises:
        OSError: the root itself cannot be read.
    """
    seen = set(map(str, Path(os.path.realpath(root)).parents))
    folders, links = deque([root]), deque[Path]()
    while folders or links:
        folder = (folders or links).popleft()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.is_dir():
                        (links if entry.is_symlink() else folders).append(Path(entry.path))
                    elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                        notes[f"{entry.path}: is a link to nothing: {Path(entry.path).readlink()}"] = None
        except OSError as error:
            if folder == root:
                raise
            notes[_cannot_be_read(folder, error)] = None
        else:
            yield folder


def open_runs(given: RunPaths) -> list[Run]:
    """Open runs of one problem. One that is given twice, or as another mode of the vanilla network, counts once.

    Raises:
        RunError: there are none, one that was given by itself cannot be read, or one is of another problem.
    """
    runs = distinct(run for each in shown_while_it_lasts(as_list(given), "reading") for run in _opened(each))
    if not runs:
        raise RunError("no runs given: the list of paths is empty")
    for run in runs[1:]:
        if problem_of(run) != problem_of(runs[0]):
            raise RunError(
                f"{run.directory}: is a run of {problem_of(run)}, {runs[0].directory} one of {problem_of(runs[0])}; "
                "give runs of one problem"
            )
    return runs


def one_run(given: OneRun) -> Run:
    """Open the one run that is meant.

    Raises:
        RunError: there is none, or more than one.
    """
    runs = [run for each in as_list(given) for run in _opened(each)]
    if len(runs) != 1:
        raise RunError(f"{runs[0].directory if runs else 'no runs given'}: give one run here, not {len(runs)}")
    return runs[0]


def _opened(given: RunPath | Run) -> list[Run]:
    """Open a run, or those that a folder or pattern leads to; of these, what cannot be read is left out, see `read_each`."""
    if isinstance(given, Run):
        return [given]
    path = Path(given)
    if path.is_file() or os.path.lexists(RunDirectory(path).record):
        return [Run(path)]
    return [run for run, _ in read_each(find_runs(given), lambda run: (run.status, run.epochs), keep_open=True)]


def read_each(paths: RunPaths, read: Callable[[Run], Read], *, keep_open: bool = False) -> list[tuple[Run, Read]]:
    """Read the same from each run. One that cannot be read is named in the log `LEFT_OUT`, and left out.

    Args:
        paths: the runs.
        read: is given each run.
        keep_open: open each record once for all that `read` reads. Not for what writes in a run's directory: it would go on
            to see the record as it was before.

    Raises:
        RunError: none can be read.
    """
    done, failed = read_or_refused(paths, read, keep_open=keep_open)
    for reason in failed.values():
        LEFT_OUT.warning("%s", reason)
    return done


def read_or_refused(
    paths: RunPaths, read: Callable[[Run], Read], *, keep_open: bool = False
) -> tuple[list[tuple[Run, Read]], dict[RunPath, UserError]]:
    """Read the same from each run, and return beside it why others cannot be read. See `read_each`.

    Raises:
        RunError: none can be read.
    """
    done: list[tuple[Run, Read]] = []
    failed: dict[RunPath, UserError] = {}
    for path in shown_while_it_lasts(paths_of(paths), "reading"):
        try:
            with Run.opened(path) if keep_open else nullcontext(Run(path)) as run:
                done.append((run, read(run)))
        except UserError as error:
            failed[path] = error
        except (OSError, UnicodeError) as error:  # of a folder that is closed to us, of a name that is no text
            failed[path] = RunError(_cannot_be_read(path, error))
    if failed and not done:
        first = next(iter(failed.values()))
        others = f"; none of the other {len(failed) - 1} will do either" if len(failed) > 1 else ""
        raise RunError(f"{first}{others}", in_shell=first.in_shell + others)
    return done, failed


def problem_of(run: Run) -> str:
    """Return the problem's name; of one from a user's file without the file."""
    return problem_name(run.config.problem)


def output_folder(run: Run) -> Path:
    """Return the folder that holds SEED__PROBLEM__MASK; the run's own, where it does not lie in such folders any more."""
    below = run.config.directory.relative_to(run.config.output_dir).parts
    directory = run.directory.absolute()
    return directory.parents[len(below) - 1] if directory.parts[-len(below) :] == below else directory


def distinct(runs: Iterable[Run]) -> list[Run]:
    """Keep one of runs that are the same: the one that got further."""
    kept: dict[str, Run] = {}
    for run in runs:
        key = _identity(run)
        if key not in kept or run.last_epoch > kept[key].last_epoch:
            kept[key] = run
    return list(kept.values())


def are_same(one: Run, other: Run) -> bool:
    """Say whether two are the same run, wherever they lie."""
    return _identity(one) == _identity(other)


def _identity(run: Run) -> str:
    return json.dumps([run.config.random_seed, _what(run)], sort_keys=True)


def _what(run: Run) -> list[Any]:
    """Return what a run is, its seed aside; the same for records of all format versions."""
    return [run.mask, run.mode, run.settings]


def is_vanilla(run: Run) -> bool:
    """Say whether no slot has a norm."""
    return run.mode == VANILLA


def treatment_in(run: Run, slot: str) -> Treatment:
    """Return what was done to one of a run's slots; nothing, as far as is known, in a mode that this package does not know."""
    try:
        return run.config.treatments[run.layers.index(slot)]
    except ConfigError:
        return UNTREATED


def is_full(run: Run) -> bool:
    """Say whether BatchNorm stands everywhere and all of it is trained."""
    return all(run.mask) and run.mode == DEFAULT_MODE


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds."""

    runs: tuple[Run, ...]

    @property
    def config(self) -> RunConfig:
        """The configuration that they share, seed aside."""
        return self.runs[0].config

    @property
    def mask(self) -> Mask:
        """Where a norm stands."""
        return self.runs[0].mask

    @property
    def mode(self) -> str:
        """What is trained of it; `vanilla` without a norm."""
        return self.runs[0].mode

    @property
    def row(self) -> Mode:
        """How they are called and drawn."""
        return row_of(self.mode, self.config.norm)

    @property
    def epochs(self) -> int:
        """How many epochs they take."""
        return min(run.length.epochs for run in self.runs)  # a young one of format version 1 knows no more than NUM_EPOCHS

    @property
    def settings(self) -> dict[str, Any]:
        """What decides their results, apart from seed, mask and mode."""
        return self.runs[0].settings

    @property
    def mark(self) -> str:
        """What a reader must know of their number and of those that are not finished; nothing where one run is finished."""
        if len(self.runs) == 1:
            return progress_mark(self.runs[0])
        standing = [run.status for run in self.runs]
        unfinished = [status for status in Status if status in standing and status != Status.FINISHED]
        counts = [f"{standing.count(status)} {status.value}" for status in unfinished]
        return ", ".join([f"{len(self.runs)} seeds", *counts])


def of_one_setting(groups: Sequence[Group]) -> list[list[Group]]:
    """Return the groups setting by setting. One without keys that act in its slots, as vanilla, goes with each that it fits."""
    settings: list[Mapping[str, Any]] = []
    members: list[list[Group]] = []
    for group in sorted(groups, key=lambda group: -len(group.settings)):
        fitting = [place for place, other in enumerate(settings) if not differing_settings(group.settings, other)]
        if not fitting:
            settings.append(group.settings)
            members.append([])
            fitting = [len(members) - 1]
        for place in fitting:
            members[place].append(group)
    order = {id(group): place for place, group in enumerate(groups)}
    each = [sorted(family, key=lambda group: order[id(group)]) for family in members]
    return sorted(each, key=lambda family: order[id(family[0])])


def group_seeds(runs: Iterable[Run]) -> list[Group]:
    """Put runs together that differ in their seeds only; vanilla comes first, then the modes."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(json.dumps(_what(run), sort_keys=True), []).append(run)
    groups = [Group(tuple(sorted(members, key=lambda run: run.config.random_seed))) for members in grouped.values()]
    return sorted(groups, key=lambda group: legend_place(group.row))


class Hint(NamedTuple):
    """What to do instead, at the end of a message: in the words of Python, and in those of the shell."""

    in_python: str
    in_shell: str


NO_HINT = Hint("", "")
COMPARE_SETTINGS = Hint("; compare_multiple_lr compares values of one key", "; rates --by KEY compares values of one key")
COMPARE_MASKS = Hint("; compare_ablation_performance compares masks", "; ablations compares masks")


def require_one_setting(groups: Sequence[Group], *, instead: Hint = COMPARE_SETTINGS) -> None:
    """Check that each variant is there with one learning rate, one batch size and so on.

    Raises:
        RunError: the seeds' mean would mix settings; the message names the run and the keys.
    """
    several = _of_two_settings(groups)
    if several is None:
        return
    first, group = several
    runs = [run for each in groups for run in each.runs]
    options = options_for(runs, lambda some: _of_two_settings(group_seeds(some)) is None)
    raise two_settings(
        first, group, Hint("give one setting of each mask and mode", "choose one setting of each variant"), options, instead
    )


def _of_two_settings(groups: Sequence[Group]) -> tuple[Group, Group] | None:
    """Return the first two groups of one mask and mode."""
    seen: dict[tuple[Mask, str], Group] = {}
    for group in groups:
        first = seen.setdefault((group.mask, group.mode), group)
        if first is not group:
            return first, group
    return None


def two_settings(first: Group, other: Group, advice: Hint, options: str, instead: Hint = NO_HINT) -> RunError:
    """Return the error of runs that differ in their settings: it says in which, and how one of them is chosen.

    Args:
        first: one of the two.
        other: the one that the message is about.
        advice: what to do, in the words of Python and of the shell.
        options: of the shell, as `options_for` names them.
        instead: what compares settings.
    """
    keys = "; ".join(differing_settings(first.settings, other.settings))
    what = f"{other.runs[0].directory}: differs from {first.runs[0].directory} in {keys}; "
    in_shell = f"{advice.in_shell} {options}" if options else advice.in_python
    return RunError(what + advice.in_python + instead.in_python, in_shell=what + in_shell + instead.in_shell)


def _with_hint(text: str, hint: Hint) -> RunError:
    return RunError(text + hint.in_python, in_shell=text + hint.in_shell)


@dataclass(frozen=True)
class Ablations:
    """Runs of one problem as ablation figures show them: by mask, beside the two references."""

    vanilla: Group | None
    full: Group | None
    by_mask: Mapping[Mask, tuple[Group, ...]]

    @property
    def groups(self) -> list[Group]:
        """All of them once, references at the ends."""
        of_masks = [group for groups in self.by_mask.values() for group in groups]
        ends = [group for group in (self.vanilla, self.full) if group and group not in of_masks]
        return sorted([*ends, *of_masks], key=lambda group: legend_place(self._shown_as(group)))

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for group in self.groups for run in group.runs]

    def _shown_as(self, group: Group) -> Mode:
        """Return its row: full BatchNorm is a reference where it stands beside other masks."""
        return self._full_row if group is self.full and group.mask not in self.by_mask else group.row

    def panel(self, mask: Mask) -> list[tuple[Mode, Group]]:
        """Return what is drawn for one mask: vanilla, its modes, and full BatchNorm where that is another mask."""
        drawn = [(group.row, group) for group in self.by_mask.get(mask, ())]
        if self.vanilla:
            drawn.insert(0, (self.vanilla.row, self.vanilla))
        if self.full and not all(mask):
            drawn.append((self._full_row, self.full))
        return drawn

    @property
    def _full_row(self) -> Mode:
        return under(self.full.config.norm, FULL_ROW) if self.full else FULL_ROW


def sort_ablations(runs: Iterable[Run]) -> Ablations:
    """Tell references from ablations.

    Full BatchNorm has a panel of its own only where other modes stand everywhere too, or where there is no other mask.

    Raises:
        RunError: a mask and mode is there with several settings.
    """
    groups = group_seeds(runs)
    require_one_setting(groups)
    by_mask: dict[Mask, tuple[Group, ...]] = {}
    for group in groups:
        if group.mode != VANILLA:
            by_mask[group.mask] = (*by_mask.get(group.mask, ()), group)
    vanilla = next((group for group in groups if is_vanilla(group.runs[0])), None)
    full = next((group for group in groups if is_full(group.runs[0])), None)
    if full and by_mask[full.mask] == (full,) and len(by_mask) > 1:
        del by_mask[full.mask]
    return Ablations(vanilla, full, dict(sorted(by_mask.items(), reverse=True)))


def require_one_mask(ablations: Ablations, *, instead: Hint = NO_HINT) -> Mask:
    """Return the mask that a figure is about; all-zero where there is only vanilla.

    Raises:
        RunError: there are several.
    """
    masks = list(ablations.by_mask)
    if len(masks) > 1:
        other = ablations.by_mask[masks[1]][0].runs[0]
        what = f"has mask {format_mask(masks[1])}, others have {format_mask(masks[0])}; give the modes of one mask"
        raise _with_hint(f"{other.directory}: {what}", instead)
    return masks[0] if masks else ablations.groups[0].mask


def progress_mark(run: Run) -> str:
    """Say how far an unfinished run is; nothing of a finished one."""
    status, epoch = run.status, run.last_epoch
    if status == Status.FINISHED:
        return ""
    return f"{status.value}, epoch {epoch} of {run.length.epochs}" if epoch >= 0 else f"{status.value}, no epoch yet"


def setting_note(group: Group, groups: Iterable[Group], *, but: Collection[str] = ()) -> str:
    """Name the settings in which groups of one figure differ, `but` some, as this one has them."""
    return what_differs(group.settings, [other.settings for other in groups], but=but)


def slot_facts(runs: Iterable[Run]) -> list[str]:
    """Name the keys that act in slots only as all runs have them in which they act, where that is not the default."""
    each = [run.settings for run in runs]
    found = []
    for key in SLOT_KEYS:
        values = {setting_text(settings, key) for settings in each if key in settings}
        if len(values) == 1 and values != {setting_text({key: getattr(RunConfig, key.lower())}, key)}:
            found.append(f"{key.lower().replace('_', ' ')} {values.pop()}")
    return found


def shared_steps(runs: Sequence[Run], axes: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the steps at which runs can be averaged: those that each run recorded which came that far.

    A run that was cut off counts up to its end.

    Raises:
        RunError: no step is common to all that recorded any.
    """
    recorded = [axis for axis in axes if len(axis)]
    if not recorded:
        return np.array([], dtype=np.int64)
    require_common_step(runs, axes)
    steps = reduce(np.union1d, recorded)
    has = [np.isin(steps, axis) | (steps > axis[-1]) for axis in recorded]
    return np.asarray(steps[np.all(has, axis=0)])


def require_common_step(runs: Sequence[Run], axes: Sequence[NDArray[np.int64]]) -> None:
    """Check that runs can be compared at some step; those that recorded none yet are left aside.

    Raises:
        RunError: they cannot; the message names the first run that shares none with those before it.
    """
    common: NDArray[np.int64] | None = None
    for run, axis in zip(runs, axes, strict=True):
        if not len(axis):
            continue
        common = axis if common is None else np.intersect1d(common, axis)
        if not len(common):
            raise RunError(f"{run.directory}: has no common step with the other runs")
