"""What a run runs on: device, threads, precision and layout are set here, described, and compared when a run goes on."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from batchnorm import __version__
from batchnorm.config import RunConfig
from batchnorm.errors import ConfigError, one_line
from batchnorm.logs import logger

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt, from malloc.h."""
_BF16_FEATURES = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls them on x86, and on ARM."""


def prepare_torch(config: RunConfig) -> torch.device:
    """Set threads, determinism and precision of this process, and return the device to train on.

    Raises:
        ConfigError: there is no such device.
    """
    torch.set_num_threads(config.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not config.deterministic
    torch.set_float32_matmul_precision("highest")  # fp32 is fp32: no TF32
    torch.backends.cudnn.allow_tf32 = False
    device = _find_device(config)
    if config.compile:
        _prepare_compiler(device)
    return device


def _find_device(config: RunConfig) -> torch.device:
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "auto":
        return torch.device("cuda" if there else "cpu")
    device = torch.device(config.device)
    if device.type == "cuda" and (device.index or 0) >= there:
        valid = ", ".join(["auto", "cpu", *(f"cuda:{index}" for index in range(there))])
        raise ConfigError(f"DEVICE={config.device}: this machine has {there or 'no'} CUDA devices; valid: {valid}")
    return device


def _prepare_compiler(device: torch.device) -> None:
    """See that something can be compiled, and let compiled dropout draw from torch's generators, as it does elsewhere.

    What earlier runs of this process compiled is forgotten: it would decide how this one is compiled.

    Raises:
        ConfigError: nothing can be compiled: mostly there is no C++ compiler.
    """
    import torch._inductor.config

    torch.compiler.reset()
    torch._inductor.config.fallback_random = True
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:
        raise ConfigError(f"COMPILE=true: torch.compile does not work here: {one_line(error)[:200]}") from None


def choose_memory_format(config: RunConfig, device: torch.device) -> torch.memory_format:
    """Pick the layout of images and activations.

    On a CPU channels_last is the faster one in both precisions (`python -m benchmarks growth`). On CUDA tensor cores want it
    for bf16, and fp32 convs do not (as cuDNN's documentation has it; not measured by us).
    """
    if config.memory_format != "auto":
        return torch.channels_last if config.memory_format == "channels_last" else torch.contiguous_format
    fast_in_fp32 = device.type == "cpu"
    return torch.channels_last if fast_in_fp32 or config.precision == "bf16" else torch.contiguous_format


def warn_if_bf16_is_slow(config: RunConfig, device: torch.device, *, cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Warn of a run in bf16 on a processor that has no instructions for it; Linux alone tells which has.

    Args:
        config: the run.
        device: that it trains on.
        cpuinfo: where Linux shows what its processors can do.
    """
    if config.precision != "bf16" or device.type != "cpu":
        return
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    features = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    if features and not features & _BF16_FEATURES:
        logger.warning("PRECISION=bf16: this processor has no bf16 instructions; fp32 was three times as fast on such a one")


def describe_versions(config: RunConfig, device: torch.device, memory_format: torch.memory_format) -> dict[str, Any]:
    """Return what a run runs on; it is recorded, and not part of what the run is."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "deepobs": importlib.metadata.version("deepobs"),
        "cuda": torch.version.cuda,
        "device": f"{device} ({name})",
        "threads": config.threads,
        "memory_format": str(memory_format).removeprefix("torch."),
        "log_every_steps": config.log_every_steps,
        "deterministic": config.deterministic,
        "host": platform.node(),
        "dissect_batchnorm": __version__,
        **describe_commit(Path(__file__).parent),
    }


def merge_versions(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what earlier parts of a resumed run ran on, and warn where that changed."""
    before = {key: value for key, value in earlier.items() if key != "earlier_parts"}
    parts = list(earlier.get("earlier_parts", []))
    if before == dict(now):
        return {**now, "earlier_parts": parts} if parts else dict(now)
    changed = [f"{key} {before.get(key)} -> {now.get(key)}" for key in now if before.get(key) != now.get(key)]
    logger.warning("the run continues under other conditions, its last bits may differ: %s", "; ".join(changed))
    return {**now, "earlier_parts": [*parts, before]}


def keep_freed_memory() -> bool:
    """Let freed memory stay with the process, for its next allocation; say whether the C library took that (glibc does).

    It changes no result. glibc maps a buffer of an activation's size anew at each allocation and unmaps it when it is
    freed, so that every step touches fresh pages: on virtual machines this costs as much as the convolutions (benchmarks/).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: 64 * 2**20}
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())


_HELD_UP_FROM = 0.1
"""The share of their time that threads wait for a core, from which advice is given."""


def advice_on_threads(threads: int, *, waited: float, seconds: float) -> str:
    """Say in a line what to do where threads wait for cores that other processes hold; nothing where they need not.

    At the end of each layer all threads wait for the slowest one, which waits for its core: with all cores a run may take
    several times as long as with one.

    Args:
        threads: of this run.
        waited: seconds that they have waited for a core, all together.
        seconds: how long it was looked.
    """
    share = waited / (threads * seconds)
    if threads == 1 or share < _HELD_UP_FROM:
        return ""
    held = f"the {threads} threads of this run wait {share:.0%} of their time for cores that other processes use"
    return f"{held}; one thread is often several times faster then: stop the run, and THREADS=1 resumes it"


def seconds_waited(tasks: Path = Path("/proc/self/task")) -> float:
    """Return how long this process's threads have waited for a core while they could have run; 0 where Linux does not say."""
    waited = 0
    for file in tasks.glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that has just ended
            waited += int(file.read_text().split()[1])
    return waited / 1e9


def describe_commit(package: Path) -> dict[str, Any]:
    """Return the commit that a package's folder stands at, and whether files in it differ from that commit.

    Both are None where git does not track its files: an environment inside another project's repository is no part of it.
    """
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(package, "rev-parse", "HEAD").strip()
        changed = bool(_git(package, "status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}
    return {"git_commit": commit, "git_dirty": changed}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=5).stdout
