"""Writes what was rescued into a new store."""

import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Final

from mezzenger.storage.evidence import Evidence
from mezzenger.storage.files import create
from mezzenger.storage.page_rows import RETAINED, Row, Value
from mezzenger.storage.schema import APPLICATION_ID, TABLES, VERSION

_COLUMNS: Final = {
    "message": ("attempts", "indexes", "due", "expires", "error", "frame"),
    "delayed": ("due", "expires", "frame"),
    "dead": ("attempts", "indexes", "buried", "reason", "error", "frame"),
    RETAINED: ("expires", "frame"),
}
_COUNTED: Final = ("message", "delayed", "dead")
_UNKNOWN_NUMBERS: Final = 1_000_000
"""Left out if the last number is not known, so that none is given twice: subscribers may acknowledge it late."""


class NewStore:
    """A store that is being written; nobody else knows of it yet.

    Args:
        file: Where; it is not there yet.
        like: Whom this file belongs to, the new one belongs to as well.

    Raises:
        OSError, sqlite3.Error: It cannot be written.
    """

    def __init__(self, file: Path, like: Path) -> None:
        self._file = file
        # SQLite would ask the umask who may read it.
        os.close(create(file, like))
        self._database = sqlite3.connect(file, isolation_level=None)
        # If this is interrupted, it is begun anew.
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {TABLES}"
        )
        self._ids: dict[str, int] = {}
        self._messages: Counter[str] = Counter()
        self.frames: Counter[tuple[str, str]] = Counter()
        """How many rows of each queue there are in each table."""
        self._highest = 0

    def add(self, row: Row, name: str) -> None:
        """Write a row of a queue."""
        columns = _COLUMNS[row.table]
        self._highest = max(self._highest, row.number)
        if row.table == RETAINED and not self._is_last(row):
            return
        values: list[Value] = [row.number, self._id_of(name), *(row.values[column] for column in columns)]
        self._database.execute(
            f"INSERT INTO {row.table} (number, name, {', '.join(columns)}) "  # noqa: S608  # words from the table above
            f"VALUES ({', '.join('?' * len(values))})",
            values,
        )
        self.frames[row.table, name] += 1
        if row.table == "message":
            self._messages[name] += row.header.messages

    def finish(self, evidence: Evidence) -> None:
        """Write all the rest, and sync it."""
        last_number = max(evidence.last_number, self._highest)
        if not evidence.last_number_is_known:
            last_number += _UNKNOWN_NUMBERS
        self._database.execute("UPDATE last_number SET number = ?", (last_number,))
        offered = {known.name: known.offered for known in evidence.names.values()}
        # A group is there whether something waits for it or not.
        groups = [
            (known.since, self._id_of(known.name)) for known in evidence.names.values() if known.since is not None
        ]
        # Where nothing tells which pages are damaged it may be anything; with 0, a group inherits nothing.
        self._database.executemany(
            "UPDATE name SET since = CASE WHEN ?1 BETWEEN 0 AND ?3 THEN ?1 ELSE 0 END WHERE id = ?2",
            [(*group, last_number) for group in groups],
        )
        for name, id_ in self._ids.items():
            # Of a name whose mark is lost, all may have been delivered.
            mark = offered.get(name)
            self._count(name, id_, last_number if mark is None else mark)
        self._database.executemany("INSERT OR IGNORE INTO publisher VALUES (?, ?, ?, ?)", evidence.publishers)
        self._database.executemany("INSERT OR IGNORE INTO refused VALUES (?, ?)", evidence.refused)
        self._database.execute("COMMIT")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.close()
        descriptor = os.open(self._file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Let go of it unfinished."""
        self._database.close()

    def _id_of(self, name: str) -> int:
        id_ = self._ids.get(name)
        if id_ is None:
            id_ = self._database.execute("INSERT INTO name (name) VALUES (?)", (name,)).lastrowid or 0
            self._ids[name] = id_
        return id_

    def _is_last(self, row: Row) -> bool:
        """Whether a message is the last of its name so far; if so, the one before is removed."""
        id_ = self._id_of(row.header.name)
        (number,) = self._database.execute("SELECT max(number) FROM retained WHERE name = ?", (id_,)).fetchone()
        if number is not None:
            if number > row.number:
                return False
            self._database.execute("DELETE FROM retained WHERE name = ?", (id_,))
            self.frames[RETAINED, row.header.name] -= 1
        return True

    def _count(self, name: str, id_: int, offered: int) -> None:
        counts = [
            self._database.execute(
                f"SELECT COUNT(*), coalesce(sum(length(frame)), 0) FROM {table} WHERE name = ?",  # noqa: S608
                (id_,),
            ).fetchone()
            for table in _COUNTED
        ]
        (frames, size), (delayed, delayed_size), (dead, dead_size) = counts
        self._database.execute(
            "UPDATE name SET frames = ?, messages = ?, size = ?, offered = ?, delayed = ?, delayed_size = ?, dead = ?,"
            " dead_size = ? WHERE id = ?",
            (frames, self._messages[name], size, offered, delayed, delayed_size, dead, dead_size, id_),
        )
