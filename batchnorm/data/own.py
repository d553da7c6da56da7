"""A user's own images: a folder of image files, or arrays in an `.npz` file. Loads neither torch nor images when imported."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from batchnorm.data.facts import Augmentation, is_whole, plain_numbers
from batchnorm.errors import ConfigError, DataError, cannot_be_read, is_out_of_memory, one_line

if TYPE_CHECKING:
    from PIL.Image import Image
    from torchvision.datasets import ImageFolder

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]
"""Training images, uint8, shape (N, channels, height, width), their labels, int64, shape (N,), and the same for testing."""
_DAMAGED = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What is raised of a bad `.npz` file: RuntimeError, where a header asks for a password, or for what zipfile does not have."""
_TEST_FOLDERS = ("test", "val", "valid")
_HELD_OUT = 6
"""Each sixth image is a test image where no others are given, as with the digits."""


@dataclass(frozen=True)
class OwnImages:
    """Images of a user's own, in place of an image set's name: `@register_problem(image_set=OwnImages("flowers.npz"), ...)`.

    Attributes:
        path: below OBS_DATASETS, or absolute. A file `.npz` holds `images` (uint8; N x height x width, with or without
            channels behind them or in front of them) and `labels` (N integers from 0), and may hold `test_images` and
            `test_labels`. A folder holds one folder of image files for each class (torchvision's `ImageFolder`), or two
            folders `train` and `test` of that kind. Labels are then the places of the classes' names in their order. Without
            test images of its own, each sixth image is one.
        size: (height, width) to which a folder's images are brought: cut to that shape in the middle, then scaled. None:
            they have one size as they are.
        channels: 3 for colour, 1 for grey; a folder's images are converted, and scaled to 8 bits where they have 16.
        mean, std: per channel, of images scaled to [0, 1]; without both they stay there.
        augmentation: what happens to training images, if anything.
        evaluation_images: how many validation images are split off the training images, and how many train-eval draws; a
            tenth of them, where that would be more than half.

    Raises:
        ConfigError: a value cannot be, or does not go with another.
    """

    path: str
    size: tuple[int, int] | None = None
    channels: int = 3
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augmentation: Augmentation | None = None
    evaluation_images: int = 10_000

    def __post_init__(self) -> None:
        """Check the values, and keep sizes and numbers per channel as plain tuples."""
        if not is_whole(self.channels, least=1) or self.channels not in (1, 3):
            raise ConfigError(f"OwnImages: channels={self.channels}: must be 1 for grey or 3 for colour")
        if self.size is not None:
            object.__setattr__(self, "size", _checked_size(self.size))
        if (self.mean is None) != (self.std is None):
            given, other = ("mean", "std") if self.std is None else ("std", "mean")
            raise ConfigError(f"OwnImages: {given}={getattr(self, given)}: give {other} too, or neither")
        for name in ("mean", "std") if self.mean is not None else ():
            given = getattr(self, name)
            numbers = plain_numbers(given)
            above = ", above 0" if name == "std" else ""
            if numbers is None or len(numbers) != self.channels or (above and min(numbers) <= 0):
                wanted = f"a finite number for each channel{above}; channels={self.channels}"
                raise ConfigError(f"OwnImages: {name}={given}: must be {wanted}")
            object.__setattr__(self, name, numbers)
        if not is_whole(self.evaluation_images, least=1):
            raise ConfigError(f"OwnImages: evaluation_images={self.evaluation_images}: must be an integer >= 1")

    @property
    def is_file(self) -> bool:
        """Whether they are arrays in a file; else they are a folder of image files."""
        return Path(self.path).suffix == ".npz"

    @property
    def title(self) -> str:
        """What messages call them."""
        return self.path

    def read(self, root: Path) -> Arrays:
        """Read them.

        Args:
            root: where image sets lie (OBS_DATASETS).

        Raises:
            DataError: they are absent, or not as said.
        """
        place = root / self.path
        try:
            arrays = self._from_arrays(place) if self.is_file else self._from_folder(place)
        except DataError as error:
            raise DataError(f"OBS_DATASETS={root}: {self.path}: {error}") from None
        except OSError as error:
            if is_out_of_memory(error):
                raise
            raise DataError(f"OBS_DATASETS={root}: {cannot_be_read(place, error)}") from None
        for images in (arrays[0], arrays[2]):
            if images.shape[1] != self.channels:
                found = images.shape[1]
                what = f"has {found} channels, not {self.channels}; OwnImages(..., channels={found}) takes them"
                raise DataError(f"OBS_DATASETS={root}: {self.path}: {what}")
        return arrays

    def _from_arrays(self, place: Path) -> Arrays:
        try:
            with place.open("rb") as file:
                stored = np.load(file, allow_pickle=False)
                held = {name: stored[name] for name in getattr(stored, "files", ())}  # a plain array has none
        except FileNotFoundError:
            raise DataError("no such file") from None
        except _DAMAGED as error:
            raise DataError(f"is damaged, or no .npz file ({one_line(error)})") from None
        names = ("images", "labels", "test_images", "test_labels") if "test_images" in held else ("images", "labels")
        missing = [name for name in names if name not in held]
        if missing:
            raise DataError(
                f"holds no array {missing[0]}; it must have images and labels, and may have test_images and test_labels"
            )
        pairs = [
            _checked(held[images], held[labels], images, labels) for images, labels in zip(*[iter(names)] * 2, strict=True)
        ]
        return _with_test(*pairs)

    def _from_folder(self, place: Path) -> Arrays:
        if not place.is_dir():
            raise DataError("is neither a folder nor an .npz file" if place.exists() else "no such folder")
        test = next((place / name for name in _TEST_FOLDERS if (place / name).is_dir()), None)
        if not (place / "train").is_dir():
            return _with_test(self._read_files(_image_folder(place)))
        if test is None:
            raise DataError(f"has a folder train, and none of {', '.join(_TEST_FOLDERS)}")
        folders = [_image_folder(place / "train"), _image_folder(test)]
        if folders[0].classes != folders[1].classes:
            differing = sorted(set(folders[0].classes) ^ set(folders[1].classes))
            raise DataError(f"train and {test.name} have other classes: {', '.join(differing[:5])} are in one of them")
        return _with_test(*(self._read_files(folder) for folder in folders))

    def _read_files(self, folder: ImageFolder) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        from PIL import Image, ImageOps

        images: NDArray[np.uint8] | None = None
        for number, (file, _) in enumerate(folder.samples):
            try:
                with Image.open(file) as opened:
                    image = _with_8_bits(opened).convert("RGB" if self.channels == 3 else "L")
            except DataError as error:
                raise DataError(f"{Path(file).relative_to(folder.root)} {error}") from None
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise DataError(f"{Path(file).relative_to(folder.root)} cannot be read ({one_line(error)})") from None
            if self.size is not None:
                image = ImageOps.fit(image, self.size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(image).reshape(image.height, image.width, self.channels).transpose(2, 0, 1)
            if images is None:
                images = np.empty((len(folder.samples), *pixels.shape), np.uint8)
            if pixels.shape != images.shape[1:]:
                raise DataError(
                    f"{Path(file).relative_to(folder.root)} is {image.height} x {image.width}, others "
                    f"{images.shape[2]} x {images.shape[3]}; size=(height, width) brings them to one size"
                )
            images[number] = pixels
        assert images is not None  # ImageFolder refuses a class without images
        return images, np.array(folder.targets, np.int64)


def _checked_size(size: tuple[int, ...]) -> tuple[int, ...]:
    """Return height and width as a plain tuple.

    Raises:
        ConfigError: they are no size.
    """
    sides = plain_numbers(size)
    if sides is None or len(sides) != 2 or not all(side >= 1 and side.is_integer() for side in sides):
        raise ConfigError(f"OwnImages: size={size}: must be two integers >= 1, (height, width)")
    return tuple(map(int, sides))


def _image_folder(place: Path) -> ImageFolder:
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(place)
    except FileNotFoundError as error:  # no class, or one without images
        raise DataError(f"is no folder of classes ({one_line(error)})") from None


def _with_8_bits(image: Image) -> Image:
    """Scale a grey image of 16 bits to 8: PIL's own conversion cuts off what is above 255. Others are returned as they are.

    Raises:
        DataError: nothing says what its white is.
    """
    from PIL.Image import fromarray

    if image.mode in ("I", "F"):
        raise DataError(f"holds numbers of no known range (PIL's mode {image.mode}); save it as PNG with 8 or 16 bits")
    if not image.mode.startswith("I;16"):
        return image
    return fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))


def _checked(
    images: NDArray[np.generic], labels: NDArray[np.generic], name: str, labels_name: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Hold stored arrays against what they must be, and bring the channels to the front."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise DataError(
            f"{name} must be uint8, N x height x width or with channels, not {images.dtype} of shape {images.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(f"{labels_name} must be {len(images)} integers, not {labels.dtype} of shape {labels.shape}")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in (1, 3):
        if images.shape[3] not in (1, 3):
            raise DataError(
                f"{name} must have 1 or 3 channels, in front of height and width or behind them, not {images.shape}"
            )
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images, np.uint8), labels.astype(np.int64)


def _with_test(
    train: tuple[NDArray[np.uint8], NDArray[np.int64]], test: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None
) -> Arrays:
    """Put both together; without test images each sixth of the others is one."""
    if test is None:
        held_out = np.arange(len(train[1])) % _HELD_OUT == _HELD_OUT - 1
        train, test = (train[0][~held_out], train[1][~held_out]), (train[0][held_out], train[1][held_out])
        if not len(test[1]):
            raise DataError(
                f"holds {len(train[1])} images; each sixth would be a test image, so there must be {_HELD_OUT} at least"
            )
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(f"training images are {train[0].shape[1:]}, test images {test[0].shape[1:]}")
    return (*train, *test)
