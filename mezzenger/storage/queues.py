"""What a commit changes of whole queues."""

import sqlite3

from mezzenger.broker.effects import AddGroup, Adopt, DropGroup


def add_names(database: sqlite3.Connection, wanted: set[str], names: dict[str, int]) -> None:
    """See to it that the queues have rows, and put the ids of new ones into ``names``."""
    for name in wanted - names.keys():
        cursor = database.execute("INSERT INTO name (name) VALUES (?)", (name,))
        names[name] = cursor.lastrowid or 0


def add_number(database: sqlite3.Connection, number: int) -> None:
    """Take note of a number that was given, so that no lower one is given again."""
    database.execute("UPDATE last_number SET number = max(number, ?)", (number,))


def change_queues(database: sqlite3.Connection, change: AddGroup | DropGroup | Adopt, names: dict[str, int]) -> None:
    """Make a change of a whole queue, within the transaction that is open.

    Raises:
        sqlite3.Error: It cannot be made.
    """
    match change:
        case AddGroup():
            add_names(database, {change.name}, names)
            database.execute("UPDATE name SET since = ? WHERE id = ?", (change.since, names[change.name]))
            # What is newer than the group must have a higher number, also after a restart.
            add_number(database, change.since)
        case DropGroup():
            _drop(database, names[change.name])
        case Adopt() if change.name in names:
            add_names(database, {change.heir}, names)
            _adopt(database, change, names)


def _drop(database: sqlite3.Connection, queue: int) -> None:
    """Forget all of a queue but its dead letters; its row stays, as that of a name does, until the next start."""
    database.execute("DELETE FROM message WHERE name = ?", (queue,))
    database.execute("DELETE FROM delayed WHERE name = ?", (queue,))
    database.execute(
        "UPDATE name SET frames = 0, messages = 0, size = 0, delayed = 0, delayed_size = 0, since = NULL WHERE id = ?",
        (queue,),
    )


def _adopt(database: sqlite3.Connection, adopt: Adopt, names: dict[str, int]) -> None:
    former, heir = names[adopt.name], names[adopt.heir]
    query = "SELECT delayed + dead, frames + delayed + dead FROM name WHERE id = ?"
    (kept_apart, _), (_, there) = (database.execute(query, (queue,)).fetchone() for queue in (former, heir))
    if not kept_apart and not there:
        # Nothing but this is in either of them, so that they can change their names instead of all rows.
        _swap(database, adopt, names)
        return
    # How far each was delivered does not hold for the other, so it is noted where it is known.
    database.executemany(
        "UPDATE message SET attempts = 1 WHERE name = ?1 AND attempts = 0"
        " AND number <= (SELECT offered FROM name WHERE id = ?1)",
        [(former,), (heir,)],
    )
    database.execute("UPDATE message SET name = ? WHERE name = ?", (heir, former))
    database.execute(
        "UPDATE name SET frames = name.frames + former.frames, messages = name.messages + former.messages,"
        " size = name.size + former.size, offered = 0"
        " FROM (SELECT frames, messages, size FROM name WHERE id = ?) AS former WHERE name.id = ?",
        (former, heir),
    )
    database.execute("UPDATE name SET frames = 0, messages = 0, size = 0 WHERE id = ?", (former,))


def _swap(database: sqlite3.Connection, adopt: Adopt, names: dict[str, int]) -> None:
    former, heir = names[adopt.name], names[adopt.heir]
    (since,) = database.execute("SELECT since FROM name WHERE id = ?", (heir,)).fetchone()
    database.execute("UPDATE name SET name = char(0) WHERE id = ?", (heir,))
    database.execute("UPDATE name SET name = ?, since = ? WHERE id = ?", (adopt.heir, since, former))
    database.execute("UPDATE name SET name = ?, since = NULL, offered = 0 WHERE id = ?", (adopt.name, heir))
    database.execute("UPDATE retained SET name = ? WHERE name = ?", (heir, former))
    names[adopt.name], names[adopt.heir] = heir, former
