"""What a commit changes in the tables."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from mezzenger.broker.effects import (
    AddGroup,
    Adopt,
    Attempt,
    Bury,
    Change,
    Discard,
    DropGroup,
    Forget,
    Know,
    Offered,
    Origin,
    Refusal,
    Requeue,
    Retain,
    Settle,
    Store,
    Unretain,
)
from mezzenger.storage.queues import add_names, add_number, change_queues
from mezzenger.storage.retained import retain

_OFFSET: Final = 2**63
"""SQLite's numbers are signed; client ids and sequences, which are not, are written less this, which keeps their
order."""

_COUNTERS: Final = ("frames", "messages", "size", "delayed", "delayed_size", "dead", "dead_size")
_COUNT: Final = " ".join(
    (
        "UPDATE name SET",
        ", ".join((*(f"{column} = {column} + ?" for column in _COUNTERS), "offered = coalesce(?, offered)")),
        "WHERE id = ?",
    )
)
_NOTHING: Final = dict.fromkeys(_COUNTERS, 0)
_REQUEUE: Final = {
    Origin.DELAYED: (
        (
            "INSERT INTO message (number, name, expires, frame)"
            " SELECT ?, coalesce(?, name), expires, frame FROM delayed WHERE number = ?"
        ),
        "DELETE FROM delayed WHERE number = ?",
    ),
    Origin.DEAD: (
        (
            "INSERT INTO message (number, name, indexes, frame)"
            " SELECT ?, coalesce(?, name), indexes, frame FROM dead WHERE number = ?"
        ),
        "DELETE FROM dead WHERE number = ?",
    ),
}

# Made once: a union that is written where it is needed is made each time.
_OF_QUEUES: Final = (AddGroup, DropGroup, Adopt)
_OF_PUBLISHERS: Final = (Know, Refusal, Forget)
_OF_LAST_MESSAGES: Final = (Retain, Unretain)
_COUNTED: Final = (Store, Settle, Bury, Requeue, Discard)

T = TypeVar("T", bound=Change)

_encode_indexes = msgspec.msgpack.Encoder().encode


def make_changes(database: sqlite3.Connection, changes: Sequence[Change], names: dict[str, int]) -> None:
    """Make the changes, within the transaction that is open.

    Args:
        database: The database.
        changes: In the order in which they were decided.
        names: The ids of the names; new ones are added.

    Raises:
        sqlite3.Error: They cannot be made.
    """
    for part in _parts(changes):
        if isinstance(part, list):
            _make(database, part, names)
        else:
            change_queues(database, part, names)


def _parts(changes: Sequence[Change]) -> Iterator[list[Change] | AddGroup | DropGroup | Adopt]:
    """Yield what can be made at once, and between it what concerns all of a queue."""
    part: list[Change] = []
    for change in changes:
        if isinstance(change, _OF_QUEUES):
            yield part
            yield change
            part = []
        else:
            part.append(change)
    yield part


def _make(database: sqlite3.Connection, changes: Sequence[Change], names: dict[str, int]) -> None:
    kinds = _by_kind(changes)
    if not kinds.keys().isdisjoint(_OF_PUBLISHERS):
        _know(database, [change for change in changes if isinstance(change, _OF_PUBLISHERS)])
    stores = _of(kinds, Store)
    add_names(database, {one.name for one in stores} | {one.name for one in _of(kinds, Retain)}, names)
    if stores:
        _store(database, stores, names)
    # What leaves comes after what was stored, and what is put back among it after what left it.
    _requeue(database, _of(kinds, Requeue), names)
    _attempt(database, _of(kinds, Attempt))
    _bury(database, _of(kinds, Bury))
    _for_each(database, "DELETE FROM message WHERE number = ?", [(one.number,) for one in _of(kinds, Settle)])
    _for_each(database, "DELETE FROM dead WHERE number = ?", [(one.number,) for one in _of(kinds, Discard)])
    _count(database, changes, names)
    if not kinds.keys().isdisjoint(_OF_LAST_MESSAGES):
        number = retain(database, changes, names)
        if number:
            add_number(database, number)


def signed(number: int) -> int:
    """Return how a number is written that needs all of 64 bits."""
    return number - _OFFSET


def unsigned(number: int) -> int:
    """Return the number that is written so."""
    return number + _OFFSET


def _by_kind(changes: Iterable[Change]) -> Mapping[type[object], list[Any]]:
    kinds: dict[type[object], list[Change]] = {}
    for change in changes:
        kinds.setdefault(type(change), []).append(change)
    return kinds


def _of(kinds: Mapping[type[object], list[Any]], kind: type[T]) -> list[T]:
    return kinds.get(kind, [])


def _for_each(database: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    # Most commits have changes of two or three kinds, and a statement that does nothing takes its time all the same.
    if rows:
        database.executemany(statement, rows)


def _store(database: sqlite3.Connection, stores: Sequence[Store], names: dict[str, int]) -> None:
    _for_each(
        database,
        "INSERT INTO message (number, name, expires, frame) VALUES (?, ?, ?, ?)",
        [(store.number, names[store.name], store.expires, store.frame) for store in stores if store.due is None],
    )
    _for_each(
        database,
        "INSERT INTO delayed (number, name, due, expires, frame) VALUES (?, ?, ?, ?, ?)",
        [
            (store.number, names[store.name], store.due, store.expires, store.frame)
            for store in stores
            if store.due is not None
        ],
    )
    sequences: dict[int, int] = {}
    for store in stores:
        sequences[store.client] = max(store.sequence, sequences.get(store.client, 0))
    number = stores[-1].number
    # Who is connected all the time says Hello once; the row is written anyway.
    database.executemany(
        "UPDATE publisher SET stored = max(stored, ?), seen = ? WHERE client = ?",
        ((signed(sequence), number, signed(client)) for client, sequence in sequences.items()),
    )
    add_number(database, number)


def _requeue(database: sqlite3.Connection, requeues: Sequence[Requeue], names: dict[str, int]) -> None:
    for requeue in requeues:
        insert, delete = _REQUEUE[requeue.origin]
        heir = None if requeue.heir is None else names[requeue.heir]
        database.execute(insert, (requeue.number, heir, requeue.former))
        database.execute(delete, (requeue.former,))
    if requeues:
        add_number(database, requeues[-1].number)


def _attempt(database: sqlite3.Connection, attempts: Sequence[Attempt]) -> None:
    _for_each(
        database,
        "UPDATE message SET attempts = ?, indexes = ?, due = ?, error = ? WHERE number = ?",
        [(one.attempts, _indexes(one.indexes), one.due, one.error, one.number) for one in attempts],
    )


def _bury(database: sqlite3.Connection, burials: Sequence[Bury]) -> None:
    _for_each(
        database,
        "INSERT INTO dead (number, name, attempts, indexes, buried, reason, error, frame)"
        " SELECT number, name, ?, ?, ?, ?, ?, frame FROM message WHERE number = ?",
        [(one.attempts, _indexes(one.indexes), one.buried, one.reason, one.error, one.number) for one in burials],
    )
    _for_each(database, "DELETE FROM message WHERE number = ?", [(one.number,) for one in burials])


def _indexes(indexes: tuple[int, ...] | None) -> bytes | None:
    return None if indexes is None else _encode_indexes(indexes)


def _count(database: sqlite3.Connection, changes: Iterable[Change], names: dict[str, int]) -> None:
    """Keep the counters of each name in step with its rows, and note how far it was delivered."""
    counts: dict[str, dict[str, int]] = {}
    for change in changes:
        if isinstance(change, _COUNTED):
            _add(counts, change.name, _counted(change))
            if isinstance(change, Requeue):
                _add(counts, change.queue, _waiting(1, change.messages, change.size))
    offered = {name: number for name, number in _offered(changes).items() if name in names}
    rows = [(*counts.get(name, _NOTHING).values(), offered.get(name), names[name]) for name in counts | offered]
    _for_each(database, _COUNT, rows)


def _add(counts: dict[str, dict[str, int]], name: str, numbers: Mapping[str, int]) -> None:
    count = counts.get(name)
    if count is None:
        count = counts[name] = _NOTHING.copy()
    for column, number in numbers.items():
        count[column] += number


def _counted(change: Store | Settle | Bury | Requeue | Discard) -> dict[str, int]:
    """Return what a change adds to the counters of its name; what is requeued is counted again where it goes."""
    match change:
        case Store(due=None):
            return _waiting(1, change.messages, len(change.frame))
        case Store():
            return {"delayed": 1, "delayed_size": len(change.frame)}
        case Settle():
            return _waiting(-1, -change.messages, -change.size)
        case Bury():
            return _waiting(-1, -change.messages, -change.size) | {"dead": 1, "dead_size": change.size}
        case Requeue():
            origin = change.origin
            return {f"{origin}": -1, f"{origin}_size": -change.size}
        case Discard():
            return {"dead": -1, "dead_size": -change.size}


def _waiting(frames: int, messages: int, size: int) -> dict[str, int]:
    return {"frames": frames, "messages": messages, "size": size}


def _know(database: sqlite3.Connection, changes: Iterable[Know | Refusal | Forget]) -> None:
    for change in changes:
        client = signed(change.client)
        match change:
            case Know():
                database.execute(
                    "INSERT INTO publisher VALUES (?, ?, ?, (SELECT number FROM last_number)) "
                    "ON CONFLICT DO UPDATE SET seen = excluded.seen",
                    (client, change.key, signed(0)),
                )
            case Refusal(is_lifted=True):
                refusal = (client, signed(change.sequence))
                database.execute("DELETE FROM refused WHERE client = ? AND sequence = ?", refusal)
            case Refusal():
                database.execute("INSERT OR IGNORE INTO refused VALUES (?, ?)", (client, signed(change.sequence)))
            case Forget(before=None):
                database.execute("DELETE FROM publisher WHERE client = ?", (client,))
                database.execute("DELETE FROM refused WHERE client = ?", (client,))
            case Forget(before=int(before)):
                database.execute("DELETE FROM refused WHERE client = ? AND sequence < ?", (client, signed(before)))


def _offered(changes: Iterable[Change]) -> dict[str, int]:
    offered: dict[str, int] = {}
    for change in changes:
        if isinstance(change, Offered) or (isinstance(change, Store) and change.is_offered):
            offered[change.name] = change.number
    return offered
