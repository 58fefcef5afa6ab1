"""What is read from the tables."""

import logging
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mezzenger.broker.effects import Find, Load, Sweep
from mezzenger.broker.restored import Dead, KnownPublisher, Restored, Stored, Swept, Total, Waiting
from mezzenger.errors import ProtocolError
from mezzenger.protocol import wire
from mezzenger.protocol.commands import DropDead, ListDead, ResendDead, ShowDead
from mezzenger.storage.changes import unsigned
from mezzenger.storage.retained import read_retained

FIND_FRAMES: Final = 100
FIND_SIZE: Final = 8 * 2**20
SWEEP_SIZE: Final = 8 * 2**20
"""Bytes of the frames that are due, beyond which no more are returned at once."""
_MAX_NUMBER: Final = 2**63 - 1
"""A larger one SQLite does not take, and no message has it."""
# A group is there whether something waits for it or not.
_IS_UNUSED: Final = (
    "frames = 0 AND delayed = 0 AND dead = 0 AND since IS NULL AND id NOT IN (SELECT name FROM retained)"
)

R = TypeVar("R")

logger = logging.getLogger("mezzenger.storage")

_decode_indexes = msgspec.msgpack.Decoder(tuple[int, ...]).decode


class DamagedRowError(Exception):
    """A row that is not as it was written."""

    def __init__(self, number: int, name: str, cause: Exception) -> None:
        self.number = number
        super().__init__(f"message {number} of {name!r} is damaged: {cause}")


def read_restored(database: sqlite3.Connection, names: dict[str, int]) -> Restored:
    """Return what a broker must know, and put the ids of the names into ``names``."""
    _remove_unused_names(database)
    totals = []
    for is_unused, id_, since, name, *counts in database.execute(
        f"SELECT {_IS_UNUSED}, id, since, name, frames, messages, size, delayed, delayed_size,"  # noqa: S608  # ours
        " dead, dead_size, ifnull(since, 0) FROM name"
    ):
        names[name] = id_
        if not is_unused:
            totals.append(Total(name, since is not None, *counts))
    refused: defaultdict[int, set[int]] = defaultdict(set)
    for client, sequence in database.execute("SELECT client, sequence FROM refused"):
        refused[client].add(unsigned(sequence))
    publishers = [
        KnownPublisher(unsigned(client), key, unsigned(stored), frozenset(refused[client]))
        for client, key, stored in database.execute("SELECT client, key, stored FROM publisher ORDER BY seen, rowid")
    ]
    (last_number,) = database.execute("SELECT number FROM last_number").fetchone()
    return Restored(last_number, totals, publishers, _next_moment(database), read_retained(database))


def _remove_unused_names(database: sqlite3.Connection) -> None:
    try:
        database.execute(f"DELETE FROM name WHERE {_IS_UNUSED}")  # noqa: S608  # words from above
    except sqlite3.OperationalError as error:
        # The next start can do it as well, and a server can do much without space.
        if getattr(error, "sqlite_errorcode", -1) != sqlite3.SQLITE_FULL:
            raise


class Reader:
    """Reads what is to be delivered, and what has expired or is due.

    A row that is not as it was written is passed over: it stays in the file, for ``mezzenger store repair``, and the
    log tells of it once.

    Args:
        file: Is named in the log.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._damaged: set[int] = set()

    def read_waiting(self, database: sqlite3.Connection, load: Load) -> list[Stored]:
        """Return the next frames of a name, and note, lastingly, that they may be delivered from now on.

        Raises:
            sqlite3.Error: The file cannot be read or written.
        """
        cursor = database.execute(
            "SELECT number, max(attempts, number <= offered), indexes, due, expires, error, frame FROM message"
            " JOIN name ON message.name = id"
            " WHERE message.name = (SELECT id FROM name WHERE name = ?) AND number > ? ORDER BY number",
            (load.name, load.after),
        )
        sound = self._sound(cursor, lambda row: _stored(load.name, row))
        rows = list(_up_to(load.frames, load.size, sound, lambda row: len(row.frame)))
        if rows:
            # After a crash, what may be a redelivery is marked as one.
            database.execute("UPDATE name SET offered = max(offered, ?) WHERE name = ?", (rows[-1].number, load.name))
        return rows

    def sweep(self, database: sqlite3.Connection, sweep: Sweep) -> Swept:
        """Return what has expired, and what was delayed and is due.

        Raises:
            sqlite3.Error: The file cannot be read.
        """
        expired = database.execute(
            "SELECT number, name.name, indexes, frame FROM message JOIN name ON message.name = id"
            " WHERE expires <= ? ORDER BY expires",
            (sweep.now,),
        )
        due = database.execute(
            "SELECT number, name.name, NULL, frame, expires, due FROM delayed JOIN name ON delayed.name = id"
            " WHERE due <= ? ORDER BY due, number",
            (sweep.now,),
        )
        has_expired = list(islice(self._sound(expired, _waiting), sweep.frames))
        is_due: list[Waiting] = []
        is_cut_off, size = False, 0
        publish: tuple[float, int] | None = None
        for waiting, moment in self._sound(due, _due):
            former, publish = publish, (moment, wire.read_header(waiting.frame).client)
            # What one publish has become, in whatever queues it is, is returned together.
            is_cut_off = publish != former and (len(is_due) >= sweep.frames or size > SWEEP_SIZE)
            if is_cut_off:
                break
            size += waiting.size
            is_due.append(waiting)
        if is_cut_off or len(has_expired) == sweep.frames:
            later: float | None = sweep.now
        else:
            # What is due now waits to expire from now on.
            later = _first(_next_moment(database, after=sweep.now), *(waiting.expires for waiting in is_due))
        return Swept(has_expired, is_due, later)

    def _sound(self, rows: Iterable[tuple[Any, ...]], read: Callable[[tuple[Any, ...]], R]) -> Iterator[R]:
        """Yield what can be made of each row that is as it was written."""
        for row in rows:
            try:
                yield read(row)
            except DamagedRowError as error:
                self._pass_over(error)

    def _pass_over(self, error: DamagedRowError) -> None:
        if error.number not in self._damaged:
            self._damaged.add(error.number)
            logger.critical(
                "%s: %s. It is passed over, and stays where it is; stop the server, and 'mezzenger store repair %s'"
                " rescues all but what is damaged",
                *(self._file, error, self._file),
            )


def find(database: sqlite3.Connection, find: Find) -> list[Dead]:
    """Return the dead letters that a question is about; of a list, its beginning.

    Frames are returned where they are asked for alone: an order may concern many large ones.

    Raises:
        DamagedRowError: One of them is not as it was written.
        sqlite3.Error: The file cannot be read.
    """
    match find.question:
        case ListDead(name=name, after=after):
            # By the frame: the queue of a group has another name.
            begin = None if name is None else f"{name}|".encode()
            where = "number > ? AND (?2 IS NULL OR substr(frame, 1, length(?2)) = ?2)"
            letters = map(_dead, _dead_rows(database, where, (min(after, _MAX_NUMBER), begin)))
            return list(_up_to(FIND_FRAMES, FIND_SIZE, letters, lambda letter: letter.size))
        case ShowDead(number=number):
            return _dead_with(database, [number], with_frames=True)
        case DropDead(numbers=numbers):
            # Damaged ones too: it is the way to be rid of them.
            return _dead_with(database, numbers, is_checked=False)
        case ResendDead(numbers=numbers):
            return _dead_with(database, numbers)
        case _:
            return []


def _dead_with(
    database: sqlite3.Connection, numbers: Iterable[int], *, with_frames: bool = False, is_checked: bool = True
) -> list[Dead]:
    letters = []
    for number in numbers:
        for row in _dead_rows(database, "number = ?", (min(number, _MAX_NUMBER),)):
            letter = _dead(row, is_checked=is_checked)
            letters.append(letter if with_frames else letter._replace(frame=b""))
    return letters


def _dead_rows(database: sqlite3.Connection, where: str, values: tuple[object, ...]) -> sqlite3.Cursor:
    return database.execute(
        "SELECT number, name.name, attempts, indexes, buried, reason, error, frame FROM dead"  # noqa: S608  # ours
        f" JOIN name ON dead.name = id WHERE {where} ORDER BY number LIMIT ?",
        (*values, FIND_FRAMES),
    )


def _dead(row: tuple[Any, ...], *, is_checked: bool = True) -> Dead:
    number, name, attempts, indexes, buried, reason, error, frame = row
    messages, left = 0, None
    try:
        messages = _header(number, name, frame).messages
        left = _indexes(number, name, indexes)
    except DamagedRowError:
        if is_checked:
            raise
    return Dead(number, name, messages, len(frame), attempts, left, buried, reason, error, frame)


def _next_moment(database: sqlite3.Connection, after: float = 0.0) -> float | None:
    """Return when the first of what waits expires or is due, after what has by then."""
    return _first(
        database.execute("SELECT min(expires) FROM message WHERE expires > ?", (after,)).fetchone()[0],
        database.execute("SELECT min(due) FROM delayed WHERE due > ?", (after,)).fetchone()[0],
    )


def _first(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _up_to(frames: int, size: int, rows: Iterable[R], size_of: Callable[[R], int]) -> Iterator[R]:
    """Yield so many rows at most, one at least, whose frames have so many bytes together."""
    total = 0
    for count, row in enumerate(rows):
        total += size_of(row)
        if count == frames or (count and total > size):
            return
        yield row


def _stored(name: str, row: tuple[Any, ...]) -> Stored:
    number, attempts, indexes, due, expires, error, frame = row
    header = _header(number, name, frame)
    left = _indexes(number, name, indexes)
    return Stored(number, name, header.messages, frame, attempts, left, due, expires, error)


def _waiting(row: tuple[Any, ...]) -> Waiting:
    number, name, indexes, frame = row
    messages = _header(number, name, frame).messages
    left = _indexes(number, name, indexes)
    return Waiting(number, name, messages, messages if left is None else len(left), len(frame))


def _due(row: tuple[Any, ...]) -> tuple[Waiting, float]:
    """Return what is due, and since when."""
    *waiting, expires, moment = row
    return _waiting(tuple(waiting))._replace(frame=row[3], expires=expires), moment


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
