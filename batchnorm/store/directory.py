"""A run's directory: the names of its files, and the claim that keeps a second process out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchnorm.errors import ConfigError, RunClaimedError, reason_of
from batchnorm.store import claim


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
        """Held by the process that trains here; what a dead process of this host held is free."""
        return self.path / ".lock"

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Make the directory and keep other processes out of it.

        Raises:
            ConfigError: it cannot be written.
            RunClaimedError: another process is at it.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(claim.hold(self.lock))
            except claim.Held as held:
                who = f" ({held.holder})" if held.holder else ""
                advice = f"; if that process has ended, remove {held.file}"
                raise RunClaimedError(f"{self.path}: another process is running it{who}{advice}") from None
            except OSError as error:
                raise ConfigError(f"OUTPUT_DIR: {self.path} cannot be written: {reason_of(error)}") from None
            yield

    def is_claimed(self) -> bool | None:
        """Say whether a process is at this run now; None where that cannot be known. Nothing is written."""
        return claim.is_held(self.lock)

    def clear(self) -> None:
        """Remove what an earlier run left; the claim stays. The record goes last: without it there is no run."""
        kept = self.path.glob("weights/epoch_*.pth")
        for file in (*kept, self.measured, self.checkpoint, self.final_model, self.log, self.config, self.record):
            file.unlink(missing_ok=True)
        for left_over in self.path.glob("*.new"):
            left_over.unlink()
