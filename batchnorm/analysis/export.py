"""All runs as one long table for a program to read: metrics by epoch, or a quantity's trajectories; as a frame or a file."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from batchnorm.analysis.files import whole_file
from batchnorm.analysis.runs import LEFT_OUT, RunPaths, distinct, find_runs, problem_of, read_each
from batchnorm.config import RunConfig
from batchnorm.errors import RunError, UserError, nearest_first, wrong_argument
from batchnorm.modes import format_mask
from batchnorm.quantities import AXES, QUANTITIES, Quantity, of_axis
from batchnorm.store import Run
from batchnorm.streams import shown_while_it_lasts

_DIGESTS = ("images", "problem_file")
"""What decides a result beside keys: a column where runs differ in it."""
_ROWS_AT_A_TIME = 50_000


def frame(root: RunPaths, quantity: str | None = None, *, slots: Sequence[str] | None = None, every: int = 1) -> pd.DataFrame:
    """Return all runs as one long table: a row for each epoch, or for each value of a quantity's trajectories.

    Args:
        root: a folder with runs below it, or several folders, runs or glob patterns.
        quantity: None for metrics by epoch, or a name of `batchnorm.quantities.QUANTITIES`, as `gamma`.
        slots: of a quantity: these slots only.
        every: only each so-many-th of a run's recorded moments, counted from its first.

    Returns:
        What each row has of its run: `run` (its directory, as it was found), `problem`, `mask` (`0,0,1`), `mode`
        (`vanilla` without a norm), `seed`; every other key that decides a result, defaults too, in lower case (`optimizer`,
        `lr`, `num_epochs`, `batch_size`, ...; `opt_hpars.momentum` and `lr_schedule.step_size` for settings, `lr_schedule`
        for the schedule's name); `status` (`finished`, `diverged`, `interrupted`, `running`, `unknown`). `images` and
        `problem_file`, digests, where the runs differ in them.

        Then, without a quantity: `epoch` (0 stands before training), `step` (updates so far), `train_loss`, `train_acc`,
        `valid_loss`, `valid_acc`, `test_loss`, `test_acc` (nats per image, shares of 1; NaN at epochs that were not
        evaluated), `scheduled_lr` (the rate of the next update), `train_seconds`, `eval_seconds`; and each measurement with
        one number an epoch that a run has (`sharpness`, `batch_sharpness`, `loss_variation`, `probe_acc_precise`, ...; NaN
        where it was not measured).

        With a quantity: `epoch` where it has one, `step`; `slot`, unless it is one number of the run; `channel`, counted
        from 0, where it has a value for each; and its value, in a column of its name. Runs and slots without it have no rows.

    Of two records of the same run, the one that got further counts. A run that cannot be read, or what of it cannot, is left
    out, with a warning (log `batchnorm.analysis.runs.left_out`).

    Raises:
        RunError: no run lies there, none can be read, or none has the quantity.
    """
    chosen = _choose(root, quantity, slots, every)
    blocks = list(chosen.blocks())
    return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame(columns=chosen.columns)


def export(
    root: RunPaths,
    out: Path | str,
    quantity: str | None = None,
    *,
    slots: Sequence[str] | None = None,
    every: int = 1,
    columns: Sequence[str] | None = None,
) -> None:
    """Write what `frame` returns, as the file's suffix says: `.csv`, `.csv.gz` or `.json`; equal runs give equal bytes.

    All digits are written. CSV has nothing for NaN and for what is not given, JSON, an array of objects, has null. The file
    takes its place when it is complete; a long table is written piece by piece.

    Args:
        root: see `frame`.
        out: the file.
        quantity: see `frame`.
        slots: see `frame`.
        every: see `frame`.
        columns: these alone, in this order.

    Raises:
        RunError: as for `frame`; another suffix, no such column, or the file cannot be written.
    """
    suffix = next((suffix for suffix in _FORMS if str(out).endswith(suffix)), None)
    if suffix is None:
        raise RunError(f"{out}: a table of runs is written as {', '.join(_FORMS)}, by its suffix")
    chosen = _choose(root, quantity, slots, every)
    for name in columns or ():
        if name not in chosen.columns:
            raise wrong_argument("columns", name, f"no such column; {nearest_first(name, chosen.columns)}")
    with _text_file(out, compressed=suffix.endswith(".gz")) as file, closing(chosen.blocks()) as blocks:
        _FORMS[suffix](blocks, list(columns or chosen.columns), file)


@dataclass(frozen=True)
class _Chosen:
    """The runs of a table, and what its rows tell of them.

    Attributes:
        runs: in the table's order.
        facts: what is the same in all rows of a run, a row for each run.
        values: names of the columns that differ from row to row.
        rows: gives the rows of an opened run, in one piece or several.
    """

    runs: tuple[Run, ...]
    facts: pd.DataFrame
    values: tuple[str, ...]
    rows: Callable[[Run], Iterator[dict[str, NDArray[Any]]]]

    @property
    def columns(self) -> list[str]:
        """All columns of the table."""
        return [*self.facts.columns, *self.values]

    def blocks(self) -> Generator[pd.DataFrame]:
        """Return the table piece by piece, none of them empty. What cannot be read of a run is left out, with a warning."""
        waiting: list[_Piece] = []  # short runs are put together: making a table of few rows takes as long as one of many
        count = 0
        with closing(shown_while_it_lasts(self.runs, "reading")) as runs:
            for place, run in enumerate(runs):
                try:
                    with Run.opened(run.directory) as opened:
                        for piece in (piece for rows in self.rows(opened) for piece in _pieces(place, rows)):
                            if waiting and (count + piece.length > _ROWS_AT_A_TIME or piece.types != waiting[-1].types):
                                yield self._table(waiting)
                                waiting, count = [], 0
                            waiting.append(piece)
                            count += piece.length
                except UserError as error:
                    LEFT_OUT.warning("%s", error)
        if waiting:
            yield self._table(waiting)

    def _table(self, pieces: Sequence[_Piece]) -> pd.DataFrame:
        """Return rows of some runs with the runs' facts."""
        places = np.repeat([piece.place for piece in pieces], [piece.length for piece in pieces])
        values = {name: np.concatenate([piece.rows[name] for piece in pieces]) for name in pieces[0].rows}
        return pd.concat([self.facts.iloc[places].reset_index(drop=True), pd.DataFrame(values)], axis=1)


@dataclass(frozen=True)
class _Piece:
    """Some rows of the run at a place."""

    place: int
    rows: Mapping[str, NDArray[Any]]

    @property
    def length(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.rows.values())))

    @property
    def types(self) -> list[np.dtype[Any]]:
        """The type of each column."""
        return [values.dtype for values in self.rows.values()]


def _pieces(place: int, rows: Mapping[str, NDArray[Any]]) -> Iterator[_Piece]:
    """Cut a run's rows into pieces that are not too long."""
    length = min(map(len, rows.values()))  # a record may grow between two readings
    for start in range(0, length, _ROWS_AT_A_TIME):
        end = min(start + _ROWS_AT_A_TIME, length)
        yield _Piece(place, {name: each[start:end] for name, each in rows.items()})


def _choose(root: RunPaths, quantity: str | None, slots: Sequence[str] | None, every: int) -> _Chosen:
    """Find the runs, and what the table tells of them."""
    if quantity is not None and quantity not in QUANTITIES:
        raise wrong_argument("quantity", quantity, f"no such quantity; {nearest_first(quantity, QUANTITIES)}")
    if every < 1:
        raise wrong_argument("every", every, "must be 1 or more")
    asked = None if quantity is None else QUANTITIES[quantity]
    if slots is not None and (asked is None or asked.per == "run"):
        raise wrong_argument("slots", ",".join(slots), f"{asked.name if asked else 'metrics'}: one number for all slots")

    def read(run: Run) -> tuple[dict[str, Any], list[str]]:
        if asked is None:
            return _facts(run), [each.name for each in _once_an_epoch() if run.has(each.name)]
        return _facts(run), _slots(run, asked)

    found = dict(read_each(find_runs(root), read, keep_open=True))
    runs = tuple(distinct(found))
    facts = _table_of([found[run][0] for run in runs])
    there = list(dict.fromkeys(name for run in runs for name in found[run][1]))
    if asked is None:
        measured = [each.name for each in _once_an_epoch() if each.name in there]
        return _Chosen(runs, facts, (*_METRICS, *measured), lambda run: iter([_metrics(run, measured, every)]))
    if not there:
        raise RunError(f"{runs[0].directory}: has no {asked.name.replace('_', ' ')}, nor has any other run")
    if unknown := [slot for slot in slots or () if slot not in there]:
        raise wrong_argument("slots", unknown[0], f"no run has {asked.name} of it; {nearest_first(unknown[0], there)}")
    places = {"run": (), "slot": ("slot",), "channel": ("slot", "channel")}[asked.per]
    values = (*AXES[asked.axis].index, *places, _column(asked.name))
    return _Chosen(runs, facts, values, lambda run: _trajectories(run, asked, slots or there, every))


def _facts(run: Run) -> dict[str, Any]:
    """Return what a run is, by column."""
    facts: dict[str, Any] = {"run": str(run.directory), "problem": problem_of(run)}
    facts |= {"mask": format_mask(run.mask), "mode": run.mode, "seed": run.config.random_seed}
    for key, value in run.settings.items():
        name = key.lower()
        if isinstance(value, Mapping):
            facts |= {f"{name}.{part}": setting for part, setting in value.items() if part != "name"}
            value = value.get("name")
            if value is None:
                continue
        facts[name] = value
    facts = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in facts.items()}
    return {**facts, "status": run.status.value}


def _table_of(facts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row for each run; settings stand behind their key, and digests where runs differ in them."""
    order = ["run", "problem", "mask", "mode", "seed", *(each.name for each in fields(RunConfig)), *_DIGESTS, "status"]
    found = {name for each in facts for name in each}
    places = {name: place for place, name in enumerate(dict.fromkeys(order))}
    names = sorted(found, key=lambda name: (places.get(name.partition(".")[0], len(places)), name))
    table = pd.DataFrame(list(facts), columns=names)
    return table.drop(columns=[name for name in _DIGESTS if name in table and table[name].nunique(dropna=False) == 1])


def _metrics(run: Run, measured: Sequence[str], every: int) -> dict[str, NDArray[Any]]:
    """Return the rows of a run's epochs, with what was measured at them."""
    epochs = run.epochs
    rows = {_column(name): epochs[name][::every] for name in _EPOCHS}
    for name in measured:
        rows[name] = np.full(len(rows["epoch"]), np.nan)
        if run.has(name):
            at = {int(epoch): value for epoch, value in zip(run.index(name)["epoch"], run.read(name), strict=False)}
            rows[name] = np.array([at.get(int(epoch), np.nan) for epoch in rows["epoch"]], dtype=np.float64)
    return rows


def _trajectories(run: Run, asked: Quantity, slots: Sequence[str], every: int) -> Iterator[dict[str, NDArray[Any]]]:
    """Return the rows of a quantity, slot by slot."""
    there = _slots(run, asked)
    for slot in (slot for slot in there if slot in slots):
        values = run.read(asked.name, None if asked.per == "run" else slot)[::every]
        index = {name: moments[::every][: len(values)] for name, moments in run.index(asked.name).items()}
        values = values[: len(index["step"])]
        channels = values.shape[1] if asked.per == "channel" else 1
        rows: dict[str, NDArray[Any]] = {name: np.repeat(moments, channels) for name, moments in index.items()}
        if asked.per != "run":
            rows["slot"] = np.full(values.size, slot)
        if asked.per == "channel":
            rows["channel"] = np.tile(np.arange(channels), len(values))
        yield {**rows, _column(asked.name): values.reshape(-1)}


def _slots(run: Run, asked: Quantity) -> list[str]:
    """Return the slots of which a run has a quantity; one without a name stands for the whole run."""
    if asked.per == "run":
        return [""] if run.has(asked.name) else []
    return list(run.slots_with(asked.name))


def _once_an_epoch() -> list[Quantity]:
    """Return the measurements with one number an epoch."""
    return [each for each in of_axis("probes") if each.per == "run"]


def _column(quantity: str) -> str:
    """Return the column of a quantity: `lr` is the key."""
    return "scheduled_lr" if quantity == "lr" else quantity


_EPOCHS = (*AXES["epochs"].index, *(each.name for each in of_axis("epochs") if each.per == "run"))
_METRICS = tuple(map(_column, _EPOCHS))


def _write_csv(blocks: Iterable[pd.DataFrame], columns: list[str], file: TextIO) -> None:
    file.write(pd.DataFrame(columns=columns).to_csv(index=False, lineterminator="\n"))
    for block in blocks:
        file.write(block[columns].to_csv(index=False, header=False, lineterminator="\n"))


def _write_json(blocks: Iterable[pd.DataFrame], columns: list[str], file: TextIO) -> None:
    """Write an array of objects, one a line."""
    names = [json.dumps(name) for name in columns]
    file.write("[")
    separator = "\n"
    for block in blocks:
        texts = [map(_as_json, block[name].tolist()) for name in columns]
        for cells in zip(*texts, strict=True):
            members = ", ".join(f"{name}: {text}" for name, text in zip(names, cells, strict=True))
            file.write(f"{separator}{{{members}}}")
            separator = ",\n"
    file.write("\n]\n")


def _as_json(value: Any) -> str:
    """Write a value; JSON has no word for infinity, but every reader takes a number that is too large for it."""
    if value is None or value != value:
        return "null"
    if isinstance(value, float) and np.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return json.dumps(value)


_FORMS: Mapping[str, Callable[[Iterable[pd.DataFrame], list[str], TextIO], None]] = {
    ".csv": _write_csv,
    ".csv.gz": _write_csv,
    ".json": _write_json,
}


@contextmanager
def _text_file(out: Path | str, *, compressed: bool) -> Iterator[TextIO]:
    """Give a file for text, in which the bytes of names that are no text stay as they are."""
    with whole_file(out) as plain, ExitStack() as stack:
        binary: Any = plain
        if compressed:  # without name and time, so that equal tables are equal files
            binary = stack.enter_context(gzip.GzipFile("", "wb", fileobj=plain, mtime=0))
        yield stack.enter_context(io.TextIOWrapper(binary, encoding="utf-8", errors="surrogateescape", newline=""))
