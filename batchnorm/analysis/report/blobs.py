"""Numbers in bulk as a page carries them: quantised, deflated, base64. Arrays in, text out."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIGHEST = 254
"""The byte of the highest value; 0 is that of the lowest."""
NO_VALUE = 255
_LEVEL = 6


@dataclass(frozen=True)
class Bytes:
    """Values as bytes: `low + byte * (high - low) / 254`, and 255 where there is none.

    Attributes:
        values: of the values' shape.
        low: the lowest value.
        high: the highest.
    """

    values: NDArray[np.uint8]
    low: float
    high: float


def quantise(values: NDArray[Any]) -> Bytes:
    """Give each finite value its nearest byte; the lowest and the highest come back exactly."""
    finite = np.isfinite(values)
    there = values[finite]
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 0.0)
    found = np.full(values.shape, NO_VALUE, dtype=np.uint8)
    share = (there.astype(np.float64) - low) / ((high - low) or 1.0)
    found[finite] = np.rint(HIGHEST * share).astype(np.uint8)
    return Bytes(found, low, high)


def packed(values: NDArray[Any]) -> str:
    """Return base64 of raw deflate (RFC 1951) of numbers as they lie, little-endian."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    squeezer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(squeezer.compress(little.tobytes()) + squeezer.flush()).decode("ascii")
