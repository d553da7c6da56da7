"""What is known of each image set: sizes, normalisation, augmentation. Plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchnorm.errors import ConfigError


@dataclass(frozen=True)
class Augmentation:
    """How DeepOBS changes training images: a random crop from the zero-padded image, a flip, jittered colours.

    Saturation leaves grey images as they are.

    Attributes:
        padding: zeros around an image, out of which its crop is taken.
        flip: whether each second image, at random, is mirrored.
        brightness, contrast, saturation: the least and the largest factor; 1 changes nothing.

    Raises:
        ConfigError: a value cannot be.
    """

    padding: int
    flip: bool
    brightness: tuple[float, float]
    contrast: tuple[float, float]
    saturation: tuple[float, float]

    def __post_init__(self) -> None:
        """Check the values, and keep ranges as plain numbers."""
        if not is_whole(self.padding, least=0):
            raise ConfigError(f"Augmentation: padding={self.padding}: must be an integer >= 0")
        for name in ("brightness", "contrast", "saturation"):
            given = getattr(self, name)
            factors = plain_numbers(given)
            if factors is None or len(factors) != 2 or not 0 <= factors[0] <= factors[1]:
                raise ConfigError(f"Augmentation: {name}={given}: must be two rising numbers >= 0, as (0.8, 1.2)")
            object.__setattr__(self, name, factors)


def is_whole(value: object, *, least: int) -> bool:
    """Say whether a value is an integer that is not below the least one."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def plain_numbers(values: Any) -> tuple[float, ...] | None:
    """Return a sequence of finite numbers, numpy's too, as Python's; None where it is none."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


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
        files: what must be where under OBS_DATASETS, for a message.
        paths: these files.
        mean, std: per channel, of images scaled to [0, 1]; None leaves them there.
        augmentation: what happens to training images, if anything.
    """

    title: str
    shape: tuple[int, int, int]
    classes: int
    training_images: int
    evaluation_images: int
    files: str
    paths: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augmentation: Augmentation | None = None

    @property
    def size(self) -> str:
        """An image's size in words, `1 x 28 x 28`: channels, height and width."""
        return size_in_words(self.shape)


def size_in_words(shape: Sequence[int]) -> str:
    """Write channels, height and width of an image as `1 x 28 x 28`."""
    return " x ".join(map(str, shape))


_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)


def _of_mnists_kind(title: str, folder: str, more: str = "") -> ImageSet:
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return ImageSet(
        title,
        _GREY,
        classes=10,
        training_images=60_000,
        evaluation_images=10_000,
        files=f"{folder}/raw/{{train,t10k}}-{{images-idx3,labels-idx1}}-ubyte (unpacked{more})",
        paths=tuple(f"{folder}/raw/{name}" for name in names),
    )


def _of_cifars_kind(title: str, folder: str, parts: tuple[str, ...], **facts: Any) -> ImageSet:
    return ImageSet(
        title,
        _COLOUR,
        training_images=50_000,
        evaluation_images=10_000,
        augmentation=Augmentation(padding=2, flip=True, **_JITTER),
        paths=tuple(f"{folder}/{part}" for part in parts),
        **facts,
    )


IMAGE_SETS: dict[str, ImageSet] = {
    "mnist": _of_mnists_kind("MNIST", "MNIST"),
    "fmnist": _of_mnists_kind(
        "Fashion-MNIST",
        "FashionMNIST",
        "; Debian's package dataset-fashion-mnist has them packed in /usr/share/datasets/fashion-mnist",
    ),
    "cifar10": _of_cifars_kind(
        "CIFAR-10",
        "cifar-10-batches-py",
        (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        classes=10,
        mean=(0.49139968, 0.48215841, 0.44653091),
        std=(0.24703223, 0.24348513, 0.26158784),
        files="cifar-10-batches-py/ (cifar-10-python.tar.gz, unpacked)",
    ),
    "cifar100": _of_cifars_kind(
        "CIFAR-100",
        "cifar-100-python",
        ("train", "test", "meta"),
        classes=100,
        mean=(0.50707516, 0.48654887, 0.44091784),
        std=(0.26733429, 0.25643846, 0.27615047),
        files="cifar-100-python/ (cifar-100-python.tar.gz, unpacked)",
    ),
    "svhn": ImageSet(
        "SVHN",
        _COLOUR,
        classes=10,
        training_images=73_257,
        evaluation_images=26_032,
        mean=(0.4376821, 0.4437697, 0.47280442),
        std=(0.19803012, 0.20101562, 0.19703614),
        augmentation=Augmentation(padding=2, flip=False, **_JITTER),
        files="train_32x32.mat and test_32x32.mat",
        paths=("train_32x32.mat", "test_32x32.mat"),
    ),
    "digits": ImageSet(
        "digits",
        _GREY,
        classes=10,
        training_images=1_498,
        evaluation_images=10_000,
        files="nothing: they come with scikit-learn",
    ),
}
