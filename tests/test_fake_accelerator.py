from __future__ import annotations

from pathlib import Path

from batchnorm.optim import OPTIMIZERS
from tests import command
from tests.fake_accelerator import SLOT_KEYS, networks


def test_a_step_makes_no_host_wait_and_leaves_nothing_on_the_host(tmp_path: Path) -> None:
    """In a process of its own, which the fake accelerator changes for good."""
    code, printed = command.python(["-m", "tests.fake_accelerator", str(tmp_path)], tmp_path / "printed")
    assert code == 0, printed
    lines = printed.splitlines()
    checked = {tuple(line.split()[1:]) for line in lines if line.startswith("checked")}
    assert checked >= {(problem, "SGD", precision) for problem in networks() for precision in ("fp32", "bf16")}
    assert checked >= {("cifar10_3c3d_bn", optimizer, "fp32") for optimizer in OPTIMIZERS}
    assert checked >= {("cifar10_3c3d_bn", "NAG", "bf16", *keys) for keys in SLOT_KEYS}
    assert sum(line.startswith("noticed") for line in lines) == 6
    assert not [line for line in lines if line.startswith("MISSED")]
