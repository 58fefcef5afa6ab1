"""Makes a sound store of a damaged one. Nothing is deleted: the damaged files stay, under other names.

The new store is made beside the damaged one, its seal at last, and the last step of all takes that seal to its place.
As long as it lies there, the server refuses the file, and the command, when it is run again, does what is left to do.
"""

import filecmp
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mezzenger.errors import StorageError
from mezzenger.storage.check import check, is_ours
from mezzenger.storage.files import Files, beside, copy_durably, create, reading, size_of, sync_folder
from mezzenger.storage.page_rows import FRAME_TABLES
from mezzenger.storage.pages import Image
from mezzenger.storage.rebuild import NewStore
from mezzenger.storage.report import Finding
from mezzenger.storage.rescue import Lost, Rescue
from mezzenger.storage.seal import make_seal
from mezzenger.storage.verify import Progress, no_progress, verify


class RescuedName(NamedTuple):
    """What became of the frames of one name, in one table."""

    table: str
    name: str
    """Empty for lost ones whose name is not known."""
    frames: int
    lost: Sequence[int]
    """The numbers of those that are lost."""


class Outcome(NamedTuple):
    """What a repair has done."""

    findings: Sequence[Finding]
    """What was damaged; nothing was changed if this is empty."""
    names: Sequence[RescuedName]
    uncertain: int
    """How many of the frames may have been settled before."""
    publishers: int
    publishers_lost: str
    """Why publishers are missing, if they are."""
    kept_as: Path | None
    """Where the damaged file is now."""


def repair(file: Path, progress: Progress = no_progress) -> Outcome:
    """Rescue what is intact, if anything is damaged. The caller has the file's lock.

    Raises:
        StorageError: Nothing can be rescued, or the new file cannot be written.
    """
    files = Files.of(file)
    new = files.repaired()
    try:
        report = check(file, progress)
        if report.is_sound:
            return Outcome([], [], 0, 0, "", None)
        if _is_made(files, new):
            return Outcome(report.findings, [], 0, 0, "", _swap(files, new, _kept_name(files, new)))
        if not (size_of(files.database) or size_of(files.wal)):
            raise StorageError(f"{file}: is empty or missing; there is nothing to be rescued from it")
        return _rebuilt(files, new, report.findings, progress)
    except OSError as error:
        raise StorageError(f"{file}: cannot be repaired: {error}") from None
    except sqlite3.Error as error:
        raise StorageError(f"{new.database}: cannot be written: {error}") from None


def _rebuilt(files: Files, new: Files, findings: Sequence[Finding], progress: Progress) -> Outcome:
    for path in reversed(new):
        path.unlink(missing_ok=True)
    # All may be in the log. With nothing in it the server refuses the file as it did without one.
    if not files.database.exists():
        os.close(create(files.database, files.wal))
    store = NewStore(new.database, files.database)
    try:
        with reading(files.database) as database, reading(files.wal) as logged, reading(files.seal) as sealed:
            assert database is not None  # noqa: S101  # just made, if it was not there
            image = Image(database, logged, sealed, verify(files))
            rescue = Rescue(image, store.add, progress)
            lost = rescue.run()
        _refuse_nothing(files, store, rescue)
        store.finish(rescue.evidence)
    except BaseException:
        store.discard()
        new.database.unlink()
        raise
    make_seal(new)
    kept_as = _swap(files, new, _names(files)[-1])
    return _outcome(findings, store, rescue, lost, kept_as)


def _refuse_nothing(files: Files, store: NewStore, rescue: Rescue) -> None:
    """See to it that no empty store takes the place of a file that never was one, or has nothing any more."""
    had_seal = size_of(files.database) and size_of(files.seal)
    if not (store.frames or rescue.evidence.publishers or is_ours(files) or had_seal):
        raise StorageError(f"{files.database}: nothing in it looks like a store of Mezzenger")


def _outcome(
    findings: Sequence[Finding], store: NewStore, rescue: Rescue, lost: Sequence[Lost], kept_as: Path
) -> Outcome:
    keys = sorted(store.frames.keys() | {(one.table, one.name) for one in lost})
    names = [
        RescuedName(
            table,
            name,
            store.frames[table, name],
            [one.number for one in lost if (one.table, one.name) == (table, name)],
        )
        for table in FRAME_TABLES
        for other, name in keys
        if other == table
    ]
    evidence = rescue.evidence
    return Outcome(findings, names, rescue.uncertain, len(evidence.publishers), evidence.publishers_lost, kept_as)


def _names(files: Files) -> list[Path]:
    """Return the names under which damaged files are kept, and one more, which is free."""
    names: list[Path] = []
    while not names or any(path.exists() for path in Files.of(names[-1])):
        names.append(beside(files.database, f".damaged-{len(names) + 1}" if names else ".damaged"))
    return names


def _is_made(files: Files, new: Files) -> bool:
    """Whether an earlier repair has made all of the new store, and was interrupted then.

    Raises:
        StorageError: It has, but that is damaged now, and what it was made of is not in its place any more.
    """
    if not new.seal.exists():
        return False
    if not verify(new if new.database.exists() else new._replace(database=files.database)).findings:
        return True
    kept_as = _kept_name(files, new)
    if not new.database.exists() or (Files.of(kept_as).wal.exists() and not files.wal.exists()):
        raise StorageError(
            f"{new.database}: what an interrupted repair has made is damaged; remove {new.database}*, put a copy of"
            f" {kept_as}, and of what is called so with -wal and .seal behind it, in the place of {files.database},"
            " and repair that"
        )
    return False


def _kept_name(files: Files, new: Files) -> Path:
    """Return the name under which an interrupted repair has begun to keep the files; a free one if it had not."""
    *used, free = _names(files)
    is_replaced = not new.database.exists()
    for name in used:
        pairs = list(zip(files, Files.of(name), strict=True))[is_replaced:]
        there = [(path, other) for path, other in pairs if path.exists() and other.exists()]
        if there and all(path.samefile(other) or filecmp.cmp(path, other, shallow=False) for path, other in there):
            return name
    return used[-1] if used and is_replaced else free


def _swap(files: Files, new: Files, kept_as: Path) -> Path:
    """Put the new store in the place of the damaged one."""
    if new.database.exists():
        for path, other in zip(files, Files.of(kept_as), strict=True):
            if path.exists() and not other.exists():
                _keep(path, other)
        sync_folder(files.database)
        # SQLite would apply it to the new file.
        files.wal.unlink(missing_ok=True)
        sync_folder(files.database)
        new.database.replace(files.database)
    for ending in ("-shm", "-journal"):
        left = beside(files.database, ending)
        if left.exists():
            left.replace(beside(kept_as, ending))
    sync_folder(files.database)
    new.seal.replace(files.seal)
    sync_folder(files.database)
    return kept_as


def _keep(path: Path, other: Path) -> None:
    """Give a file a second name, so that it has one at any moment; a copy where there are no such names."""
    try:
        os.link(path, other)
    except OSError:
        copy_durably(path, other)
