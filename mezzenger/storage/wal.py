"""Reads SQLite's write-ahead log, as https://www.sqlite.org/fileformat2.html#the_write_ahead_log describes it.

Each frame holds one page. Its checksum continues that of the frame before, so that SQLite believes frames up to the
first one that does not fit, and of these the ones up to the last that ends a transaction. With the checksum that the
frame before *says* it has, later frames can be verified as well: this tells a damaged log from one that was being
written when the power failed.
"""

import os
import struct
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

HEADER: Final = struct.Struct(">4I8s2I")
FRAME: Final = struct.Struct(">2I8s2I")
_PAGES: Final = struct.Struct(">2I")
_LITTLE_ENDIAN: Final = 0x377F0682
_BIG_ENDIAN: Final = 0x377F0683
_STRANGERS: Final = 3
"""So many frames of other salts in a row are what an earlier log has left."""
_MASK: Final = 2**32 - 1
PAGE_SIZES: Final = frozenset(2**power for power in range(9, 17))

Checksum = tuple[int, int]


class Frame(NamedTuple):
    """The beginning of a frame."""

    page: int
    pages: int
    """How many the database has after the transaction that this frame ends; 0 in all other frames."""
    salts: bytes
    """Differ each time the log is begun anew."""
    checksum: Checksum


class Log(NamedTuple):
    """What a log says, and how much of it can be believed."""

    page_size: int
    salts: bytes
    """Empty if there is no log, or its header is damaged."""
    frames: list[Frame]
    """All that belong to this log, whole and of its salts, up to the first that does not."""
    fits: list[bool]
    """Whether each frame fits the checksum that the one before it says it has."""
    valid: int
    """How many frames SQLite reads."""
    committed: int
    """How many of them are of transactions that ended."""

    @property
    def pages(self) -> int:
        """How many pages the database has, if a transaction is in the log."""
        return self.frames[self.committed - 1].pages if self.committed else 0

    @property
    def latest(self) -> dict[int, int]:
        """Where the present content of each page is that was committed: the number of its frame."""
        return {frame.page: number for number, frame in enumerate(self.frames[: self.committed])}

    @property
    def lost(self) -> int:
        """How many frames lie behind a damaged one and were synced for certain.

        A transaction is synced before the next one begins. Of the last transaction nobody can tell by the log alone:
        the power may have failed before it was synced.
        """
        ends = [
            number
            for number in range(self.committed, len(self.frames))
            if self.fits[number] and self.frames[number].pages
        ]
        synced = [end for end in ends if any(self.fits[end + 1 : end + 3])]
        return synced[-1] + 1 - self.committed if synced else 0


NO_LOG: Final = Log(0, b"", [], [], 0, 0)


def place(page_size: int, number: int) -> int:
    """Return the offset of a frame; the first one has the number 0."""
    return HEADER.size + number * (FRAME.size + page_size)


def read_frame(descriptor: int, page_size: int, number: int) -> Frame | None:
    """Return the beginning of a frame, None behind the end of the file."""
    raw = os.pread(descriptor, FRAME.size, place(page_size, number))
    if len(raw) < FRAME.size:
        return None
    page, pages, salts, first, second = FRAME.unpack(raw)
    return Frame(page, pages, salts, (first, second))


def read_frames(descriptor: int, page_size: int, first: int, count: int) -> list[Frame]:
    """Return the beginnings of so many frames, or of those that are whole, with one look at the file."""
    raw = os.pread(descriptor, count * (FRAME.size + page_size), place(page_size, first))
    frame = _whole_frame(page_size)
    whole = memoryview(raw)[: len(raw) // frame.size * frame.size]
    return [Frame(page, pages, salts, (one, two)) for page, pages, salts, one, two in frame.iter_unpack(whole)]


@cache
def _whole_frame(page_size: int) -> struct.Struct:
    return struct.Struct(f"{FRAME.format}{page_size}x")


def read_page(descriptor: int, page_size: int, number: int) -> bytes:
    """Return the page that a frame holds."""
    return os.pread(descriptor, page_size, place(page_size, number) + FRAME.size)


def fits(descriptor: int, page_size: int, number: int) -> bool:
    """Whether the checksum of a frame continues the one that is before it."""
    raw = os.pread(descriptor, FRAME.size + page_size, place(page_size, number))
    if len(raw) < FRAME.size + page_size:
        return False
    order, seed = _before(descriptor, page_size, number)
    checksum = _checksum(raw[FRAME.size :], _checksum(raw[:8], seed, order), order)
    return checksum == FRAME.unpack(raw[: FRAME.size])[-2:]


def read_salts(descriptor: int) -> bytes:
    """Return the salts that the log has now."""
    raw = os.pread(descriptor, HEADER.size, 0)
    return bytes(raw[16:24])


def read_log(descriptor: int | None, expected_page_size: int = 0, expected_salts: bytes = b"") -> Log:
    """Read a whole log.

    Args:
        expected_page_size: To be used, together with the salts, if the header is damaged.
    """
    if descriptor is None:
        return NO_LOG
    raw = os.pread(descriptor, HEADER.size, 0)
    if len(raw) < HEADER.size:
        return NO_LOG
    magic, _, page_size, _, salts, *stored = HEADER.unpack(raw)
    order = ">" if magic == _BIG_ENDIAN else "<"
    checksum = _checksum(raw[:24], (0, 0), order)
    is_sound = magic in {_LITTLE_ENDIAN, _BIG_ENDIAN} and page_size in PAGE_SIZES and checksum == tuple(stored)
    if not is_sound:
        if not expected_page_size or not expected_salts:
            return NO_LOG
        page_size, salts, checksum = expected_page_size, expected_salts, (-1, -1)
        # Made on one machine and read on the other kind is not what has happened here.
        order = ">" if raw[3] & 1 else "<"
    frames, fits = _read_frames(descriptor, page_size, salts, checksum, order)
    valid = next((number for number, is_fit in enumerate(fits) if not is_fit), len(fits)) if is_sound else 0
    committed = next((number for number in range(valid, 0, -1) if frames[number - 1].pages), 0)
    return Log(page_size, salts if is_sound else b"", frames, fits, valid, committed)


def mended(descriptor: int, log: Log, number: int) -> Frame | None:
    """Return what the beginning of a frame was, if that, and not its page, is damaged in one byte; else None.

    The checksum covers the two page numbers, so that it tells which ones were there. It does not cover the salts. If it
    is itself what is damaged, the frame behind fits the one that it should be.
    """
    raw = os.pread(descriptor, FRAME.size + log.page_size, place(log.page_size, number))
    order, seed = _before(descriptor, log.page_size, number)
    frame = log.frames[number]
    content = raw[FRAME.size :]
    for page, pages in _with_one_byte_changed(raw[:8]):
        if _checksum(content, _checksum(_PAGES.pack(page, pages), seed, order), order) == frame.checksum:
            return frame._replace(page=page, pages=pages)
    behind = os.pread(descriptor, FRAME.size + log.page_size, place(log.page_size, number + 1))
    if len(behind) < FRAME.size + log.page_size:
        return None
    mine = _checksum(content, _checksum(raw[:8], seed, order), order)
    next_one = _checksum(behind[FRAME.size :], _checksum(behind[:8], mine, order), order)
    return frame._replace(checksum=mine) if next_one == FRAME.unpack(behind[: FRAME.size])[-2:] else None


def _before(descriptor: int, page_size: int, number: int) -> tuple[str, Checksum]:
    """Return the byte order of checksums, and the one that is before a frame."""
    header = os.pread(descriptor, HEADER.size, 0)
    *_, first, second = HEADER.unpack(header)
    frame = read_frame(descriptor, page_size, number - 1) if number else None
    return ">" if header[3] & 1 else "<", (first, second) if frame is None else frame.checksum


def _with_one_byte_changed(raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield the two numbers as they are, then as they are with one other byte."""
    yield _PAGES.unpack(raw)
    for at, byte in enumerate(raw):
        for other in range(256):
            if other != byte:
                yield _PAGES.unpack(raw[:at] + bytes([other]) + raw[at + 1 :])


def _read_frames(
    descriptor: int, page_size: int, salts: bytes, checksum: Checksum, order: str
) -> tuple[list[Frame], list[bool]]:
    frames: list[Frame] = []
    fits: list[bool] = []
    strangers = 0
    number = 0
    # The salts of one frame may be what is damaged.
    while strangers < _STRANGERS and (frame := read_frame(descriptor, page_size, number)) is not None:
        content = os.pread(descriptor, FRAME.size + page_size, place(page_size, number))
        if len(content) < FRAME.size + page_size:
            break
        is_ours = frame.salts == salts
        checksum = _checksum(content[FRAME.size :], _checksum(content[:8], checksum, order), order)
        frames.append(frame)
        fits.append(is_ours and checksum == frame.checksum)
        strangers = 0 if is_ours else strangers + 1
        checksum = frame.checksum
        number += 1
    return frames[: len(frames) - strangers], fits[: len(fits) - strangers]


def _checksum(data: bytes, seed: Checksum, order: str) -> Checksum:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    first, second = seed
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second
