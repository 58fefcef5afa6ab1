"""What a crash leaves of the server's files: the database, its log and its seal.

SQLite writes nothing between two transactions, so the files as they lie there then are what a killed server leaves, and
a crash leaves a copy of these. A crash in a commit leaves a part of what the commit has added to the log, or all of it
but a sector that was lost or damaged. A crash after a commit leaves its log whole; what followed it and was not synced,
the seal's note and a checkpoint, is there or not, sector by sector. That SQLite syncs where it says so is not shown
here, but by ``tests/integration/power_cut.py``.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from mezzenger.broker.effects import Change
from mezzenger.storage.files import Files
from mezzenger.storage.sqlite import SqliteStorage
from mezzenger.storage.wal import HEADER
from tests.simulation.clock import Clock

SECTOR: Final = 512
PAGE_SIZE: Final = 512
"""The smallest: what happens in a history fills many pages all the same, and is quickly read and digested."""


class Image(NamedTuple):
    """What the files contain; None if one is not there."""

    database: bytes | None
    wal: bytes | None
    seal: bytes | None


class Disk:
    """A disk that loses what was not synced.

    Args:
        clock: Decides what else it loses.
        directory: Where the files are.
    """

    def __init__(self, clock: Clock, directory: Path) -> None:
        self._clock = clock
        self._directory = directory
        self._crashes = 0
        self.file = directory / "0.db"
        with closing(sqlite3.connect(self.file)) as database:
            database.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            database.execute("VACUUM")

    def crash(self, storage: SqliteStorage) -> None:
        """End the store between two commits."""
        self._end(storage, self._image())

    def crash_in_commit(self, storage: SqliteStorage, changes: Sequence[Change]) -> None:
        """End the store before a commit was synced."""
        before = self._image()
        storage._commit(changes)
        self._end(storage, before._replace(wal=self._torn(before.wal or b"", self._image().wal or b"")))

    def crash_after_commit(self, storage: SqliteStorage, changes: Sequence[Change]) -> None:
        """End the store when a commit was synced, and before anybody was told."""
        before = self._image()
        storage._commit(changes)
        after = self._image()
        if before.database == after.database:
            self._end(storage, after._replace(seal=self._mixed(before.seal, after.seal)))
        elif self._clock.random.random() < 0.5:
            self._clock.tell("crash before a checkpoint")
            self._end(storage, after._replace(database=before.database, seal=self._mixed(before.seal, after.seal)))
        else:
            # The seal was synced before that.
            self._clock.tell("crash in a checkpoint")
            self._end(storage, after._replace(database=self._mixed(before.database, after.database)))

    def _image(self) -> Image:
        return Image(*(path.read_bytes() if path.exists() else None for path in Files.of(self.file)))

    def _end(self, storage: SqliteStorage, left: Image) -> None:
        former = Files.of(self.file)
        self._crashes += 1
        self.file = self._directory / f"{self._crashes}.db"
        for path, content in zip(Files.of(self.file), left, strict=True):
            if content is not None:
                path.write_bytes(content)
        close(storage)
        for path in former:
            path.unlink(missing_ok=True)

    def _torn(self, before: bytes, after: bytes) -> bytes:
        """Lose a part of what was written to the log, whose header is synced before anything follows it."""
        random = self._clock.random
        old = after[: HEADER.size] + before[HEADER.size :]
        there = old.ljust(len(after), b"\0")
        changed = [at for at, (was, is_now) in enumerate(zip(there, after, strict=True)) if was != is_now]
        if not changed:
            return after  # such a commit has nothing to lose
        at = random.choice(changed)
        if random.random() < 0.5:
            return after[:at] + old[at:]
        first = max(at - at % SECTOR, changed[0])
        last = min(at - at % SECTOR + SECTOR, len(after))
        lost = there if random.random() < 0.5 else bytes(byte ^ 0xA5 for byte in after)
        return after[:first] + lost[first:last] + after[last:]

    def _mixed(self, before: bytes | None, after: bytes | None) -> bytes:
        """Keep some of what was written and not synced, sector by sector."""
        before, after = before or b"", after or b""
        random = self._clock.random
        chance = random.choice((0.0, 0.5, 1.0))
        size = random.choice((len(before), len(after)))
        sectors = []
        for first in range(0, size, SECTOR):
            source = after if random.random() < chance else before
            sectors.append(source[first : first + SECTOR].ljust(min(SECTOR, size - first), b"\0"))
        return b"".join(sectors)


def close(storage: SqliteStorage) -> None:
    """Let go of a store's file."""
    storage._close()
    if storage._thread is not None:
        storage._thread.end()
