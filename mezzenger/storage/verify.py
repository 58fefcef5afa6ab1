"""Compares the bytes of a store with its seal: any byte that matters and is not as it was written is found."""

import os
from collections.abc import Callable
from typing import Final, NamedTuple

from mezzenger.storage import seal
from mezzenger.storage.files import Files, reading, size_of
from mezzenger.storage.report import Finding, page_findings
from mezzenger.storage.seal import DIGEST_SIZE, NOTE_SIZE, Note, SealDamaged, decode_note
from mezzenger.storage.wal import Log, read_log

_CHUNK_PAGES: Final = 256
_ROWS_IN_IT: Final = "rows in it may be lost or changed"

Progress = Callable[[int, int], None]
"""Is told how many bytes of how many have been read."""


class Verified(NamedTuple):
    """What the seal says about the other files."""

    note: Note | None
    """None if there is no seal, or none that can be read."""
    log: Log
    findings: list[Finding]
    damaged_pages: frozenset[int]
    """Pages of the database that are not as they were written; those in the log do not count."""


def no_progress(_done: int, _all: int) -> None:
    """Tell nobody."""


def verify(files: Files, progress: Progress = no_progress) -> Verified:
    """Read all files of a store, and compare them with its seal if it has one; nothing is changed.

    Raises:
        OSError: They cannot be read.
    """
    findings: list[Finding] = []
    with reading(files.database) as database, reading(files.wal) as log_file, reading(files.seal) as sealed:
        note = None if sealed is None else _note(sealed, findings)
        log = _log(log_file, database, note)
        findings += _log_findings(log, note)
        if database is None or not os.fstat(database).st_size:
            findings[:0] = _missing(files, log, is_there=database is not None)
            pages = log.pages or (0 if note is None else note.pages)
            return Verified(note, log, findings, frozenset(range(1, pages + 1)) - log.latest.keys())
        if note is None or sealed is None:
            return Verified(note, log, findings, frozenset())
        damaged = _damaged_pages(database, sealed, note, log, progress)
        pages = log.pages or note.pages
        findings += page_findings(damaged, "of the file: not as written", _ROWS_IN_IT)
        findings += _size_findings(os.fstat(database).st_size, note, pages, is_logged=bool(log.committed))
        findings += _header_findings(database, note)
    return Verified(note, log, findings, frozenset(damaged))


def unfinished_repair(files: Files) -> list[Finding]:
    """Look whether a repair was interrupted when it had all that is to take the place of these files."""
    made = files.repaired().seal
    if not made.exists():
        return []
    return [Finding("a repair of it", f"was interrupted, as {made.name} shows", "run it again, and it is finished")]


def _note(sealed: int, findings: list[Finding]) -> Note | None:
    try:
        return decode_note(os.pread(sealed, NOTE_SIZE, 0))
    except SealDamaged as error:
        findings.append(Finding("the seal", f"cannot be read: {error}", "no damage of the file can be excluded"))
        return None


def _log(log_file: int | None, database: int | None, note: Note | None) -> Log:
    if note is not None:
        return read_log(log_file, note.page_size, note.salts)
    return read_log(log_file, 0 if database is None else seal.page_size_of(os.pread(database, 2, 16)))


def _missing(files: Files, log: Log, *, is_there: bool) -> list[Finding]:
    others = [path.name for path in (files.wal, files.seal) if size_of(path)]
    if not others:
        return []
    problem = f"is {'empty' if is_there else 'missing'}, though {' and '.join(others)} has content"
    lost = "what the log does not have of it is lost" if log.committed else "what was in it is lost"
    return [Finding("the file", problem, lost)]


def _log_findings(log: Log, note: Note | None) -> list[Finding]:
    lost = log.lost
    is_same = note is not None and log.salts == note.salts
    if note is not None and note.frames and (is_same or not note.log_may_go):
        # Half of an old log would be worse than none: SQLite would put its pages over newer ones.
        committed = log.committed if is_same else 0
        is_sound = committed >= note.frames and log.frames[note.frames - 1].checksum == note.checksum
        lost = lost if is_sound else max(lost, note.frames - committed, 1)
    if not lost:
        return []
    return [
        Finding(
            "the log (-wal)",
            f"cannot be read after {log.committed} of its frames; {lost} that were committed are missing",
            "the last messages that were confirmed, and the last acks, may be lost",
        )
    ]


def _damaged_pages(database: int, sealed: int, note: Note, log: Log, progress: Progress) -> list[int]:
    pages = log.pages or note.pages
    size = note.page_size
    unread = {*log.latest, seal.lock_page(size)}
    damaged: list[int] = []
    for first in range(1, pages + 1, _CHUNK_PAGES):
        count = min(_CHUNK_PAGES, pages + 1 - first)
        content = memoryview(_read(database, count * size, (first - 1) * size))
        expected = _read(sealed, count * DIGEST_SIZE, NOTE_SIZE + (first - 1) * DIGEST_SIZE)
        # Behind them are digests of pages that are in the log alone.
        expected = expected[: max(note.pages + 1 - first, 0) * DIGEST_SIZE]
        found = [seal.digest(first + number, content[number * size : (number + 1) * size]) for number in range(count)]
        if b"".join(found) != expected:
            damaged += _unequal(found, expected, first, unread)
        progress(first + count - 1, pages)
    return damaged


def _unequal(found: list[bytes], expected: bytes, first: int, unread: set[int]) -> list[int]:
    return [
        first + number
        for number, digest in enumerate(found)
        if digest != expected[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE] and first + number not in unread
    ]


def _read(descriptor: int, size: int, offset: int) -> bytes:
    """Read so many bytes, or up to the end of the file."""
    content = os.pread(descriptor, size, offset)
    while len(content) < size and (more := os.pread(descriptor, size - len(content), offset + len(content))):
        content += more
    return content


def _size_findings(size: int, note: Note, pages: int, *, is_logged: bool) -> list[Finding]:
    right = pages * note.page_size
    # Until the log has been written into it, it has the size it had before.
    if size == right or (is_logged and size <= max(pages, note.pages) * note.page_size):
        return []
    relation = "are missing at the end" if size < right else "are too many"
    return [Finding("the file", f"has {size} bytes: {abs(right - size)} {relation}", _ROWS_IN_IT)]


def _header_findings(database: int, note: Note) -> list[Finding]:
    """Look at what SQLite reads from the file even if the first page is in the log."""
    raw = os.pread(database, 24, 0)
    is_sound = raw[:16] == b"SQLite format 3\0" and seal.page_size_of(raw[16:18]) == note.page_size
    if is_sound and raw[18:24] == b"\2\2\0\x40\x20\x20":
        return []
    return [Finding("the file's first bytes", "are not those of a database in WAL mode", "SQLite cannot read it")]
