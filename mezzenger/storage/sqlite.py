"""The store in a file: SQLite in WAL mode, every commit synced, on a thread of its own or the caller's.

One row holds one frame, whole batches too. What a commit changes is in ``changes.py``, what is read in ``rows.py``.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

from mezzenger.broker.effects import Change, Find, Load, Sweep
from mezzenger.broker.restored import Dead, Restored, Stored, Swept
from mezzenger.errors import StorageError, StorageFull
from mezzenger.storage import rows
from mezzenger.storage.changes import make_changes
from mezzenger.storage.files import sync_folder
from mezzenger.storage.lock import FileLock
from mezzenger.storage.rows import DamagedRowError
from mezzenger.storage.schema import prepare
from mezzenger.storage.start import Seal, sealed
from mezzenger.storage.worker import Worker

_HARMLESS: Final = {
    sqlite3.SQLITE_FULL: "there is no space left on the disk",
    sqlite3.SQLITE_TOOBIG: "one frame is larger than SQLite takes, which is 1,000,000,000 bytes",
}
"""After these the disk is as it was."""

R = TypeVar("R")
Q = TypeVar("Q", Load, Sweep, Find)
Arguments = TypeVarTuple("Arguments")


class SqliteStorage:
    """Keeps frames in a file, which one process may use at a time. The file is made if it is not there.

    Args:
        file: The path.
        on_a_thread: Work on a thread of its own. If not, no method waits for anything.
    """

    survives_restart = True

    def __init__(self, file: Path, *, on_a_thread: bool = True) -> None:
        self._file = file
        self._thread = Worker("mezzenger-store") if on_a_thread else None
        self._lock: FileLock | None = None
        self._seal: Seal | None = None
        self._database: sqlite3.Connection | None = None
        self._names: dict[str, int] = {}
        self._failure: str | None = None
        self._rows = rows.Reader(file)

    async def open(self) -> Restored:
        """Return what the last run left.

        Raises:
            StorageError: The file is in use, damaged, or not ours.
        """
        return await self._run(self._open)

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make the changes in one transaction, and sync it.

        Raises:
            StorageFull: There is no space; nothing was changed.
            StorageError: The disk failed, now or before; whether the changes are made is not known, or they are not.
        """
        await self._run(self._commit, changes)

    async def read(self, load: Load) -> Sequence[Stored]:
        """Return the next frames of a name, without damaged ones.

        Raises:
            StorageError: They cannot be read.
        """
        return await self._run(self._read, self._rows.read_waiting, load)

    async def sweep(self, sweep: Sweep) -> Swept:
        """Return what has expired, and what is due, without what is damaged.

        Raises:
            StorageError: It cannot be read.
        """
        return await self._run(self._read, self._rows.sweep, sweep)

    async def find(self, find: Find) -> Sequence[Dead]:
        """Return the dead letters that a question is about.

        Raises:
            StorageError: They cannot be read, or are damaged.
        """
        return await self._run(self._read, rows.find, find)

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._close)
        if self._thread is not None:
            self._thread.end()

    async def _run(self, work: Callable[[*Arguments], R], *arguments: *Arguments) -> R:
        if self._thread is None:
            return work(*arguments)
        return await self._thread.run(work, *arguments)

    # On the store's thread, if it has one.

    def _open(self) -> Restored:
        self._lock = FileLock(self._file)
        try:
            self._seal = sealed(self._file)
            self._database = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
            prepare(self._database, self._file)
            # SQLite does so too, when the file is new, but tells nobody if that fails.
            sync_folder(self._file)
            self._seal.begin(self._database)
            restored = rows.read_restored(self._database, self._names)
            self._seal.committed(self._database)
        except OSError as error:
            raise StorageError(f"{self._file}: cannot be opened: {error.strerror}") from None
        except sqlite3.Error as error:
            raise StorageError(f"{self._file}: cannot be read: {error}") from None
        return restored

    def _close(self) -> None:
        try:
            if self._database is not None:
                self._let_go(self._database)
        finally:
            if self._lock is not None:
                self._lock.release()

    def _let_go(self, database: sqlite3.Connection) -> None:
        if self._seal is not None:
            self._seal.finish(database, has_failed=self._failure is not None)
        database.close()

    def _commit(self, changes: Sequence[Change]) -> None:
        database = self._usable()
        try:
            database.execute("BEGIN IMMEDIATE")
            make_changes(database, changes, self._names)
            database.execute("COMMIT")
            self._note(database)
        except sqlite3.Error as error:
            raise self._failed(database, error) from None
        except BaseException:
            self._undo(database)
            raise

    def _note(self, database: sqlite3.Connection) -> None:
        """Let the seal know of a commit."""
        if self._seal is not None:
            self._seal.committed(database)

    def _failed(self, database: sqlite3.Connection, error: sqlite3.Error) -> StorageError:
        """Undo what a transaction has done, and say what its failure means."""
        # Errors of the module itself have no code.
        text = _HARMLESS.get(getattr(error, "sqlite_errorcode", -1))
        if text is not None:
            try:
                self._undo(database)
            except sqlite3.Error as second_error:
                error = second_error
            else:
                return StorageFull(f"{self._file}: {text}")
        # After a failed sync nobody knows what the disk has, and a second sync would only pretend to.
        self._failure = f"{self._file}: the disk has failed ({error}); nothing is stored until the server is restarted"
        return StorageError(self._failure)

    def _undo(self, database: sqlite3.Connection) -> None:
        if database.in_transaction:
            database.execute("ROLLBACK")
        self._names = dict(database.execute("SELECT name, id FROM name"))

    def _usable(self) -> sqlite3.Connection:
        if self._failure is not None:
            raise StorageError(self._failure)
        if self._database is None:
            raise StorageError(f"{self._file}: is not open")
        return self._database

    def _read(self, read: Callable[[sqlite3.Connection, Q], R], query: Q) -> R:
        database = self._usable()
        try:
            found = read(database, query)
            # Frames that are read are noted as such.
            self._note(database)
        except sqlite3.Error as error:
            raise self._failed(database, error) from None
        except DamagedRowError as error:
            raise StorageError(f"{self._file}: {error}") from None
        return found
