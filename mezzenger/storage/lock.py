"""One process per file."""

import contextlib
import fcntl
import os
from pathlib import Path

from mezzenger.errors import StorageError
from mezzenger.storage.files import beside, create


class FileLock:
    """A lock beside a file, held until ``release``; it tells others who holds it.

    Raises:
        StorageError: Another process holds it, or it cannot be made.
    """

    def __init__(self, file: Path) -> None:
        # Whoever comes by way of a link must find the same lock.
        real = Path(os.path.realpath(file))
        path = beside(real, ".lock")
        try:
            self._descriptor = _opened(path, real)
        except OSError as error:
            raise StorageError(f"{path}: cannot be opened: {error.strerror}") from None
        try:
            self._lock(file, path)
        except BaseException:
            os.close(self._descriptor)
            raise
        # A disk that is full does not keep a server from its work.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have the file."""
        # A process that was forked from this one has the lock too, as long as it is only closed.
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)

    def _lock(self, file: Path, path: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 100).decode(errors="replace").strip() or "unknown"
            raise StorageError(f"{file}: is in use by the server with process id {holder}") from None
        except OSError as error:
            raise StorageError(f"{path}: cannot be locked: {error.strerror}") from None


def _opened(path: Path, file: Path) -> int:
    """Open the lock of a file, and make it if it is not there."""
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR)
    with contextlib.suppress(FileExistsError):
        # The file may be gone, or not be there yet.
        return create(path, file if file.exists() else file.parent)
    return os.open(path, os.O_RDWR)
