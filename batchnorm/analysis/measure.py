"""The command that measures runs afterwards, from the weights that they kept: the one of the analysis that loads torch."""

from __future__ import annotations

import argparse

from batchnorm.analysis.runs import read_each
from batchnorm.analysis.shell import Command, chosen_paths
from batchnorm.errors import RunError, nearest_first
from batchnorm.quantities import RECORDED

PROBES = tuple(dict.fromkeys(quantity.measurement for quantity in RECORDED if quantity.axis == "probes"))
"""What can be measured afterwards."""


def _run(given: argparse.Namespace) -> str:
    for name in given.what:
        if name not in PROBES:
            raise RunError(f"--what {name}: no such measurement; {nearest_first(name, PROBES)}")
    from batchnorm.measuring import measure

    done = read_each(chosen_paths(given), lambda run: measure(run, given.what, given.epoch))
    return "".join(f"{file}\n" for _, file in done)


COMMAND = Command(
    "measure",
    "measure networks afterwards, from the weights that SAVE_EPOCHS kept and the final ones",
    "output --mask all --what statistics_gap sharpness",
    _run,
    {
        "--what": {"nargs": "+", "required": True, "metavar": "NAME", "help": ", ".join(PROBES)},
        "--epoch": {"nargs": "+", "type": int, "metavar": "N", "help": "at the ends of these epochs (default: all kept)"},
    },
    draws=False,
)
