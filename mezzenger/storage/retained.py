"""The last message of each name, as it is written and read."""

import sqlite3
from collections.abc import Iterable

from mezzenger.broker.effects import Change, Retain, Unretain
from mezzenger.broker.restored import Kept
from mezzenger.errors import ProtocolError
from mezzenger.protocol.last_message import last_message


def retain(database: sqlite3.Connection, changes: Iterable[Change], names: dict[str, int]) -> int:
    """Write the last messages, of each name once, however often it has changed; a higher number is never replaced.

    Returns:
        The highest number that was written; 0 if there was none.
    """
    last: dict[str, Retain | Unretain] = {}
    for change in changes:
        if isinstance(change, Retain | Unretain) and change.number >= _number(last.get(change.name)):
            last[change.name] = change
    highest = 0
    for name, change in last.items():
        # A name that is not known has nothing that could be forgotten.
        if name in names and _apply(database, change, names[name]):
            highest = max(highest, change.number)
    return highest


def read_retained(database: sqlite3.Connection) -> list[tuple[str, Kept]]:
    """Return the names, and their last messages."""
    rows = database.execute(
        "SELECT name.name, number, frame, expires, EXISTS ("
        "  SELECT 1 FROM message WHERE message.number = retained.number AND message.name = retained.name"
        ") FROM retained JOIN name ON retained.name = id ORDER BY number"
    )
    return [(name, Kept(number, frame, expires, bool(is_pending))) for name, number, frame, expires, is_pending in rows]


def _number(change: Retain | Unretain | None) -> int:
    return 0 if change is None else change.number


def _apply(database: sqlite3.Connection, change: Retain | Unretain, name: int) -> bool:
    """Make one change; return whether a message was written."""
    (number,) = database.execute("SELECT max(number) FROM retained WHERE name = ?", (name,)).fetchone()
    if number is not None and number > change.number:
        return False
    if isinstance(change, Unretain):
        database.execute("DELETE FROM retained WHERE name = ?", (name,))
        return False
    try:
        frame = last_message(change.frame)
    except ProtocolError:
        return False  # the broker finds the same, and keeps what was the last before
    database.execute("DELETE FROM retained WHERE name = ?", (name,))
    database.execute(
        "INSERT INTO retained (number, name, expires, frame) VALUES (?, ?, ?, ?)",
        (change.number, name, change.expires, frame),
    )
    return True
