"""What is known of each image set: sizes, normalisation, augmentation. Plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


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
        return size_in_words(self.shape)


def size_in_words(shape: Sequence[int]) -> str:
    """Write channels, height and width of an image as `1 x 28 x 28`."""
    return " x ".join(map(str, shape))


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
