"""The record of a run, its files and how it stands; the names inside them are known here and nowhere else. No torch here.

`layout` says which datasets there are, `hdf5` survives crashes and full disks, `writer` writes, `run` reads, `directory`
names files, and `claim` keeps a second process out.
"""

from batchnorm.config import RunLength
from batchnorm.store.directory import RunDirectory
from batchnorm.store.hdf5 import sync
from batchnorm.store.layout import SlotParts
from batchnorm.store.run import Run, Standing, stand
from batchnorm.store.status import Status
from batchnorm.store.writer import Mark, RunWriter

__all__ = ["Mark", "Run", "RunDirectory", "RunLength", "RunWriter", "SlotParts", "Standing", "Status", "stand", "sync"]
