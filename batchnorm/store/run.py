"""Reads a run's record, finished or not, and finds how the run of a directory stands."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from batchnorm.config import RunConfig, RunLength, canonical_fingerprint, differing_keys
from batchnorm.errors import ConfigError, RunError, cannot_be_read, nearest_first, one_line
from batchnorm.modes import Mask, parse_mask, variant_name, variant_of
from batchnorm.problems import find_problem
from batchnorm.quantities import AXES, QUANTITIES, Quantity, of_axis
from batchnorm.store.directory import RunDirectory
from batchnorm.store.hdf5 import (
    attributes_of,
    bad_or_unreadable,
    common_rows,
    damaged,
    is_whole,
    open_dataset,
    open_for_reading,
    open_group,
    read_number,
    read_rows,
)
from batchnorm.store.layout import FORMAT_VERSION, MARKS, STATUS, SlotParts, index_datasets
from batchnorm.store.measured import open_measured
from batchnorm.store.notebook import facts_table
from batchnorm.store.status import Status

if TYPE_CHECKING:
    from torch import nn


class Run:
    """A recorded run, read-only: finished, interrupted, or running while it is read.

    What is recorded is read when asked for; an instance keeps no file open. A run that is running is read as far as it
    has come at that call.

    Args:
        path: a run directory, or its `run.h5`.

    Attributes:
        config, fingerprint, versions: what the run is, and what it ran on.
        layers, mask: the slots' names, and where a norm stands.
        slots: what each slot has and what stands around it; empty in a record of format version 1.

    Raises:
        RunError: there is no run, it is damaged, or a newer version of this package wrote it.
    """

    def __init__(self, path: Path | str) -> None:
        """Read what the run is."""
        self._find(path)
        self._read_attributes()

    @classmethod
    @contextmanager
    def opened(cls, path: Path | str) -> Iterator[Run]:
        """Open a run, and keep its file open while the block reads: that takes less time than an opening for each reading.

        Within the block a record that grows may be seen as it was when the block began.

        Raises:
            RunError: as for `Run(path)`.
        """
        run = cls.__new__(cls)
        run._find(path)
        with open_for_reading(run.path) as run._kept_open:
            try:
                run._read_attributes()
                yield run
            finally:
                run._kept_open = run._kept_ended = None

    def _find(self, path: Path | str) -> None:
        given = Path(path)
        self.path = given if given.suffix == ".h5" else RunDirectory(given).record
        self.directory = self.path.parent
        if not _exists(given):
            raise RunError(f"{given}: no such run")
        if not _exists(self.path):
            raise RunError(f"{given}: is no run: it holds no {self.path.name}")
        self._kept_open: h5py.File | None = None
        self._kept_ended: Status | None = None

    def _read_attributes(self) -> None:
        with self._open() as file:
            stored = attributes_of(file)
            version = int(stored["format_version"])
            if version > FORMAT_VERSION:
                raise RunError(
                    f"{self.path}: has format version {version}, this package reads up to {FORMAT_VERSION}; update the package"
                )
            try:
                self._take(stored)
            except ConfigError as error:
                raise RunError(f"{self.path}: holds a configuration that cannot be read: {error}") from None
            except (TypeError, AttributeError) as error:  # JSON of another shape than ours
                raise damaged(self.path, one_line(error)) from None

    def _take(self, stored: Mapping[str, Any]) -> None:
        """Take what the record's attributes say."""
        self.config = RunConfig.from_dict(json.loads(stored["config"]))
        self.fingerprint: dict[str, Any] = canonical_fingerprint(json.loads(stored["fingerprint"]))
        self.versions: dict[str, Any] = json.loads(stored["versions"])
        self.layers = tuple(name.decode() for name in stored["layers"])
        self.mask: Mask = parse_mask(stored["mask"].decode(), self.layers)
        slots = json.loads(stored["slots"])["slots"] if "slots" in stored else []
        self.slots = tuple(SlotParts.from_dict(slot) for slot in slots)
        self._length = RunLength(**json.loads(stored["length"])) if "length" in stored else None

    def __repr__(self) -> str:
        """Name the run by its directory."""
        return f"Run({str(self.directory)!r})"

    def _repr_html_(self) -> str:
        """Show it in a notebook: what it is, how it stands, and what it has reached."""
        config = self.config
        facts: list[tuple[str, object]] = [
            ("problem", config.problem),
            ("mask", config.position),
            ("mode", self.mode),
            ("seed", config.random_seed),
            ("optimizer", f"{config.optimizer}, learning rate {config.lr:.6g}, batch size {config.batch_size}"),
            ("slots", ", ".join(self.layers)),
        ]
        try:
            facts.append(("status", f"{self.status.value}, epoch {max(self.last_epoch, 0)} of {self.length.epochs}"))
            reached = self.of_epochs("valid_acc", "test_acc")
            reached = {name: values[~np.isnan(values)] for name, values in reached.items()}
            names = {"valid_acc": "validation accuracy", "test_acc": "test accuracy"}
            facts += [(words, f"{100 * reached[name][-1]:.2f} %") for name, words in names.items() if len(reached[name])]
        except RunError as error:
            facts.append(("status", error))
        return facts_table(f"Run {self.directory}", facts)

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        with nullcontext(self._kept_open) if self._kept_open else open_for_reading(self.path) as file:
            try:
                yield file
            except (KeyError, OSError, ValueError, RuntimeError) as error:
                raise bad_or_unreadable(self.path, error) from None

    @property
    def ended(self) -> Status | None:
        """How the run ended; None where it has not."""
        with self._open() as file:
            return self._ended_in(file)

    def _ended_in(self, file: h5py.File) -> Status | None:
        """Read how the run ended, once where the file is kept open: what has ended stays so."""
        if file is not self._kept_open:
            return _ended(file)
        self._kept_ended = self._kept_ended or _ended(file)
        return self._kept_ended

    def _columns(self, file: h5py.File, axis: str, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        """Read those of an axis's own columns that there are, as far as all of the axis's datasets go."""
        group = open_group(file, axis)
        there = {name: dataset for name in names if (dataset := open_dataset(group, name))}
        lengths = [dataset.shape[0] for dataset in there.values()] if self._ended_in(file) else [common_rows(group)]
        whole = is_whole(file)
        return {name: read_rows(dataset, min(lengths), whole_file=whole) for name, dataset in there.items()}

    @property
    def status(self) -> Status:
        """How the run stands now."""
        return self.ended or _unless_claimed(RunDirectory(self.directory), Status.CUT_OFF)

    @property
    def mode(self) -> str:
        """Its mode's name; `vanilla` where no slot has a norm."""
        return variant_name(self.mask, self.config.ablation)

    @property
    def variant(self) -> str:
        """Where a norm stands and in which mode, as `0,1,1 fixed_gamma`; `vanilla` without a norm."""
        return variant_of(self.mask, self.config.ablation)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides its result, defaults too, apart from seed, mask and mode; not the keys that act in none of its slots."""
        deciding = {**self.config.deciding_keys(), **self.fingerprint}
        left_out = {"RANDOM_SEED", "POSITION", "ABLATION", *self.config.idle_keys}
        return {key: value for key, value in deciding.items() if key not in left_out}

    def changed_datasets(self) -> list[str]:
        """Name the datasets of a record that has ended whose rows are not those that were written; version 1 cannot tell."""
        with self._open() as file:
            if MARKS not in file or not _ended(file):
                return []
            marks: dict[str, list[int]] = {}
            file[MARKS].visititems(
                lambda name, item: marks.update({name: item[()].tolist()}) if isinstance(item, h5py.Dataset) else None
            )
            return [name for name, mark in marks.items() if _mark(file[name]) != mark]

    @property
    def last_epoch(self) -> int:
        """The last epoch that is recorded: 0 stands before training, -1 says that there is none yet."""
        with self._open() as file:
            epochs = self._columns(file, "epochs", ["epoch"])["epoch"]
            return int(epochs[-1]) if len(epochs) else -1

    @cached_property
    def length(self) -> RunLength:
        """How long the whole run is. Records of format version 1 do not say; there it is found from what they hold."""
        if self._length is not None:
            return self._length
        steps = self.epochs["step"]
        return self.config.length(int(steps[1] - steps[0]) if len(steps) > 1 else 0)

    @property
    def epochs(self) -> dict[str, NDArray[Any]]:
        """Metrics by name, each of shape (E,): epoch, step, {train,valid,test}_{loss,acc}, lr, train_seconds, eval_seconds.

        Losses are means per image, accuracies lie in [0, 1]; row 0 stands before training. All six are NaN at epochs that
        were not evaluated (EVALUATE_EVERY).
        """
        return self._axis("epochs")

    def of_epochs(self, *names: str) -> dict[str, NDArray[Any]]:
        """Return some of `epochs` by name; of hundreds of runs, that takes less time than all."""
        with self._open() as file:
            found = self._columns(file, "epochs", names)
            return {name: found[name] for name in names}

    @property
    def evaluations(self) -> dict[str, NDArray[Any]]:
        """The rows of `epochs` at which the network was evaluated: all, unless EVALUATE_EVERY leaves some out."""
        rows = self.epochs
        there = ~np.isnan(rows["test_acc"])
        return {name: values[there] for name, values in rows.items()}

    @property
    def batches(self) -> dict[str, NDArray[Any]]:
        """Training batches by name, each of shape (B,): step, loss, lr."""
        return self._axis("batches")

    @property
    def snapshot_steps(self) -> NDArray[np.int64]:
        """Steps of the snapshots, shape (T,): each stands before the update of its step, the last of a whole run after it."""
        return self.index("snapshots")["step"]

    def index(self, name: str) -> dict[str, NDArray[np.int64]]:
        """Return when rows were recorded: their `step`, and their `epoch` where they have one, each of shape (T,).

        Args:
            name: an axis, or a quantity: what was measured afterwards has rows of its own.
        """
        axis = name
        if name not in AXES:
            quantity = _find_quantity(name)
            axis = quantity.axis
            columns = {each: self._measured_afterwards(quantity, f"{axis}/{each}") for each in AXES[axis].index}
            if all(values is not None for values in columns.values()):
                return {each: values for each, values in columns.items() if values is not None}
        with self._open() as file:
            if axis not in file:
                return {column: np.empty(0, np.int64) for column in AXES[axis].index}
            return self._columns(file, axis, AXES[axis].index)

    def read(self, name: str, slot: str | None = None) -> NDArray[Any]:
        """Return a recorded quantity over the rows of its axis.

        Args:
            name: a key of `batchnorm.quantities.QUANTITIES`.
            slot: which slot's; none for a quantity of the whole run.

        Returns:
            Shape (T,), or (T, C) for a quantity that is recorded per channel; `index` tells the rows' steps.

        Raises:
            RunError: there is no such quantity, or this run has not recorded it.
        """
        quantity = _find_quantity(name)
        if quantity.derive is not None:
            return self._derived(quantity, slot)
        dataset = quantity.dataset_of(slot)
        if (afterwards := self._measured_afterwards(quantity, dataset)) is not None:
            return afterwards
        with self._open() as file:
            if dataset not in file:
                there = ", ".join(other for other in self.layers if quantity.dataset_of(other) in file) or "no slot"
                whose = f" of {slot}; {there} has one" if slot is not None else ""
                raise RunError(f"{self.directory}: has no {name.replace('_', ' ')}{whose}")
            found = file[dataset].id
            rows = found.shape[0] if self._ended_in(file) else common_rows(open_group(file, quantity.axis))
            return read_rows(found, rows, whole_file=is_whole(file))

    def has(self, name: str, slot: str | None = None) -> bool:
        """Say whether the run has a quantity, of a slot where it has slots: recorded, measured afterwards, or derived."""
        quantity = _find_quantity(name)
        if quantity.derive is not None:
            return self._has(quantity, slot)
        dataset = quantity.dataset_of(slot)
        with self._open() as file:
            return dataset in file or self._measured_afterwards(quantity, dataset) is not None

    def _measured_afterwards(self, quantity: Quantity, dataset: str) -> NDArray[Any] | None:
        """Return what was measured afterwards; None where nothing was, or where the run itself recorded it."""
        measured = RunDirectory(self.directory).measured
        if quantity.axis != "probes" or not measured.exists():
            return None
        with self._open() as file:
            if quantity.axis in file and any(quantity.dataset_of(slot) in file for slot in self.layers):
                return None
        with open_measured(measured) as file:
            found = f"{quantity.measurement}/{dataset}"
            return np.asarray(file[found][()]) if found in file else None

    def _derived(self, quantity: Quantity, slot: str | None) -> NDArray[Any]:
        """Return what follows from other quantities."""
        parts = {each.name: each.parts for each in self.slots}
        if slot in parts and not quantity.is_in(parts[slot]):
            raise RunError(f"{self.directory}: has no {quantity.name.replace('_', ' ')} of {slot}")

        def read(name: str) -> NDArray[Any]:
            if name in AXES[quantity.axis].index:
                return self.index(quantity.axis)[name]
            return self.read(name, None if QUANTITIES[name].per == "run" else slot)

        found: NDArray[Any] | None = quantity.derive(read) if quantity.derive else None
        if found is None:
            raise RunError(f"{self.directory}: has no {quantity.name.replace('_', ' ')} of {slot}: it never moves")
        return found

    def gamma(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's scale over the snapshots, shape (T, C).

        Raises:
            RunError: the slot has no gamma in this run.
        """
        return self.read("gamma", slot)

    def beta(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's shift over the snapshots, shape (T, C).

        Raises:
            RunError: the slot has no beta in this run.
        """
        return self.read("beta", slot)

    def bias(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's bias over the snapshots, shape (T, C).

        Raises:
            RunError: the slot has a norm in this run, or no bias.
        """
        return self.read("bias", slot)

    def running_mean(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's running mean per epoch, shape (E, C)."""
        return self.read("running_mean", slot)

    def running_var(self, slot: str) -> NDArray[np.float32]:
        """Return a slot's running variance per epoch, shape (E, C)."""
        return self.read("running_var", slot)

    def kept_epochs(self) -> dict[int, Path]:
        """Return the epochs at whose ends weights were kept (SAVE_EPOCHS), and where; a finished run's last one too."""
        directory = RunDirectory(self.directory)
        found = {int(path.stem.removeprefix("epoch_")): path for path in sorted(self.directory.glob("weights/epoch_*.pth"))}
        if directory.final_model.exists():
            found[self.length.epochs] = directory.final_model
        return found

    def network(self, epoch: int | None = None) -> nn.Module:
        """Return the run's network as it was at an epoch's end, the last one by default: on the CPU, in evaluation mode.

        Raises:
            UserError: no weights were kept there, the problem's file was edited, or the network cannot be built.
        """
        from batchnorm.assembly import load_network

        kept = self.kept_epochs()
        last = self.length.epochs if self.ended == Status.FINISHED else max(kept, default=self.length.epochs)
        chosen = last if epoch is None else epoch
        if chosen not in kept:
            raise self.lacks_weights(chosen)
        self.check_problem_file()
        return load_network(self.config, kept[chosen])

    def check_problem_file(self) -> None:
        """See that the problem's file is the one that the run was trained with: its weights say nothing of another network.

        Raises:
            RunError: it is another.
            ConfigError: it cannot be loaded.
        """
        there, here = self.fingerprint.get("PROBLEM_FILE", ""), find_problem(self.config.problem).source_digest
        if differing := differing_keys({"PROBLEM_FILE": there}, {"PROBLEM_FILE": here}):
            why = f"the file of PROBLEM={self.config.problem} has changed since the run was trained: {differing[0]}"
            raise RunError(f"{self.directory}: {why}; its weights need the file as it was")

    def lacks_weights(self, epoch: int) -> RunError:
        """Say that no weights of an epoch are there, and which are."""
        kept = ", ".join(map(str, sorted(self.kept_epochs()))) or "none"
        final = RunDirectory(self.directory).final_model.name
        gone = epoch == self.length.epochs and self.ended == Status.FINISHED
        why = f"{final} is not there, it was deleted" if gone else f"kept no weights of epoch {epoch}"
        return RunError(f"{self.directory}: {why}; kept: {kept} (SAVE_EPOCHS)")

    def slots_with(self, name: str) -> tuple[str, ...]:
        """Return the slots that have a quantity in this run, as `gamma` or `bias`, in the network's order."""
        quantity = _find_quantity(name)
        if quantity.derive is not None:
            return tuple(slot for slot in self.layers if self._has(quantity, slot))
        with self._open() as file:
            found = tuple(slot for slot in self.layers if quantity.dataset_of(slot) in file)
        if found or quantity.per == "run":
            return found
        there = {slot: self._measured_afterwards(quantity, quantity.dataset_of(slot)) for slot in self.layers}
        return tuple(slot for slot, values in there.items() if values is not None)

    def _has(self, quantity: Quantity, slot: str | None) -> bool:
        try:
            self._derived(quantity, slot)
        except RunError:
            return False
        return True

    def _axis(self, axis: str) -> dict[str, NDArray[Any]]:
        """Return the index of an axis and its quantities of the whole run, by the last part of their datasets' names."""
        names = [*index_datasets(axis), *(each.dataset for each in of_axis(axis) if each.per == "run")]
        with self._open() as file:
            return self._columns(file, axis, [name.rpartition("/")[2] for name in names])


def _mark(dataset: h5py.Dataset) -> list[int]:
    """Return the rows of a dataset and the CRC-32 of their bytes, as its writer counts them."""
    return [len(dataset), zlib.crc32(np.ascontiguousarray(read_rows(dataset.id, len(dataset))).data)]


def _ended(file: h5py.File) -> Status | None:
    return Status.recorded(int(read_number(file, STATUS)))


def _find_quantity(name: str) -> Quantity:
    if name not in QUANTITIES:
        raise RunError(f"{name}: no such quantity; {nearest_first(name, QUANTITIES)}")
    return QUANTITIES[name]


@dataclass(frozen=True)
class Standing:
    """How the run of a directory stands.

    Attributes:
        status: in one word.
        run: its record, if there is one that can be read and is this run's.
        reason: why it is unusable.
    """

    status: Status
    run: Run | None = None
    reason: str = ""

    def usable(self) -> Standing:
        """Return it.

        Raises:
            RunError: the directory holds another run, a damaged one, or one that cannot be read.
        """
        if self.status == Status.UNUSABLE:
            raise RunError(self.reason)
        return self


def stand(path: Path, fingerprint: Mapping[str, Any], *, claimed_here: bool = False) -> Standing:
    """Look how the run of a directory stands; nothing in it is changed.

    Args:
        path: the run directory.
        fingerprint: of the run that is meant; without images' digest these are not compared.
        claimed_here: this process has claimed the directory, so that no other is at it.
    """
    directory = RunDirectory(path)

    def unless_running(status: Status, *, run: Run | None = None, reason: str = "") -> Standing:
        return Standing(status if claimed_here else _unless_claimed(directory, status), run, reason)

    try:
        if not _exists(directory.record):
            return unless_running(Status.MISSING)
        with Run.opened(path) as run:
            check_same_run(run, fingerprint)
            ended = run.ended
    except RunError as error:  # one that is claimed may be on its way to a new record
        running = not claimed_here and directory.is_claimed()
        return Standing(Status.RUNNING if running else Status.UNUSABLE, reason=str(error))
    return Standing(ended, run) if ended else unless_running(Status.CUT_OFF, run=run)


def _unless_claimed(directory: RunDirectory, status: Status) -> Status:
    """Return a status that holds where no process is at the run; what its lock says takes its place."""
    return {False: status, True: Status.RUNNING, None: Status.UNKNOWN}[directory.is_claimed()]


def _exists(path: Path) -> bool:
    """Say whether there is such a file.

    Raises:
        RunError: that cannot be known.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise RunError(cannot_be_read(path, error)) from None
    return True


def check_same_run(run: Run, fingerprint: Mapping[str, Any]) -> None:
    """Hold a recorded run against the one that is asked for.

    Raises:
        RunError: they differ.
    """
    if differing := differing_keys(run.fingerprint, fingerprint):
        raise RunError(
            f"{run.directory}: holds another run: {'; '.join(differing)}; "
            "OUTPUT_DIR=... keeps both; OVERWRITE=true deletes that one and starts this one"
        )
