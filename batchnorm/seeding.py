"""Named random streams: every random choice is a function of (RANDOM_SEED, stream, epoch or step), never of what ran before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream_seed(random_seed: int, stream: str, index: int = 0) -> int:
    """Return the seed of one stream, 0 <= seed < 2**63, at one epoch or step."""
    digest = hashlib.sha256(f"{random_seed}/{stream}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(random_seed: int, stream: str, index: int = 0) -> torch.Generator:
    """Return a CPU generator that stands at the start of the stream, so that every device draws the same numbers."""
    import torch

    return torch.Generator().manual_seed(stream_seed(random_seed, stream, index))


def seed_default_generators(random_seed: int, stream: str, index: int = 0) -> None:
    """Seed torch's default generators (CPU and CUDA's), for what takes no generator: dropout, initialisers."""
    import torch

    seed = stream_seed(random_seed, stream, index)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # else `torch.manual_seed` would note, at each step, what to seed once it is: 0.4 ms
        torch.cuda.manual_seed_all(seed)
