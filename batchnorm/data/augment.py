"""DeepOBS's augmentation on whole batches, on any device: each image has its own factors, and the bits are PIL's.

All random numbers are drawn on the host, an epoch's at once, so that every device sees the same images. Nothing here
makes the host wait for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from batchnorm.data.sources import Augmentation

BRIGHTNESS, CONTRAST, SATURATION = range(3)


@dataclass(frozen=True)
class Draws:
    """The random choices for N images.

    Attributes:
        top, left: int64, shape (N,): corner of the crop in the padded image.
        flip: bool, shape (N,).
        factors: float32, shape (N, 3): brightness, contrast, saturation.
        order: int64, shape (N, 3): which of the three comes first, second and third.
    """

    top: torch.Tensor
    left: torch.Tensor
    flip: torch.Tensor
    factors: torch.Tensor
    order: torch.Tensor

    def __getitem__(self, images: slice) -> Draws:
        """Return the draws of some of the images."""
        return Draws(self.top[images], self.left[images], self.flip[images], self.factors[images], self.order[images])

    def to(self, device: torch.device) -> Draws:
        """Return the draws on a device."""
        return Draws(
            *(each.to(device, non_blocking=True) for each in (self.top, self.left, self.flip, self.factors, self.order))
        )


def draw(augmentation: Augmentation, images: int, generator: torch.Generator) -> Draws:
    """Draw the random choices for a number of images, as torchvision's transforms distribute them."""
    ranges = torch.tensor([augmentation.brightness, augmentation.contrast, augmentation.saturation])
    corners = torch.randint(0, 2 * augmentation.padding + 1, (2, images), generator=generator)
    flip = torch.rand(images, generator=generator) < (0.5 if augmentation.flip else 0.0)
    factors = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * torch.rand(images, 3, generator=generator)
    order = torch.rand(images, 3, generator=generator).argsort(dim=1)
    return Draws(corners[0], corners[1], flip, factors, order)


def pad(images: torch.Tensor, padding: int) -> torch.Tensor:
    """Surround images, shape (N, channels, height, width), with zeros, so that crops can be taken out of them."""
    return torch.nn.functional.pad(images, (padding,) * 4)


def augment(padded: torch.Tensor, rows: torch.Tensor, draws: Draws, *, padding: int) -> torch.Tensor:
    """Take a batch of images out of a padded set, cropped, flipped and with jittered colours.

    Args:
        padded: uint8, shape (N, 3, height + 2 padding, width + 2 padding): what `pad` returned.
        rows: int64, shape (B,): which images.
        draws: B random choices.
        padding: as `pad` got it.

    Returns:
        float32, shape (B, 3, height, width), whole numbers in [0, 255].
    """
    return jitter(flip(crop(padded, rows, draws, padding=padding), draws), draws)


def crop(padded: torch.Tensor, rows: torch.Tensor, draws: Draws, *, padding: int) -> torch.Tensor:
    """Gather the images of the rows and cut each at its corner."""
    height, width = padded.shape[-2] - 2 * padding, padded.shape[-1] - 2 * padding
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[rows, :, draws.top, draws.left]


def flip(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Mirror the images that are to be."""
    return torch.where(draws.flip.view(-1, 1, 1, 1), images.flip(-1), images)


def jitter(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Change brightness, contrast and saturation in each image's own order, as PIL's ImageEnhance does.

    Each of the three blends the image with a degenerate one: black, the mean grey, each pixel's grey. After each, PIL
    holds whole numbers.

    Args:
        images: uint8, shape (B, 3, height, width).
        draws: B random choices.

    Returns:
        float32, the same shape, whole numbers in [0, 255].
    """
    pixels = images.to(torch.float32)
    for place in range(3):
        operation = draws.order[:, place].view(-1, 1, 1, 1)
        factor = draws.factors.gather(1, draws.order[:, place : place + 1]).view(-1, 1, 1, 1)
        grey = _grey(pixels)
        mean = torch.floor(grey.mean(dim=(2, 3), keepdim=True, dtype=torch.float64) + 0.5).to(torch.float32)
        degenerate = torch.where(operation == SATURATION, grey, mean).mul_(operation != BRIGHTNESS)
        pixels = (degenerate + factor * (pixels - degenerate)).clamp_(0, 255).trunc_()
    return pixels


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """Return PIL's luma, shape (B, 1, height, width), whole numbers."""
    red, green, blue = pixels.unbind(1)
    # 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point. The sums stay under 2**24, so that float32 holds them exactly.
    return torch.floor((19595 * red + 38470 * green + 7471 * blue + 32768) * 2**-16).unsqueeze(1)
