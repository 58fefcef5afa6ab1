"""Makes rows of what is found in the pages; a frame is intact if it fits its own digest."""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mezzenger.errors import ProtocolError
from mezzenger.protocol import wire
from mezzenger.storage.pages import LEAF, Image, cells_of, head_of
from mezzenger.storage.records import Cell, Value, columns_of, fits, read_cell, serials_of, values_of
from mezzenger.storage.trees import read_payload

__all__ = [
    "FRAME_TABLES",
    "RETAINED",
    "Broken",
    "Row",
    "Value",
    "carve",
    "intact",
    "row_in",
    "row_of",
    "row_or_broken",
    "rows_of_leaf",
    "values_around",
]

RETAINED: Final = "retained"
FRAME_TABLES: Final = ("message", "delayed", "dead", RETAINED)

_VARINT: Final = rb"(?:[\x80-\xff]{0,7}[\x00-\x7f]|[\x80-\xff]{8}[\x00-\xff])"
_BEGINNING: Final = re.compile(rb"(?=%b%b[\x01-\x50]\x00)" % (_VARINT, _VARINT))
"""Of a row: the record's size, the row's number, and the size of its header, at most 80: more than the types of eight
columns take. The first type is that of nothing, for all these tables have the number first, which is in no record."""


@dataclass(frozen=True)
class Row:
    """A row of ``message``, ``delayed``, ``dead`` or ``retained`` whose frame is intact."""

    table: str
    number: int
    values: Mapping[str, Value]
    header: wire.Header
    pages: tuple[int, ...] = ()
    """The overflow pages it is in."""
    is_certain: bool = True
    """Whether it is known to have been there, and was not perhaps settled before."""

    @property
    def frame(self) -> bytes:
        """The frame."""
        frame = self.values["frame"]
        return frame if isinstance(frame, bytes) else b""


@dataclass(frozen=True)
class Broken:
    """A row whose frame is not intact, at least where SQLite would look for it."""

    table: str
    number: int
    name: int
    cell: Cell


def row_or_broken(image: Image, table: str, cell: Cell) -> Row | Broken | None:
    """Read a cell as a row of a table; None if it is none."""
    layout = serials_of(cell)
    columns = columns_of(table)
    if layout is None or not fits(layout[0], columns) or cell.number <= 0:
        return None
    payload, pages = read_payload(image, cell)
    row = row_of(table, cell, payload, tuple(pages))
    if row is not None:
        return row
    start = layout[1]
    names = values_of(cell.local.ljust(start + 8, b"\0"), layout[0][:2], start)
    name = names[1] if names else 0
    return Broken(table, cell.number, name if isinstance(name, int) else 0, cell)


def row_of(table: str, cell: Cell, payload: bytes, pages: tuple[int, ...]) -> Row | None:
    """Return the row that a record holds, if its frame is intact."""
    layout = serials_of(cell)
    if layout is None or len(payload) != cell.size:
        return None
    values = values_of(payload, *layout)
    frame = values[-1]
    header = intact(frame) if isinstance(frame, bytes) else None
    if header is None:
        return None
    names = [column.name for column in columns_of(table)]
    return Row(table, cell.number, dict(zip(names, values, strict=True)), header, pages)


def intact(frame: bytes) -> wire.Header | None:
    """Return the header of a frame that fits its digest; all else in it was checked when it came."""
    try:
        header = wire.read_header(frame)
        wire.verify_digest(frame)
    except ProtocolError:
        return None
    return header


def carve(image: Image, page: bytes) -> Iterator[Row]:
    """Try every offset of a page that may be the beginning of a row."""
    for beginning in _BEGINNING.finditer(page):
        row = row_in(image, read_cell(page, beginning.start()))
        if row is not None:
            yield row


def row_in(image: Image, cell: Cell | None) -> Row | None:
    """Return the row of any of the tables that a cell holds; None if it holds none."""
    layout = serials_of(cell) if cell is not None and cell.number > 0 else None
    if cell is None or layout is None:
        return None
    for table in FRAME_TABLES:
        if fits(layout[0], columns_of(table)):
            found = row_or_broken(image, table, cell)
            return found if isinstance(found, Row) else None
    return None


def rows_of_leaf(image: Image, page: bytes, number: int) -> Iterator[Row]:
    """Yield the rows of a page, if it looks like a leaf; its number may be 0 if it is not known."""
    head = head_of(page, number)
    if head is not None and head.kind == LEAF:
        yield from filter(None, (row_in(image, cell) for _, cell in cells_of(page, head)))


def values_around(table: str, frame: bytes) -> dict[str, Value]:
    """Return the values of a row of which nothing but the frame is known."""
    if table == RETAINED:
        return {"expires": None, "frame": frame}
    if table == "delayed":
        return {"due": 0.0, "expires": None, "frame": frame}
    values: dict[str, Value] = {"attempts": 1, "indexes": None, "error": "", "frame": frame}
    if table == "dead":
        return values | {"buried": time.time(), "reason": "repaired"}
    return values | {"due": None, "expires": None}
