"""What a run records while it trains: rows gather on the device and go to the record by block; checkpoints; stopping.

The training loop calls it and knows nothing of files. A step makes the host wait for the device only where a block is full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from batchnorm.ablation import SlotParameters
from batchnorm.checkpoint import save_checkpoint
from batchnorm.logs import logger
from batchnorm.rundir import RunDirectory
from batchnorm.stop import Interrupted, StopRequest
from batchnorm.store import Mark, RunWriter, Status

if TYPE_CHECKING:
    from batchnorm.training import TrainingState

BLOCK_ROWS = 64


class Diverged(Exception):
    """A loss is not finite; all rows up to it are recorded."""


class Recorder:
    """Records one run.

    Args:
        writer: the record.
        directory: where checkpoints go.
        state: the training that is recorded.
        parameters: what of its network is recorded.
        stop: whether the run is to stop.
    """

    def __init__(
        self,
        writer: RunWriter,
        directory: RunDirectory,
        *,
        state: TrainingState,
        parameters: SlotParameters,
        stop: StopRequest,
    ) -> None:
        self.directory = directory
        self._writer = writer
        self._state = state
        self._stop = stop
        self._every = state.config.log_every_steps
        tracked = {"gamma": parameters.gamma, "beta": parameters.beta, "bias": parameters.bias}
        self._snapshots = {
            f"snapshots/{name}/{slot}": value for name, group in tracked.items() for slot, value in group.items()
        }
        statistics = {"mean": parameters.running_mean, "var": parameters.running_var}
        self._statistics = {
            f"running/{name}/{slot}": value for name, group in statistics.items() for slot, value in group.items()
        }
        width = 1 + sum(len(value) for value in self._snapshots.values())
        self._block = torch.empty(BLOCK_ROWS, width, device=state.device)
        self._rows: list[tuple[int, float]] = []

    @property
    def epochs(self) -> int:
        """How many epochs are recorded, epoch 0 among them."""
        return self._writer.rows("epochs/epoch")

    def step(self, loss: torch.Tensor) -> None:
        """Note the loss of the step and the parameters before its update, if it is a step to record."""
        if self._every and self._state.step % self._every == 0:
            if len(self._rows) == BLOCK_ROWS:
                self._write_block()
            self._note_row(loss)

    def stop_if_asked(self) -> None:
        """Write a checkpoint and end the training, if somebody asked for it.

        Raises:
            Interrupted: somebody did.
        """
        if self._stop:
            self._write_block()
            self._save_checkpoint()
            raise Interrupted(self._stop.signal.name if self._stop.signal else "a request")

    def training_done(self, epoch: int) -> None:
        """Bring an epoch's rows to the record, and add the snapshot after the last update where it was the last epoch.

        Raises:
            Diverged: a recorded loss is not finite.
        """
        self._write_block()
        if epoch and self._state.step == self._state.total_steps and not self._has_last_snapshot():
            self._note_row(torch.zeros((), device=self._state.device))
            self._write_snapshots(self._fetch_block())

    def epoch(self, epoch: int, metrics: Mapping[str, float], *, train_seconds: float, eval_seconds: float) -> None:
        """Record an epoch's metrics and running statistics, and save a checkpoint.

        Raises:
            Diverged: the training loss is not finite.
        """
        state = self._state
        row = {"epoch": epoch, "step": state.step, "lr": state.lr, **metrics}
        row |= {"train_seconds": train_seconds, "eval_seconds": eval_seconds}
        rows = {f"epochs/{name}": np.array([value]) for name, value in row.items()}
        self._writer.append(rows | self._split(_flat(self._statistics)[None], self._statistics))
        if not np.isfinite(metrics["train_loss"]):
            raise Diverged(f"train loss {metrics['train_loss']} after epoch {epoch}, step {state.step}")
        self._save_checkpoint()

    def finish(self, status: Status) -> None:
        """Record how the run ended; it needs no checkpoint any more."""
        self._writer.finish(status)
        self.directory.checkpoint.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the record of a run that goes on another time."""
        self._writer.close()

    def _note_row(self, loss: torch.Tensor) -> None:
        row = self._block[len(self._rows)]
        with torch.no_grad():
            torch.cat([loss.detach().view(1), *self._snapshots.values()], out=row)
        self._rows.append((self._state.step, self._state.lr))

    def _fetch_block(self) -> np.ndarray:
        """Bring the block's rows over from the device: the one place where the host waits for it."""
        fetched: np.ndarray = self._block[: len(self._rows)].cpu().numpy()
        return fetched

    def _write_block(self) -> None:
        block = self._fetch_block()
        finite = np.isfinite(block[:, 0])
        if not finite.all():
            first_bad = int(np.argmin(finite))
            del self._rows[first_bad + 1 :]
            block = block[: first_bad + 1]
        if len(block):
            steps, rates = zip(*self._rows, strict=True)
            self._writer.append({"batches/step": steps, "batches/loss": block[:, 0], "batches/lr": rates})
            last = self._rows[-1]
            self._write_snapshots(block)
        if not finite.all():
            raise Diverged(f"loss {block[-1, 0]} at step {last[0]}")

    def _write_snapshots(self, block: np.ndarray) -> None:
        self._writer.append({"snapshots/step": [step for step, _ in self._rows]})
        self._writer.append(self._split(block[:, 1:], self._snapshots))
        self._rows.clear()

    def _has_last_snapshot(self) -> bool:
        return self._writer.rows("snapshots/step") > self._writer.rows("batches/step")

    @staticmethod
    def _split(rows: np.ndarray | torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """Cut rows of concatenated parameters into one array each."""
        ends = np.cumsum([len(value) for value in tensors.values()], dtype=int)
        parts = np.split(np.asarray(rows), ends[:-1], axis=1) if tensors else []
        return dict(zip(tensors, parts, strict=True))

    def _save_checkpoint(self) -> Mark:
        mark = self._writer.flush()
        save_checkpoint(self.directory.checkpoint, self._state, record=mark)
        logger.debug("checkpoint at step %d", self._state.step)
        return mark


def _flat(tensors: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Fetch all tensors, each of shape (C,), in one transfer."""
    if not tensors:
        return np.empty(0, dtype=np.float32)
    fetched: np.ndarray = torch.cat([value.detach() for value in tensors.values()]).cpu().numpy()
    return fetched
