"""What do BatchNorm's parts do? Masked-BatchNorm experiments on DeepOBS's problems."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchnorm.masking import masked
    from batchnorm.slots import find_slots

__version__ = "0.1.0"
__all__ = ["find_slots", "masked"]
_ROOMS = {"find_slots": "batchnorm.slots", "masked": "batchnorm.masking"}


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: torch comes with it."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)
