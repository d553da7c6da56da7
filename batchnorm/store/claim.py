"""The lock that keeps a second process out of a run's directory. Looking at it writes nothing.

The system's flock decides where the file system has it: it ends with its process. Where it is missing (some network file
systems), the lock file's content decides: the host and the process that hold it. The content is there in both cases, so
that a message can name them. Windows has no flock: runs are read there, and not trained.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchnorm.errors import MISSING_HERE

try:
    import fcntl

    _HAS_FLOCK = True
except ImportError:  # Windows
    _HAS_FLOCK = False
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_TRY_FOR_SECONDS, _TRY_EVERY_SECONDS = 0.5, 0.05


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        process: its id.
        host: where it runs.
        started: when, in the host's own count; tells it from a later process of the same id. Empty where it is not known.
        by: `flock`, or `content` where the file's content is all that holds.
    """

    process: int
    host: str
    started: str
    by: str

    @property
    def is_dead(self) -> bool:
        """Whether it is certain that the process has ended: of another host's that is never certain."""
        if self.host != socket.gethostname() or not _HAS_FLOCK:  # where os.kill(process, 0) is no question
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            return False
        return self.started != _started(self.process)

    def __str__(self) -> str:
        """Name process and host, for a message."""
        return f"process {self.process} on {self.host}"


class Held(Exception):
    """Another process holds the lock, as far as can be told.

    Attributes:
        file: what it holds.
        holder: who it is; None where it has not signed.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.holder: Holder | None = None
        with contextlib.suppress(OSError):  # it may have been let go of
            self.holder = read_holder(file)
        super().__init__(f"{file}: {self.holder}")


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock while the block runs.

    Raises:
        Held: another process does.
        OSError: the file cannot be written, or the system has no locks.
    """
    if not _HAS_FLOCK:
        raise OSError(errno.ENOSYS, "this system has no file locks (flock); train on Linux or macOS")
    descriptor = _within_time(path)
    try:
        yield
    finally:
        _release(descriptor)


def is_held(path: Path) -> bool | None:
    """Say whether a process holds a lock now; None where that cannot be known. Nothing is written."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return None
    signed_by = {"content"}
    try:
        if not _HAS_FLOCK:
            raise OSError(errno.ENOSYS, "no flock")
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: that needs no right to write on NFS either
    except OSError as error:
        if error.errno in _HELD:
            return True
        if error.errno not in MISSING_HERE:
            return None
        signed_by = {"content", "flock"}  # of another host, which has it
    finally:
        os.close(descriptor)
    try:
        holder = read_holder(path)
    except OSError:
        return None
    if holder is None or holder.by not in signed_by or holder.is_dead:
        return False
    return True if holder.host == socket.gethostname() else None


def read_holder(path: Path) -> Holder | None:
    """Return who signed a lock file last; None where nobody did.

    Raises:
        OSError: it cannot be read.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if len(lines) != 4 or not lines[0].isdecimal():
        return None
    return Holder(int(lines[0]), *lines[1:])


def _within_time(path: Path) -> int:
    """Try for a moment: a process that ends, or one that only looks, lets go within it."""
    until = time.monotonic() + _TRY_FOR_SECONDS
    while True:
        try:
            return _take(path)
        except Held:
            if time.monotonic() > until:
                raise
        time.sleep(_TRY_EVERY_SECONDS)


def _take(path: Path) -> int:
    """Take the lock, and return the descriptor that keeps it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        by = _flock(path, descriptor)
        holder = read_holder(path)
        if holder is not None and not holder.is_dead and (by == "content" or holder.by == "content"):
            raise Held(path)
        if by == "flock":
            with contextlib.suppress(OSError):  # a full disk: then messages name nobody
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, _signature(by), 0)
        else:
            _sign_alone(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _flock(path: Path, descriptor: int) -> str:
    """Lock by flock, and say by what the lock is held."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise Held(path) from None
        if error.errno not in MISSING_HERE:
            raise
        return "content"
    return "flock"


def _sign_alone(path: Path, descriptor: int) -> None:
    """Sign a free lock file where there is no flock: whoever first makes the file beside it may.

    Who dies in between leaves that file behind; it is signed too, and so does not keep the next one out.
    """
    turn = path.with_name(path.name + ".turn")
    with contextlib.suppress(FileNotFoundError):
        waiting = read_holder(turn)
        if waiting is not None and waiting.is_dead:
            turn.unlink()
    try:
        mine = os.open(turn, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise Held(turn) from None
    try:
        os.write(mine, _signature("content"))
        holder = read_holder(path)
        if holder is not None and not holder.is_dead:
            raise Held(path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _signature("content"), 0)
    finally:
        os.close(mine)
        turn.unlink(missing_ok=True)


def _release(descriptor: int) -> None:
    """Let go; the file stays, empty. A disk that fails here has failed the run before."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)


def _signature(by: str) -> bytes:
    return f"{os.getpid()}\n{socket.gethostname()}\n{_started(os.getpid())}\n{by}\n".encode()


def _started(process: int) -> str:
    """Return when a process of this host started, in clock ticks since the host did; empty where that cannot be read."""
    try:
        about = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return about.rpartition(")")[2].split()[19]
