from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as pil_ops

from batchnorm.data import augment
from batchnorm.data.facts import IMAGE_SETS, Augmentation


def images_of_many_kinds(count: int) -> torch.Tensor:
    """Noise, smooth pictures, flat and extreme ones: uint8, shape (count, 3, 32, 32)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    smooth = torch.rand(count, 3, 4, 4, generator=generator) * 300 - 20
    smooth = torch.nn.functional.interpolate(smooth, (32, 32), mode="bicubic").clamp(0, 255).to(torch.uint8)
    flat = torch.randint(0, 256, (count, 3, 1, 1), dtype=torch.uint8, generator=generator).expand(-1, -1, 32, 32)
    extreme = (torch.rand(count, 3, 32, 32, generator=generator) < 0.5).to(torch.uint8) * 255
    return torch.stack([noise, smooth, flat, extreme])[torch.arange(count) % 4, torch.arange(count)].contiguous()


def with_pil(image: torch.Tensor, draws: augment.Draws, place: int, augmentation: Augmentation) -> np.ndarray:
    """Do what DeepOBS's transforms do to one image, with the factors drawn."""
    picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())
    picture = pil_ops.pad(picture, augmentation.padding)
    picture = pil_ops.crop(picture, int(draws.top[place]), int(draws.left[place]), 32, 32)
    if draws.flip[place]:
        picture = pil_ops.hflip(picture)
    operations = (pil_ops.adjust_brightness, pil_ops.adjust_contrast, pil_ops.adjust_saturation)
    for operation in draws.order[place].tolist():
        picture = operations[operation](picture, float(draws.factors[place, operation]))
    return np.asarray(picture).reshape(32, 32, len(image)).transpose(2, 0, 1)


@pytest.mark.parametrize(("name", "channels"), [("cifar10", 3), ("svhn", 3), ("cifar10", 1)])
def test_a_batch_has_the_bits_of_torchvisions_pil_ops(name: str, channels: int) -> None:
    augmentation = IMAGE_SETS[name].augmentation
    assert augmentation is not None
    count = 1200 if channels == 3 else 200
    generator = torch.Generator().manual_seed(1)
    images = images_of_many_kinds(count)[:, :channels]
    draws = augment.draw(augmentation, count, generator)
    rows = torch.randperm(count, generator=generator)
    batch = augment.augment(images[rows], draws, padding=augmentation.padding)
    for place, row in enumerate(rows):
        assert np.array_equal(batch[place].numpy(), with_pil(images[row], draws, place, augmentation)), place


def test_draws_are_spread_as_torchvision_spreads_them() -> None:
    augmentation = IMAGE_SETS["cifar10"].augmentation
    assert augmentation is not None
    draws = augment.draw(augmentation, 60_000, torch.Generator().manual_seed(0))
    for corner in (draws.top, draws.left):
        assert torch.allclose(corner.bincount() / 60_000, torch.full((5,), 0.2), atol=0.01)
    assert draws.flip.float().mean().item() == pytest.approx(0.5, abs=0.01)
    low, high = draws.factors.min(0).values, draws.factors.max(0).values
    assert torch.allclose(low, torch.tensor([1 - 63 / 255, 0.2, 0.5]), atol=1e-3)
    assert torch.allclose(high, torch.tensor([1 + 63 / 255, 1.8, 1.5]), atol=1e-3)
    orders = (draws.order * torch.tensor([9, 3, 1])).sum(1).bincount()
    assert (orders > 0).sum() == 6
    assert torch.allclose(orders[orders > 0] / 60_000, torch.full((6,), 1 / 6), atol=0.01)


def test_svhn_is_not_flipped() -> None:
    augmentation = IMAGE_SETS["svhn"].augmentation
    assert augmentation is not None
    assert not augment.draw(augmentation, 1000, torch.Generator().manual_seed(0)).flip.any()
