"""Opens a store for reading without changing one byte of its files."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mezzenger.errors import StorageError
from mezzenger.storage import wal
from mezzenger.storage.files import NO_SPACE, Files, beside, create, reading
from mezzenger.storage.wal import Log

_CHUNK: Final = 2**20


@contextmanager
def snapshot(files: Files, log: Log, *, is_ours: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the database as it is with what was committed to its log.

    SQLite writes to a database with a log even when it only reads. So without a log it is told that nobody will ever
    write; with one, the log is applied to a copy.

    Args:
        files: Where they are.
        log: What is committed there.
        is_ours: Make the copy beside the file, and not in the folder for temporary files.

    Raises:
        StorageError: There is no room for a copy.
        OSError: It cannot be copied.
        sqlite3.Error: It cannot be read.
    """
    if not log.committed:
        with closing(_immutable(files.database)) as database:
            yield database
        return
    with _place(files, is_ours=is_ours) as copy:
        try:
            _copy(files, log, copy)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            help_ = "" if is_ours else "; set TMPDIR to a folder that has"
            text = f"{copy.parent}: has no room for a copy of {files.database}, to look at it with its log"
            raise StorageError(f"{text}: {error.strerror}{help_}") from None
        with closing(_immutable(copy)) as database:
            yield database


@contextmanager
def _place(files: Files, *, is_ours: bool) -> Iterator[Path]:
    """Return where a copy may be made, and remove it afterwards."""
    if not is_ours:
        with TemporaryDirectory(prefix="mezzenger-check-") as folder:
            yield Path(folder, "copy.db")
        return
    # Of one name, so that what was left by a process that was killed is removed by the next one.
    copy = beside(files.database, ".copy")
    copy.unlink(missing_ok=True)
    try:
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _immutable(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def _copy(files: Files, log: Log, copy: Path) -> None:
    size = log.page_size
    with (
        reading(files.database) as source,
        reading(files.wal) as logged,
        os.fdopen(create(copy, files.database), "wb") as target,
    ):
        if source is None or logged is None:
            return
        while chunk := os.read(source, _CHUNK):
            target.write(chunk)
        for page, number in log.latest.items():
            target.seek((page - 1) * size)
            target.write(wal.read_page(logged, size, number))
        target.truncate(log.pages * size)
