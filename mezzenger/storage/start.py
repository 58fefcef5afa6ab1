"""What a store does before it opens its file: no file that is damaged is opened, and none without a seal."""

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from mezzenger.errors import StorageError
from mezzenger.storage.check import contents, is_ours
from mezzenger.storage.files import Files, size_of
from mezzenger.storage.report import Finding, summary
from mezzenger.storage.schema import make_or_check, prepare
from mezzenger.storage.seal import Seal, make_seal
from mezzenger.storage.verify import Verified, unfinished_repair, verify

_LONG_SECONDS: Final = 1.0

__all__ = ["Seal", "sealed"]

logger = logging.getLogger("mezzenger.storage")


def sealed(file: Path) -> Seal:
    """See to it that a file is sound and has a seal; make both if there is no file yet.

    Raises:
        StorageError: It is damaged, or not ours.
        OSError, sqlite3.Error: It cannot be read or made.
    """
    files = Files.of(file)
    began = time.monotonic()
    verified = verify(files)
    refuse(file, unfinished_repair(files) + verified.findings)
    if verified.note is None:
        make_or_check(file)
        if size_of(files.database) and is_ours(files):
            logger.warning("%s: has no seal beside it: every message in it is looked at", file)
            refuse(file, contents(files, verified, is_ours=True).findings)
        _seal_anew(file, files)
        verified = verify(files)
        refuse(file, verified.findings)
    seconds = time.monotonic() - began
    if seconds > _LONG_SECONDS:
        logger.info("%s: %d bytes checked in %.1f s", file, size_of(files.database), seconds)
    return _seal(files, verified)


def refuse(file: Path, findings: list[Finding]) -> None:
    """Raise if there are findings, and say what they are and what to do."""
    if findings:
        raise StorageError(
            f"{file}: is damaged: {summary(findings)}. Nothing was changed. "
            f"'mezzenger store repair {file}' rescues what is intact into a new file, and keeps this one"
        )


def _seal_anew(file: Path, files: Files) -> None:
    # SQLite gives the files beside it the same rights.
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        prepare(database, file)
        # Reads the log, so that closing writes it into the database.
        database.execute("SELECT COUNT(*) FROM last_number").fetchone()
    make_seal(files)


def _seal(files: Files, verified: Verified) -> Seal:
    if verified.note is None:
        raise StorageError(f"{files.seal}: cannot be made")
    return Seal(files, verified.note, verified.log)
