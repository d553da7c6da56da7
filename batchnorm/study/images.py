"""The images that a study's runs need: whether they are there, and fetching them once, before the runs begin.

Where they must be read or downloaded, a process of its own does it: torch is loaded there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from batchnorm.data.facts import IMAGE_SETS
from batchnorm.data.own import OwnImages
from batchnorm.data.sources import facts_of, has_files
from batchnorm.errors import DataError
from batchnorm.problems import find_problem
from batchnorm.study.grid import StudyRun

_READ = """\
import json, sys; sys.path[:] = {path!r}
from pathlib import Path
from batchnorm.data.facts import Augmentation
from batchnorm.data.own import OwnImages
from batchnorm.data.sources import load_image_set
from batchnorm.errors import DataError
try:
    arrays = load_image_set({image_set!r}, Path({root!r}))
    print(json.dumps({{"train": len(arrays.train_labels), "test": len(arrays.test_labels)}}))
except DataError as error:
    print(json.dumps({{"error": str(error)}}))"""


@dataclass(frozen=True)
class Images:
    """An image set, and where it is kept: OBS_DATASETS."""

    image_set: str | OwnImages
    root: str

    def __str__(self) -> str:
        """Name it in a message."""
        return f"{facts_of(self.image_set).title} in OBS_DATASETS={self.root}"

    @property
    def are_there(self) -> bool:
        """Whether all of its files are there, whatever is in them."""
        return has_files(self.image_set, Path(self.root))

    def fetch(self) -> tuple[int, int]:
        """Read it in a process of its own, and download it where it is absent.

        Returns:
            How many training and test images there are.

        Raises:
            DataError: it is absent and cannot be downloaded, or damaged, or cannot be read.
        """
        code = _READ.format(path=sys.path, image_set=self.image_set, root=self.root)
        errors = None if sys.stderr.isatty() else subprocess.PIPE  # a terminal shows how far a download is
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace")
        if done.returncode:
            last = (done.stderr or "").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise DataError(f"{self}: reading it failed: {last[0]}")
        told = json.loads(done.stdout.splitlines()[-1])
        if "error" in told:
            raise DataError(told["error"])
        return told["train"], told["test"]


def images_of(runs: Iterable[StudyRun]) -> list[Images]:
    """Return the image sets of some runs, each once."""
    return list(dict.fromkeys(Images(find_problem(run.config.problem).image_set, run.config.obs_datasets) for run in runs))


def fetch_absent(runs: Iterable[StudyRun]) -> None:
    """Download what is absent of the images of some runs; what is there is not read.

    Raises:
        DataError: an image set is absent and cannot be downloaded.
    """
    for images in images_of(runs):
        if not images.are_there:
            print(f"fetching {images}", flush=True)
            images.fetch()


def check_images(runs: Iterable[StudyRun]) -> None:
    """See that the images of some runs are there; nothing is downloaded.

    Raises:
        DataError: an image set is absent.
    """
    for images in images_of(runs):
        if not images.are_there:
            where = f"OBS_DATASETS={images.root}: {facts_of(images.image_set).title} is absent"
            if not isinstance(images.image_set, str):
                raise DataError(where)
            files = IMAGE_SETS[images.image_set].files
            raise DataError(f"{where}; put there {files}, or have it downloaded: study prefetch STUDY.yaml")
