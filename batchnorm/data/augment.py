"""DeepOBS's augmentation on whole batches, on any device: each image has its own factors, and the bits are PIL's.

All random numbers are drawn on the host, an epoch's at once, so that every device sees the same images. Nothing here
makes the host wait for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from batchnorm.data.facts import Augmentation

_BRIGHTNESS, CONTRAST, SATURATION = range(3)


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


def augment(images: torch.Tensor, draws: Draws, *, padding: int) -> torch.Tensor:
    """Crop and flip images, and change their colours.

    Args:
        images: uint8, shape (B, 3, height, width), or of one channel: grey.
        draws: B random choices.
        padding: zeros around an image, out of which its crop is taken.

    Returns:
        float32, the same shape, whole numbers in [0, 255].
    """
    return jitter_(crop_and_flip(images, draws, padding=padding).to(torch.float32), draws)


def crop_and_flip(images: torch.Tensor, draws: Draws, *, padding: int) -> torch.Tensor:
    """Cut each image at its corner, and mirror those that are to be: crops of the mirrored image, from its other corner."""
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    both = torch.stack([padded, padded.flip(-1)])
    windows = both.unfold(3, height, 1).unfold(4, width, 1)
    left = torch.where(draws.flip, 2 * padding - draws.left, draws.left)
    return windows[draws.flip.to(torch.int64), torch.arange(len(images), device=images.device), :, draws.top, left]


def jitter_(pixels: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Change brightness, contrast and saturation in each image's own order, as PIL's ImageEnhance does.

    Each of the three blends the image with a degenerate one: black, the mean grey, each pixel's grey. After each, PIL
    holds whole numbers. A grey image is its own grey, so that saturation leaves it as it is.

    Args:
        pixels: float32, shape (B, 3, height, width) or (B, 1, height, width), whole numbers in [0, 255]; changed in place.
        draws: B random choices.

    Returns:
        The pixels.
    """
    factors = draws.factors.gather(1, draws.order).view(-1, 3, 1, 1)
    is_contrast, is_saturation = (
        (draws.order == which).to(torch.float32).view(-1, 3, 1, 1) for which in (CONTRAST, SATURATION)
    )
    for place in range(3):
        turn = slice(place, place + 1)
        grey = _grey(pixels)
        mean_grey = _rounded_mean(grey)
        degenerate = grey.mul_(is_saturation[:, turn]).add_(mean_grey * is_contrast[:, turn])
        pixels.sub_(degenerate).mul_(factors[:, turn]).add_(degenerate)
        pixels.clamp_(0, 255).floor_()  # floor truncates what is not negative; torch's trunc is 15 times as slow on a CPU
    return pixels


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """Return PIL's luma as a new tensor, shape (B, 1, height, width), whole numbers; of a grey image its own values."""
    if pixels.shape[1] == 1:
        return pixels.clone()
    red, green, blue = (pixels[:, channel : channel + 1] for channel in range(3))
    # 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point. The sums stay under 2**24, so that float32 holds them exactly.
    sums = torch.mul(red, 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(32768)
    return sums.mul_(2**-16).floor_()


def _rounded_mean(grey: torch.Tensor) -> torch.Tensor:
    """Return each image's mean, shape (B, 1, 1, 1), rounded half up as PIL does; the sums are exact in float32."""
    mean = grey.sum(dim=(2, 3), keepdim=True).to(torch.float64) / grey[0].numel()
    return torch.floor(mean + 0.5).to(torch.float32)
