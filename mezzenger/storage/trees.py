"""Walks the trees of tables and indexes that may be damaged, and tells what was reached and what was not."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mezzenger.storage.pages import INDEX_INTERIOR, INDEX_LEAF, INTERIOR, LEAF, Image, cells_of, children_of, head_of
from mezzenger.storage.records import Cell, Value, serials_of, values_of


class Found(NamedTuple):
    """A cell, and where it was."""

    page: int
    at: int
    cell: Cell


@dataclass
class Walk:
    """What a walk has reached."""

    pages: set[int] = field(default_factory=set)
    suspects: set[int] = field(default_factory=set)
    """Pages that are damaged, or not what they should be."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing can be missing."""
        return not self.suspects


def walk(image: Image, root: int, walked: Walk, *, is_index: bool = False) -> Iterator[Found]:
    """Yield the cells of a tree in order, as far as they can be reached."""
    kinds = {INDEX_LEAF, INDEX_INTERIOR} if is_index else {LEAF, INTERIOR}
    waiting = [root]
    while waiting:
        number = waiting.pop()
        head = None
        if 0 < number <= image.count and number not in walked.pages:
            page = image.page(number)
            head = head_of(page, number)
        if head is None or head.kind not in kinds:
            walked.suspects.add(number)
            continue
        walked.pages.add(number)
        if image.is_damaged(number):
            walked.suspects.add(number)
        if head.kind in {INTERIOR, INDEX_INTERIOR}:
            waiting.extend(reversed(list(children_of(page, head))))
        if head.kind == INTERIOR:
            continue
        for at, cell in cells_of(page, head):
            if cell is None:
                walked.suspects.add(number)
            else:
                yield Found(number, at, cell)


def read_payload(image: Image, cell: Cell) -> tuple[bytes, list[int]]:
    """Return a whole record, and the overflow pages it is in; what is missing is missing."""
    if not cell.overflow:
        return cell.local, []
    rest, pages = image.chain(cell.overflow, cell.size - len(cell.local))
    return cell.local + rest, pages


def read_values(image: Image, cell: Cell, walked: Walk | None = None) -> list[Value] | None:
    """Return the values of a record; None if it is none."""
    layout = serials_of(cell)
    payload, pages = read_payload(image, cell)
    if layout is None or len(payload) < cell.size:
        return None
    if walked is not None:
        walked.pages.update(pages)
        walked.suspects.update(filter(image.is_damaged, pages))
    return values_of(payload, *layout)


def read_rows(image: Image, root: int, walked: Walk, *, is_index: bool = False) -> Iterator[tuple[Found, list[Value]]]:
    """Yield the rows of a small table, or the entries of an index; what is no record is a suspect."""
    for found in walk(image, root, walked, is_index=is_index):
        values = read_values(image, found.cell, walked)
        if values is None:
            walked.suspects.add(found.page)
        else:
            yield found, values


def free_pages(image: Image) -> set[int]:
    """Return the pages of the list of free ones, as far as it can be followed."""
    first = image.page(1)
    trunk = int.from_bytes(first[32:36])
    free: set[int] = set()
    while 1 < trunk <= image.count and trunk not in free:
        page = image.page(trunk)
        free.add(trunk)
        count = min(int.from_bytes(page[4:8]), len(page) // 4 - 2)
        leaves = (int.from_bytes(page[at : at + 4]) for at in range(8, 8 + 4 * count, 4))
        free.update(leaf for leaf in leaves if 1 < leaf <= image.count)
        trunk = int.from_bytes(page[:4])
    return free
