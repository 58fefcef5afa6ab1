"""Files that cannot be used, and disks that fail."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mezzenger.broker.effects import Attempt, Change, Offered, Origin
from mezzenger.broker.restored import Swept
from mezzenger.errors import StorageError, StorageFull
from mezzenger.storage.files import Files
from mezzenger.storage.rows import read_restored
from mezzenger.storage.schema import APPLICATION_ID, VERSION
from mezzenger.storage.seal import make_seal
from mezzenger.storage.sqlite import SqliteStorage
from tests.storage.driver import Driver, know, reopened, requeue, settle, sqlite, store

UNPRIVILEGED = """
import asyncio, os, sys
from pathlib import Path
from mezzenger.errors import StorageError
from mezzenger.storage.sqlite import SqliteStorage
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
try:
    asyncio.run(SqliteStorage(Path("store.db")).open())
except StorageError as error:
    print(error, flush=True)
"""

SMALL_DISK = """
import asyncio, sys
from pathlib import Path
from mezzenger.errors import StorageFull
from mezzenger.storage.sqlite import SqliteStorage
from tests.storage.driver import Driver, know, settle, sqlite, store

ballast = Path(sys.argv[1], "ballast")
ballast.write_bytes(bytes(200_000))
with sqlite(Path(sys.argv[1], "store.db")) as driver:
    driver.commit(know(), store(1))
    number = 2
    try:
        while number < 1000:
            driver.commit(store(number, payloads=[bytes(10_000)]), store(number + 1, payloads=[bytes(10_000)]))
            number += 2
    except StorageFull as error:
        print(error)
    assert number > 4, number
    ballast.unlink()
    driver.commit(store(number, "b"))
    assert driver.numbers() == list(range(1, number)), driver.numbers()
    assert driver.numbers("b") == [number]
"""

FULL_DISK = """
import sys
from pathlib import Path
from tests.storage.driver import know, reopened, settle, sqlite, store

folder = Path(sys.argv[1])
with sqlite(folder / "store.db") as driver:
    driver.commit(know(), store(1), store(2, "b"))
    driver.commit(settle(store(2, "b")))
for rest in ("store.db.lock", None):
    with open(folder / "ballast", "ab", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(1000))
        except OSError as error:
            print(error)
    with sqlite(folder / "store.db") as driver:
        driver.close()
    if rest:
        (folder / rest).unlink()
assert [total.name for total in reopened(folder / "store.db").totals] == ["a"]
with sqlite(folder / "store.db") as driver:
    (folder / "ballast").unlink()
    driver.commit(store(3, "b"))
    assert driver.numbers("b") == [3], driver.numbers("b")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a file that is not there yet."""
    return tmp_path / "store.db"


def refused(file: Path, words: str) -> None:
    """Assert that a store is not opened, for this reason, and that the file is as it was."""
    before = file.read_bytes()
    with pytest.raises(StorageError, match=words) as caught:
        reopened(file)
    assert str(file) in str(caught.value)
    assert file.read_bytes() == before
    assert not file.with_name(f"{file.name}-wal").exists()
    assert not file.with_name(f"{file.name}-journal").exists()


def seal_anew(file: Path) -> None:
    """Make the seal fit what a test has done to a file."""
    make_seal(Files.of(file))


class TestNotOurs:
    @pytest.mark.parametrize("content", [b"x", b"port: 1\n" * 60, b"These are my notes.\n" * 1000, bytes(4096)])
    def test_a_file_that_is_no_database(self, file: Path, content: bytes) -> None:
        """It is refused, and not touched."""
        file.write_bytes(content)
        refused(file, "is not a database; name another persist_file")

    @pytest.mark.parametrize("application", [0, 12345])
    @pytest.mark.parametrize("journal", ["DELETE", "WAL"])
    def test_a_database_of_another_program(self, file: Path, application: int, journal: str) -> None:
        """It is refused, and not touched, whether it says whose it is or not."""
        with closing(sqlite3.connect(file)) as database:
            database.executescript(
                f"PRAGMA journal_mode = {journal}; PRAGMA application_id = {application};"
                "CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('dear diary');"
            )
        refused(file, "is a database of another program; name another persist_file")

    def test_a_database_that_only_says_whose_it_is(self, file: Path) -> None:
        """Tables or not."""
        with closing(sqlite3.connect(file)) as database:
            database.execute(f"PRAGMA user_version = {VERSION + 1}")
        refused(file, "another program")

    def test_another_version(self, file: Path) -> None:
        """What a later Mezzenger made is left to it."""
        reopened(file)
        with closing(sqlite3.connect(file)) as database:
            database.execute(f"PRAGMA user_version = {VERSION + 1}")
        seal_anew(file)
        refused(file, f"has schema version {VERSION + 1}; this server knows version {VERSION}")

    def test_tables_are_missing(self, file: Path) -> None:
        """It says it is ours, and is not."""
        with closing(sqlite3.connect(file)) as database:
            database.executescript(
                f"PRAGMA journal_mode = WAL; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
            )
        refused(file, "the index 'dead_of_name' is missing or changed")

    def test_a_file_cut_off(self, file: Path) -> None:
        """The end is missing: it is refused, and kept for those who want to rescue what is in it."""
        with sqlite(file) as driver:
            driver.commit(know(), *(store(number, payloads=[bytes(5000)]) for number in range(1, 50)))
        file.write_bytes(file.read_bytes()[:4096])
        refused(file, "is damaged: pages 2 to .* not as written; .* are missing at the end")
        file.with_name("store.db.seal").unlink()
        refused(file, "is damaged: the database cannot be read by SQLite: ")


class TestNoFile:
    def test_a_directory(self, file: Path) -> None:
        """It is refused by its path."""
        file.mkdir()
        with pytest.raises(StorageError, match=r"store\.db: cannot be opened: Is a directory"):
            reopened(file)

    def test_a_missing_directory(self, file: Path) -> None:
        """It is not made: a typing error in a path must not make a new store."""
        with pytest.raises(StorageError, match=r"missing/store\.db.*: No such file or directory"):
            reopened(file.parent / "missing" / "store.db")
        assert list(file.parent.iterdir()) == []

    def test_below_a_file(self, file: Path) -> None:
        """A path that cannot be is refused."""
        file.write_text("mine")
        with pytest.raises(StorageError, match=r"store\.db/store\.db.*: Not a directory"):
            reopened(file / "store.db")

    @pytest.mark.parametrize("with_file", [False, True])
    def test_no_right_to_write(self, file: Path, with_file: bool) -> None:
        """Neither a read-only directory nor a file of somebody else in one is written to."""
        if with_file:
            reopened(file)
            file.with_name("store.db.lock").chmod(0o666)
            file.chmod(0o444)
        file.parent.chmod(0o555)
        try:
            command = [sys.executable, "-c", UNPRIVILEGED, str(file.parent)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        finally:
            file.parent.chmod(0o755)
        assert "store.db" in result.stdout, result.stderr
        assert "cannot be opened: Permission denied" in result.stdout


class TestDamage:
    @pytest.mark.parametrize("at", [0, 30, -1])
    def test_a_damaged_frame_is_passed_over(self, file: Path, at: int, caplog: pytest.LogCaptureFixture) -> None:
        """One byte of it is not what was stored: no subscriber gets it, but what is behind it; the log tells once."""
        with sqlite(file) as driver:
            driver.commit(know(), store(1), store(2), store(3), store(4, "b"))
        damage(file, "message", 2, at)
        with sqlite(file) as driver:
            assert driver.numbers(frames=1) == [1]
            assert driver.numbers(after=1, frames=1) == driver.numbers(after=1) == [3]
            assert driver.numbers("b") == [4]
            driver.commit(store(5, "b"))
        assert [record.levelname for record in caplog.records] == ["CRITICAL"]
        assert f"{file}: message 2 of 'a' is damaged: " in caplog.text
        assert f"'mezzenger store repair {file}'" in caplog.text
        assert rows_of(file, "message") == [1, 2, 3, 4, 5]

    def test_what_has_damaged_indexes_is_passed_over(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What is left of a batch cannot be read."""
        with sqlite(file) as driver:
            driver.commit(know(), store(1, payloads=[b"x", b"y"]), store(2), Attempt(1, 2, (1,)))
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("UPDATE message SET indexes = x'c1'")
        seal_anew(file)
        with sqlite(file) as driver:
            assert driver.numbers() == []
        assert "message 1 of 'a' is damaged" in caplog.text

    def test_sweeps_pass_over_what_is_damaged(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        """It neither holds up what expires or is due behind it, nor has the store looked through over and over."""
        expiring = [store(number, expires=float(number)) for number in range(1, 5)]
        delayed = [store(number, due=float(number - 4), expires=9.0) for number in range(5, 9)]
        delayed[1] = store(6, due=2.0, expires=2.5)
        with sqlite(file) as driver:
            driver.commit(know(), *expiring, *delayed)
        damage(file, "message", 2)
        damage(file, "delayed", 6)
        with sqlite(file) as driver:
            swept = driver.sweep(3.0, frames=2)
            assert [[one.number for one in found] for found in swept[:2]] == [[1, 3], [5, 7]]
            assert swept.next == 3.0
            driver.commit(settle(expiring[0]), settle(expiring[2]))
            driver.commit(requeue(delayed[0], 10, Origin.DELAYED), requeue(delayed[2], 11, Origin.DELAYED))
            for _ in range(2):
                assert driver.sweep(3.0, frames=2) == Swept([], [], 4.0)
        assert [record.levelname for record in caplog.records] == ["CRITICAL", "CRITICAL"]
        assert (rows_of(file, "message"), rows_of(file, "delayed")) == ([2, 4, 10, 11], [6, 8])


def damage(file: Path, table: str, number: int, at: int = -1) -> None:
    """Change one byte of a frame that is stored, unknown to the seal."""
    with closing(sqlite3.connect(file)) as database, database:
        (stored,) = database.execute(f"SELECT frame FROM {table} WHERE number = ?", (number,)).fetchone()
        frame = bytearray(stored)
        frame[at] ^= 1
        database.execute(f"UPDATE {table} SET frame = ? WHERE number = ?", (bytes(frame), number))
    seal_anew(file)


def rows_of(file: Path, table: str) -> list[int]:
    """Return the numbers that a table has; the store is not open."""
    with closing(sqlite3.connect(file)) as database:
        return [number for (number,) in database.execute(f"SELECT number FROM {table} ORDER BY number")]


def contents(driver: Driver) -> list[Any]:
    """Return all that the store's tables hold, the store being open."""
    database = driver.storage._database  # type: ignore[attr-defined]
    tables = ("name", "message", "publisher", "refused", "last_number")
    return [database.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


class TestFull:
    @pytest.fixture
    def driver(self, file: Path) -> Iterator[Driver]:
        """A store with a little in it."""
        with sqlite(file) as driver:
            driver.commit(know(), store(1), store(2, "b"))
            yield driver

    def limit(self, driver: Driver, pages: int) -> None:
        """Let the file have no more than so many pages."""
        database = driver.storage._database  # type: ignore[attr-defined]
        database.execute(f"PRAGMA max_page_count = {pages}")

    def test_nothing_of_the_commit_is_there(self, driver: Driver, file: Path) -> None:
        """Neither its frames nor its settles, nor a name that came with it; what was there before is."""
        before = contents(driver)
        self.limit(driver, 1)
        with pytest.raises(StorageFull, match=rf"{file}: there is no space left"):
            driver.commit(know(5), settle(store(1)), store(3, "new", [bytes(100_000)]), Offered("a", 7))
        assert contents(driver) == before

    def test_a_later_commit_succeeds(self, driver: Driver, file: Path) -> None:
        """As soon as there is space, with the same numbers and names."""
        self.limit(driver, 1)
        for _ in range(3):
            with pytest.raises(StorageFull):
                driver.commit(store(3, "new", [bytes(100_000)]))
        self.limit(driver, 10_000)
        driver.commit(store(3, "new", [bytes(100_000)]), store(4, "b"))
        assert driver.numbers("new") == [3]
        assert driver.numbers("b") == [2, 4]
        driver.close()
        assert sorted((total.name, total.frames) for total in reopened(file).totals) == [("a", 1), ("b", 2), ("new", 1)]

    def test_what_needs_no_space_goes_on(self, driver: Driver) -> None:
        """Subscribers go on reading and settling."""
        self.limit(driver, 1)
        with pytest.raises(StorageFull):
            driver.commit(store(3, payloads=[bytes(100_000)]))
        assert driver.numbers() == [1]
        driver.commit(settle(store(1)))
        assert driver.numbers() == []

    def test_a_frame_that_sqlite_does_not_take(self, driver: Driver) -> None:
        """It is refused with the commit it is in, and harms nothing that comes after it."""
        driver.storage._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)  # type: ignore[attr-defined]
        with pytest.raises(StorageFull, match="one frame is larger than SQLite takes"):
            driver.commit(store(3, "new"), store(4, payloads=[bytes(20_000)]))
        driver.commit(store(3, "new"))
        assert driver.numbers("new") == [3]

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a private mount")
    @pytest.mark.parametrize("script", [SMALL_DISK, FULL_DISK])
    def test_a_real_disk(self, tmp_path: Path, script: str) -> None:
        """The same on a file system of 1 MB, until something else on it is deleted; and a start while it is full."""
        mount = f"mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -c '{script}' {tmp_path}"
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        command = ["unshare", *user, "--mount", "sh", "-c", mount]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if "unshare" in result.stderr or "mount:" in result.stderr:
            pytest.skip(f"no private mount: {result.stderr}")
        assert "o space left on " in result.stdout, result.stderr
        assert result.returncode == 0, result.stderr

    def test_a_start_may_leave_names_that_nothing_is_of(self, driver: Driver, file: Path) -> None:
        """If there is no space to remove them; they are not told of, and are used again."""
        driver.commit(settle(store(2, "b")))
        driver.close()
        names: dict[str, int] = {}
        with closing(sqlite3.connect(file)) as database:
            full = sqlite_error(sqlite3.SQLITE_FULL, "database or disk is full")
            unable: Any = FaultyDatabase(database, "DELETE FROM name", full)
            assert [total.name for total in read_restored(unable, names).totals] == ["a"]
            assert names.keys() == {"a", "b"}
            unable._error = sqlite_error(sqlite3.SQLITE_IOERR)
            with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
                read_restored(unable, names)


class FaultyDatabase:
    """Passes everything on to a database, but fails at one statement."""

    def __init__(self, database: sqlite3.Connection, statement: str, error: BaseException) -> None:
        self._database = database
        self._statement = statement
        self._error = error

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._database, name)
        return self._guarded(value) if name in {"execute", "executemany"} else value

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(statement: str, *arguments: Any) -> Any:
            if statement.startswith(self._statement):
                raise self._error
            return function(statement, *arguments)

        return call


def sqlite_error(code: int | None, text: str = "disk I/O error") -> sqlite3.Error:
    """Return an error as SQLite gives it; without a code, as Python's module does."""
    error = sqlite3.OperationalError(text)
    if code is not None:
        error.sqlite_errorcode = code
    return error


class TestDiskFails:
    @pytest.fixture
    def driver(self, file: Path) -> Iterator[Driver]:
        """A store with a little in it."""
        with sqlite(file) as driver:
            driver.commit(know(), store(1), store(2))
            yield driver

    def break_at(self, driver: Driver, statement: str, error: BaseException) -> Callable[[], None]:
        """Let a statement fail; return what mends it."""
        assert isinstance(driver.storage, SqliteStorage)
        storage, database = driver.storage, driver.storage._database
        assert database is not None
        storage._database = FaultyDatabase(database, statement, error)  # type: ignore[assignment]

        def mend() -> None:
            storage._database = database

        return mend

    @pytest.mark.parametrize(
        "code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_READONLY, None]
    )
    @pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO message", "DELETE", "COMMIT"])
    def test_a_failed_commit_is_the_last(self, driver: Driver, file: Path, code: int | None, statement: str) -> None:
        """A sync that failed once proves nothing when it succeeds later: all is refused until a restart."""
        mend = self.break_at(driver, statement, sqlite_error(code))
        with pytest.raises(StorageError, match="the disk has failed") as caught:
            driver.commit(store(3), settle(store(1)))
        assert not isinstance(caught.value, StorageFull)
        mend()
        for change in (store(4), settle(store(2))):
            with pytest.raises(StorageError, match="nothing is stored until the server is restarted"):
                driver.commit(change)
        with pytest.raises(StorageError, match="the disk has failed"):
            driver.read()
        driver.close()
        with sqlite(file) as again:
            assert again.numbers() == [1, 2]

    @pytest.mark.parametrize("statement", ["SELECT", "UPDATE"])
    def test_a_failed_read_is_the_last(self, driver: Driver, statement: str) -> None:
        """What cannot be read, or not be marked as delivered, is not handed out."""
        mend = self.break_at(driver, statement, sqlite_error(sqlite3.SQLITE_IOERR_READ))
        with pytest.raises(StorageError, match="the disk has failed"):
            driver.read()
        mend()
        with pytest.raises(StorageError, match="the disk has failed"):
            driver.commit(store(3))

    def test_a_read_that_finds_the_disk_full(self, driver: Driver) -> None:
        """Hands out nothing, and can be tried again: until it is marked as delivered, nothing may be."""
        mend = self.break_at(driver, "UPDATE", sqlite_error(sqlite3.SQLITE_FULL, "database or disk is full"))
        with pytest.raises(StorageFull):
            driver.read()
        mend()
        assert [row.attempts for row in driver.read()] == [0, 0]

    def test_a_full_disk_that_cannot_undo_has_failed(self, driver: Driver) -> None:
        """What cannot be rolled back is not built upon."""
        self.break_at(driver, "ROLLBACK", sqlite_error(sqlite3.SQLITE_IOERR))
        database = driver.storage._database  # type: ignore[attr-defined]
        database.execute("PRAGMA max_page_count = 1")
        database._statement, database._error = "SELECT name", sqlite_error(sqlite3.SQLITE_IOERR)
        with pytest.raises(StorageError, match="the disk has failed"):
            driver.commit(store(3, payloads=[bytes(100_000)]))

    @pytest.mark.parametrize("changes", [[settle(store(1, "unknown"))], [store(3, "new"), store(3, "new")]])
    def test_changes_that_cannot_be(self, driver: Driver, changes: list[Change]) -> None:
        """They raise, and leave nothing behind."""
        before = contents(driver)
        with pytest.raises((KeyError, StorageError)):
            driver.commit(store(9, "new"), *changes)
        database = driver.storage._database  # type: ignore[attr-defined]
        if database.in_transaction:
            database.execute("ROLLBACK")
        assert contents(driver) == before

    def test_an_error_that_is_not_sqlite_s(self, driver: Driver) -> None:
        """It is raised as it is, nothing of the commit is there, and the next one is made."""
        mend = self.break_at(driver, "DELETE FROM message", MemoryError())
        with pytest.raises(MemoryError):
            driver.commit(store(3, "new"), settle(store(1)))
        mend()
        driver.commit(store(3, "new"))
        assert driver.numbers("new") == [3]
        assert driver.numbers() == [1, 2]
