"""Image sets as uint8 arrays, read from disk. Importing this loads neither torch nor images."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from batchnorm.data.facts import IMAGE_SETS, ImageSet
from batchnorm.data.own import OwnImages
from batchnorm.errors import MISSING_HERE, DataError, cannot_be_read, is_out_of_memory, one_line


@dataclass(frozen=True)
class ImageArrays:
    """A whole image set in memory.

    Attributes:
        train_images, test_images: uint8, shape (N, channels, height, width).
        train_labels, test_labels: int64, shape (N,).
        digest: SHA-256 of all four; runs on other images are other runs.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    digest: str


def facts_of(image_set: str | OwnImages) -> ImageSet | OwnImages:
    """Return what is known of a problem's image set."""
    return IMAGE_SETS[image_set] if isinstance(image_set, str) else image_set


def name_of(image_set: str | OwnImages) -> str:
    """Return what messages call an image set that a problem names."""
    return image_set if isinstance(image_set, str) else image_set.path


def shape_of(image_set: str | OwnImages, root: Path) -> tuple[int, int, int]:
    """Return the channels, height and width of its images; a user's own are read where nothing else tells.

    Raises:
        DataError: they are absent, or not as said.
    """
    if isinstance(image_set, str):
        return IMAGE_SETS[image_set].shape
    if image_set.size is not None and not image_set.is_file:
        return (image_set.channels, *image_set.size)
    channels, height, width = image_set.read(root)[0].shape[1:]
    return channels, height, width


def has_files(image_set: str | OwnImages, root: Path) -> bool:
    """Say whether all files of an image set are in `root`, whatever is in them; it takes no time, and no torch."""
    paths = IMAGE_SETS[image_set].paths if isinstance(image_set, str) else (image_set.path,)
    return all((root / path).exists() for path in paths)


def load_image_set(image_set: str | OwnImages, root: Path) -> ImageArrays:
    """Read an image set from `root`, downloading it where it is absent.

    Args:
        image_set: a key of `IMAGE_SETS`, or a user's own images.
        root: where image sets are (OBS_DATASETS).

    Raises:
        DataError: it is absent and cannot be downloaded, or damaged.
    """
    if not isinstance(image_set, str):
        arrays = image_set.read(root)
    elif image_set == "digits":
        arrays = _read_digits()
    else:
        arrays = (*_read_torchvision(image_set, root, train=True), *_read_torchvision(image_set, root, train=False))
    for images, labels in (arrays[:2], arrays[2:]):
        if len(images) != len(labels) or not len(images):
            raise DataError(f"OBS_DATASETS={root}: {image_set} is damaged: {len(images)} images, {len(labels)} labels")
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.data)
    return ImageArrays(*arrays, digest=digest.hexdigest())


_NOT_THE_CONTENT = (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENAMETOOLONG)
"""Reading failed for a reason that does not lie in the files: they may be whole."""


def _read_torchvision(name: str, root: Path, *, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from torchvision import datasets

    readers: dict[str, Callable[[bool], Any]] = {
        "mnist": lambda download: datasets.MNIST(root, train=train, download=download),
        "fmnist": lambda download: datasets.FashionMNIST(root, train=train, download=download),
        "cifar10": lambda download: datasets.CIFAR10(root, train=train, download=download),
        "cifar100": lambda download: datasets.CIFAR100(root, train=train, download=download),
        "svhn": lambda download: datasets.SVHN(root, split="train" if train else "test", download=download),
    }
    read = readers[name]
    where = f"OBS_DATASETS={root}: {IMAGE_SETS[name].title}"
    put = f"put there {IMAGE_SETS[name].files}"
    try:
        try:
            images = read(False)
        except RuntimeError as absent:
            if "not found" not in str(absent).lower():
                raise
            _look_into(root, name)
            _download(read, root)
            images = read(False)
    except (OSError, RuntimeError, ModuleNotFoundError) as error:
        if is_out_of_memory(error):
            raise
        if isinstance(error, OSError) and error.errno in _NOT_THE_CONTENT:
            raise DataError(f"{where}: {cannot_be_read(Path(error.filename or root), error)}") from None
        raise DataError(f"{where} is absent or damaged, and cannot be downloaded ({one_line(error)}); {put}") from None
    except (ValueError, AssertionError, EOFError, KeyError, TypeError, IndexError, pickle.UnpicklingError) as error:
        raise DataError(f"{where} is damaged ({one_line(error)}); {put} again") from None
    labels = images.labels if name == "svhn" else images.targets
    pixels = np.asarray(images.data, dtype=np.uint8)
    if name.startswith("cifar"):
        pixels = pixels.transpose(0, 3, 1, 2)
    elif name.endswith("mnist"):
        pixels = pixels[:, None]
    return np.ascontiguousarray(pixels), np.asarray(labels, dtype=np.int64)


def _look_into(root: Path, name: str) -> None:
    """See that files which torchvision does not find are not merely out of its reach.

    Raises:
        OSError: their folder cannot be looked into.
    """

    def fail(error: OSError) -> None:
        raise error

    first = root / IMAGE_SETS[name].files.split("/")[0]
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        first.stat()
        for folder, _, _ in os.walk(first, onerror=fail):
            if not os.access(folder, os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


def _download(read: Callable[[bool], Any], root: Path) -> None:
    """Let torchvision download, one process at a time, and leave no empty folders behind where it cannot."""
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    before = set(root.rglob("*"))
    lock = root / ".download.lock"
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            try:
                stack.enter_context(FileLock(lock))
            except OSError as error:
                if error.errno not in MISSING_HERE:  # without locks two processes may download at once
                    raise
            read(True)
    finally:
        lock.unlink(missing_ok=True)
        new = sorted(set(root.rglob("*")) - before, reverse=True)
        for folder in (*new, *made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Read scikit-learn's 1,797 digits, resized from 8x8 to 28x28; each sixth is a test image."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.stack([np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BILINEAR)) for image in small])
    test = np.arange(len(images)) % 6 == 5
    labels = digits.target.astype(np.int64)
    return images[~test][:, None], labels[~test], images[test][:, None], labels[test]
