"""The checkpoint of an unfinished run: saved atomically, loaded with `weights_only`, checked."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from batchnorm.config import canonical_fingerprint
from batchnorm.errors import START_AGAIN, RunError, cannot_be_read, is_out_of_memory, one_line
from batchnorm.store import Mark, sync


def save_checkpoint(path: Path, state: Mapping[str, Any], *, record: Mark, fingerprint: Mapping[str, Any]) -> None:
    """Save a training's state, and how far its record goes.

    Raises:
        OSError: the disk is full or cannot be written; an earlier checkpoint stays.
    """
    content = {**state, "record": record, "fingerprint": dict(fingerprint)}
    save_atomically(path, {"content": content, "digest": _digest(content)})


def load_checkpoint(path: Path, *, fingerprint: Mapping[str, Any], load: Callable[[Mapping[str, Any]], None]) -> Mark:
    """Hand a checkpoint's state to `load`, and return how far its run's record goes.

    Raises:
        RunError: the checkpoint cannot be read, is damaged, belongs to another run, or `load` does not take it.
        MemoryError: there is too little memory for it.
    """
    damaged = f"{path}: is damaged"
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise RunError(cannot_be_read(path, error)) from None
    try:
        loaded = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
        content = loaded["content"]
        if _digest(content) != loaded["digest"]:
            raise RunError(f"{damaged}; {START_AGAIN}")
        if canonical_fingerprint(content["fingerprint"]) != fingerprint:
            raise RunError(f"{path}: belongs to another run than run.h5 beside it; {START_AGAIN}")
        load(content)
        record: Mark = content["record"]
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, EOFError, OSError, pickle.UnpicklingError) as error:
        if is_out_of_memory(error):
            raise
        raise RunError(f"{damaged} ({one_line(error)[:120]}); {START_AGAIN}") from None
    return record


def save_atomically(path: Path, content: object) -> None:
    """Save with `torch.save`, so that at any moment the file holds either all of the old or all of the new.

    Raises:
        OSError: the disk is full or cannot be written; the old file stays.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    temporary = path.with_name(path.name + ".new")
    path.parent.mkdir(exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
        sync(temporary)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _digest(content: object) -> str:
    """Hash nested dictionaries, lists, tensors and plain values; torch.load does not check tensors' bytes."""
    sha256 = hashlib.sha256()

    def feed(value: object) -> None:
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu()
            sha256.update(f"tensor {plain.dtype} {tuple(plain.shape)}".encode())
            sha256.update(plain.contiguous().view(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            sha256.update(f"mapping {len(value)}".encode())
            for key, item in value.items():
                feed(key)
                feed(item)
        elif isinstance(value, (list, tuple)):
            sha256.update(f"{type(value).__name__} {len(value)}".encode())
            for item in value:
                feed(item)
        else:
            sha256.update(f"{type(value).__name__} {value!r}".encode())

    feed(content)
    return sha256.hexdigest()
