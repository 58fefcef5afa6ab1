"""What every store does, in memory and in a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mezzenger.broker.effects import Attempt, Offered
from mezzenger.broker.restored import Stored
from mezzenger.storage.memory import MemoryStorage
from mezzenger.storage.sqlite import SqliteStorage
from tests.storage.driver import Driver, know, memory, settle, sqlite, store


@pytest.fixture(params=["memory", "sqlite"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    """An open store of either kind."""
    with memory() if request.param == "memory" else sqlite(tmp_path / "store.db") as driver:
        yield driver


def test_each_tells_whether_it_outlives_the_server() -> None:
    """The one in a file does, the one in memory does not."""
    assert not MemoryStorage.survives_restart
    assert SqliteStorage.survives_restart


class TestReading:
    def test_returns_what_was_stored(self, driver: Driver) -> None:
        """A frame comes back to the byte, with its number, name and count of messages, never delivered so far."""
        change = store(1, payloads=[b"x", b"", b"\0\xff"])
        driver.commit(know(), change)
        assert driver.read() == [Stored(1, "a", 3, change.frame, 0, None)]

    def test_keeps_names_apart_and_in_order(self, driver: Driver) -> None:
        """Each name has its own frames, in order of their numbers, however the commits fell."""
        driver.commit(know(), store(1, "a"), store(2, "b"), store(3, "a"))
        driver.commit(store(4, "b"))
        driver.commit(store(5, "a"), store(6, "b"))
        assert driver.numbers("a") == [1, 3, 5]
        assert driver.numbers("b") == [2, 4, 6]

    def test_begins_after_a_number(self, driver: Driver) -> None:
        """What is at or below ``after`` is left out."""
        driver.commit(know(), *(store(number) for number in range(1, 6)))
        assert driver.numbers(after=3) == [4, 5]
        assert driver.numbers(after=5) == []

    def test_ends_at_so_many_frames(self, driver: Driver) -> None:
        """No more than ``frames`` are returned; the rest with the next read."""
        driver.commit(know(), *(store(number) for number in range(1, 6)))
        assert driver.numbers(frames=2) == [1, 2]
        assert driver.numbers(after=2, frames=2) == [3, 4]
        assert driver.numbers(after=4, frames=2) == [5]

    def test_ends_at_so_many_bytes(self, driver: Driver) -> None:
        """The frames have ``size`` bytes at most, to the byte."""
        changes = [store(number, payloads=[bytes(1000)]) for number in range(1, 4)]
        driver.commit(know(), *changes)
        both = len(changes[0].frame) + len(changes[1].frame)
        assert driver.numbers(size=both) == [1, 2]
        assert driver.numbers(size=both - 1) == [1]

    def test_returns_one_frame_at_least(self, driver: Driver) -> None:
        """A frame above the limit comes alone."""
        driver.commit(know(), store(1, payloads=[bytes(1000)]), store(2))
        assert driver.numbers(size=1) == [1]
        assert driver.numbers(after=1, size=1) == [2]

    def test_of_an_unknown_name_returns_nothing(self, driver: Driver) -> None:
        """Not even an error."""
        driver.commit(know(), store(1))
        assert driver.numbers("A") == []
        assert driver.numbers("a.b") == []

    @pytest.mark.parametrize("name", ["ß", "日本", "'; DROP TABLE message; --", "a%", " "])
    def test_takes_any_name(self, driver: Driver, name: str) -> None:
        """Also one that means something to a database."""
        driver.commit(know(), store(1, name))
        assert [(row.number, row.name) for row in driver.read(name)] == [(1, name)]

    def test_a_large_frame(self, driver: Driver) -> None:
        """20 MiB come back whole."""
        change = store(1, payloads=[bytes(range(256)) * 4096 * 20])
        driver.commit(know(), change)
        assert driver.read()[0].frame == change.frame

    def test_many_names(self, driver: Driver) -> None:
        """2,000 names in one commit."""
        driver.commit(know(), *(store(number, f"name.{number}") for number in range(1, 2001)))
        assert all(driver.numbers(f"name.{number}") == [number] for number in range(1, 2001, 100))


class TestAttempts:
    def test_what_was_read_counts_as_delivered(self, driver: Driver) -> None:
        """The next read of it says 1; what was not yet read still says 0."""
        driver.commit(know(), *(store(number) for number in range(1, 4)))
        assert [row.attempts for row in driver.read(frames=2)] == [0, 0]
        assert [row.attempts for row in driver.read()] == [1, 1, 0]
        assert [row.attempts for row in driver.read()] == [1, 1, 1]

    def test_a_read_below_the_mark_leaves_it(self, driver: Driver) -> None:
        """To read again from the start does not make anything undelivered."""
        driver.commit(know(), *(store(number) for number in range(1, 4)))
        driver.read()
        driver.read(frames=1)
        assert [row.attempts for row in driver.read()] == [1, 1, 1]

    def test_what_is_delivered_as_it_is_stored_counts_as_delivered(self, driver: Driver) -> None:
        """With all that is below it; what is stored afterwards does not."""
        driver.commit(know(), store(1), store(2, is_offered=True), store(3))
        assert [row.attempts for row in driver.read()] == [1, 1, 0]

    def test_the_mark_can_be_taken_back(self, driver: Driver) -> None:
        """``Offered`` says up to which number frames may have been delivered."""
        driver.commit(know(), *(store(number, is_offered=True) for number in range(1, 4)))
        driver.commit(Offered("a", 1), Offered("unknown", 5))
        assert [row.attempts for row in driver.read()] == [1, 0, 0]

    def test_the_last_mark_counts(self, driver: Driver) -> None:
        """Within one commit too, whichever kind it is of."""
        driver.commit(know(), store(1, is_offered=True), Offered("a", 0), store(2))
        assert [row.attempts for row in driver.read()] == [0, 0]
        driver.commit(Offered("a", 0), store(3, is_offered=True))
        assert [row.attempts for row in driver.read()] == [1, 1, 1]

    def test_the_mark_is_of_one_name(self, driver: Driver) -> None:
        """A read of one name says nothing of another."""
        driver.commit(know(), store(1, "a"), store(2, "b"), store(3, "a"))
        driver.read("a")
        assert [row.attempts for row in driver.read("b")] == [0]

    def test_an_attempt_is_kept(self, driver: Driver) -> None:
        """How often, and which messages of the batch are left; the last one counts."""
        batch = store(1, payloads=[b"x", b"y", b"z"])
        driver.commit(know(), batch, store(2))
        driver.commit(Attempt(1, 2, (0, 2)), Attempt(2, 7, None))
        assert [(row.attempts, row.indexes) for row in driver.read()] == [(2, (0, 2)), (7, None)]
        driver.commit(Attempt(1, 3, (2,)), Attempt(1, 4, (2,)))
        assert [(row.attempts, row.indexes) for row in driver.read()] == [(4, (2,)), (7, None)]

    def test_an_attempt_below_the_mark_counts_itself(self, driver: Driver) -> None:
        """The mark stands for one delivery, and adds nothing to those that were counted."""
        driver.commit(know(), store(1, is_offered=True))
        driver.commit(Attempt(1, 5, None))
        assert [row.attempts for row in driver.read()] == [5]


class TestSettling:
    def test_takes_out_one_frame(self, driver: Driver) -> None:
        """The others stay, in order."""
        changes = [store(number) for number in range(1, 4)]
        driver.commit(know(), *changes)
        driver.commit(settle(changes[1]))
        assert driver.numbers() == [1, 3]

    def test_all_of_a_name_and_beginning_again(self, driver: Driver) -> None:
        """A name that was emptied takes frames as before, and they were not delivered."""
        first = store(1, is_offered=True)
        driver.commit(know(), first)
        driver.commit(settle(first))
        assert driver.numbers() == []
        driver.commit(store(2))
        assert [(row.number, row.attempts) for row in driver.read()] == [(2, 0)]

    def test_amid_other_changes(self, driver: Driver) -> None:
        """Stores, attempts and settles of one commit are made in that order."""
        first, second = store(1), store(2)
        driver.commit(know(), first, second)
        driver.commit(Attempt(1, 2, None), settle(first), store(3), Attempt(2, 3, None))
        assert [(row.number, row.attempts) for row in driver.read()] == [(2, 3), (3, 0)]

    def test_thousands_at_once(self, driver: Driver) -> None:
        """5,000 frames of 5 names come and go in two commits."""
        changes = [store(number, f"name.{number % 5}") for number in range(1, 5001)]
        driver.commit(know(), *changes)
        driver.commit(*(settle(change) for change in changes[:-5]))
        assert [driver.numbers(f"name.{index}") for index in range(5)] == [[5000], [4996], [4997], [4998], [4999]]


def test_a_commit_of_nothing(driver: Driver) -> None:
    """Changes nothing."""
    driver.commit()
    assert driver.numbers() == []
