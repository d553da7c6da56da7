"""What BatchNorm's parts do, in numbers with intervals: effects of slots and modes over seeds, tests, and plans for studies.

The statistics work on a pandas table with one row per run; `table_of` makes it from runs on disk. `docs/effects.md` explains
the numbers.
"""

from batchnorm.analysis.effects.confirmatory import Hypothesis, confirm
from batchnorm.analysis.effects.of_records import of_runs, table_of
from batchnorm.analysis.effects.plan import plan
from batchnorm.analysis.effects.reached import epochs_to
from batchnorm.analysis.effects.table import effects, readable

__all__ = ["Hypothesis", "confirm", "effects", "epochs_to", "of_runs", "plan", "readable", "table_of"]
