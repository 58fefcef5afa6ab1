"""The store in a file: SQLite in WAL mode, every commit synced, on a thread of its own.

One row holds one frame, whole batches too. SQLite's numbers are signed; client ids and sequences, which are not, are
written less 2**63, which keeps their order.
"""

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import msgspec

from mezzenger.broker.effects import Attempt, Change, Forget, Know, Load, Offered, Refusal, Settle, Store
from mezzenger.broker.restored import KnownPublisher, Restored, Stored, Total
from mezzenger.errors import ProtocolError, StorageError, StorageFull
from mezzenger.protocol import wire
from mezzenger.storage.lock import FileLock
from mezzenger.storage.schema import prepare
from mezzenger.storage.start import Seal, sealed

_OFFSET: Final = 2**63
_HARMLESS: Final = {
    sqlite3.SQLITE_FULL: "there is no space left on the disk",
    sqlite3.SQLITE_TOOBIG: "one frame is larger than SQLite takes, which is 1,000,000,000 bytes",
}
"""After these the disk is as it was."""

R = TypeVar("R")
Arguments = TypeVarTuple("Arguments")

_encode_indexes = msgspec.msgpack.Encoder().encode
_decode_indexes = msgspec.msgpack.Decoder(tuple[int, ...]).decode


class SqliteStorage:
    """Keeps frames in a file, which one process may use at a time. The file is made if it is not there.

    Args:
        file: The path.
    """

    survives_restart = True

    def __init__(self, file: Path) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mezzenger-store")
        self._lock: FileLock | None = None
        self._seal: Seal | None = None
        self._database: sqlite3.Connection | None = None
        self._names: dict[str, int] = {}
        self._failure: str | None = None

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
        """Return the next frames of a name.

        Raises:
            StorageError: They cannot be read, or are damaged.
        """
        return await self._run(self._read, load)

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[*Arguments], R], *arguments: *Arguments) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    # On the store's thread.

    def _open(self) -> Restored:
        self._lock = FileLock(self._file)
        try:
            self._seal = sealed(self._file)
            self._database = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
            prepare(self._database, self._file)
            self._seal.begin(self._database)
            restored = self._restored(self._database)
            self._seal.committed(self._database)
        except OSError as error:
            raise StorageError(f"{self._file}: cannot be opened: {error.strerror}") from None
        except sqlite3.Error as error:
            raise StorageError(f"{self._file}: cannot be read: {error}") from None
        return restored

    def _restored(self, database: sqlite3.Connection) -> Restored:
        database.execute("DELETE FROM name WHERE frames = 0 AND delayed = 0 AND dead = 0")
        names = database.execute("SELECT id, name, frames, size FROM name").fetchall()
        self._names = {name: id_ for id_, name, _, _ in names}
        refused: defaultdict[int, set[int]] = defaultdict(set)
        for client, sequence in database.execute("SELECT client, sequence FROM refused"):
            refused[client].add(_unsigned(sequence))
        publishers = database.execute("SELECT client, key, stored FROM publisher ORDER BY seen, rowid")
        (last_number,) = database.execute("SELECT number FROM last_number").fetchone()
        return Restored(
            last_number,
            [Total(name, frames, size) for _, name, frames, size in names],
            [
                KnownPublisher(_unsigned(client), key, _unsigned(stored), frozenset(refused[client]))
                for client, key, stored in publishers
            ],
        )

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
            self._make(database, changes)
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

    def _make(self, database: sqlite3.Connection, changes: Sequence[Change]) -> None:
        # Frames are stored, attempted and settled in this order; what is known of publishers does not touch frames.
        _know(database, [change for change in changes if isinstance(change, Know | Refusal | Forget)])
        stores = [change for change in changes if isinstance(change, Store)]
        settles = [change for change in changes if isinstance(change, Settle)]
        self._store(database, stores)
        database.executemany(
            "UPDATE message SET attempts = ?, indexes = ? WHERE number = ?",
            (
                (change.attempts, None if change.indexes is None else _encode_indexes(change.indexes), change.number)
                for change in changes
                if isinstance(change, Attempt)
            ),
        )
        database.executemany("DELETE FROM message WHERE number = ?", ((settle.number,) for settle in settles))
        self._count(database, stores, settles)
        database.executemany(
            "UPDATE name SET offered = ? WHERE id = ?",
            ((number, self._names[name]) for name, number in _offered(changes).items() if name in self._names),
        )

    def _store(self, database: sqlite3.Connection, stores: Sequence[Store]) -> None:
        if not stores:
            return
        for name in {store.name for store in stores} - self._names.keys():
            cursor = database.execute("INSERT INTO name (name) VALUES (?)", (name,))
            self._names[name] = cursor.lastrowid or 0
        database.executemany(
            "INSERT INTO message (number, name, frame) VALUES (?, ?, ?)",
            ((store.number, self._names[store.name], store.frame) for store in stores),
        )
        sequences: dict[int, int] = {}
        for store in stores:
            sequences[store.client] = max(store.sequence, sequences.get(store.client, 0))
        database.executemany(
            "UPDATE publisher SET stored = max(stored, ?) WHERE client = ?",
            ((_signed(sequence), _signed(client)) for client, sequence in sequences.items()),
        )
        database.execute("UPDATE last_number SET number = ?", (stores[-1].number,))

    def _count(self, database: sqlite3.Connection, stores: Iterable[Store], settles: Iterable[Settle]) -> None:
        frames: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for store in stores:
            frames[store.name] += 1
            sizes[store.name] += len(store.frame)
        for settle in settles:
            frames[settle.name] -= 1
            sizes[settle.name] -= settle.size
        database.executemany(
            "UPDATE name SET frames = frames + ?, size = size + ? WHERE id = ?",
            ((count, sizes[name], self._names[name]) for name, count in frames.items()),
        )

    def _read(self, load: Load) -> Sequence[Stored]:
        database = self._usable()
        try:
            rows = self._select(database, load)
            if rows:
                # Lasting before the frames are delivered: after a crash, what may be a redelivery is marked as one.
                database.execute(
                    "UPDATE name SET offered = max(offered, ?) WHERE name = ?", (rows[-1].number, load.name)
                )
                self._note(database)
        except sqlite3.Error as error:
            raise self._failed(database, error) from None
        return rows

    def _select(self, database: sqlite3.Connection, load: Load) -> list[Stored]:
        rows: list[Stored] = []
        size = 0
        cursor = database.execute(
            "SELECT number, max(attempts, number <= offered), indexes, frame FROM message"
            " JOIN name ON message.name = id WHERE message.name = ? AND number > ? ORDER BY number LIMIT ?",
            (self._names.get(load.name), load.after, load.frames),
        )
        for number, attempts, indexes, frame in cursor:
            size += len(frame)
            if rows and size > load.size:
                break
            rows.append(self._stored(load.name, number, attempts, indexes, frame))
        cursor.close()
        return rows

    def _stored(self, name: str, number: int, attempts: int, indexes: bytes | None, frame: bytes) -> Stored:
        try:
            header = wire.read_contents(frame).header
            left = None if indexes is None else _decode_indexes(indexes)
        except (ProtocolError, msgspec.DecodeError) as error:
            raise StorageError(f"{self._file}: message {number} of {name!r} is damaged: {error}") from None
        return Stored(number, name, header.messages, frame, attempts, left)


def _know(database: sqlite3.Connection, changes: Iterable[Know | Refusal | Forget]) -> None:
    for change in changes:
        client = _signed(change.client)
        match change:
            case Know():
                database.execute(
                    "INSERT INTO publisher VALUES (?, ?, ?, (SELECT number FROM last_number)) "
                    "ON CONFLICT DO UPDATE SET seen = excluded.seen",
                    (client, change.key, _signed(0)),
                )
            case Refusal(is_lifted=True):
                refusal = (client, _signed(change.sequence))
                database.execute("DELETE FROM refused WHERE client = ? AND sequence = ?", refusal)
            case Refusal():
                database.execute("INSERT OR IGNORE INTO refused VALUES (?, ?)", (client, _signed(change.sequence)))
            case Forget(before=None):
                database.execute("DELETE FROM publisher WHERE client = ?", (client,))
                database.execute("DELETE FROM refused WHERE client = ?", (client,))
            case Forget(before=int(before)):
                database.execute("DELETE FROM refused WHERE client = ? AND sequence < ?", (client, _signed(before)))


def _offered(changes: Iterable[Change]) -> dict[str, int]:
    offered: dict[str, int] = {}
    for change in changes:
        if isinstance(change, Offered) or (isinstance(change, Store) and change.is_offered):
            offered[change.name] = change.number
    return offered


def _signed(number: int) -> int:
    return number - _OFFSET


def _unsigned(number: int) -> int:
    return number + _OFFSET
