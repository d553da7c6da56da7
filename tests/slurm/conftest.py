"""One cluster for all of its tests, and a repository of its own for each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ready import ready
from tests.slurm.cluster import Cluster, why_not

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start the cluster; required in CI, elsewhere skipped where it cannot be."""
    if reason := why_not():
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    started = Cluster.start(tmp_path_factory.mktemp("slurm"))
    python = str(Path(sys.executable).parent)
    started.environment = {**started.environment, "PATH": f"{python}:{started.environment['PATH']}", "PYTHONPATH": str(ROOT)}
    started.environment = ready(started.environment)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a folder that looks like the repository's root, so that logs and runs stay out of the real one."""
    for name in ("batchnorm", "configs", "sbatch", "run_trainingLoop.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "output" / "slurm").mkdir(parents=True)
    return tmp_path
