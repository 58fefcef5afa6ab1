"""What the server's file has, beside what the account says that it must have."""

import sqlite3

import msgspec

from tests.simulation.ledger import KEPT, Ledger

_GROUPS = "SELECT name FROM name WHERE since IS NOT NULL"
_COUNT = "SELECT name, frames, messages, size, delayed, delayed_size, dead, dead_size FROM name"
_MESSAGES = "SELECT number, name.name, indexes, expires, due, frame FROM message JOIN name ON message.name = id"
_DELAYED = "SELECT number, name.name, NULL, expires, due, frame FROM delayed JOIN name ON delayed.name = id"
_DEAD = "SELECT number, name.name, indexes, NULL, NULL, frame FROM dead JOIN name ON dead.name = id"


def check_tables(database: sqlite3.Connection, ledger: Ledger) -> None:
    """Check that the file has what the account has, each in its place, and counts it rightly."""
    ledger.values.check_table(database)
    counted: dict[str, list[int]] = {}
    numbers = set()
    for place, query in zip(KEPT, (_MESSAGES, _DELAYED, _DEAD), strict=True):
        for number, name, indexes, expires, due, frame in database.execute(query):
            life = ledger.kept.get(number)
            assert life is not None, f"{place} {number} of {name!r} should not be there"
            assert number not in numbers, f"{life} is there twice"
            numbers.add(number)
            left = set(range(life.messages) if indexes is None else msgspec.msgpack.decode(indexes))
            assert (life.place, life.queue, life.frame, life.left) == (place, name, frame, left), f"{place}: {life}"
            if place != "dead":
                moment = life.due if place == "delayed" else life.again
                assert (moment, life.expires) == (due, expires), f"due {due}, expires {expires}: {life}"
            counts = counted.setdefault(name, [0] * 7)
            for column, count in _columns(place, life.messages, len(frame)).items():
                counts[column] += count
    groups = {name for (name,) in database.execute(_GROUPS)}
    assert groups == ledger.groups, f"groups {groups}, where there should be {ledger.groups}"
    missing = ledger.kept.keys() - numbers
    assert not missing, f"confirmed and lost: {[ledger.kept[number] for number in sorted(missing)]}"
    for name, *counts in database.execute(_COUNT):
        assert counts == counted.pop(name, [0] * 7), f"the counters of {name!r} say {counts}"
    assert not counted, f"names that are not there: {counted}"


def _columns(place: str, messages: int, size: int) -> dict[int, int]:
    """Return what one frame adds to the counters of its name."""
    match place:
        case "pending":
            return {0: 1, 1: messages, 2: size}
        case "delayed":
            return {3: 1, 4: size}
        case _:
            return {5: 1, 6: size}
