"""Image sets as uint8 arrays: what is known of each, and how it is read. Importing this loads neither torch nor images."""

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

from batchnorm.errors import MISSING_HERE, DataError, cannot_be_read, is_out_of_memory, one_line


@dataclass(frozen=True)
class Augmentation:
    """How DeepOBS changes training images: a random crop from the zero-padded image, a flip, jittered colours."""

    padding: int
    flip: bool
    brightness: tuple[float, float]
    contrast: tuple[float, float]
    saturation: tuple[float, float]


_JITTER: dict[str, Any] = {
    "brightness": (1 - 63 / 255, 1 + 63 / 255),
    "contrast": (0.2, 1.8),
    "saturation": (0.5, 1.5),
}


@dataclass(frozen=True)
class ImageSet:
    """An image set's facts, after DeepOBS's data sets.

    Attributes:
        title: as papers write it.
        shape: channels, height and width of an image.
        classes: how many classes its labels tell apart.
        training_images: how many there are, before validation images are split off.
        evaluation_images: how many validation images are split off, and how many training images train-eval draws.
        mean, std: per channel, of images scaled to [0, 1]; None leaves them there.
        augmentation: what happens to training images, if anything.
        files: what must be where under OBS_DATASETS, for a message.
        paths: these files.
    """

    title: str
    shape: tuple[int, int, int]
    classes: int
    training_images: int
    evaluation_images: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    augmentation: Augmentation | None
    files: str
    paths: tuple[str, ...] = ()

    @property
    def size(self) -> str:
        """An image's size in words, `1 x 28 x 28`: channels, height and width."""
        return " x ".join(map(str, self.shape))


def _idx_files(folder: str) -> tuple[str, ...]:
    return tuple(f"{folder}/raw/{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)
IMAGE_SETS: dict[str, ImageSet] = {
    "mnist": ImageSet(
        "MNIST",
        _GREY,
        10,
        60_000,
        10_000,
        None,
        None,
        None,
        "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte (unpacked)",
        _idx_files("MNIST"),
    ),
    "fmnist": ImageSet(
        "Fashion-MNIST",
        _GREY,
        10,
        60_000,
        10_000,
        None,
        None,
        None,
        "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte (unpacked; Debian's package dataset-fashion-mnist "
        "has them packed in /usr/share/datasets/fashion-mnist)",
        _idx_files("FashionMNIST"),
    ),
    "cifar10": ImageSet(
        "CIFAR-10",
        _COLOUR,
        10,
        50_000,
        10_000,
        (0.49139968, 0.48215841, 0.44653091),
        (0.24703223, 0.24348513, 0.26158784),
        Augmentation(padding=2, flip=True, **_JITTER),
        "cifar-10-batches-py/ (cifar-10-python.tar.gz, unpacked)",
        (
            *(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)),
            "cifar-10-batches-py/test_batch",
            "cifar-10-batches-py/batches.meta",
        ),
    ),
    "cifar100": ImageSet(
        "CIFAR-100",
        _COLOUR,
        100,
        50_000,
        10_000,
        (0.50707516, 0.48654887, 0.44091784),
        (0.26733429, 0.25643846, 0.27615047),
        Augmentation(padding=2, flip=True, **_JITTER),
        "cifar-100-python/ (cifar-100-python.tar.gz, unpacked)",
        ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"),
    ),
    "svhn": ImageSet(
        "SVHN",
        _COLOUR,
        10,
        73_257,
        26_032,
        (0.4376821, 0.4437697, 0.47280442),
        (0.19803012, 0.20101562, 0.19703614),
        Augmentation(padding=2, flip=False, **_JITTER),
        "train_32x32.mat and test_32x32.mat",
        ("train_32x32.mat", "test_32x32.mat"),
    ),
    "digits": ImageSet("digits", _GREY, 10, 1_498, 10_000, None, None, None, "nothing: they come with scikit-learn"),
}


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


def has_files(name: str, root: Path) -> bool:
    """Say whether all files of an image set are in `root`, whatever is in them; it takes no time, and no torch."""
    return all((root / path).exists() for path in IMAGE_SETS[name].paths)


def load_image_set(name: str, root: Path) -> ImageArrays:
    """Read an image set from `root`, downloading it where it is absent.

    Args:
        name: a key of `IMAGE_SETS`.
        root: where image sets are (OBS_DATASETS).

    Raises:
        DataError: it is absent and cannot be downloaded, or damaged.
    """
    if name == "digits":
        arrays = _read_digits()
    else:
        arrays = (*_read_torchvision(name, root, train=True), *_read_torchvision(name, root, train=False))
    for images, labels in (arrays[:2], arrays[2:]):
        if len(images) != len(labels) or not len(images):
            raise DataError(f"OBS_DATASETS={root}: {name} is damaged: {len(images)} images, {len(labels)} labels")
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
