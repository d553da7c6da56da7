"""A run's directory: the names of its files, and the claim that keeps a second process out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from batchnorm.errors import ConfigError, RunClaimedError, one_line

_CLAIM_TIMEOUT_SECONDS = 0.5


@dataclass(frozen=True)
class RunDirectory:
    """Where one run lies."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """The HDF5 record."""
        return self.path / "run.h5"

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.path / "run.log"

    @property
    def checkpoint(self) -> Path:
        """The whole state of an unfinished run."""
        return self.path / "checkpoint.pt"

    @property
    def final_model(self) -> Path:
        """The weights of a finished run."""
        return self.path / "final_model.pth"

    def weights(self, epoch: int) -> Path:
        """The weights at an epoch's end, where SAVE_EPOCHS keeps them."""
        return self.path / "weights" / f"epoch_{epoch:04}.pth"

    @property
    def measured(self) -> Path:
        """What was measured afterwards, from kept weights."""
        return self.path / "measured.h5"

    @property
    def lock(self) -> Path:
        """Locked by the process that trains here; the lock of a dead process is free."""
        return self.path / ".lock"

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Make the directory and keep other processes out of it.

        Raises:
            ConfigError: it cannot be written.
            RunClaimedError: another process is at it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.lock, timeout=_CLAIM_TIMEOUT_SECONDS)
            lock.acquire()
        except Timeout:
            raise RunClaimedError(f"{self.path}: another process is at this run") from None
        except OSError as error:
            raise ConfigError(f"OUTPUT_DIR: {self.path} cannot be written: {error.strerror or one_line(error)}") from None
        try:
            yield
        finally:
            lock.release()

    def is_claimed(self) -> bool:
        """Say whether a process is at this run now."""
        if not self.lock.exists():
            return False
        try:
            with FileLock(self.lock, timeout=0):
                return False
        except (Timeout, OSError):
            return True

    def clear(self) -> None:
        """Remove what an earlier run left; the claim stays. The record goes last: without it there is no run."""
        kept = self.path.glob("weights/epoch_*.pth")
        for file in (*kept, self.measured, self.checkpoint, self.final_model, self.log, self.config, self.record):
            file.unlink(missing_ok=True)
        for left_over in self.path.glob("*.new"):
            left_over.unlink()
