"""The tables of the file, and how to tell that a file is one of ours."""

import os
import sqlite3
from pathlib import Path
from typing import Final

from mezzenger.errors import StorageError

APPLICATION_ID: Final = 0x4D5A4752
VERSION: Final = 4

TABLES: Final = """
CREATE TABLE name (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    frames INTEGER NOT NULL DEFAULT 0,
    messages INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,
    offered INTEGER NOT NULL DEFAULT 0,
    delayed INTEGER NOT NULL DEFAULT 0,
    delayed_size INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    dead_size INTEGER NOT NULL DEFAULT 0,
    since INTEGER
) STRICT;
CREATE TABLE message (
    number INTEGER PRIMARY KEY,
    name INTEGER NOT NULL REFERENCES name,
    attempts INTEGER NOT NULL DEFAULT 0,
    indexes BLOB,
    due REAL,
    expires REAL,
    error TEXT NOT NULL DEFAULT '',
    frame BLOB NOT NULL
) STRICT;
CREATE INDEX message_of_name ON message (name, number);
CREATE INDEX message_expires ON message (expires) WHERE expires IS NOT NULL;
CREATE TABLE delayed (
    number INTEGER PRIMARY KEY,
    name INTEGER NOT NULL REFERENCES name,
    due REAL NOT NULL,
    expires REAL,
    frame BLOB NOT NULL
) STRICT;
CREATE INDEX delayed_due ON delayed (due);
CREATE TABLE dead (
    number INTEGER PRIMARY KEY,
    name INTEGER NOT NULL REFERENCES name,
    attempts INTEGER NOT NULL,
    indexes BLOB,
    buried REAL NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    frame BLOB NOT NULL
) STRICT;
CREATE INDEX dead_of_name ON dead (name, number);
CREATE TABLE retained (
    number INTEGER PRIMARY KEY,
    name INTEGER NOT NULL REFERENCES name,
    expires REAL,
    frame BLOB NOT NULL
) STRICT;
CREATE INDEX retained_of_name ON retained (name, number);
CREATE TABLE publisher (
    client INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    stored INTEGER NOT NULL,
    seen INTEGER NOT NULL
) STRICT;
CREATE TABLE refused (client INTEGER, sequence INTEGER, PRIMARY KEY (client, sequence)) STRICT, WITHOUT ROWID;
CREATE TABLE last_number (number INTEGER NOT NULL) STRICT;
INSERT INTO last_number VALUES (0);
"""
"""``name`` has the queues; a queue is called as the messages are, or ``PATTERN|GROUP``. It counts what is in
``message``, ``delayed`` and ``dead``, within the same transactions, so that a start need
not look at the messages. ``name.since`` marks the queue of a group: it is the last number when the group was made, and
NULL where there is none. Times are Unix seconds: ``message.due`` is when a message that a subscriber could not handle
is sent again, ``delayed.due`` when a delayed one is moved to ``message``. ``retained`` has the last message of a name,
as a frame of its own, with the number of the stored frame that it was in, if it was in one. ``publisher.seen`` is the
last number when the client came, or when something of it was stored last, so that the clients can be put in order."""


_PRAGMAS: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA foreign_keys = OFF;
PRAGMA secure_delete = FAST;
PRAGMA cache_size = -16384;
"""
"""Checkpoints are made by the seal, which has to know of them. Some builds of SQLite write zeros over all pages that a
row leaves, so that a message that goes costs as much as one that comes; only what is written anyway is overwritten.
The cache, in KiB, has room for what is on its way to subscribers: of a frame that goes, SQLite reads all pages."""


_MAGIC: Final = b"SQLite format 3\0"


def make_or_check(file: Path) -> None:
    """Make the file if it is not there, for nobody but its owner; see to it that it is a database or empty.

    SQLite would take a file of less than 512 bytes for an empty one, and overwrite it.

    Raises:
        StorageError: It is something else.
        OSError: It cannot be opened.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        beginning = os.read(descriptor, len(_MAGIC))
    finally:
        os.close(descriptor)
    if beginning not in {b"", _MAGIC}:
        raise StorageError(f"{file}: is not a database; name another persist_file")


def prepare(database: sqlite3.Connection, file: Path) -> None:
    """Make the tables in a new file, or see to it that they are the ones we know; nothing else is written to.

    Raises:
        StorageError: The file is of another program or another version.
        sqlite3.Error: It cannot be read or written.
    """
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (objects,) = database.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    is_new = objects == application == version == 0
    if not is_new and application != APPLICATION_ID:
        raise StorageError(f"{file}: is a database of another program; name another persist_file")
    if not is_new and version != VERSION:
        raise StorageError(f"{file}: has schema version {version}; this server knows version {VERSION}")
    # Not before: it changes the file.
    database.executescript(_PRAGMAS)
    if is_new:
        database.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {TABLES} COMMIT;"
        )
