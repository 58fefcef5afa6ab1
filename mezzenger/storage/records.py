"""Reads SQLite's records and cells from bytes that may be damaged: https://www.sqlite.org/fileformat2.html.

Nothing here raises for wrong bytes: what cannot be is None.
"""

import sqlite3
import struct
from functools import cache
from typing import Final, NamedTuple

from mezzenger.storage.schema import TABLES

Value = int | float | str | bytes | None

_INTEGER_SIZES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_REAL: Final = 7
_ZERO, _ONE = 8, 9
_FIRST_BLOB: Final = 12
_MAX_VARINT: Final = 9


class Cell(NamedTuple):
    """A cell of a leaf: one row, or one entry of an index."""

    number: int
    """Of the row; 0 in an index."""
    size: int
    """Of the record."""
    local: bytes
    """As much of the record as is in the page."""
    overflow: int
    """The page where it goes on, 0 if it does not."""


class Column(NamedTuple):
    """What a column may hold."""

    name: str
    kind: str
    is_required: bool
    is_number: bool
    """Whether it is the row's number, which is not in the record."""


def varint(data: bytes, at: int) -> tuple[int, int] | None:
    """Return a number of variable length and the offset behind it."""
    value = 0
    for index in range(_MAX_VARINT):
        if at + index >= len(data):
            return None
        byte = data[at + index]
        if index == _MAX_VARINT - 1:
            return _signed(value << 8 | byte), at + index + 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004  # the highest bit
            return value, at + index + 1
    return None


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def local_size(size: int, page_size: int, *, is_index: bool) -> int:
    """Return how many bytes of a record are in the cell."""
    most = (page_size - 12) * 64 // 255 - 23 if is_index else page_size - 35
    if size <= most:
        return size
    least = (page_size - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (page_size - 4)
    return wanted if wanted <= most else least


def read_cell(page: bytes, at: int, *, is_index: bool = False, is_interior: bool = False) -> Cell | None:
    """Read the cell of a leaf, or of an index's interior page."""
    start = varint(page, at + 4 if is_interior else at)
    if start is None:
        return None
    size, at = start
    number = 0
    if not is_index:
        second = varint(page, at)
        if second is None:
            return None
        number, at = second
    if size < 1:
        return None
    local = local_size(size, len(page), is_index=is_index)
    end = at + local
    if end + (4 if local < size else 0) > len(page):
        return None
    overflow = int.from_bytes(page[end : end + 4]) if local < size else 0
    return Cell(number, size, page[at:end], overflow)


def serials_of(cell: Cell) -> tuple[list[int], int] | None:
    """Return the types of a record's values, and where the first one is; None if they do not add up."""
    start = varint(cell.local, 0)
    if start is None or not 1 <= start[0] <= len(cell.local):
        return None
    head, at = start
    serials: list[int] = []
    while at < head:
        found = varint(cell.local, at)
        if found is None or found[1] > head:
            return None
        serials.append(found[0])
        at = found[1]
    sizes = [size_of_serial(serial) for serial in serials]
    if -1 in sizes or head + sum(sizes) != cell.size:
        return None
    return serials, head


def size_of_serial(serial: int) -> int:
    """Return how many bytes a value of this type has, -1 if there is no such type."""
    if serial >= _FIRST_BLOB:
        return (serial - _FIRST_BLOB) // 2
    if serial in {0, _ZERO, _ONE}:
        return 0
    return 8 if serial == _REAL else _INTEGER_SIZES.get(serial, -1)


def values_of(payload: bytes, serials: list[int], at: int) -> list[Value]:
    """Return the values of a whole record."""
    values: list[Value] = []
    for serial in serials:
        size = size_of_serial(serial)
        raw = payload[at : at + size]
        at += size
        if serial == 0:
            values.append(None)
        elif serial in {_ZERO, _ONE}:
            values.append(serial - _ZERO)
        elif serial == _REAL:
            values.append(struct.unpack(">d", raw)[0])
        elif serial < _FIRST_BLOB:
            values.append(int.from_bytes(raw, signed=True))
        elif serial % 2 == 0:
            values.append(raw)
        else:
            # A text that is none any more is no reason to lose the frame beside it.
            values.append(raw.decode(errors="replace"))
    return values


def fits(serials: list[int], columns: tuple[Column, ...]) -> bool:
    """Whether a record may be a row of a table with these columns."""
    return len(serials) == len(columns) and all(map(_fits, serials, columns))


def _fits(serial: int, column: Column) -> bool:
    if column.is_number:
        return serial == 0
    if serial == 0:
        return not column.is_required
    if column.kind == "BLOB":
        return serial >= _FIRST_BLOB and serial % 2 == 0
    if column.kind == "TEXT":
        return serial >= _FIRST_BLOB and serial % 2 == 1
    # SQLite keeps a whole number as one, though the column is of reals.
    return serial < _FIRST_BLOB and (column.kind == "REAL" or serial != _REAL)


@cache
def columns_of(table: str) -> tuple[Column, ...]:
    """Return the columns that a table has in this version."""
    with _fresh() as database:
        rows = database.execute(f"PRAGMA table_info({table})").fetchall()
        (sql,) = database.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    is_rowid = "WITHOUT ROWID" not in sql
    return tuple(
        Column(name, kind, bool(is_required), bool(key) and kind == "INTEGER" and is_rowid)
        for _, name, kind, is_required, _, key in rows
    )


@cache
def fresh_roots() -> dict[str, int]:
    """Return the page at which each table and index begins in a file as we make it."""
    with _fresh() as database:
        return dict(database.execute("SELECT name, rootpage FROM sqlite_schema"))


def _fresh() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.executescript(TABLES)
    return database
