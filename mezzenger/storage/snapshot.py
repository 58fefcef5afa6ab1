"""Opens a store for reading without changing one byte of its files."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mezzenger.storage import wal
from mezzenger.storage.files import Files, reading
from mezzenger.storage.wal import Log

_CHUNK: Final = 2**20


@contextmanager
def snapshot(files: Files, log: Log) -> Iterator[sqlite3.Connection]:
    """Open the database as it is with what was committed to its log.

    SQLite writes to a database with a log even when it only reads. So without a log it is told that nobody will ever
    write; with one, the log is applied to a copy, in the folder for temporary files.

    Raises:
        OSError: It cannot be copied.
        sqlite3.Error: It cannot be read.
    """
    if not log.committed:
        with closing(_immutable(files.database)) as database:
            yield database
        return
    with TemporaryDirectory(prefix="mezzenger-check-") as folder:
        copy = Path(folder, "copy.db")
        _copy(files, log, copy)
        with closing(_immutable(copy)) as database:
            yield database


def _immutable(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def _copy(files: Files, log: Log, copy: Path) -> None:
    size = log.page_size
    with reading(files.database) as source, reading(files.wal) as logged, copy.open("wb") as target:
        if source is None or logged is None:
            return
        while chunk := os.read(source, _CHUNK):
            target.write(chunk)
        for page, number in log.latest.items():
            target.seek((page - 1) * size)
            target.write(wal.read_page(logged, size, number))
        target.truncate(log.pages * size)
