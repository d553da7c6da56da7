"""Keeps the C library from handing large buffers back to the system after each use. Changes no result.

glibc maps a buffer of an activation's size anew at each allocation and unmaps it when it is freed, so that every step
touches fresh pages: on virtual machines this costs as much as the convolutions (benchmarks/).
"""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameters, from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let freed memory stay with the process, for its next allocation; say whether the C library took that (glibc does)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: 64 * 2**20}
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())
