"""That a commit waits for the disk. Whether the disk then has it, ``tests/integration/test_power_cut.py`` tells."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from mezzenger.errors import StorageError
from mezzenger.storage.files import Files
from mezzenger.storage.seal import decode_note
from tests.storage.driver import know, reopened, settle, sqlite, store


def break_sync(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the syncs of folders fail."""
    sync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)


def logged(file: Path) -> int:
    """Return how many pages the log has, as the seal says."""
    return decode_note(Files.of(file).seal.read_bytes()).frames


def test_every_commit_is_synced(tmp_path: Path) -> None:
    """SQLite was told to sync the log at each commit: 2 is FULL; with less, a power cut takes what was confirmed."""
    with sqlite(tmp_path / "store.db") as driver:
        driver.commit(know(), store(1))
        database = driver.storage._database  # type: ignore[attr-defined]
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_goes_is_not_written_once_more(tmp_path: Path) -> None:
    """A large message that is settled costs a few pages of the log, not all that it has left."""
    file = tmp_path / "store.db"
    message = store(1, payloads=[bytes(1_000_000)])
    with sqlite(file) as driver:
        driver.commit(know(), message)
        before = logged(file)
        driver.commit(settle(message))
        assert before > 240
        assert logged(file) - before < 10


def test_a_folder_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is not used: a power cut might take the file's name. SQLite would not tell."""
    break_sync(monkeypatch, errno.EIO)
    with pytest.raises(StorageError, match=r"store\.db: cannot be opened: Input/output error"):
        reopened(tmp_path / "store.db")


def test_a_folder_that_need_not_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems know no such thing."""
    break_sync(monkeypatch, errno.EINVAL)
    with sqlite(tmp_path / "store.db") as driver:
        driver.commit(know(), store(1))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_folder_of_a_linked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is beside the file itself, and so is what is synced."""
    (tmp_path / "far").mkdir()
    (tmp_path / "store.db").symlink_to(tmp_path / "far" / "store.db")
    synced: list[Path] = []

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", note)
    reopened(tmp_path / "store.db")
    assert tmp_path / "far" in synced
    assert tmp_path not in synced


def test_the_folder_is_synced_when_all_files_are_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is the last one that is made: a power cut must not take its name, with all that was confirmed."""
    there: list[bool] = []

    def note(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            there.append((tmp_path / "store.db-wal").exists())

    monkeypatch.setattr(os, "fsync", note)
    with sqlite(tmp_path / "store.db"):
        assert there[-1]
