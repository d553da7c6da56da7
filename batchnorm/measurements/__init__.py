"""What explains a training, one measurement a file: pure functions of arrays or of a network and its images.

They know no files, runs or configurations; what is recorded of them, the rows of `batchnorm.quantities` say. Those over
snapshots and the laws need numpy alone; those over weights and the probes need torch, and are imported by who calls them.
"""

from collections.abc import Callable
from typing import Any

Read = Callable[[str], Any]
"""Returns the recorded values of a quantity, or of an index (`step`, `epoch`), over its axis: of one slot, or of the run."""
