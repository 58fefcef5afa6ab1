"""What makes way for a publish leaves when that is enough, and not before: a refused publish has cost nothing."""

from dataclasses import replace
from typing import Any

import pytest

from mezzenger.broker import backlog
from mezzenger.broker.effects import Bury
from mezzenger.policy import Overflow
from mezzenger.protocol.commands import Refuse
from tests.broker.broker_driver import POLICY, A, B, C, Driver
from tests.broker.test_overflow import SIZE, refused, waiting


def limited(how: Overflow, *, of_name: dict[str, Any] | None = None, **options: Any) -> Driver:
    """Return a driver with limits of its own, whose name ``a`` has others, with a publisher A."""
    driver = Driver(rules=[("a", replace(POLICY, overflow=how, **(of_name or {})))], **options)
    driver.join(A)
    return driver


def served(how: Overflow, **options: Any) -> Driver:
    """Return such a driver with a subscriber B and a member C of a group."""
    driver = limited(how, **options)
    driver.join(B, "a")
    driver.member(C, "a")
    return driver


def keep(driver: Driver, sequence: int) -> None:
    """Have the store keep a message in each queue."""
    driver.publish(A, sequence)
    driver.commit()


def buried(driver: Driver) -> list[int]:
    """Return the numbers of all that became dead letters."""
    driver.look()
    return [change.number for change in driver.changes if isinstance(change, Bury)]


def refusal(driver: Driver) -> str:
    """Return why the one publish was refused that was."""
    (command,) = driver.sent(A)
    assert isinstance(command, Refuse)
    return command.text


class TestNothingIsLost:
    """By a publish that is refused."""

    def test_messages_of_others(self) -> None:
        """If other names have the room, what could be dropped of this one would not be enough."""
        driver = limited("drop_oldest", max_pending=6)
        driver.stored(A, 1, 2, 3, name="b")
        driver.stored(A, 4, 5, 6)
        driver.publish(A, 7, payloads=[b"x"] * 4)
        assert "(its setting server.max_pending)" in refusal(driver)
        assert waiting(driver) == [4, 5, 6]
        driver.stored(A, 20, payloads=[b"1"] * 3)
        assert waiting(driver) == [7]
        assert driver.dropped == {"overflow": 3}

    def test_bytes_of_others(self) -> None:
        """The same with bytes."""
        driver = limited("drop_oldest", max_pending_size=6 * SIZE)
        driver.stored(A, 1, 2, 3, name="b")
        driver.stored(A, 4, 5, 6)
        driver.publish(A, 7, payloads=[b"x" * (3 * SIZE)])
        assert "(its setting server.max_pending_size)" in refusal(driver)
        assert waiting(driver) == [4, 5, 6]
        driver.stored(A, 8, payloads=[b"x" * 60])
        assert driver.dropped == {"overflow": 3}

    def test_bytes_of_dead_letters(self) -> None:
        """A dead letter takes up as many bytes: one is no help where the name is full, and the server as well."""
        driver = limited("dead_letter", of_name={"max_pending": 2}, max_pending_size=4 * SIZE - 1)
        driver.stored(A, 1, 2)
        driver.stored(A, 3)
        assert buried(driver) == [1]
        driver.publish(A, 4)
        assert "(its setting server.max_pending_size)" in refusal(driver)
        assert buried(driver) == [1]
        assert waiting(driver) == [2, 3]

    def test_more_than_may_become_dead_letters(self) -> None:
        """As long as there is room for less dead letters than must go, none is made."""
        driver = limited("dead_letter", of_name={"max_pending": 3}, max_dead_letters=1)
        driver.stored(A, 1, 2, 3)
        driver.publish(A, 4, payloads=[b"1", b"2"])
        assert refused(driver) == [(4, "limit")]
        assert buried(driver) == []
        driver.stored(A, 6)
        assert buried(driver) == [1]

    def test_what_never_fits_in_all(self) -> None:
        """A publish that would wait for room of its name, and would not fit into the server then, does not wait."""
        driver = limited("block", of_name={"max_pending": 2}, max_pending_size=3 * SIZE)
        driver.stored(A, 1, 2)
        driver.publish(A, 3, payloads=[b"x" * (3 * SIZE)])
        assert "(its setting server.max_pending_size)" in refusal(driver)

    def test_filled_while_the_oldest_are_read(self) -> None:
        """What others store meanwhile may make it hopeless; then it is refused, and nothing is dropped for it."""
        driver = limited("drop_oldest", max_pending=4)
        driver.join(C)
        driver.stored(A, 1, 2)
        driver.stored(C, 1, name="c")
        driver.holds_loads = True
        driver.publish(A, 3, payloads=[b"1", b"2", b"3"])
        assert driver.sent(A) == []
        driver.stored(C, 2, name="c")
        driver.load()
        assert refused(driver) == [(3, "limit")]
        assert waiting(driver) == [1, 2]

    def test_what_is_delayed_does_not_make_way(self) -> None:
        """It counted while it was being stored; once it is stored it is known not to help."""
        driver = limited("drop_oldest", max_pending_size=3 * SIZE + 20)
        driver.publish(A, 1, delay=5.0)
        driver.publish(A, 2)
        driver.publish(A, 3, payloads=[b"x" * (2 * SIZE)])
        assert driver.sent(A) == []
        driver.commit()
        assert [type(command).__name__ for command in driver.sent(A)] == ["Confirm", "Refuse"]
        assert driver.dropped == {}


class TestSeveralQueues:
    """A publish that subscribers and groups get needs room in the queue of each."""

    def test_each_makes_way(self) -> None:
        """The oldest of each that is full, and of no other."""
        driver = served("drop_oldest", of_name={"max_pending": 2})
        keep(driver, 1)
        driver.ack(C, 2)
        keep(driver, 2)
        keep(driver, 3)
        assert (waiting(driver), waiting(driver, "a|g")) == ([3, 5], [4, 6])
        driver.publish(A, 4, payloads=[b"1", b"2"])
        driver.commit()
        assert (waiting(driver), waiting(driver, "a|g")) == ([7], [8, 9])
        assert driver.dropped == {"overflow": 5}

    def test_one_that_is_not_read(self) -> None:
        """Nothing of one is dropped before the oldest of the other is known."""
        driver = served("drop_oldest", of_name={"max_pending": 2})
        driver.leave_group(C, "a")
        keep(driver, 1)
        keep(driver, 2)
        driver.holds_loads = True
        driver.publish(A, 3)
        assert (waiting(driver), waiting(driver, "a|g")) == ([1, 3], [2, 4])
        driver.load()
        driver.commit()
        assert (waiting(driver), waiting(driver, "a|g")) == ([3, 5], [4, 6])

    def test_the_largest_makes_way(self) -> None:
        """Where the server is full, that is the queue in which the most bytes wait, message by message."""
        driver = served("drop_oldest", max_pending=6)
        keep(driver, 1)
        driver.ack(C, 2)
        keep(driver, 2)
        keep(driver, 3)
        assert (waiting(driver), waiting(driver, "a|g")) == ([1, 3, 5], [4, 6])
        keep(driver, 4)
        assert (waiting(driver), waiting(driver, "a|g")) == ([3, 5, 7], [4, 6, 8])
        driver.publish(A, 5, payloads=[b"1", b"2"])
        driver.commit()
        assert (waiting(driver), waiting(driver, "a|g")) == ([7, 9], [8, 10, 11])

    def test_the_one_that_is_being_stored(self) -> None:
        """Where nothing waits in either, one waits for that of which the most is on its way."""
        driver = served("drop_oldest", max_pending=4)
        driver.publish(A, 1, payloads=[b"1", b"2"])
        driver.publish(A, 3)
        assert len(driver.sent(A)) == 0
        driver.commit()
        driver.commit()
        assert (waiting(driver), waiting(driver, "a|g")) == ([4], [3, 5])


def test_what_is_read_keeps_its_pause() -> None:
    """Who could not handle something before a restart waits for the end of the pause, though it was read meanwhile."""
    driver = limited("drop_oldest", of_name={"max_pending": 4})
    driver.join(B, "a")
    driver.stored(A, 1, payloads=[b"x"] * 3)
    driver.stored(A, 4)
    driver.nack(B, 2, 0)
    driver.restart()
    driver.join(A)
    driver.publish(A, 5, payloads=[b"x"] * 3)
    driver.commit()
    assert driver.dropped == {"overflow": 3}
    driver.join(B, "a")
    assert driver.attempts(B) == [(3, 1)]
    driver.ack(B, 3)
    driver.wait(1.0)
    assert driver.attempts(B) == [(2, 2)]


class TestMuchMustGo:
    def test_what_is_read_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As much is read as must go, and only then it goes."""
        monkeypatch.setattr(backlog, "LOAD_FRAMES", 2)
        driver = limited("drop_oldest", of_name={"max_pending": 6})
        driver.stored(A, *range(1, 7))
        driver.holds_loads = True
        driver.publish(A, 7, payloads=[b"x"] * 5)
        for _ in range(2):
            assert waiting(driver) == [1, 2, 3, 4, 5, 6]
            driver.load()
        assert driver.dropped == {}
        driver.load()
        driver.commit()
        assert waiting(driver) == [6, 7]
        assert driver.dropped == {"overflow": 5}

    @pytest.mark.parametrize("how", ["drop_oldest", "dead_letter"])
    def test_more_than_is_in_memory_at_a_time(self, how: Overflow, monkeypatch: pytest.MonkeyPatch) -> None:
        """The window is not widened for it: what is known to be the oldest goes first."""
        monkeypatch.setattr(backlog, "WINDOW_FRAMES", 4)
        monkeypatch.setattr(backlog, "LOAD_FRAMES", 2)
        driver = limited(how, of_name={"max_pending": 9})
        driver.stored(A, *range(1, 10))
        driver.holds_loads = True
        driver.publish(A, 10, payloads=[b"x"] * 8)
        gone = []
        for _ in range(4):
            driver.load()
            gone.append(driver.broker.stats().buried + driver.dropped.get("overflow", 0))
        assert gone == [0, 4, 4, 8]
        driver.commit()
        assert waiting(driver) == [9, 10]
