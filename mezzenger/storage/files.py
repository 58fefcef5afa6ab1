"""The files that make a store: the database, and what lies beside it."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT}


class Files(NamedTuple):
    """The paths of a store."""

    database: Path
    wal: Path
    """SQLite's write-ahead log: commits that are not in the database yet."""
    seal: Path
    """The digests of the database's pages, and how far the log reached."""

    @classmethod
    def of(cls, file: Path) -> "Files":
        """Return the paths; whoever comes by way of a link finds the same ones, as with SQLite."""
        real = Path(os.path.realpath(file))
        return cls(real, beside(real, "-wal"), beside(real, ".seal"))

    def repaired(self) -> "Files":
        """Return where a repair makes what will take the place of this store; that is whole once it has its seal."""
        return Files.of(beside(self.database, ".repairing"))


def beside(file: Path, ending: str) -> Path:
    """Return the path of a file whose name begins with this one's."""
    return file.with_name(file.name + ending)


def size_of(file: Path) -> int:
    """Return how many bytes a file has, 0 if it is not there."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def reading(file: Path) -> Iterator[int | None]:
    """Open a file to read; None if it is not there.

    Never the database while SQLite has it open: closing any descriptor of a file ends all POSIX locks on it.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(file: Path) -> None:
    """Make durable that files were made, renamed or removed in the folder of this one."""
    descriptor = os.open(file.resolve().parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # There are file systems whose folders cannot be synced, and need not be.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def create(file: Path, like: Path) -> int:
    """Make a file that belongs to whom another one belongs, as far as we may, and to nobody else; return a descriptor.

    Root looks after files of users that could not open those of root.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _give(descriptor, like)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _give(descriptor: int, like: Path) -> None:
    known = like.stat()
    mode = stat.S_IMODE(known.st_mode) & 0o660 if stat.S_ISREG(known.st_mode) else 0o600
    try:
        os.fchown(descriptor, known.st_uid if os.geteuid() == 0 else -1, known.st_gid)
    except PermissionError:
        mode &= 0o600
    os.fchmod(descriptor, mode)


def write_durably(file: Path, content: bytes | bytearray, like: Path) -> None:
    """Write a file that belongs to whom another one belongs, and sync it."""
    file.unlink(missing_ok=True)
    descriptor = create(file, like)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_durably(file: Path, other: Path) -> None:
    """Copy a file, and sync it, before it has its name."""
    new = beside(other, ".new")
    new.unlink(missing_ok=True)
    descriptor = create(new, file)
    with file.open("rb") as source, os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(source, target)
        target.flush()
        os.fsync(descriptor)
    new.replace(other)
