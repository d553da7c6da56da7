"""Measures runs afterwards, from the weights that they kept, as a run with MEASURE does beside its evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from batchnorm.assembly import assemble, load_weights_
from batchnorm.errors import RunError, one_line
from batchnorm.quantities import chosen
from batchnorm.recording import probe_values
from batchnorm.store import Run, RunDirectory, SlotParts
from batchnorm.store.measured import write_measured


def measure(run: Run, measurements: Sequence[str], epochs: Iterable[int] | None = None) -> Path:
    """Make measurements at the ends of a run's epochs, write them beside its record, and return the file.

    Args:
        run: the run; its images and its problem's file must be where they were, and be the same.
        measurements: names of probes.
        epochs: at which ends; by default all whose weights were kept.

    Raises:
        UserError: an epoch's weights were not kept or cannot be read, the problem's file or the images are absent or others,
            or the file cannot be written.
    """
    kept = run.kept_epochs()
    wanted = sorted(kept if epochs is None else set(epochs))
    if missing := [epoch for epoch in wanted if epoch not in kept] or ([] if wanted else [run.length.epochs]):
        raise run.lacks_weights(missing[0])
    run.check_problem_file()
    training = assemble(replace(run.config, compile=False))
    if training.batches.digest != run.fingerprint.get("images", training.batches.digest):
        raise RunError(f"{run.directory}: was trained on other images than those in OBS_DATASETS={run.config.obs_datasets}")
    rates = dict(zip(run.epochs["epoch"].tolist(), run.epochs["lr"].tolist(), strict=True))
    steps = dict(zip(run.epochs["epoch"].tolist(), run.epochs["step"].tolist(), strict=True))
    directory = RunDirectory(run.directory)
    slots = [SlotParts(slot.name, slot.channels, slot.parts) for slot in training.slots]
    for measurement in measurements:
        quantities = [quantity for quantity in chosen([measurement]) if quantity.measurement == measurement]
        rows: dict[str, list[np.ndarray]] = {}
        for epoch in wanted:
            load_weights_(training.net, kept[epoch])
            training.begin_epoch(epoch)
            probe = training.probe(step=steps[epoch], lr=rates[epoch])
            found = {"epoch": np.array([epoch]), "step": np.array([steps[epoch]]), **probe_values(quantities, probe)}
            for key, values in found.items():
                rows.setdefault(key, []).append(values)
        joined = {key: np.concatenate(values) for key, values in rows.items()}
        try:
            write_measured(directory.measured, measurement, quantities, slots, joined)
        except OSError as error:
            raise RunError(f"{directory.measured}: cannot be written: {error.strerror or one_line(error)}") from None
    return directory.measured
