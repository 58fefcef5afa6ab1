"""The files that make a store: the database, and what lies beside it."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


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
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(file: Path) -> None:
    """Make durable that files were made, renamed or removed in the folder of this one."""
    if sys.platform == "win32":
        return
    descriptor = os.open(file.resolve().parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # There are file systems whose folders cannot be synced, and need not be.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def write_durably(file: Path, content: bytes | bytearray) -> None:
    """Write a file for nobody but its owner, and sync it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
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
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with file.open("rb") as source, os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(source, target)
        target.flush()
        os.fsync(descriptor)
    shutil.copystat(file, new)
    new.replace(other)
