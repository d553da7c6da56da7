"""Holds a record against every law that its settings make exact (`batchnorm.measurements.laws`)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from batchnorm.analysis.runs import read_each
from batchnorm.analysis.shell import Answer, Command, chosen_paths
from batchnorm.config import RunConfig
from batchnorm.errors import ExitCode
from batchnorm.measurements import laws
from batchnorm.measurements.laws import Facts, RecordArrays, Verdict
from batchnorm.modes import UNIFORM, Affine
from batchnorm.quantities import METRICS
from batchnorm.store import Run, SlotParts, Status

NAMES = {
    1: "fixed is fixed",
    2: "blind to the scale of the weights",
    3: "the squares of an update add up",
    4: "the norm of (gamma, beta) never falls",
    5: "the record adds up",
}


@dataclass(frozen=True)
class Finding:
    """What one law says of one thing of a run: of the whole record, or of a slot or its gamma or beta."""

    run: Run
    what: str
    verdict: Verdict


def check(run: Run) -> list[Finding]:
    """Hold a run's record against all laws.

    Raises:
        RunError: the record cannot be read.
    """
    changed = run.changed_datasets()
    standing = laws.Standing.BROKEN if changed else laws.Standing.KEPT
    where = f"not what was written: {', '.join(changed)}" if changed else ""
    found = [
        Finding(run, "record", laws.record_adds_up(_record(run))),
        Finding(run, "bytes", Verdict(5, standing, len(changed), where)),
    ]
    last = None if run.ended != Status.DIVERGED else -1  # of a run that diverged, the last rows may be anything
    for slot, treatment in zip(run.layers, run.config.treatments, strict=True):
        found += _of_parameters(run, slot, {"gamma": treatment.gamma, "beta": treatment.beta})
        facts = _facts(run, slot)
        if facts is None:
            why = "the record is of format version 1, which does not say what feeds the slot"
            found += [Finding(run, slot, Verdict(law, laws.Standing.DOES_NOT_APPLY, np.nan, why)) for law in (2, 3, 4)]
            continue
        found += [Finding(run, slot, verdict) for verdict in _of_updates(run, slot, facts, last)]
        if slot in run.slots_with("affine_norm"):
            norm, steps = run.read("affine_norm", slot)[:last], run.snapshot_steps[:last]
            found.append(Finding(run, slot, laws.affine_norm_never_falls(norm, steps, facts)))
    return found


def _of_parameters(run: Run, slot: str, parameters: dict[str, Affine | None]) -> Iterator[Finding]:
    """Law 1 of gamma and beta."""
    for name, affine in parameters.items():
        if affine is not None and slot in run.slots_with(name):
            values, steps = run.read(name, slot), run.snapshot_steps
            start = values[0] if affine.value == UNIFORM and len(values) else affine.value
            verdict = laws.fixed_is_fixed(values, start, steps, trained=affine.trained)
            yield Finding(run, f"{name} of {slot}", verdict)


def _of_updates(run: Run, slot: str, facts: Facts, last: int | None) -> Iterator[Verdict]:
    """Laws 2 and 3, where updates were measured."""
    if slot not in run.slots_with("weight_squared"):
        why = "no update of its weights was measured (MEASURE=none, or no layer alone feeds it)"
        yield from (Verdict(law, laws.Standing.DOES_NOT_APPLY, np.nan, why) for law in (2, 3))
        return
    names = ("weight_squared", "gradient_squared", "weight_gradient", "updated_squared")
    sums = {name: run.read(name, slot)[:last] for name in names}
    steps, rates = run.index("updates")["step"][:last], run.read("update_lr")[:last]
    inner = run.read("channel_inner", slot)[:last]
    eps = run.read("channel_eps", slot)[:last] if slot in run.slots_with("channel_eps") else None
    weight, gradient = np.sqrt(sums["weight_squared"]), np.sqrt(sums["gradient_squared"])
    yield laws.blind_to_scale(inner, eps, weight, gradient, steps, facts)
    weights = next(parts.weights for parts in run.slots if parts.name == slot)
    yield laws.squares_add_up(sums, rates, steps, facts, weights=weights)


def _facts(run: Run, slot: str) -> Facts | None:
    """Return what decides which law is exact; None where the record does not say."""
    known = {parts.name: parts for parts in run.slots}
    if slot not in known:
        return None
    config, parts = run.config, known[slot]
    consumer = known.get(parts.consumer or "")
    treatment = config.treatments[run.layers.index(slot)]
    return Facts(
        plain_sgd=config.optimizer == "SGD",
        fp32=config.precision == "fp32",
        l2_on_weights=config.l2_reg,
        l2_on_affine=config.l2_affine,
        normalised=_uses_batch_statistics(parts, config),
        own_layer=parts.layer is not None,
        trains_gamma=treatment.gamma is not None and treatment.gamma.trained,
        trains_beta=treatment.beta is not None and treatment.beta.trained,
        beta_at_zero=treatment.beta is None or treatment.beta.value == 0,
        consumer_normalised=consumer is not None and _uses_batch_statistics(consumer, config),
        homogeneous=parts.homogeneous,
        ghost="ghost" in parts.parts,
        after="activation" in parts.parts,
    )


def _uses_batch_statistics(parts: SlotParts, config: RunConfig) -> bool:
    return {"norm", "running_var"} <= parts.parts and config.freeze_stats_after is None


def _record(run: Run) -> RecordArrays:
    """Return what law 5 reads."""
    epochs, batches = run.epochs, run.batches
    status = run.ended
    return RecordArrays(
        snapshot_steps=run.snapshot_steps,
        batch_steps=batches["step"],
        batch_losses=batches["loss"],
        epochs=epochs["epoch"],
        epoch_steps=epochs["step"],
        metrics={name: epochs[name] for name in METRICS},
        running_variances={slot: run.running_var(slot) for slot in run.slots_with("running_var")},
        steps_per_epoch=run.length.steps_per_epoch,
        total_steps=run.length.steps,
        finished=status == Status.FINISHED,
        diverged=status == Status.DIVERGED,
    )


def _run(given: argparse.Namespace) -> Answer:
    lines, broken = [], 0
    for run, findings in read_each(chosen_paths(given), check):
        shown = [each for each in findings if given.all or each.verdict.standing != laws.Standing.DOES_NOT_APPLY]
        lines += [f"{run.directory}:", *(f"  {_line(each)}" for each in shown)]
        if left_out := len(findings) - len(shown):
            lines.append(f"  {left_out} more do not apply; --all says why")
        broken += sum(each.verdict.standing == laws.Standing.BROKEN for each in findings)
    lines += [f"{broken} broken"] if broken else []
    return Answer("\n".join([*lines, ""]), ExitCode.FAILED if broken else ExitCode.FINISHED)


def _line(finding: Finding) -> str:
    verdict = finding.verdict
    worst = "" if np.isnan(verdict.worst) else f"worst {verdict.worst:.2g}, "
    where = f"{worst}{verdict.where}".removesuffix(", ")
    text = f"{verdict.law} {NAMES[verdict.law]:<38} {finding.what:<18} {verdict.standing.value:<15} {where}"
    return text.rstrip()


COMMAND = Command(
    "laws",
    "hold records against the laws that their settings make exact; exit code 1 where one is broken",
    "output --problem fmnist_2c2d_bn",
    _run,
    {"--all": {"action": "store_true", "help": "those that do not apply too, and why"}},
    draws=False,
)
