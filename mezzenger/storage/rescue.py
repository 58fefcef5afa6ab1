"""Finds every frame of a damaged store whose bytes are intact, and tells which are lost.

Where a tree is sound it is believed: what is not in it was settled. Where it is not, the indexes tell which numbers
there were, and what the trees no longer lead to is looked for: first in pages nobody leads to, then at every offset of
what is damaged. If the indexes are damaged too, whatever is found is kept, for a message that comes twice is better
than one that is lost; but it is called uncertain.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from operator import itemgetter
from typing import Final, NamedTuple

from mezzenger.patterns import matches
from mezzenger.protocol import wire
from mezzenger.queues import is_group, split_queue
from mezzenger.storage.carving import Carved, frames_in, mended
from mezzenger.storage.check import are_indexes
from mezzenger.storage.evidence import Evidence, gather
from mezzenger.storage.page_rows import (
    FRAME_TABLES,
    RETAINED,
    Broken,
    Row,
    carve,
    intact,
    row_in,
    row_or_broken,
    rows_of_leaf,
    values_around,
)
from mezzenger.storage.pages import LEAF, Image, cells_of, head_of
from mezzenger.storage.records import Value
from mezzenger.storage.trees import Walk, free_pages, walk
from mezzenger.storage.verify import Progress

_MAX_TIME: Final = 1e11
_STEP: Final = 1000


class Lost(NamedTuple):
    """A frame that was there and is not intact."""

    table: str
    number: int
    name: str
    """Of its queue; empty if it is not known."""


@dataclass
class _Table:
    """How far one table is known."""

    kept: set[int] = field(default_factory=set)
    broken: dict[int, Broken] = field(default_factory=dict)
    is_whole: bool = True
    live: Mapping[int, Value] | None = None
    """From its index; None if that is damaged."""

    missing: set[int] = field(default_factory=set)
    """The numbers that must have been there and were not found by walking."""

    def compare(self) -> None:
        """Find out what is missing."""
        self.missing = ((self.live.keys() if self.live is not None else set()) | self.broken.keys()) - self.kept

    @property
    def is_open(self) -> bool:
        """Whether there may have been more than anybody knows of."""
        return not self.is_whole and self.live is None


class Rescue:
    """Goes through a store once.

    Args:
        image: Its pages.
        keep: Is given each row that is rescued, once, and the queue that it is in.
        progress: Is told how many pages of how many were visited.
    """

    def __init__(self, image: Image, keep: Callable[[Row, str], None], progress: Progress) -> None:
        self._image = image
        self._keep = keep
        self._progress = progress
        self.evidence: Evidence = gather(image)
        self.uncertain = 0
        self.highest = self.evidence.last_number
        self._ids = {known.name: id_ for id_, known in self.evidence.names.items()}
        self._tables = {table: _Table(live=self.evidence.live.get(table)) for table in FRAME_TABLES}
        self._reached = set(self.evidence.walked.pages)
        self._suspects: set[int] = set()
        self._unlisted: list[Row] = []
        """Those that no index has, though it is whole."""
        self._queues: dict[bytes, dict[str, int]] = {}
        """In which queues what was kept is, with its numbers, by its digest: a message may be once in each queue."""
        self._retained: dict[bytes, int] = {}
        """The digests and numbers of last messages; the stored ones that they were may be byte for byte the same."""

    def run(self) -> list[Lost]:
        """Hand over all rows, and return what is lost."""
        for table in FRAME_TABLES:
            self._walk(table)
        for known in self._tables.values():
            known.compare()
        later = self._image.later()
        if later is not None:
            image, pages = later
            for page in pages:
                for row in rows_of_leaf(image, image.page(page), page):
                    # There was such a row after all that is known here.
                    self._take(row, is_trusted=False)
        if any(known.missing or known.is_open for known in self._tables.values()) or self._image.strays:
            self._search()
        for row in self._unlisted:
            if not self._is_in_its_queue(row) and row.frame[-8:] not in self._retained:
                self._take(replace(row, is_certain=False), is_trusted=False)
        return [
            Lost(name, number, self._name_of(name, number))
            for name, table in self._tables.items()
            for number in sorted(table.missing)
        ]

    # What the trees lead to.

    def _walk(self, name: str) -> None:
        table, walked = self._tables[name], Walk()
        doubtful: list[tuple[int, Row]] = []
        for found in walk(self._image, self.evidence.roots[name], walked):
            row = row_or_broken(self._image, name, found.cell)
            if isinstance(row, Broken):
                table.broken[row.number] = row
                self._suspects.add(found.page)
            elif row is None:
                walked.suspects.add(found.page)
            elif table.live is not None and row.number not in table.live:
                # Its number may be what is damaged, or that in the index.
                walked.suspects.add(found.page)
                self._unlisted.append(row)
            elif self._image.is_damaged(found.page) or not self._is_as_indexed(row):
                doubtful.append((found.page, row))
            else:
                self._take_from(found.page, row, walked, is_trusted=True)
            if len(table.kept) % _STEP == 0:
                self._progress(len(self._reached), self._image.count)
        # After the others: a damaged cell may have the number of another one.
        for page, row in sorted(doubtful, key=lambda one: not self._is_as_indexed(one[1])):
            self._take_from(page, row, walked, is_trusted=False)
        if table.live is not None:
            # A damaged cell may lie about its number.
            table.broken = {number: row for number, row in table.broken.items() if number in table.live}
        table.is_whole = walked.is_whole
        self._reached |= walked.pages
        self._suspects |= walked.suspects

    def _is_as_indexed(self, row: Row) -> bool:
        """Whether the index has the row's number for its queue, as far as that is known."""
        indexed = self._indexed(row.table, row.number)
        return indexed is None or indexed == row.values.get("name")

    def _take_from(self, page: int, row: Row, walked: Walk, *, is_trusted: bool) -> None:
        """Keep a row of a page that a tree leads to; if its number is taken, it may be what is damaged."""
        if self._take(row, is_trusted=is_trusted):
            self._reached.update(row.pages)
        else:
            walked.suspects.add(page)

    def _take(self, row: Row, *, is_trusted: bool) -> bool:
        """Keep a row, and return whether its number was free."""
        table = self._tables[row.table]
        rivals = [table] if row.table == RETAINED else [self._tables[name] for name in FRAME_TABLES if name != RETAINED]
        if any(row.number in rival.kept for rival in rivals):
            return False
        table.kept.add(row.number)
        table.missing.discard(row.number)
        self.highest = max(self.highest, row.number)
        self.uncertain += not row.is_certain
        queue = self._queue_of(row)
        if row.table == RETAINED:
            self._retained[row.frame[-8:]] = row.number
        else:
            self._queues.setdefault(row.frame[-8:], {})[queue] = row.number
        is_trusted = is_trusted and _is_credible(row)
        self._keep(row if is_trusted else self._careful(row), queue)
        return True

    def _careful(self, row: Row) -> Row:
        """Return a row of a damaged page: what no digest covers is not believed if it could make a message be lost."""
        values = dict(row.values)
        live = self.evidence.live.get(row.table)
        if "attempts" in values:
            attempts = values["attempts"]
            values["attempts"] = attempts if isinstance(attempts, int) and 0 < attempts < 2**31 else 1
            values["indexes"] = None
        if row.table == "message":
            values["due"] = None
            values["expires"] = (self.evidence.expires or {}).get(row.number)
        elif row.table == "delayed":
            values["due"] = live.get(row.number, 0.0) if live is not None else _plausible(values["due"], 0.0)
            values["expires"] = None
        elif row.table == RETAINED:
            values["expires"] = None
        else:
            values["buried"] = _plausible(values["buried"], time.time())
        return replace(row, values=values)

    # What they do not lead to.

    def _search(self) -> None:
        image = self._image
        free = free_pages(image) - self._reached
        # A list of free pages that is damaged may name anything.
        free = {page for page in free if not image.is_damaged(page)}
        orphans = [page for page in range(2, image.count + 1) if page not in self._reached and page not in free]
        nexts = {int.from_bytes(image.page(page)[:4]) for page in orphans}
        heads = [page for page in orphans if page not in nexts]
        for broken in [broken for table in self._tables.values() for broken in table.broken.values()]:
            row = mended(image, broken, heads)
            if row is not None:
                self._found(row)
        for page in orphans:
            self._leaf(image.page(page), page)
        damaged = {page for page in (*image.damaged(), *self._suspects) if 0 < page <= image.count}
        contents = [image.page(page) for page in sorted(damaged)] + image.strays
        for content in contents:
            self._leaf(content, 0)
            self._carve([content])
        self._carve_frames(contents, heads)
        rest = [page for page in orphans if page not in self._reached and page not in damaged]
        for pages in (rest, sorted(free)):
            if any(table.missing or (table.is_open and pages is rest) for table in self._tables.values()):
                self._carve(map(image.page, pages), only_missing=pages is not rest)

    def _leaf(self, page: bytes, number: int) -> None:
        """Take the rows of a leaf that no tree leads to."""
        for row in rows_of_leaf(self._image, page, number):
            self._found(row)
            self._reached.update((number, *row.pages))

    def _carve(self, contents: Iterable[bytes], *, only_missing: bool = False) -> None:
        for content in contents:
            if not any(content):
                continue
            for row in carve(self._image, content):
                self._found(replace(row, is_certain=False), only_missing=only_missing)

    def _found(self, row: Row, *, only_missing: bool = False) -> None:
        table = self._tables[row.table]
        # What is newer than all that is known was stored after it.
        if row.number in table.missing or row.number > self.evidence.last_number:
            self._take(replace(row, is_certain=True), is_trusted=False)
        elif table.is_open and not only_missing and not self._is_in_its_queue(row):
            self._take(row, is_trusted=False)

    def _carve_frames(self, contents: Iterable[bytes], heads: list[int]) -> None:
        names = sorted({split_queue(known.name)[0] for known in self.evidence.names.values()})
        found: list[tuple[int, Carved]] = []
        for content in contents:
            doubt_about = self._doubts(content)
            found += [(doubt_about(one.at), one) for one in frames_in(self._image, content, names, heads)]
        # Room that is not used has what was there before, and must not pass for what is there.
        for _, (_, frame, pages) in sorted(found, key=itemgetter(0)):
            row = self._row_for(frame, tuple(pages))
            if row is not None:
                self._take(row, is_trusted=False)

    def _doubts(self, page: bytes) -> Callable[[int], int]:
        """Return what tells of an offset of a page in how good a place a frame is there, if nobody has it yet.

        0: in a cell that cannot be read; 1: in one that can, but its row was not taken; 2: anywhere else.
        """
        head = head_of(page, 0)
        if head is None or head.kind != LEAF:
            return lambda _at: 2
        cells = sorted(cells_of(page, head), key=itemgetter(0))
        places = [self._doubt_about(row_in(self._image, cell)) for _, cell in cells]
        starts = [at for at, _ in cells]

        def doubt_about(at: int) -> int:
            behind = bisect_right(starts, at)
            return places[behind - 1] if behind else 2

        return doubt_about

    def _doubt_about(self, row: Row | None) -> int:
        if row is None:
            return 0
        digest = row.frame[-8:]
        kept = self._queues.get(digest, {}).get(self._queue_of(row))
        number = self._retained.get(digest) if row.table == RETAINED else kept
        return 2 if number == row.number and self._is_as_indexed(row) else 1

    def _row_for(self, frame: bytes, pages: tuple[int, ...]) -> Row | None:
        """Return a row for a frame of which nothing else is known: a number that is missing, else a new one."""
        header = intact(frame)
        if header is None:
            return None
        kept_in = self._queues.get(frame[-8:], {})
        if frame[-8:] in self._retained and not kept_in:
            return self._row_of_last(frame, header, pages)
        is_open = False
        tables = self._tables if _may_be_stored(frame, header) else {RETAINED: self._tables[RETAINED]}
        for name, table in tables.items():
            for number in sorted(table.missing):
                # The last message of a name has the number of the stored one that it was, if it was one.
                is_last = name == RETAINED and frame[-8:] not in self._retained and number in kept_in.values()
                taken = () if is_last else kept_in
                queue = self._free_queue(header.name, taken, self._name_of(name, number))
                if queue is not None:
                    values = values_around(name, frame) | {"name": self._ids.get(queue)}
                    return Row(name, number, values, header, pages)
            is_open = is_open or table.is_open
        queue = self._free_queue(header.name, kept_in)
        if not is_open or queue is None:
            return None
        if len(tables) == 1:
            # Below all that are known: it is the last message if there is no other one.
            number = next(number for number in count(1) if number not in self._tables[RETAINED].kept)
            return Row(RETAINED, number, values_around(RETAINED, frame), header, pages, is_certain=False)
        self.highest += 1
        values = values_around("message", frame) | {"name": self._ids.get(queue)}
        return Row("message", self.highest, values, header, pages, is_certain=False)

    def _free_queue(self, name: str, taken: Collection[str], known: str = "") -> str | None:
        """Return the queue of a frame, if it is known, else one in which it may have been; None if it is kept there.

        Of a frame that was kept this may be the copy for another queue.
        """
        queues = [known] if known else [queue for queue in self._ids if is_group(queue)]
        if not known and (name in self._ids or not taken):
            queues.insert(0, name)
        return next((queue for queue in queues if queue not in taken and _is_in(queue, name)), None)

    def _row_of_last(self, frame: bytes, header: wire.Header, pages: tuple[int, ...]) -> Row | None:
        """Return a row for the stored frame of which the last message of its name, kept already, is a copy."""
        number, stored = self._retained[frame[-8:]], self._tables["message"]
        if number not in stored.missing and (not stored.is_open or number in stored.kept):
            return None
        values = values_around("message", frame)
        return Row("message", number, values, header, pages, is_certain=number in stored.missing)

    def _queue_of(self, row: Row) -> str:
        """Return the queue of a row; if it is not known, that of those who subscribed to the message's name."""
        for id_ in (self._indexed(row.table, row.number), row.values.get("name")):
            known = self.evidence.names.get(id_) if isinstance(id_, int) else None
            if known is not None and _is_in(known.name, row.header.name):
                return known.name
        return row.header.name

    def _is_in_its_queue(self, row: Row) -> bool:
        """Whether the frame of a row is kept in the row's queue, be it with another number."""
        return self._queue_of(row) in self._queues.get(row.frame[-8:], ())

    def _name_of(self, table: str, number: int) -> str:
        """Return the queue of a frame that is missing, empty if it is not known."""
        id_ = self._queue_id(table, number)
        name = self.evidence.names.get(id_) if isinstance(id_, int) else None
        return name.name if name is not None else ""

    def _queue_id(self, table: str, number: int) -> Value:
        """Return the id of the queue of a frame that is missing, None if nothing tells it."""
        broken = self._tables[table].broken.get(number)
        id_ = self._indexed(table, number)
        return broken.name if id_ is None and broken is not None else id_

    def _indexed(self, table: str, number: int) -> Value:
        """Return the id of the queue of a row, as the table's index has it."""
        live = self.evidence.live.get(table)
        return live.get(number) if live is not None and table != "delayed" else None


def _is_credible(row: Row) -> bool:
    """Whether what no digest covers may have been so."""
    values = row.values
    indexes, attempts = values.get("indexes"), values.get("attempts", 0)
    if isinstance(indexes, bytes) and not are_indexes(indexes, row.header.messages):
        return False
    if not isinstance(attempts, int) or attempts < 0:
        return False
    return all(abs(value) < _MAX_TIME for value in values.values() if isinstance(value, float))


def _is_in(queue: str, name: str) -> bool:
    """Whether messages with this name may be in a queue."""
    return matches(split_queue(queue)[0], name)


def _plausible(value: Value, instead: float) -> float:
    return value if isinstance(value, int | float) and 0 < value < _MAX_TIME else instead


def _may_be_stored(frame: bytes, header: wire.Header) -> bool:
    """Whether a frame may be one that was published so, and not only the last message of a name."""
    return bool(header.ack) and wire.read_extra(frame, header).index is None
