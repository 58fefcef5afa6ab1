"""The last message of each name, as stores keep it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mezzenger.broker.effects import Change, Retain, Unretain
from mezzenger.broker.restored import Kept
from mezzenger.protocol.last_message import last_message
from mezzenger.protocol.wire import encode_data
from mezzenger.storage import rows
from mezzenger.storage.check import check
from mezzenger.storage.files import Files
from mezzenger.storage.seal import make_seal
from tests.storage.driver import Driver, know, memory, reopened, settle, sqlite, store

NAME: str = "a"


@pytest.fixture(params=["memory", "sqlite"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    """An open store of either kind."""
    with memory() if request.param == "memory" else sqlite(tmp_path / "store.db") as driver:
        yield driver


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a store is made."""
    return tmp_path / "store.db"


def frame(name: str = NAME, *payloads: bytes, sequence: int = 1) -> bytes:
    """Return a frame with ack=0."""
    return encode_data(
        name, [(1.5, payload) for payload in payloads or [b"x"]], ack=0, codec=1, client=7, sequence=sequence
    )


def kept(file: Path) -> dict[str, Kept]:
    """Return what the next server finds."""
    return dict(reopened(file).retained)


class TestEither:
    def test_takes_the_changes(self, driver: Driver) -> None:
        """Whatever is kept or forgotten does nothing to what is to be delivered."""
        stored = store(2)
        driver.commit(know(), Retain(1, "b", frame("b")), stored, Retain(2, "a", stored.frame), Unretain(9, "unknown"))
        driver.commit(Unretain(2, "a"), settle(stored), Unretain(1, "b"))
        assert driver.numbers() == []

    def test_what_is_due_has_its_frame(self, driver: Driver) -> None:
        """For it may be the last message now; and it tells when it expires."""
        stored = store(1, due=5.0, expires=9.0)
        driver.commit(know(), stored)
        (waiting,) = driver.sweep(5.0).due
        assert (waiting.frame, waiting.expires) == (stored.frame, 9.0)

    def test_what_has_expired_has_not(self, driver: Driver) -> None:
        """It is forgotten, and need not be in memory for that."""
        driver.commit(know(), store(1, expires=5.0))
        (waiting,) = driver.sweep(5.0).expired
        assert waiting.frame == b""


class TestFile:
    def test_outlives_the_server(self, file: Path) -> None:
        """Number, frame and end of each name's last message are there after a restart, with ack=1 or without."""
        with sqlite(file) as driver:
            stored = store(1, expires=9.0)
            driver.commit(know(), stored, Retain(1, "a", stored.frame, 9.0), Retain(2, "b", frame("b")))
        assert kept(file) == {"a": Kept(1, stored.frame, 9.0, is_pending=True), "b": Kept(2, frame("b"))}

    def test_tells_what_is_pending(self, file: Path) -> None:
        """It is no more when it was acknowledged, and the name stays though nothing else is left of it."""
        with sqlite(file) as driver:
            stored = store(1)
            driver.commit(know(), stored, Retain(1, "a", stored.frame))
            driver.commit(settle(stored))
        assert kept(file) == {"a": Kept(1, stored.frame)}
        assert kept(file) == {"a": Kept(1, stored.frame)}

    def test_of_a_batch_the_last(self, file: Path) -> None:
        """A batch is written as its last message."""
        batch = frame("a", b"0", b"1", b"2")
        with sqlite(file) as driver:
            driver.commit(Retain(1, "a", batch))
        assert kept(file)["a"].frame == last_message(batch) != batch

    @pytest.mark.parametrize("at_once", [True, False])
    def test_the_highest_number(self, file: Path, at_once: bool) -> None:
        """In whichever order they come, in one commit or in several, the one with the highest number is kept."""
        changes = [Retain(number, "a", frame(sequence=number)) for number in (2, 5, 3)]
        with sqlite(file) as driver:
            for some in [changes] if at_once else [[change] for change in changes]:
                driver.commit(*some)
        assert kept(file) == {"a": Kept(5, frame(sequence=5))}

    @pytest.mark.parametrize("at_once", [True, False])
    def test_forgotten(self, file: Path, at_once: bool) -> None:
        """What has that number at most is forgotten, and the name with it; what has a higher one stays."""
        changes: list[Change] = [
            Retain(2, "a", frame()),
            Retain(5, "b", frame("b")),
            Unretain(2, "a"),
            Unretain(4, "b"),
        ]
        with sqlite(file) as driver:
            for some in [changes] if at_once else [[change] for change in changes]:
                driver.commit(*some)
        assert kept(file) == {"b": Kept(5, frame("b"))}
        with closing(sqlite3.connect(file)) as database:
            assert database.execute("SELECT name FROM name").fetchall() == [("b",)]

    def test_written_once_in_a_commit(self, file: Path) -> None:
        """However often a name changes."""
        with sqlite(file) as driver:
            driver.commit(Retain(1, "a", frame()))
            before = driver.storage._database.total_changes  # type: ignore[attr-defined]
            driver.commit(*(Retain(number, "a", frame(sequence=number)) for number in range(2, 100)))
            # One row less, one more, and the last number.
            assert driver.storage._database.total_changes - before == 3  # type: ignore[attr-defined]

    def test_no_number_is_given_twice(self, file: Path) -> None:
        """The next server goes on behind what is kept: what it is given later is the last message."""
        with sqlite(file) as driver:
            driver.commit(Retain(70, "a", frame()))
        assert reopened(file).last_number == 70

    def test_what_cannot_be_taken_apart(self, file: Path) -> None:
        """It is left out, and what was kept before stays."""
        batch = frame("a", b"0", b"1", sequence=2**64 - 1)
        with sqlite(file) as driver:
            driver.commit(Retain(1, "a", frame()))
            driver.commit(Retain(2, "a", batch))
        assert kept(file) == {"a": Kept(1, frame())}

    def test_many_that_are_due(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Their frames are returned bit by bit, and none is forgotten."""
        monkeypatch.setattr(rows, "SWEEP_SIZE", 1000)
        with sqlite(file) as driver:
            changes = [store(number, payloads=[bytes(400)], due=float(number)) for number in range(1, 9)]
            driver.commit(know(), *changes)
            swept = driver.sweep(7.0)
            assert [waiting.number for waiting in swept.due] == [1, 2, 3]
            assert swept.next == 7.0
            monkeypatch.setattr(rows, "SWEEP_SIZE", 10_000)
            swept = driver.sweep(7.0)
            assert [waiting.number for waiting in swept.due] == list(range(1, 8))
            assert swept.next == 8.0


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE retained SET frame = x'00' WHERE number = 2", "retained 2 of 'b' is damaged"),
        (
            "UPDATE retained SET name = (SELECT id FROM name WHERE name = 'a') WHERE number = 2",
            "retained 2 of 'a' is of the name 'b'",
        ),
        (
            "UPDATE retained SET name = (SELECT id FROM name WHERE name = 'a') WHERE number = 2",
            "the last message of 'a' is 2 frames of 2 messages",
        ),
        ("UPDATE retained SET frame = (SELECT frame FROM message) WHERE number = 1", "is 1 frames of 2 messages"),
        ("UPDATE retained SET number = 99 WHERE number = 2", "the last number is 2, below retained 99"),
        ("DROP INDEX retained_of_name", "the index 'retained_of_name' is missing"),
    ],
)
def test_check_looks_at_them(file: Path, statement: str, words: str) -> None:
    """A bug that spoils what is kept is found."""
    with sqlite(file) as driver:
        stored = store(1, payloads=[b"0", b"1"])
        driver.commit(know(), stored, Retain(1, "a", stored.frame), Retain(2, "b", frame("b")))
    assert check(file).is_sound
    assert check(file).frames["retained"] == 2
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(statement)
    make_seal(Files.of(file))
    assert any(words in str(finding) for finding in check(file).findings), check(file).findings
