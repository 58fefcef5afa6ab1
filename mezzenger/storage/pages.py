"""The pages of a store that may be damaged: the database with its log applied, and what else may hold rows."""

import copy
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from mezzenger.storage import seal, wal
from mezzenger.storage.records import Cell, read_cell
from mezzenger.storage.verify import Verified

LEAF: Final = 13
INTERIOR: Final = 5
INDEX_LEAF: Final = 10
INDEX_INTERIOR: Final = 2
_USUAL_PAGE_SIZE: Final = 4096


class Head(NamedTuple):
    """How a page of a b-tree begins."""

    kind: int
    cells: list[int]
    """Where they are."""
    last_child: int


class Image:
    """All pages as they are after the last commit, as far as they can be told.

    Args:
        database: Descriptor of the database.
        logged: Of its log, if there is one.
        sealed: Of its seal, if there is one.
        verified: What the seal says of both.
    """

    def __init__(self, database: int, logged: int | None, sealed: int | None, verified: Verified) -> None:
        self._database = database
        self._logged = logged
        self._sealed = sealed
        note, log = verified.note, verified.log
        self.page_size = log.page_size or (note.page_size if note else 0) or _page_size(database)
        self._verified = verified
        self._in_log: dict[int, int] = {}
        self._damaged = set(verified.damaged_pages)
        self.strays: list[bytes] = []
        """Contents of pages of which nobody can tell where they belong, or that newer ones may have replaced."""
        self._tail: dict[int, int] = {}
        """The pages of a transaction that was committed and whose end is missing."""
        self.log_is_damaged = False
        """Whether a frame in its midst is damaged, so that pages may be of different times."""
        size = os.fstat(database).st_size
        self.count = max(-(-size // self.page_size), log.pages)
        if logged is not None:
            self._apply_log()

    def page(self, number: int) -> bytes:
        """Return a page; what is missing of it is zero."""
        place = self._in_log.get(number)
        if place is not None and self._logged is not None:
            return wal.read_page(self._logged, self.page_size, place)
        return self._page_of_file(number)

    def is_damaged(self, number: int) -> bool:
        """Whether a page is known not to be as it was written. Without a seal, nothing is known."""
        return number in self._damaged

    def damaged(self) -> list[int]:
        """Return all pages that are known to be damaged."""
        return sorted(number for number in self._damaged if number <= self.count)

    def later(self) -> "tuple[Image, list[int]] | None":
        """Return the pages as they were in the midst of a transaction whose end is missing, and which it had changed.

        No tree can be followed there, but rows can be read.
        """
        if not self._tail:
            return None
        image = copy.copy(self)
        image._in_log = self._in_log | self._tail  # noqa: SLF001  # its own copy
        image.count = max(self.count, *self._tail)
        return image, sorted(self._tail)

    def chain(self, first: int, size: int) -> tuple[bytes, list[int]]:
        """Return what overflow pages hold, up to so many bytes, and which pages they are."""
        parts: list[bytes] = []
        pages: list[int] = []
        while size > 0 and 1 < first <= self.count and first not in pages:
            page = self.page(first)
            pages.append(first)
            parts.append(page[4 : 4 + size])
            size -= len(parts[-1])
            first = int.from_bytes(page[:4])
        return b"".join(parts), pages

    def _page_of_file(self, number: int) -> bytes:
        try:
            content = os.pread(self._database, self.page_size, (number - 1) * self.page_size)
        except OSError:
            # A part of the disk that cannot be read at all.
            content = b""
        return content.ljust(self.page_size, b"\0")

    def _apply_log(self) -> None:
        note, log = self._verified.note, self._verified.log
        end = log.committed + log.lost
        if note is not None and note.frames and any(frame.salts == note.salts for frame in log.frames):
            end = max(end, note.frames)
        end = min(end, len(log.frames))
        ends = [number for number in range(end) if log.frames[number].pages and log.fits[number]]
        whole = ends[-1] + 1 if ends else 0
        for number in range(whole):
            self._apply_frame(number)
        if whole:
            self.count = max(self.count, log.frames[whole - 1].pages)
        if note is not None and note.salts == log.salts and note.frames > len(log.frames):
            # The page that the end of the file cuts in two.
            self.strays.append(self._content(len(log.frames)).ljust(self.page_size, b"\0"))
        self._tail = {log.frames[number].page: number for number in range(whole, end) if log.fits[number]}

    def _apply_frame(self, number: int) -> None:
        log = self._verified.log
        frame = log.frames[number]
        page = frame.page
        mended = None
        if not log.fits[number] and self._logged is not None:
            mended = wal.mended(self._logged, log, number)
        if log.fits[number] or (mended is not None and mended[:2] == frame[:2]):
            self._in_log[page] = number
            self._damaged.discard(page)
            return
        self.log_is_damaged = True
        content = self._content(number)
        if not self._is_in_file(page) and 0 < page <= self.count + len(log.frames):
            self.strays.append(self.page(page))
            self._in_log[page] = number
            self._damaged.add(page)
        if mended is not None:
            # It may as well be another byte that is damaged, and the page the one that is named.
            self._damaged.add(mended.page)
        self.strays.append(content)

    def _content(self, number: int) -> bytes:
        return b"" if self._logged is None else wal.read_page(self._logged, self.page_size, number)

    def _is_in_file(self, page: int) -> bool:
        """Whether the database has what the log had of a page, so that the log is not needed."""
        note = self._verified.note
        if note is None or not note.log_may_go or page > note.pages or self._sealed is None:
            return False
        place = seal.NOTE_SIZE + (page - 1) * seal.DIGEST_SIZE
        return seal.digest(page, self._page_of_file(page)) == os.pread(self._sealed, seal.DIGEST_SIZE, place)


def _page_size(database: int) -> int:
    size = seal.page_size_of(os.pread(database, 2, 16))
    return size if size in wal.PAGE_SIZES else _USUAL_PAGE_SIZE


def head_of(page: bytes, number: int) -> Head | None:
    """Read the beginning of a page of a b-tree; None if it is none."""
    at = 100 if number == 1 else 0
    kind = page[at]
    if kind not in {LEAF, INTERIOR, INDEX_LEAF, INDEX_INTERIOR}:
        return None
    is_interior = kind in {INTERIOR, INDEX_INTERIOR}
    count = int.from_bytes(page[at + 3 : at + 5])
    start = at + (12 if is_interior else 8)
    if start + 2 * count > len(page):
        return None
    cells = [int.from_bytes(page[start + 2 * index : start + 2 * index + 2]) for index in range(count)]
    if any(not start + 2 * count <= cell < len(page) for cell in cells):
        return None
    return Head(kind, cells, int.from_bytes(page[at + 8 : at + 12]) if is_interior else 0)


def children_of(page: bytes, head: Head) -> Iterator[int]:
    """Return the pages below an interior page, in order."""
    for cell in head.cells:
        yield int.from_bytes(page[cell : cell + 4])
    yield head.last_child


def cells_of(page: bytes, head: Head) -> Iterator[tuple[int, Cell | None]]:
    """Return where each cell is, and what it holds; of a table's interior page there is nothing to return."""
    is_index = head.kind in {INDEX_LEAF, INDEX_INTERIOR}
    for at in head.cells:
        yield at, read_cell(page, at, is_index=is_index, is_interior=head.kind == INDEX_INTERIOR)
