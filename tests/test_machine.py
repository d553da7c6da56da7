from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from batchnorm.config import RunConfig
from tests import command
from tests.conftest import arguments_of
from tests.test_training import assert_same_run

TRAIN = """\
import sys
from batchnorm import assembly, machine
from batchnorm.command import main

def plain():
    return False

def kept():
    assert machine.keep_freed_memory() or not sys.platform.startswith("linux")

assembly.keep_freed_memory = {way}
sys.exit(main(sys.argv[1:]))
"""


def test_keeping_freed_memory_changes_no_bit(configure: Callable[..., RunConfig], tmp_path: Path) -> None:
    """In processes of their own, since what is kept stays kept."""
    configs = []
    for way in ("plain", "kept"):
        config = configure(problem="mnist_2c2d_bn", max_steps=4, output_dir=f"{configure().output_dir}/{way}")
        code, printed = command.python(["-c", TRAIN.format(way=way), *arguments_of(config)], tmp_path / "printed")
        assert code == 0, printed
        configs.append(config)
    assert_same_run(configs[0].directory, configs[1].directory)
