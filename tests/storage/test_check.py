"""What ``check`` finds, and that it changes nothing."""

import errno
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from mezzenger.broker.effects import Attempt
from mezzenger.errors import StorageError
from mezzenger.storage import snapshot as snapshots
from mezzenger.storage.check import MAX_FINDINGS, check
from mezzenger.storage.files import Files
from mezzenger.storage.seal import make_seal
from mezzenger.storage.wal import Log
from tests.storage.damage import contents_of, make_sample, read_files, write_files
from tests.storage.driver import know, reopened, sqlite, store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with some messages of two names."""
    file = tmp_path / "store.db"
    with sqlite(file) as driver:
        driver.commit(know(), *(store(number, "ab"[number % 2], [b"x", b"y"]) for number in range(1, 50)))
        driver.commit(Attempt(3, 2, (1,)))
    return file


def left_by_a_kill(file: Path, target: Path) -> Path:
    """Go on with a store, and write its files elsewhere as they are then."""
    with sqlite(file) as driver:
        driver.commit(*(store(number, "c") for number in range(50, 60)))
        write_files(target, read_files(file))
    return target


def altered(file: Path, statement: str) -> list[str]:
    """Change the tables as a bug would, so that the seal fits; return what is found."""
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(statement)
    make_seal(Files.of(file))
    return list(map(str, check(file).findings))


def test_a_sound_store(file: Path) -> None:
    """Nothing is found, and the rows are counted."""
    report = check(file)
    assert (report.is_sound, report.has_seal) == (True, True)
    assert report.frames == {"message": 49, "delayed": 0, "dead": 0, "retained": 0}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE message SET frame = x'00' WHERE number = 2", "message 2 of 'a' is damaged"),
        ("UPDATE message SET name = 9 WHERE number = 2", "message 2 is of the name 'a'"),
        ("UPDATE message SET attempts = -1 WHERE number = 2", "message 2 of 'a' has attempts -1"),
        ("UPDATE message SET indexes = x'9105' WHERE number = 2", "does not tell which of its messages are left"),
        ("UPDATE message SET indexes = x'c1' WHERE number = 2", "does not tell which of its messages are left"),
        ("UPDATE name SET frames = 7 WHERE name = 'a'", "the counters of 'a' say"),
        ("UPDATE name SET dead_size = 7 WHERE name = 'a'", "the counters of 'a' say"),
        ("DELETE FROM message WHERE number = 2", "the counters of 'a' say"),
        ("UPDATE last_number SET number = 5", "the last number is 5, below message 6"),
        ("DELETE FROM last_number", "the last number is there 0 times"),
        ("UPDATE publisher SET key = x'00'", "has a key of 1 bytes"),
        ("UPDATE publisher SET seen = 1000", "was seen at 1000"),
        ("DROP INDEX message_of_name", "the index 'message_of_name' is missing or changed"),
        (
            "INSERT INTO dead SELECT number, name, 1, NULL, 1.5, 'r', 'e', x'00' FROM message WHERE number = 2",
            "dead 2 of 'a' is damaged",
        ),
        ("INSERT INTO delayed SELECT number, name, 1.5, NULL, x'00' FROM message", "delayed 1 of 'b' is damaged"),
    ],
)
def test_what_the_seal_cannot_see(file: Path, statement: str, words: str) -> None:
    """Rows that do not go together are named, though every byte is as it was written."""
    assert any(words in finding for finding in altered(file, statement))


def test_a_killed_servers_files_are_not_touched(file: Path, tmp_path: Path) -> None:
    """What is in the log counts, and not one byte of any file changes, nor is there a new file."""
    (tmp_path / "folder").mkdir()
    target = left_by_a_kill(file, tmp_path / "folder" / "killed.db")
    files = read_files(target)
    report = check(target)
    assert report.frames["message"] == 59
    assert report.is_sound
    assert read_files(target) == files
    assert {path.name for path in target.parent.iterdir()} == {"killed.db", "killed.db-wal", "killed.db.seal"}


def test_a_copy_for_which_there_is_no_room(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the folder that is blamed, not the file, and nothing is left there."""

    def full(_files: Files, _log: Log, copy: Path) -> None:
        copy.write_bytes(b"beginning")
        raise OSError(errno.ENOSPC, "No space left on device")

    killed = left_by_a_kill(file, tmp_path / "killed.db")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(snapshots, "_copy", full)
    text = rf"^{temporary}/\S+: has no room for a copy of {killed}, .*: No space left on device; set TMPDIR"
    with pytest.raises(StorageError, match=text):
        check(killed)
    assert not list(temporary.iterdir())
    Files.of(killed).seal.unlink()
    with pytest.raises(StorageError, match=rf"^{tmp_path}: has no room for a copy .*: No space left on device$"):
        reopened(killed)
    assert sorted(read_files(killed)) == ["", "-wal"]
    assert not killed.with_name("killed.db.copy").exists()


def test_a_start_makes_its_copy_beside_the_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is room for it, if there is any; what a killed process has left of one is in nobody's way."""
    killed = left_by_a_kill(file, tmp_path / "killed.db")
    Files.of(killed).seal.unlink()
    killed.with_name("killed.db.copy").write_bytes(b"beginning")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert reopened(killed).last_number == 59
    assert not killed.with_name("killed.db.copy").exists()


def test_no_file(tmp_path: Path) -> None:
    """There is nothing wrong with what is not there."""
    assert check(tmp_path / "none.db").frames == {}


def test_findings_do_not_grow_without_end(file: Path) -> None:
    """A thousand damaged rows tell enough."""
    with sqlite(file) as driver:
        driver.commit(*(store(number) for number in range(100, 1300)))
    assert len(altered(file, "UPDATE message SET frame = x'00'")) == MAX_FINDINGS


def test_the_sample_is_one(tmp_path: Path) -> None:
    """The store that the tests of damage use has rows in every table."""
    sample = make_sample(tmp_path, 1000, "stopped")
    assert [len(sample.contents[table]) > 3 for table in ("message", "delayed", "dead", "publisher")] == [True] * 4
    write_files(tmp_path / "again.db", sample.files)
    assert contents_of(tmp_path / "again.db", tmp_path / "copy") == sample.contents
