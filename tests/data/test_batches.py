from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batchnorm.data.batches import Batches, split_rows
from batchnorm.data.facts import IMAGE_SETS
from batchnorm.data.sources import ImageArrays, load_image_set
from batchnorm.errors import ConfigError, DataError

CPU = torch.device("cpu")


def numbered(train: int, test: int) -> ImageArrays:
    """Return images that carry their number in their first pixels, training images below 40,000, test images above."""

    def images(numbers: np.ndarray) -> np.ndarray:
        pixels = np.zeros((len(numbers), 1, 2, 2), np.uint8)
        pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = numbers % 256, numbers // 256
        return pixels

    rows, test_rows = np.arange(train), 40_000 + np.arange(test)
    return ImageArrays(images(rows), rows.astype(np.int64), images(test_rows), test_rows.astype(np.int64), "digest")


def serve(arrays: ImageArrays, seed: int = 1, batch_size: int = 16) -> Batches:
    return Batches(IMAGE_SETS["fmnist"], arrays, random_seed=seed, batch_size=batch_size, device=CPU)


def labels(batches: Batches, split: str, epoch: int = 1) -> list[int]:
    return [label for _, part in batches.evaluation(split, epoch) for label in part.tolist()]


def test_training_validation_and_test_images_share_none() -> None:
    batches = serve(numbered(1000, 90))
    seen = {label for epoch in range(1, 9) for _, part in batches.training(epoch) for label in part.tolist()}
    valid, test = set(labels(batches, "valid")), set(labels(batches, "test"))
    evaluated = set(labels(batches, "train"))
    assert (len(valid), len(test)) == (100, 90)
    assert not (seen & valid or seen & test or valid & test or evaluated & valid)
    assert seen == evaluated == set(range(1000)) - valid


def test_images_stay_with_their_labels_through_every_split() -> None:
    batches = serve(numbered(1000, 90))
    parts = [*batches.training(3), *(part for split in ("train", "valid", "test") for part in batches.evaluation(split, 3))]
    for images, part in parts:
        pixels = (images * 255).round().long()
        assert torch.equal(pixels[:, 0, 0, 0] + 256 * pixels[:, 0, 0, 1], part)


def test_training_drops_the_last_partial_batch_and_evaluation_does_not() -> None:
    batches = serve(numbered(1000, 90), batch_size=64)
    assert batches.steps_per_epoch == 900 // 64
    assert [len(part) for _, part in batches.training(1)] == [64] * 14
    assert len(labels(batches, "test")) == 90
    assert len(labels(batches, "train")) == 900


def test_each_epoch_has_its_own_order_and_each_seed_its_own_split() -> None:
    batches, again, other = serve(numbered(1000, 9)), serve(numbered(1000, 9)), serve(numbered(1000, 9), seed=2)
    orders = [
        [label for _, part in each.training(epoch) for label in part.tolist()] for each in (batches, again) for epoch in (1, 2)
    ]
    assert orders[0] == orders[2]
    assert orders[1] == orders[3]
    assert orders[0] != orders[1]
    assert labels(batches, "valid") != labels(other, "valid")
    assert list(batches.training(0)) == []


@settings(max_examples=20, deadline=None)
@given(epoch=st.integers(1, 5), skip=st.integers(0, 28))
def test_skipped_batches_change_nothing_in_the_others(epoch: int, skip: int) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (500, 3, 32, 32), dtype=np.uint8)
    arrays = ImageArrays(pixels, np.arange(500), pixels[:5], np.arange(5), "digest")
    batches = Batches(IMAGE_SETS["cifar10"], arrays, random_seed=1, batch_size=16, device=CPU)
    whole, rest = list(batches.training(epoch)), list(batches.training(epoch, skip=skip))
    assert len(rest) == len(whole) - skip
    for (images, part), (images_again, part_again) in zip(whole[skip:], rest, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(part, part_again)


def test_a_tenth_is_held_out_of_small_sets() -> None:
    assert [len(rows) for rows in split_rows(60_000, 10_000, 1)] == [50_000, 10_000]
    assert [len(rows) for rows in split_rows(20_000, 10_000, 1)] == [10_000, 10_000]
    assert [len(rows) for rows in split_rows(19_999, 10_000, 1)] == [18_000, 1_999]


def test_train_eval_draws_ten_thousand_images_afresh_at_each_epoch() -> None:
    batches = serve(numbered(30_000, 9))
    first, second = labels(batches, "train", 1), labels(batches, "train", 2)
    assert len(set(first)) == len(set(second)) == 10_000
    assert first != second
    assert set(first) != set(second)


def test_pixels_are_normalised_as_torchvision_does(small_images: Path, unchecked_images: None) -> None:
    from torchvision.datasets import CIFAR10, FashionMNIST
    from torchvision.transforms import Compose, Normalize, ToTensor

    facts = IMAGE_SETS["cifar10"]
    assert facts.mean is not None
    assert facts.std is not None
    standardise = Compose([ToTensor(), Normalize(facts.mean, facts.std)])
    references = {
        "cifar10": CIFAR10(small_images, train=False, transform=standardise),
        "fmnist": FashionMNIST(small_images, train=False, transform=ToTensor()),
    }
    for name, reference in references.items():
        arrays = load_image_set(name, small_images)
        batches = Batches(IMAGE_SETS[name], arrays, random_seed=1, batch_size=8, device=CPU)
        images = torch.cat([part for part, _ in batches.evaluation("test", 0)])
        assert torch.equal(images, torch.stack([image for image, _ in reference]))


def test_batches_come_in_the_layout_asked_for(small_images: Path, unchecked_images: None) -> None:
    arrays = load_image_set("cifar10", small_images)
    batches = Batches(IMAGE_SETS["cifar10"], arrays, random_seed=1, batch_size=8, device=CPU, memory_format=torch.channels_last)
    for images, _ in (next(batches.training(1)), next(batches.evaluation("test", 1))):
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="BATCH_SIZE=901: is larger than Fashion-MNIST's training set of 900 images"):
        serve(numbered(1000, 9), batch_size=901)
    assert serve(numbered(1000, 9), batch_size=900).steps_per_epoch == 1


def test_images_too_few_for_a_validation_set_are_refused() -> None:
    told = "^Fashion-MNIST holds 9 training images; a tenth of them would be validation images, so there must be 10 at least$"
    with pytest.raises(DataError, match=told):
        serve(numbered(9, 9), batch_size=1)
    assert len(labels(serve(numbered(10, 9), batch_size=1), "valid")) == 1
