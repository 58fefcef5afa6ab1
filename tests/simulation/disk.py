"""What a crash leaves of the server's file.

SQLite writes nothing between two transactions, so the file and its WAL as they lie there are what was synced last, and
a crash leaves a copy of these. A crash in a commit leaves a part of what the commit has added to the WAL, or all of it
with a sector that never came to the disk. That SQLite syncs where it says so is not shown here, but by
``tests/integration/power_cut.py``.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mezzenger.broker.effects import Change
from mezzenger.storage.sqlite import SqliteStorage
from tests.simulation.clock import Clock

SECTOR: Final = 512


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

    def crash(self, storage: SqliteStorage, torn: Sequence[Change] = ()) -> None:
        """End the store as a crash does.

        Args:
            storage: What is open.
            torn: What it was about to commit, if it was.
        """
        before = self._wal.stat().st_size if self._wal.exists() else 0
        if torn:
            storage._commit(torn)
        former, former_wal = self.file, self._wal
        self._crashes += 1
        self.file = self._directory / f"{self._crashes}.db"
        shutil.copyfile(former, self.file)
        if former_wal.exists():
            shutil.copyfile(former_wal, self._wal)
        if torn:
            self._tear(before)
        close(storage)
        former.unlink()

    @property
    def _wal(self) -> Path:
        return self.file.with_name(self.file.name + "-wal")

    def _tear(self, before: int) -> None:
        """Lose a part of what was added to the WAL since it had this size."""
        size = self._wal.stat().st_size
        if size == before:
            return  # such a commit has nothing to lose
        at = self._clock.random.randrange(before, size)
        with self._wal.open("r+b") as wal:
            if self._clock.random.random() < 0.5:
                wal.truncate(at)
            else:
                wal.seek(at)
                kept = wal.read(SECTOR)
                wal.seek(at)
                wal.write(bytes(byte ^ 0xA5 for byte in kept))


def close(storage: SqliteStorage) -> None:
    """Let go of a store's file."""
    storage._close()
    storage._thread.shutdown()
