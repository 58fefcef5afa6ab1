"""One process per file, and who that is."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mezzenger.errors import StorageError
from mezzenger.storage.lock import FileLock
from tests.storage.driver import know, reopened, sqlite, store

HOLDER = """
import asyncio, sys
from pathlib import Path
from mezzenger.storage.sqlite import SqliteStorage
asyncio.run(SqliteStorage(Path(sys.argv[1])).open())
print("open", flush=True)
sys.stdin.read()
"""


def test_another_process_is_named(tmp_path: Path) -> None:
    """A second server on the file learns which process has it; when that one is killed, the file is free."""
    file = tmp_path / "store.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(StorageError, match=rf"store\.db: is in use by .* process id {holder.pid}$"):
            reopened(file)
        with pytest.raises(StorageError, match=str(holder.pid)):
            reopened(file)
        holder.kill()
        holder.wait(10)
        assert reopened(file).totals == []


def test_this_process_is_named(tmp_path: Path) -> None:
    """The same within one process; the first one goes on, and leaves the file free when it closes."""
    file = tmp_path / "store.db"
    with sqlite(file) as driver:
        driver.commit(know(), store(1))
        with pytest.raises(StorageError, match=f"process id {os.getpid()}$"):
            reopened(file)
        driver.commit(store(2))
    assert reopened(file).last_number == 2


def test_a_link_to_the_file_is_the_file(tmp_path: Path) -> None:
    """Whoever names the file otherwise is refused as well."""
    file, link = tmp_path / "store.db", tmp_path / "link.db"
    link.symlink_to(file)
    with sqlite(file) as driver:
        driver.commit(know(), store(1))
        with pytest.raises(StorageError, match=rf"link\.db: is in use by .* {os.getpid()}$"):
            reopened(link)
        driver.commit(store(2))


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    """The lock ends with the store, though a child process has inherited it."""
    lock = FileLock(tmp_path / "store.db")
    end, start = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # in a process that coverage does not see
        os.close(start)
        os.read(end, 1)
        os._exit(0)
    lock.release()
    FileLock(tmp_path / "store.db").release()
    os.close(start)
    os.waitpid(child, 0)
    os.close(end)


def test_what_is_left_of_a_longer_pid_does_not_mislead(tmp_path: Path) -> None:
    """The lock's file holds the present holder's process id and nothing else."""
    beside = tmp_path / "store.db.lock"
    beside.write_text("123456789012345\n")
    lock = FileLock(tmp_path / "store.db")
    assert beside.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(StorageError, match=r"missing/store\.db\.lock: cannot be opened: No such file or directory"):
        FileLock(tmp_path / "missing" / "store.db")


def test_a_lock_that_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks nobody is said to have the file, and nothing stays open."""
    beside = tmp_path / "store.db.lock"
    beside.write_text("12345\n")

    def failing(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", failing)
    before = sorted(Path("/dev/fd").iterdir())
    with pytest.raises(StorageError, match=r"/store\.db\.lock: cannot be locked: No locks available"):
        FileLock(tmp_path / "store.db")
    assert sorted(Path("/dev/fd").iterdir()) == before
    assert beside.read_text() == "12345\n"


def test_a_full_disk_has_no_room_for_a_process_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock holds all the same; others are not told another process."""
    (tmp_path / "store.db.lock").write_text("12345\n")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        lock = FileLock(tmp_path / "store.db")
    with pytest.raises(StorageError, match="in use by the server with process id unknown"):
        FileLock(tmp_path / "store.db")
    lock.release()
    FileLock(tmp_path / "store.db").release()
