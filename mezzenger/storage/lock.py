"""One process per file."""

import contextlib
import os
import sys
from pathlib import Path

from mezzenger.errors import StorageError
from mezzenger.storage.files import create

if sys.platform != "win32":
    import fcntl


class FileLock:
    """A lock beside a file, held until ``release``; it tells others who holds it.

    Raises:
        StorageError: Another process holds it, or it cannot be made.
    """

    def __init__(self, file: Path) -> None:
        # Whoever comes by way of a link must find the same lock.
        path = Path(os.path.realpath(file) + ".lock")
        try:
            self._descriptor = _opened(path, Path(os.path.realpath(file)))
        except OSError as error:
            raise StorageError(f"{path}: cannot be opened: {error.strerror}") from None
        try:
            self._lock()
        except OSError:
            holder = os.read(self._descriptor, 100).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StorageError(f"{file}: is in use by the server with process id {holder}") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have the file."""
        # A process that was forked from this one has the lock too, as long as it is only closed.
        with contextlib.suppress(OSError):
            if sys.platform != "win32":
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)

    def _lock(self) -> None:
        # Where there is no flock, SQLite's exclusive lock refuses a second process, without naming the first.
        if sys.platform != "win32":
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _opened(path: Path, file: Path) -> int:
    """Open the lock of a file, and make it if it is not there."""
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR)
    with contextlib.suppress(FileExistsError):
        # The file may be gone, or not be there yet.
        return create(path, file if file.exists() else file.parent)
    return os.open(path, os.O_RDWR)
