"""What is read from the tables."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from mezzenger.broker.effects import Find, Load, Sweep
from mezzenger.broker.restored import Dead, KnownPublisher, Restored, Stored, Swept, Total, Waiting
from mezzenger.errors import ProtocolError
from mezzenger.protocol import wire
from mezzenger.protocol.commands import DropDead, ListDead, ShowDead
from mezzenger.storage.changes import unsigned
from mezzenger.storage.retained import read_retained

FIND_FRAMES: Final = 100
FIND_SIZE: Final = 8 * 2**20
_MAX_NUMBER: Final = 2**63 - 1
"""A larger one SQLite does not take, and no message has it."""

_decode_indexes = msgspec.msgpack.Decoder(tuple[int, ...]).decode


class DamagedRowError(Exception):
    """A row that is not as it was written."""

    def __init__(self, number: int, name: str, cause: Exception) -> None:
        super().__init__(f"message {number} of {name!r} is damaged: {cause}")


def read_restored(database: sqlite3.Connection, names: dict[str, int]) -> Restored:
    """Return what a broker must know, and put the ids of the names into ``names``."""
    database.execute(
        "DELETE FROM name WHERE frames = 0 AND delayed = 0 AND dead = 0 AND id NOT IN (SELECT name FROM retained)"
    )
    totals = []
    for id_, *total in database.execute(
        "SELECT id, name, frames, messages, size, delayed, delayed_size, dead, dead_size FROM name"
    ):
        totals.append(Total(*total))
        names[totals[-1].name] = id_
    refused: defaultdict[int, set[int]] = defaultdict(set)
    for client, sequence in database.execute("SELECT client, sequence FROM refused"):
        refused[client].add(unsigned(sequence))
    publishers = [
        KnownPublisher(unsigned(client), key, unsigned(stored), frozenset(refused[client]))
        for client, key, stored in database.execute("SELECT client, key, stored FROM publisher ORDER BY seen, rowid")
    ]
    (last_number,) = database.execute("SELECT number FROM last_number").fetchone()
    return Restored(last_number, totals, publishers, _next_moment(database), read_retained(database))


def read_waiting(database: sqlite3.Connection, load: Load) -> list[Stored]:
    """Return the next frames of a name, and note, lastingly, that they may be delivered from now on.

    Raises:
        DamagedRowError: One of them is not as it was written.
        sqlite3.Error: The file cannot be read or written.
    """
    cursor = database.execute(
        "SELECT number, max(attempts, number <= offered), indexes, due, expires, error, frame FROM message"
        " JOIN name ON message.name = id"
        " WHERE message.name = (SELECT id FROM name WHERE name = ?) AND number > ? ORDER BY number LIMIT ?",
        (load.name, load.after, load.frames),
    )
    rows = []
    for number, attempts, indexes, due, expires, error, frame in _up_to(load.size, cursor):
        header = _header(number, load.name, frame)
        left = _indexes(number, load.name, indexes)
        rows.append(Stored(number, load.name, header.messages, frame, attempts, left, due, expires, error))
    if rows:
        # After a crash, what may be a redelivery is marked as one.
        database.execute("UPDATE name SET offered = max(offered, ?) WHERE name = ?", (rows[-1].number, load.name))
    return rows


def sweep(database: sqlite3.Connection, sweep: Sweep) -> Swept:
    """Return what has expired, and what was delayed and is due.

    Raises:
        DamagedRowError: One of them is not as it was written.
        sqlite3.Error: The file cannot be read.
    """
    expired = database.execute(
        "SELECT number, name.name, indexes, NULL, frame FROM message JOIN name ON message.name = id"
        " WHERE expires <= ? ORDER BY expires LIMIT ?",
        (sweep.now, sweep.frames),
    ).fetchall()
    due = database.execute(
        "SELECT number, name.name, NULL, expires, frame FROM delayed JOIN name ON delayed.name = id"
        " WHERE due <= ? ORDER BY due, number LIMIT ?",
        (sweep.now, sweep.frames),
    ).fetchall()
    is_cut_off = sweep.frames in {len(expired), len(due)}
    later = sweep.now if is_cut_off else _next_moment(database, after=sweep.now)
    return Swept([_waiting(*row) for row in expired], [_waiting(*row)._replace(frame=row[-1]) for row in due], later)


def find(database: sqlite3.Connection, find: Find) -> list[Dead]:
    """Return the dead letters that a question is about; of a list, its beginning.

    Raises:
        DamagedRowError: One of them is not as it was written.
        sqlite3.Error: The file cannot be read.
    """
    match find.question:
        case ListDead(name=name, after=after):
            where, values = "number > ? AND (? IS NULL OR name.name = ?)", (min(after, _MAX_NUMBER), name, name)
            return _dead(database, where, values)
        case ShowDead(number=number):
            return _dead_with(database, [number])
        case DropDead(numbers=numbers):
            # Damaged ones too: it is the way to be rid of them.
            return _dead_with(database, numbers, is_checked=False)
        case question:
            return _dead_with(database, question.numbers)


def _dead_with(database: sqlite3.Connection, numbers: Iterable[int], *, is_checked: bool = True) -> list[Dead]:
    letters = []
    for number in numbers:
        letters += _dead(database, "number = ?", (min(number, _MAX_NUMBER),), is_checked=is_checked)
    return letters


def _dead(
    database: sqlite3.Connection, where: str, values: tuple[object, ...], *, is_checked: bool = True
) -> list[Dead]:
    cursor = database.execute(
        "SELECT number, name.name, attempts, indexes, buried, reason, error, frame FROM dead"  # noqa: S608  # ours
        f" JOIN name ON dead.name = id WHERE {where} ORDER BY number LIMIT ?",
        (*values, FIND_FRAMES),
    )
    letters = []
    for number, name, attempts, indexes, buried, reason, error, frame in _up_to(FIND_SIZE, cursor):
        left = None
        try:
            _header(number, name, frame)
            left = _indexes(number, name, indexes)
        except DamagedRowError:
            if is_checked:
                raise
        letters.append(Dead(number, name, attempts, left, buried, reason, error, frame))
    return letters


def _next_moment(database: sqlite3.Connection, after: float = 0.0) -> float | None:
    """Return when the first of what waits expires or is due, after what has by then."""
    moments = (
        database.execute("SELECT min(expires) FROM message WHERE expires > ?", (after,)).fetchone()[0],
        database.execute("SELECT min(due) FROM delayed WHERE due > ?", (after,)).fetchone()[0],
        # What is due now waits to expire from now on.
        database.execute("SELECT min(expires) FROM delayed WHERE due <= ?", (after,)).fetchone()[0],
    )
    return min((moment for moment in moments if moment is not None), default=None)


def _up_to(size: int, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the first rows, one at least, whose frames, in the last column, have so many bytes together."""
    total = 0
    for row in rows:
        total += len(row[-1])
        if total > size and total > len(row[-1]):
            return
        yield row


def _waiting(number: int, name: str, indexes: bytes | None, expires: float | None, frame: bytes) -> Waiting:
    messages = _header(number, name, frame).messages
    left = _indexes(number, name, indexes)
    left_messages = messages if left is None else len(left)
    return Waiting(number, name, messages, left_messages, len(frame), expires=expires)


def _header(number: int, name: str, frame: bytes) -> wire.Header:
    """Return the header of a frame that is as it was written."""
    try:
        return wire.read_contents(frame).header
    except ProtocolError as error:
        raise DamagedRowError(number, name, error) from None


def _indexes(number: int, name: str, indexes: bytes | None) -> tuple[int, ...] | None:
    try:
        return None if indexes is None else _decode_indexes(indexes)
    except msgspec.DecodeError as error:
        raise DamagedRowError(number, name, error) from None
