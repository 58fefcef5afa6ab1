"""The seal notices every byte that is not as it was written, and nothing else."""

import ctypes
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mezzenger.broker.effects import Offered
from mezzenger.errors import StorageError
from mezzenger.storage import seal as seals
from mezzenger.storage.changes import make_changes
from mezzenger.storage.files import Files, reading
from mezzenger.storage.schema import make_or_check, prepare
from mezzenger.storage.seal import NOTE_SIZE, SealDamaged, decode_note
from mezzenger.storage.verify import verify
from mezzenger.storage.wal import read_log
from tests.storage.damage import read_files, write_files
from tests.storage.driver import Driver, know, reopened, settle, sqlite, store

ENDINGS = ("", "-wal", ".seal")

SMALL_LOCK_BYTE = 2**18

KILLED = """
import os, sys
from pathlib import Path
from tests.storage.driver import know, sqlite, store
driver = sqlite(Path(sys.argv[1]))
number = (driver.numbers(size=2**30) or [0])[-1]
driver.commit(know(), *(store(number + index, payloads=[bytes(3000)]) for index in range(1, 30)))
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a file that is not there yet."""
    return tmp_path / "store.db"


@pytest.fixture
def lock_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The page that SQLite never uses, which is moved to where a small file has it."""
    maps = Path("/proc/self/maps")
    library = re.search(r"/\S*libsqlite3\S*", maps.read_text()) if maps.exists() else None
    if library is None:
        pytest.skip("this SQLite cannot be told to lock another byte")
    control = ctypes.CDLL(library.group()).sqlite3_test_control
    pending_byte = 11
    assert control(pending_byte, ctypes.c_uint(SMALL_LOCK_BYTE)) == seals.LOCK_BYTE
    monkeypatch.setattr(seals, "LOCK_BYTE", SMALL_LOCK_BYTE)
    yield seals.lock_page(4096)
    control(pending_byte, ctypes.c_uint(2**30))


def problems(file: Path) -> list[str]:
    return list(map(str, verify(Files.of(file)).findings))


def fill(driver: Driver, numbers: range) -> None:
    driver.commit(know(), *(store(number, f"name.{number % 3}", [bytes(2000)]) for number in numbers))


def killed(file: Path, work: Callable[[Driver], None]) -> dict[str, bytes]:
    """Return the files as they would be if the process were killed after some work."""
    with sqlite(file) as driver:
        work(driver)
        return read_files(file)


def test_a_store_that_was_closed_fits_its_seal(file: Path) -> None:
    """After any number of runs, and the seal says that no log is needed."""
    for run in range(3):
        with sqlite(file) as driver:
            fill(driver, range(run * 50 + 1, run * 50 + 51))
        assert problems(file) == []
        assert decode_note(Files.of(file).seal.read_bytes()).log_may_go


def test_any_byte_of_the_file_matters(file: Path) -> None:
    """Free space, headers, columns that no frame's digest covers: a change of any byte of some pages is found."""
    with sqlite(file) as driver:
        fill(driver, range(1, 20))
        driver.commit(*(settle(store(number, f"name.{number % 3}", [bytes(2000)])) for number in range(1, 10)))
    content = file.read_bytes()
    for at in range(0, len(content), 37):
        file.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        assert problems(file) == [f"page {at // 4096 + 1} of the file: not as written"] or at < 24
        assert problems(file)


def test_any_byte_of_the_seal_matters(file: Path) -> None:
    """A change of the seal itself is damage too."""
    with sqlite(file) as driver:
        fill(driver, range(1, 20))
    beside = Files.of(file).seal
    content = beside.read_bytes()
    for at in range(len(content)):
        beside.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        (problem,) = problems(file)
        assert ("the seal cannot be read" in problem) == (at < NOTE_SIZE)


def test_a_store_may_outgrow_the_page_that_is_never_used(file: Path, lock_page: int) -> None:
    """That of one GiB, which is in no tree and in no log: whatever it holds, and whatever the seal says of it."""
    with sqlite(file) as driver:
        fill(driver, range(1, 300))
        driver.storage._seal._checkpoint(driver.storage._database)  # type: ignore[attr-defined]
        fill(driver, range(300, 320))
        killed = read_files(file)
    assert len(killed[""]) > lock_page * 4096
    write_files(file.with_name("killed.db"), killed)
    assert problems(file) == problems(file.with_name("killed.db")) == []
    assert reopened(file).last_number == reopened(file.with_name("killed.db")).last_number == 319
    content = bytearray(file.read_bytes())
    content[(lock_page - 1) * 4096] ^= 1
    content[lock_page * 4096] ^= 1
    file.write_bytes(content)
    assert problems(file) == [f"page {lock_page + 1} of the file: not as written"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_length_of_a_killed_servers_files(file: Path, ending: str) -> None:
    """A log, a seal or a file that is cut off anywhere is damage, if anything that counts is missing."""

    def work(driver: Driver) -> None:
        fill(driver, range(1, 20))
        fill(driver, range(20, 40))

    files = killed(file, work)
    target = file.with_name("cut.db")
    for length in range(0, len(files[ending]), 401):
        write_files(target, files | {ending: files[ending][:length]})
        whole = ending == ".seal" and length >= len(files[ending])
        assert problems(target) or whole or (ending == "" and length >= 4096), length


def test_a_log_that_was_removed_is_missed(file: Path) -> None:
    """What was confirmed and is in no other file would be lost in silence."""
    files = killed(file, lambda driver: fill(driver, range(1, 20)))
    del files["-wal"]
    write_files(file.with_name("other.db"), files)
    with pytest.raises(StorageError, match=r"the log \(-wal\) cannot be read after 0 of its frames; \d+ .* missing"):
        reopened(file.with_name("other.db"))


def test_a_kill_is_no_damage(file: Path) -> None:
    """However often a server is killed amid its work, the next one finds all it had confirmed."""
    for run in range(1, 4):
        result = subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False, timeout=60)
        assert result.returncode == -9
        assert problems(file) == [], run
    with sqlite(file) as driver:
        assert len(driver.numbers(size=2**30)) == 87


@pytest.mark.parametrize("moment", ["before the digests", "before the checkpoint", "after the checkpoint", "log gone"])
def test_a_kill_in_a_checkpoint_is_no_damage(file: Path, moment: str) -> None:
    """Between any two of its steps the files are sound, and nothing is lost."""
    with sqlite(file) as driver:
        fill(driver, range(1, 40))
        stages = {"before the digests": read_files(file)}
        seal = driver.storage._seal  # type: ignore[attr-defined]
        seal._write_digests(seal._latest)
        stages["before the checkpoint"] = read_files(file)
        driver.storage._database.execute("PRAGMA wal_checkpoint")  # type: ignore[attr-defined]
        stages["after the checkpoint"] = read_files(file)
        stages["log gone"] = {ending: content for ending, content in read_files(file).items() if ending != "-wal"}
    target = file.with_name("killed.db")
    write_files(target, stages[moment])
    assert problems(target) == []
    with sqlite(target) as again:
        assert sum(len(again.numbers(f"name.{index}", size=2**30)) for index in range(3)) == 39


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_a_power_cut_left_of_a_commit_is_not_taken_for_a_new_one(file: Path, is_whole: bool) -> None:
    """It lies behind what was committed, and looks like more of it; neither a kill nor a stop is damage then."""
    with sqlite(file) as driver:
        fill(driver, range(1, 20))
        before = read_files(file)
        fill(driver, range(20, 30))
        log = read_files(file)["-wal"]
    target, killed_again = file.with_name("cut.db"), file.with_name("killed.db")
    write_files(target, before | {"-wal": log[:-1] + (bytes([log[-1] ^ 1]) if is_whole else b"")})
    with sqlite(target) as driver:
        write_files(killed_again, read_files(target))
        driver.commit(Offered("name.1", 1))
    for left in (target, killed_again):
        assert problems(left) == []
        assert reopened(left).last_number == 19


def test_half_of_an_old_log_is_damage(file: Path) -> None:
    """After a checkpoint SQLite would put the pages of the first half over newer ones."""

    def work(driver: Driver) -> None:
        fill(driver, range(1, 20))
        fill(driver, range(20, 40))
        driver.storage._seal._checkpoint(driver.storage._database)  # type: ignore[attr-defined]

    files = killed(file, work)
    target = file.with_name("half.db")
    write_files(target, files | {"-wal": files["-wal"][: len(files["-wal"]) // 2]})
    assert any("the log (-wal)" in problem for problem in problems(target))


def test_checkpoints_keep_the_log_short(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many frames the log is begun anew; the seal follows."""
    monkeypatch.setattr(seals, "_CHECKPOINT_FRAMES", 50)
    with sqlite(file) as driver:
        for number in range(1, 1001):
            driver.commit(know(), store(number, payloads=[bytes(1000)]))
        assert file.with_name("store.db-wal").stat().st_size < 100 * 4120
        copy = file.with_name("copy.db")
        write_files(copy, read_files(file))
    assert problems(copy) == []
    assert reopened(copy).last_number == 1000


def test_a_commit_of_many_pages_is_followed_to_its_end(file: Path) -> None:
    """However many there were before, or come after it."""

    def work(driver: Driver) -> None:
        for number, size in enumerate((100, 3_000_000, 100, 1_500_000, 100), 1):
            driver.commit(know(), store(number, payloads=[bytes(size)]))
            note = decode_note(Files.of(file).seal.read_bytes())
            with reading(Files.of(file).wal) as log:
                assert note.frames == read_log(log).committed

    files = killed(file, work)
    target = file.with_name("killed.db")
    write_files(target, files)
    assert problems(target) == []


def test_what_was_logged_and_undone_is_not_taken_for_a_commit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is larger than the cache begins the log before it ends, and leaves it there if it does not."""

    def fail_at_the_end(*arguments: Any) -> None:
        make_changes(*arguments)
        raise RuntimeError("no more")

    def work(driver: Driver) -> None:
        driver.commit(know(), store(1))
        with monkeypatch.context() as patch:
            patch.setattr("mezzenger.storage.sqlite.make_changes", fail_at_the_end)
            with pytest.raises(RuntimeError, match="no more"):
                driver.commit(*(store(number, payloads=[bytes(1_000_000)]) for number in range(2, 32)))
        driver.commit(store(2))
        note = decode_note(Files.of(file).seal.read_bytes())
        with reading(Files.of(file).wal) as log:
            found = read_log(log)
        assert len(found.frames) > found.committed == note.frames

    files = killed(file, work)
    target = file.with_name("killed.db")
    write_files(target, files)
    assert problems(target) == []
    assert reopened(target).last_number == 2


def test_without_space_for_the_seal_the_log_grows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit fails for that; when there is space again, all is as it should be."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with sqlite(file) as driver:
        driver.storage._seal._checkpoint_due = 1  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setattr(seals.Seal, "_write_digests", full)
            fill(driver, range(1, 20))
        fill(driver, range(20, 30))
    assert problems(file) == []
    assert reopened(file).last_number == 29


def test_a_seal_that_cannot_be_finished_is_removed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start looks at every message instead, says so, and makes a new one."""

    def failing(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with sqlite(file) as driver:
        fill(driver, range(1, 20))
        monkeypatch.setattr(seals.Seal, "_write_digests", failing)
    assert not Files.of(file).seal.exists()
    monkeypatch.undo()
    assert reopened(file).last_number == 19
    assert problems(file) == []


def test_a_file_without_a_seal_is_looked_at(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that was copied alone or that an older version made is taken, sealed, and the log tells."""
    with sqlite(file) as driver:
        fill(driver, range(1, 20))
    alone = file.with_name("alone.db")
    shutil.copy(file, alone)
    assert reopened(alone).last_number == 19
    assert "alone.db: has no seal beside it: every message in it is looked at" in caplog.text
    assert Files.of(alone).seal.exists()


def test_a_damaged_frame_without_a_seal_is_found(file: Path) -> None:
    """By the frame's own digest, before anything is served."""
    with sqlite(file) as driver:
        fill(driver, range(1, 20))
    Files.of(file).seal.unlink()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE message SET frame = CAST(frame || x'00' AS BLOB) WHERE number = 7")
    with pytest.raises(StorageError, match=r"message 7 of 'name.1' is damaged.*mezzenger store repair"):
        reopened(file)


@pytest.mark.parametrize("beside", ["-wal", ".seal"])
@pytest.mark.parametrize("with_file", [False, True])
def test_an_empty_or_missing_file_is_damage(file: Path, beside: str, with_file: bool) -> None:
    """If anything beside it tells that there was more, no new store is begun."""
    if with_file:
        file.touch()
    file.with_name(file.name + beside).write_bytes(b"something")
    with pytest.raises(
        StorageError, match=f"the file is {'empty' if with_file else 'missing'}, though store.db{beside}"
    ):
        reopened(file)
    assert file.exists() == with_file


def test_only_the_owner_may_read_the_seal(file: Path) -> None:
    """As with the file."""
    reopened(file)
    assert Files.of(file).seal.stat().st_mode & 0o777 == 0o600


def test_a_link_finds_the_same_seal(file: Path) -> None:
    """Whoever names the file otherwise does not begin a second one."""
    with sqlite(file) as driver:
        fill(driver, range(1, 5))
    link = file.with_name("link.db")
    link.symlink_to(file)
    assert reopened(link).last_number == 4
    assert not os.path.lexists(file.with_name("link.db.seal"))


@pytest.mark.parametrize("content", [b"", b"short", bytes(NOTE_SIZE)])
def test_what_is_no_note(content: bytes) -> None:
    """It is told apart, whatever it is."""
    with pytest.raises(SealDamaged):
        decode_note(content)


def test_pages_are_known_by_their_numbers(file: Path) -> None:
    """Two pages that have changed places are found, though both are as they were written."""
    make_or_check(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        prepare(database, file)
    with sqlite(file) as driver:
        fill(driver, range(1, 30))
    content = file.read_bytes()
    second, third = content[8192:12288], content[12288:16384]
    file.write_bytes(content[:8192] + third + second + content[16384:])
    assert problems(file) == ["pages 3 to 4 of the file: not as written"]
