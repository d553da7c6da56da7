"""Splits an image set and serves its batches from the device: gathered, augmented and normalised there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from batchnorm.data import augment
from batchnorm.data.facts import ImageSet
from batchnorm.data.own import OwnImages
from batchnorm.data.sources import ImageArrays
from batchnorm.errors import ConfigError, DataError
from batchnorm.seeding import generator

EVALUATION_BATCH_SIZE, EVALUATION_BATCH_SIZE_ON_CPU = 1000, 128
"""On a CPU larger ones are hardly faster, and take more memory than training; on a GPU it was not measured."""
Batch = tuple[torch.Tensor, torch.Tensor]
"""Inputs, float32, shape (B, channels, height, width), and labels, int64, shape (B,)."""


@dataclass(frozen=True)
class LabelledImages:
    """Images on the device: uint8, shape (N, channels, height, width), and labels, int64, shape (N,)."""

    images: torch.Tensor
    labels: torch.Tensor


class Batches:
    """A run's images, and its batches in their order: functions of the seed, the epoch and the images alone.

    Args:
        facts: what is known of the image set.
        arrays: its images.
        random_seed: the run's seed.
        batch_size: of training.
        device: where images live and batches are made.
        memory_format: of the batches.

    Raises:
        ConfigError: the training set has no whole batch.
        DataError: there are too few images for a validation set.
    """

    def __init__(
        self,
        facts: ImageSet | OwnImages,
        arrays: ImageArrays,
        *,
        random_seed: int,
        batch_size: int,
        device: torch.device,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.facts = facts
        self.batch_size = batch_size
        self._random_seed = random_seed
        self.memory_format = memory_format
        self.digest = arrays.digest
        self._training_rows, self._validation_rows = split_rows(len(arrays.train_labels), facts.evaluation_images, random_seed)
        if not len(self._validation_rows):
            raise DataError(
                f"{facts.title} holds {len(self._training_rows)} training images; a tenth of them would be validation images, "
                "so there must be 10 at least"
            )
        if batch_size > len(self._training_rows):
            raise ConfigError(
                f"BATCH_SIZE={batch_size}: is larger than {facts.title}'s training set of {len(self._training_rows)} images; "
                f"must be an integer from 1 to {len(self._training_rows)}"
            )

        def on_device(images: np.ndarray, labels: np.ndarray) -> LabelledImages:
            return LabelledImages(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))

        self._train = on_device(arrays.train_images, arrays.train_labels)
        self._test = on_device(arrays.test_images, arrays.test_labels)
        if facts.mean is not None and facts.std is not None:
            self._mean = torch.tensor(facts.mean, device=device).view(-1, 1, 1)
            self._std = torch.tensor(facts.std, device=device).view(-1, 1, 1)

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch; the last partial batch is dropped."""
        return len(self._training_rows) // self.batch_size

    def training(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Serve an epoch's training batches, shuffled and augmented afresh.

        Args:
            epoch: counted from 1; epoch 0, which stands before training, has no batches.
            skip: how many of the first batches to leave out; the others are the same with or without them.
        """
        if epoch == 0:
            return
        rows = self._shuffled_training_rows("batch order", epoch)[: self.steps_per_epoch * self.batch_size]
        yield from self._training_images(rows, "augmentation", epoch, self.batch_size, skip)

    def evaluation(self, split: str, epoch: int) -> Iterator[Batch]:
        """Serve the images of `train`, `valid` or `test` for evaluation, the last partial batch too.

        For `train`, these are training images drawn afresh at each epoch, through the training transform, as DeepOBS does.
        """
        on_cpu = self._test.labels.device.type == "cpu"
        size = EVALUATION_BATCH_SIZE_ON_CPU if on_cpu else EVALUATION_BATCH_SIZE
        if split == "train":
            rows = self._shuffled_training_rows("train-eval images", epoch)[: self.facts.evaluation_images]
            yield from self._training_images(rows, "train-eval augmentation", epoch, size)
        elif split == "valid":
            rows = torch.from_numpy(self._validation_rows).to(self._train.labels.device, non_blocking=True)
            for part in rows.split(size):
                yield self._normalised(self._train.images.index_select(0, part)), self._train.labels.index_select(0, part)
        else:
            for images, labels in zip(self._test.images.split(size), self._test.labels.split(size), strict=True):
                yield self._normalised(images), labels

    def probe_images(self, batches: int, size: int) -> Iterator[Batch]:
        """Serve fixed training images without augmentation, a function of the seed alone; fewer where there are no more.

        Args:
            batches: how many, at most; a last partial one is left out, as in training.
            size: of each; one smaller batch where there are not as many images.
        """
        rows = self._shuffled_training_rows("probe", 0)[: batches * size]
        for chosen in rows[: max(len(rows) // size * size, size)].split(size):
            part = chosen.to(self._train.labels.device)
            yield self._normalised(self._train.images.index_select(0, part)), self._train.labels.index_select(0, part)

    def first_test_images(self, count: int) -> Batch:
        """Return the first test images, or all where there are fewer."""
        return self._normalised(self._test.images[:count]), self._test.labels[:count]

    def _shuffled_training_rows(self, stream: str, epoch: int) -> torch.Tensor:
        order = torch.randperm(len(self._training_rows), generator=generator(self._random_seed, stream, epoch))
        return torch.from_numpy(self._training_rows)[order]

    def _training_images(self, rows: torch.Tensor, stream: str, epoch: int, batch_size: int, skip: int = 0) -> Iterator[Batch]:
        """Serve training images by rows, but for the first `skip` batches."""
        device = self._train.labels.device
        augmentation = self.facts.augmentation
        first = skip * batch_size
        if augmentation is not None:
            drawn = augment.draw(augmentation, len(rows), generator(self._random_seed, stream, epoch))
            draws = drawn[first:].to(device)
        rows = rows[first:].to(device, non_blocking=True)
        for start in range(0, len(rows), batch_size):
            part = slice(start, start + batch_size)
            pixels = self._train.images.index_select(0, rows[part])
            if augmentation is not None:
                pixels = augment.augment(pixels, draws[part], padding=augmentation.padding)
            yield self._normalised(pixels), self._train.labels.index_select(0, rows[part])

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scale to [0, 1] and standardise, with the bits of torchvision's ToTensor and Normalize; floats change in place."""
        scaled = pixels.to(torch.float32).div_(255)
        if self.facts.mean is not None and self.facts.std is not None:
            scaled.sub_(self._mean).div_(self._std)
        return scaled.contiguous(memory_format=self.memory_format)


def split_rows(images: int, evaluation_images: int, random_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split off validation images at random.

    Args:
        images: how many there are.
        evaluation_images: how many to split off; a tenth, where that would be more than half.
        random_seed: the run's seed.

    Returns:
        Rows of the training and of the validation images, disjoint, each rising.
    """
    held_out = evaluation_images if images >= 2 * evaluation_images else images // 10
    shuffled = torch.randperm(images, generator=generator(random_seed, "validation split")).numpy()
    return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])
