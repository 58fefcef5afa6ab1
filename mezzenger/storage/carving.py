"""Finds frames in damaged pages without what SQLite wrote around them: by what they are themselves."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from xxhash import xxh3_64

from mezzenger.errors import ProtocolError
from mezzenger.message import MAX_NAME_BYTES
from mezzenger.protocol import wire
from mezzenger.storage.page_rows import Broken, Row, intact, row_of
from mezzenger.storage.pages import Image

_BEGINNING: Final = re.compile(rb"\|\x01[\x00-\x03]", re.DOTALL)
"""What stands between the name and the rest of a frame: the separator, the version and the flags."""
_DIGEST_SIZE: Final = 8
_WITHOUT_END: Final = 2**40


def mended(image: Image, broken: Broken, heads: Iterable[int]) -> Row | None:
    """Return a row whose frame goes on in another page than its chain says, if one of these fits."""
    cell = broken.cell
    missing = cell.size - len(cell.local)
    if missing <= 0:
        return None
    rest, pages = image.chain(cell.overflow, missing)
    per_page = image.page_size - 4
    for kept in range(len(pages) + 1):
        before = rest[: kept * per_page]
        for head in heads:
            after, more = image.chain(head, missing - len(before))
            if len(before) + len(after) == missing:
                row = row_of(broken.table, cell, cell.local + before + after, (*pages[:kept], *more))
                if row is not None:
                    return row
    return None


class Carved(NamedTuple):
    """An intact frame."""

    at: int
    """Where in its page it begins."""
    frame: bytes
    pages: list[int]
    """The overflow pages it is in."""


def frames_in(image: Image, page: bytes, names: Iterable[str], heads: Iterable[int]) -> Iterator[Carved]:
    """Yield the intact frames that begin in a page."""
    known = [name.encode() for name in names]
    found_until = 0
    for match in _BEGINNING.finditer(page):
        if match.start() < found_until:
            continue
        for start in _starts(page, match.start(), known):
            frame, pages = _frame_at(image, page, start, heads)
            if frame is not None:
                found_until = start + len(frame)
                yield Carved(start, frame, pages)
                break


def _starts(page: bytes, separator: int, known: list[bytes]) -> Iterator[int]:
    by_name = [separator - len(name) for name in known if page.endswith(name, 0, separator)]
    yield from by_name
    for start in range(separator - 1, max(separator - MAX_NAME_BYTES, 0) - 1, -1):
        if start not in by_name:
            yield start


def _frame_at(image: Image, page: bytes, start: int, heads: Iterable[int]) -> tuple[bytes | None, list[int]]:
    try:
        header = wire.read_header(page[start:].ljust(MAX_NAME_BYTES + 2 * image.page_size, b"\0"))
    except ProtocolError:
        return None, []
    least = header.body_start
    end = _end_of_frame(page[start:], least)
    if end is not None:
        return page[start : start + end], []
    for head in heads:
        rest, pages = image.chain(head, _WITHOUT_END)
        for at in range(start + min(least, 4), len(page) - 3):
            if int.from_bytes(page[at : at + 4]) == head:
                whole = page[start:at] + rest
                end = _end_of_frame(whole, max(least, len(whole) - image.page_size))
                if end is not None:
                    return whole[:end], pages
    return None, []


def _end_of_frame(content: bytes, least: int) -> int | None:
    """Return where a frame ends that begins here; its digest is behind all else, wherever that is."""
    if len(content) < least + _DIGEST_SIZE:
        return None
    digest = xxh3_64(content[:least])
    for end in range(least, len(content) - _DIGEST_SIZE + 1):
        if digest.digest() == content[end : end + _DIGEST_SIZE]:
            whole = end + _DIGEST_SIZE
            return whole if intact(content[:whole]) is not None else None
        digest.update(content[end : end + 1])
    return None
