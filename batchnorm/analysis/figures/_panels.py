"""What several figures share: which slots and references they show, and what panels and lines are called. Draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from batchnorm.analysis.narrowing import options_for
from batchnorm.analysis.runs import Group, is_full, is_vanilla, progress_mark, require_common_step, setting_note
from batchnorm.analysis.variants import row_of
from batchnorm.errors import RunError, nearest_first, wrong_argument
from batchnorm.modes import Mode, format_mask
from batchnorm.quantities import PARAMETERS, QUANTITIES
from batchnorm.store import Run

SCALES = tuple(name for name in PARAMETERS if QUANTITIES[name].neutral == 1)
"""What multiplies a slot's activations."""
SHIFTS = tuple(name for name in PARAMETERS if QUANTITIES[name].neutral == 0)
"""What is added to them: under a norm one parameter, without a norm another."""


def first_of(names: Sequence[str], runs: Sequence[Run], slot: str) -> str | None:
    """Return the first quantity that a slot has in all runs; None where it has none."""
    return next((name for name in names if all(slot in run.slots_with(name) for run in runs)), None)


def chosen_slots(having: Sequence[str], slots: Sequence[str] | None) -> list[str]:
    """Return the slots that are drawn, in the network's order.

    Raises:
        RunError: one of those asked for is not there.
    """
    for slot in slots or ():
        if slot not in having:
            raise wrong_argument("slots", slot, f"no such slot here; {nearest_first(slot, having)}")
    return [slot for slot in having if slots is None or slot in slots]


def references(runs: Sequence[Run]) -> tuple[Run, Run, list[Run]]:
    """Return the vanilla run, the run of full BatchNorm, and those compared with them: of another mask, or else the full one.

    Raises:
        RunError: a reference is missing, or there are several.
    """
    partial = [run for run in runs if any(run.mask) and not all(run.mask)] or [run for run in runs if all(run.mask)]
    return only(runs, is_vanilla, "vanilla"), only(runs, is_full, "full BatchNorm"), partial


def only(runs: Sequence[Run], is_meant: Callable[[Run], bool], name: str) -> Run:
    """Return the one run that is meant.

    Raises:
        RunError: there is none, or more than one.
    """
    found = [run for run in runs if is_meant(run)]
    if not found:
        raise RunError(f"{runs[0].directory}: no run of {name} is among the {len(runs)} given")
    if len(found) > 1:
        differing = "seed" if found[0].settings == found[1].settings and found[0].mask == found[1].mask else "mask or setting"
        what = f"{found[1].directory}: is a second run of {name}, of another {differing}; choose one "
        options = options_for(runs, lambda some: sum(map(is_meant, some)) == 1) or "by --seed, --mask, ..."
        raise RunError(f"{what}by --seed, --mask, ...", in_shell=what + options)
    return found[0]


def require_common_epochs(runs: Sequence[Run]) -> None:
    """Check that there is an epoch's end at which runs can be compared.

    Raises:
        RunError: there is none.
    """
    require_common_step(runs, [run.index("epochs")["step"] for run in runs])


def line_label(row: Mode, group: Group, groups: Sequence[Group], *, shared: bool = False) -> str:
    """Name a line in a legend; where panels share the legend, what holds for one run only is left out."""
    notes = [setting_note(group, groups)] + ([] if shared else [group.mark])
    shown = "; ".join(note for note in notes if note)
    return f"{row.label} ({shown})" if shown else row.label


def in_words(run: Run, *, label: bool = True, norm: str | None = None) -> str:
    """Say which mode and mask a run has; `label` takes Greek letters, for figures; `norm` stands for the run's own."""
    row = row_of(run.mode, norm or run.config.norm)
    name = row.label if label else row.title
    return f"{name}, mask {format_mask(run.mask)}" if any(run.mask) else name


def mark(run: Run) -> list[str]:
    """Return what a title says of an unfinished run."""
    progress = progress_mark(run)
    return [f"({progress})"] if progress else []
