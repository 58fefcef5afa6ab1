"""The seal of a store: a file beside it, by which damage is noticed that SQLite does not see.

SQLite has digests in its log, but none in its database. The seal has one for each page, over all of its bytes::

    magic  page_size pages frames flags | salts checksum | digest | digest of page 1, of page 2, ...
      8        4       4     4      4   |   8       8    |    8   |     8               8

All numbers are big-endian. What comes before the first digest is the *note*, which that digest covers; of the log it
says how far it was written, and which it was. A page's digest is XXH3-64 with the page's number as its seed.

Three rules keep seal and store together, whenever the process is killed or the power fails:

- The database changes in checkpoints only, which are made here. Before each of them the digests of the pages it will
  write are written and synced. Until it is done the log has these pages, and they are not looked up in the database.
- The note follows each commit before that is confirmed. It is not synced: a killed process loses nothing of it, and
  after a power cut it says less than the log has, never more.
- Once the digests are synced the note says that the log may go.
"""

import logging
import os
import sqlite3
import struct
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from xxhash import xxh3_64_digest

from mezzenger.storage import wal
from mezzenger.storage.files import NO_SPACE, Files, beside, reading, sync_folder, write_durably
from mezzenger.storage.wal import Checksum, Frame, Log

_MAGIC: Final = b"MZGSEAL1"
_NOTE: Final = struct.Struct(">8s4I8s2I")
NOTE_SIZE: Final = _NOTE.size + 8
DIGEST_SIZE: Final = 8
LOCK_BYTE: Final = 2**30
"""SQLite locks this byte of a database, and so never uses the page that has it."""
_LOG_MAY_GO: Final = 1
_CHECKPOINT_FRAMES: Final = 4000
"""After so many the log is written into the database, which is 16 MB with pages of the usual size."""
_MOST_FRAMES: Final = 256
"""So many are looked at with one read."""

logger = logging.getLogger("mezzenger.storage")


class Note(NamedTuple):
    """What the seal says of the database and its log."""

    page_size: int
    pages: int
    """How many digests there are."""
    salts: bytes
    """Of the log that was last written."""
    frames: int
    """How many of them were committed, at least."""
    checksum: Checksum
    """Of the last of them."""
    log_may_go: bool
    """Whether the digests are those of the pages with that log applied."""


class SealDamaged(Exception):
    """The note is not one."""


def encode_note(note: Note) -> bytes:
    """Write a note, with its digest."""
    flags = _LOG_MAY_GO if note.log_may_go else 0
    raw = _NOTE.pack(_MAGIC, note.page_size, note.pages, note.frames, flags, note.salts, *note.checksum)
    return raw + xxh3_64_digest(raw)


def decode_note(raw: bytes) -> Note:
    """Read a note.

    Raises:
        SealDamaged: It is not as it was written.
    """
    if len(raw) < NOTE_SIZE:
        raise SealDamaged(f"it ends after {len(raw)} bytes")
    content, digest = raw[: _NOTE.size], raw[_NOTE.size : NOTE_SIZE]
    if xxh3_64_digest(content) != digest:
        raise SealDamaged("its first bytes do not fit their digest")
    magic, page_size, pages, frames, flags, salts, first, second = _NOTE.unpack(content)
    if magic != _MAGIC:
        raise SealDamaged("it is of another version")
    return Note(page_size, pages, salts, frames, (first, second), bool(flags & _LOG_MAY_GO))


def digest(number: int, page: bytes | memoryview) -> bytes:
    """Return the digest of a page; the first one has the number 1."""
    return xxh3_64_digest(page, number)


def make_seal(files: Files) -> None:
    """Make the seal of a database that nobody has open and that has no log.

    Raises:
        OSError: It cannot be written.
    """
    with reading(files.database) as descriptor:
        raw = b"" if descriptor is None else os.pread(descriptor, 18, 16)
        page_size = page_size_of(raw)
        digests = bytearray()
        number = 1
        while descriptor is not None and (page := os.pread(descriptor, page_size, (number - 1) * page_size)):
            digests += digest(number, page)
            number += 1
    note = Note(page_size, number - 1, bytes(8), 0, (0, 0), log_may_go=True)
    new = beside(files.seal, ".new")
    write_durably(new, encode_note(note) + digests, like=files.database)
    new.replace(files.seal)
    sync_folder(files.seal)


def page_size_of(raw: bytes) -> int:
    """Return the page size that bytes 16 and 17 of a database say."""
    size = int.from_bytes(raw[:2])
    return 65536 if size == 1 else size


def lock_page(page_size: int) -> int:
    """Return the page that is in no tree and no log: what it holds is never written, and never read."""
    return LOCK_BYTE // page_size + 1


class Seal:
    """Keeps the seal of a store that is open.

    Args:
        files: Where it is.
        note: What it says now.
        log: What the log has, which SQLite has not begun to write to.
    """

    def __init__(self, files: Files, note: Note, log: Log) -> None:
        self._files = files
        self._note = note
        self._descriptor: int | None = os.open(files.seal, os.O_RDWR)
        self._log: int | None = None
        found = self._open_log()
        self._found_salts = b"" if found is None else wal.read_salts(found)
        """Of the log that was there; behind its last commit may be what a power cut has left of another one."""
        self._latest = log.latest
        """Where in the log the pages are that have changed since the last checkpoint."""
        self._pages = log.pages or note.pages
        self._checkpoint_due = _CHECKPOINT_FRAMES
        self._usual_frames = 8
        """How many frames are looked at first: those of a commit like the last, and the one behind them."""
        if log.committed:
            checksum = log.frames[log.committed - 1].checksum
            self._note = note._replace(
                salts=log.salts,
                frames=log.committed,
                checksum=checksum,
                log_may_go=note.log_may_go and (note.salts, note.frames) == (log.salts, log.committed),
            )

    def begin(self, database: sqlite3.Connection) -> None:
        """Write what the last run left in its log into the database, so that the log begins anew with the next commit.

        Raises:
            sqlite3.Error: The disk failed.
        """
        try:
            self._checkpoint(database)
        except OSError as error:
            raise self._error_of_sqlite(error) from None

    def committed(self, database: sqlite3.Connection) -> None:
        """Take note of what was committed, which may be confirmed once this has returned.

        Raises:
            sqlite3.Error: The disk failed.
        """
        try:
            self._follow()
            if self._note.frames >= self._checkpoint_due:
                self._checkpoint(database)
        except OSError as error:
            raise self._error_of_sqlite(error) from None

    def finish(self, database: sqlite3.Connection, *, has_failed: bool = False) -> None:
        """Write all into the database, which will be closed next; never raises.

        If that fails, or the store has failed before, the disk may have what the seal does not say. Then the seal is
        removed, and the next start looks at every message.
        """
        is_done = False
        try:
            if not has_failed:
                self._follow()
                self._checkpoint(database)
                is_done = self._note.log_may_go
        except (OSError, sqlite3.Error) as error:
            logger.warning("%s: cannot be brought up to date: %s", self._files.seal, error)
        self.close()
        if not is_done:
            self._remove()

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in (self._descriptor, self._log):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._log = None

    def _remove(self) -> None:
        try:
            self._files.seal.unlink(missing_ok=True)
            sync_folder(self._files.seal)
        except OSError as error:
            logger.warning("%s: cannot be removed: %s", self._files.seal, error.strerror)

    def _checkpoint(self, database: sqlite3.Connection) -> None:
        """Write the log into the database; without space for that, do so later."""
        if not self._latest:
            return
        try:
            self._write_digests(self._latest)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self._postpone(str(error.strerror))
            return
        try:
            is_busy, frames, done = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", -1) != sqlite3.SQLITE_FULL:
                raise
            self._postpone(str(error))
            return
        if not is_busy and frames == done:
            self._latest = {}
            self._checkpoint_due = _CHECKPOINT_FRAMES

    def _follow(self) -> None:
        """Look at what SQLite has added to its log."""
        log = self._open_log()
        if log is None:
            return
        salts = wal.read_salts(log)
        known = self._note.frames if salts == self._note.salts else 0
        frames = self._added(log, salts, known)
        while frames and not frames[-1].pages:
            frames.pop()  # of a transaction that has not ended
        if frames:
            self._latest |= {frame.page: number for number, frame in enumerate(frames, known)}
            self._pages = frames[-1].pages
            self._usual_frames = min(len(frames) + 1, _MOST_FRAMES)
            self._write_note(
                Note(
                    self._note.page_size,
                    self._note.pages,
                    salts,
                    known + len(frames),
                    frames[-1].checksum,
                    log_may_go=False,
                )
            )

    def _added(self, log: int, salts: bytes, known: int) -> list[Frame]:
        """Return the frames that SQLite has written to the log with these salts, behind so many that are known."""
        page_size, count = self._note.page_size, self._usual_frames
        is_certain = salts != self._found_salts
        frames: list[Frame] = []
        while True:
            first = known + len(frames)
            found = wal.read_frames(log, page_size, first, count)
            for number, frame in enumerate(found, first):
                if frame.salts != salts or not (is_certain or wal.fits(log, page_size, number)):
                    return frames
                frames.append(frame)
            if len(found) < count:
                return frames
            count = _MOST_FRAMES

    def _open_log(self) -> int | None:
        if self._log is None and self._files.wal.exists():
            self._log = os.open(self._files.wal, os.O_RDONLY)
        return self._log

    def _write_digests(self, latest: Mapping[int, int]) -> None:
        log = self._open_log()
        if self._descriptor is None or log is None:
            return
        page_size = self._note.page_size
        for run in _runs(_existing(latest, self._pages)):
            digests = b"".join(digest(page, wal.read_page(log, page_size, latest[page])) for page in run)
            os.pwrite(self._descriptor, digests, NOTE_SIZE + (run[0] - 1) * DIGEST_SIZE)
        os.ftruncate(self._descriptor, NOTE_SIZE + self._pages * DIGEST_SIZE)
        self._write_note(self._note._replace(pages=self._pages, log_may_go=True))
        os.fsync(self._descriptor)

    def _write_note(self, note: Note) -> None:
        if self._descriptor is not None:
            os.pwrite(self._descriptor, encode_note(note), 0)
            self._note = note

    def _error_of_sqlite(self, error: OSError) -> sqlite3.Error:
        """Turn an error of the system into one of SQLite: both mean that the disk failed."""
        return sqlite3.OperationalError(f"{self._files.seal}: {error.strerror}")

    def _postpone(self, reason: str) -> None:
        self._checkpoint_due = self._note.frames + _CHECKPOINT_FRAMES
        logger.warning("%s: goes on growing: %s", self._files.wal, reason)


def _existing(latest: Iterable[int], pages: int) -> list[int]:
    """Return the pages in order, without those that the database has no more."""
    return sorted(number for number in latest if number <= pages)


def _runs(pages: Iterable[int]) -> list[list[int]]:
    """Put pages, which are in order, together with those that they follow."""
    runs: list[list[int]] = []
    for page in pages:
        if runs and runs[-1][-1] == page - 1:
            runs[-1].append(page)
        else:
            runs.append([page])
    return runs
