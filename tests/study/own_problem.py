"""A problem in a file of a user's own, with its entry in a tuning file of their own."""

from __future__ import annotations

from pathlib import Path

PROBLEM = """\
from collections import OrderedDict

from batchnorm.problems import register_problem


@register_problem(image_set="digits", classes=10, slots=("dense1", "dense2"))
def tiny():
    from torch import nn

    layers = {"flat": nn.Flatten(), "dense1": nn.Linear(784, 16), "relu1": nn.ReLU()}
    layers |= {"dense2": nn.Linear(16, 16), "relu2": nn.ReLU(), "out": nn.Linear(16, 10)}
    return nn.Sequential(OrderedDict(layers))
"""
TUNING = """\
tiny: {batch_size: 32, num_epochs: 1, SGD: {lr_schedule: null, opt_hpars: {lr: 0.1}}}
digits_2c2d_bn: {batch_size: 64, num_epochs: 2, SGD: {lr_schedule: null, opt_hpars: {lr: 0.2}}}
"""


def write_own_problem(folder: Path, *, shown: str = "") -> str:
    """Write both files, and return the keys of a study that takes them from the folder `shown`, or from where they are."""
    (folder / "own.py").write_text(PROBLEM)
    (folder / "own.yaml").write_text(TUNING)
    return f"PROBLEM: {shown or folder}/own.py:tiny\nTUNING_CONF: {shown or folder}/own.yaml\n"
