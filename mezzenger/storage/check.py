"""Looks at everything in a store, and tells what is damaged; nothing is changed."""

import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from mezzenger.errors import ProtocolError, StorageError
from mezzenger.patterns import matches
from mezzenger.protocol import wire
from mezzenger.queues import is_group, split_queue
from mezzenger.storage import wal
from mezzenger.storage.files import Files, reading
from mezzenger.storage.report import Finding
from mezzenger.storage.schema import APPLICATION_ID, TABLES, VERSION
from mezzenger.storage.snapshot import snapshot
from mezzenger.storage.verify import Progress, Verified, no_progress, unfinished_repair, verify
from mezzenger.storage.wal import NO_LOG

MAX_FINDINGS: Final = 1000
_FRAME_TABLES: Final = ("message", "delayed", "dead", "retained")
_STEP: Final = 1000

_decode_indexes = msgspec.msgpack.Decoder(tuple[int, ...]).decode


class Contents(NamedTuple):
    """What the tables hold, and what is wrong with that."""

    findings: list[Finding]
    frames: dict[str, int]
    """How many there are in each table."""


class Report(NamedTuple):
    """What is known of a store."""

    findings: list[Finding]
    has_seal: bool
    frames: dict[str, int]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged."""
        return not self.findings


def check(file: Path, progress: Progress = no_progress) -> Report:
    """Compare the bytes with the seal, and look at all that the tables say.

    Raises:
        StorageError: It is of another program or version.
        OSError: The files cannot be read.
    """
    files = Files.of(file)
    verified = verify(files, progress)
    _refuse_strangers(file, files, verified)
    findings = unfinished_repair(files) + verified.findings
    frames: dict[str, int] = {}
    if files.database.exists() and files.database.stat().st_size:
        found = contents(files, verified, progress)
        findings += found.findings
        frames = found.frames
    return Report(findings, verified.note is not None, frames)


def is_ours(files: Files) -> bool:
    """Whether the first page says that this is a store of a version we know."""
    return _identity(files) == (APPLICATION_ID, VERSION)


def is_database(files: Files) -> bool:
    """Whether the file begins as one that SQLite can read, so that what it says of itself can be believed."""
    try:
        with snapshot(files, NO_LOG) as database:
            database.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    except (sqlite3.Error, ValueError):
        return False
    return bool(files.database.exists() and files.database.stat().st_size)


def _identity(files: Files) -> tuple[int, int]:
    """Return whose the database says it is, and of which version."""
    with reading(files.database) as database, reading(files.wal) as logged:
        if database is None:
            return 0, 0
        head = os.pread(database, 100, 0)
        log = wal.read_log(logged)
        if logged is not None and 1 in log.latest:
            head = wal.read_page(logged, log.page_size, log.latest[1])
    return int.from_bytes(head[68:72]), int.from_bytes(head[60:64])


def _refuse_strangers(file: Path, files: Files, verified: Verified) -> None:
    """Leave alone what is sound, as far as can be told, and not of this version."""
    if verified.findings:
        return
    application, version = _identity(files)
    if application == APPLICATION_ID and version != VERSION:
        raise StorageError(f"{file}: has schema version {version}; this command knows version {VERSION}")
    if application != APPLICATION_ID and verified.note is None and is_database(files):
        raise StorageError(f"{file}: is a database of another program")


def contents(files: Files, verified: Verified, progress: Progress = no_progress, *, is_ours: bool = False) -> Contents:
    """Look at what the tables say: with SQLite's own check, and at every frame, number and count.

    Args:
        files: The files.
        verified: What is known of them.
        progress: Is told how far it is.
        is_ours: Whether something may be made beside the file.

    Raises:
        StorageError: There is no room for what is needed to look at it.
        OSError: The files cannot be read.
    """
    findings: list[Finding] = []
    frames: dict[str, int] = {}
    try:
        with snapshot(files, verified.log, is_ours=is_ours) as database:
            for finding in _findings(database, frames, progress):
                findings.append(finding)
                if len(findings) >= MAX_FINDINGS:
                    break
    except sqlite3.Error as error:
        findings.append(Finding("the database", f"cannot be read by SQLite: {error}", "messages may be lost"))
    except (ValueError, TypeError) as error:
        # Damaged rows may hold anything, texts that are none and texts instead of numbers among them.
        findings.append(Finding("the database", f"has values that cannot be: {error}", "messages may be lost"))
    return Contents(findings, frames)


def _findings(database: sqlite3.Connection, frames: dict[str, int], progress: Progress) -> Iterator[Finding]:
    yield from _of_sqlite(database)
    yield from _of_tables(database)
    names = dict(database.execute("SELECT id, name FROM name"))
    (last_number,) = database.execute("SELECT max(number) FROM last_number").fetchone() or (None,)
    totals = {table: _Totals() for table in _FRAME_TABLES}
    count = sum(database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in _FRAME_TABLES)  # noqa: S608
    done = 0
    for table, total in totals.items():
        frames[table] = 0
        for row in _rows(database, table):
            done += 1
            frames[table] += 1
            if done % _STEP == 0:
                progress(done, count)
            yield from _of_row(table, row, names, total)
            if last_number is None or row[0] > last_number:
                yield Finding(
                    "the last number",
                    f"is {last_number}, below {table} {row[0]}",
                    "a number may be given to two messages",
                )
    yield from _of_groups(database, last_number)
    yield from _of_counters(database, totals)
    yield from _of_retained(names, totals["retained"])
    yield from _of_publishers(database, last_number)


def _of_sqlite(database: sqlite3.Connection) -> Iterator[Finding]:
    for (text,) in database.execute("PRAGMA integrity_check"):
        if text != "ok":
            yield Finding("the database", f"is not in order: {text}", "messages may be lost or not be found")


def _of_tables(database: sqlite3.Connection) -> Iterator[Finding]:
    wanted = sqlite3.connect(":memory:")
    wanted.executescript(TABLES)
    query = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    missing = set(wanted.execute(query)) - set(database.execute(query))
    wanted.close()
    for kind, name, _ in sorted(missing):
        yield Finding(f"the {kind} {name!r}", "is missing or changed", "messages may be lost or not be found")


class _Totals:
    """Counts the rows of one table."""

    def __init__(self) -> None:
        self.frames: defaultdict[int, int] = defaultdict(int)
        self.messages: defaultdict[int, int] = defaultdict(int)
        self.size: defaultdict[int, int] = defaultdict(int)


_FrameRow = tuple[int, int, int, bytes | None, bytes, str]
_COLUMNS: Final = {
    "message": "number, name, attempts, indexes, frame, error",
    "delayed": "number, name, 0, NULL, frame, ''",
    "dead": "number, name, attempts, indexes, frame, error || reason",
    "retained": "number, name, 0, NULL, frame, ''",
}


def _rows(database: sqlite3.Connection, table: str) -> Iterable[_FrameRow]:
    return database.execute(f"SELECT {_COLUMNS[table]} FROM {table}")  # noqa: S608  # words from the table above


def _of_row(table: str, row: _FrameRow, names: dict[int, str], totals: _Totals) -> Iterator[Finding]:
    number, name_id, attempts, indexes, frame, _ = row
    is_row = isinstance(name_id, int) and isinstance(attempts, int) and isinstance(frame, bytes)
    if not is_row or not isinstance(indexes, bytes | None):
        # A damaged row may hold anything in any column.
        yield Finding(f"{table} {number}", "has values of wrong types", "its messages are lost")
        return
    name = names.get(name_id)
    what = f"{table} {number} of {name!r}" if name is not None else f"{table} {number}"
    totals.frames[name_id] += 1
    totals.size[name_id] += len(frame)
    try:
        header = wire.read_header(frame)
        # All else in it was checked when it came, and reading every message would take long.
        wire.verify_digest(frame)
    except ProtocolError as error:
        yield Finding(what, f"is damaged: {error}", "its messages are lost")
        return
    totals.messages[name_id] += header.messages
    if name is None or not matches(split_queue(name)[0], header.name):
        yield Finding(what, f"is of the name {header.name!r}", "it would be delivered under another name, or never")
    if attempts < 0 or number <= 0:
        yield Finding(what, f"has attempts {attempts}", "it is not marked rightly as a redelivery")
    if indexes is not None and not are_indexes(indexes, header.messages):
        yield Finding(what, "does not tell which of its messages are left", "all of them are delivered again")


def are_indexes(indexes: bytes, messages: int) -> bool:
    """Whether these bytes tell which messages of a batch of so many are left."""
    try:
        left = _decode_indexes(indexes)
    except msgspec.DecodeError:
        return False
    return bool(left) and list(left) == sorted(set(left)) and left[0] >= 0 and left[-1] < messages


def _of_groups(database: sqlite3.Connection, last_number: int | None) -> Iterator[Finding]:
    for name, since in database.execute("SELECT name, since FROM name WHERE since IS NOT NULL"):
        if not is_group(name):
            yield Finding(f"the mark of {name!r}", f"is {since}", "it would be taken for a group, which it is not")
        elif not 0 <= since <= (last_number or 0):
            yield Finding(f"the mark of {name!r}", f"is {since}", "it would not be given what it should inherit")


def _of_counters(database: sqlite3.Connection, totals: dict[str, _Totals]) -> Iterator[Finding]:
    query = "SELECT id, name, messages, frames, size, delayed, delayed_size, dead, dead_size FROM name"
    message, delayed, dead, _ = (totals[table] for table in _FRAME_TABLES)
    for id_, name, *counts in database.execute(query):
        counted = [part[id_] for each in (message, delayed, dead) for part in (each.frames, each.size)]
        counted.insert(0, message.messages[id_])
        if counts != counted:
            yield Finding(
                f"the counters of {name!r}",
                f"say {counts}, and there are {counted} (messages; frames and bytes that wait, are delayed, are dead)",
                "limits are applied wrongly, or messages are not looked for",
            )


def _of_retained(names: dict[int, str], total: _Totals) -> Iterator[Finding]:
    for id_, frames in total.frames.items():
        if frames > 1 or total.messages[id_] != frames:
            yield Finding(
                f"the last message of {names.get(id_)!r}",
                f"is {frames} frames of {total.messages[id_]} messages",
                "its subscribers may be given one that is not the last",
            )


def _of_publishers(database: sqlite3.Connection, last_number: int | None) -> Iterator[Finding]:
    (rows,) = database.execute("SELECT COUNT(*) FROM last_number").fetchone()
    if rows != 1:
        yield Finding("the last number", f"is there {rows} times", "a number may be given to two messages")
    query = "SELECT client, length(key), seen FROM publisher WHERE length(key) <> 16 OR seen < 0 OR seen > ?"
    for client, length, seen in database.execute(query, (last_number or 0,)):
        yield Finding(
            f"publisher {client + 2**63}",
            f"has a key of {length} bytes and was seen at {seen}",
            "it may not be recognised, and a publish that is sent again may be stored twice",
        )
