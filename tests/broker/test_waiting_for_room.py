"""Whatever makes room lets in what waits for it, whether that is room of its name or in the whole server."""

from dataclasses import replace
from typing import Any

from mezzenger.protocol.commands import Confirm, Refuse
from tests.broker.broker_driver import POLICY, A, B, C, Driver
from tests.broker.test_overflow import SIZE, waiting


def blocking(*, of_a: dict[str, Any] | None = None, **options: Any) -> Driver:
    """Return a driver where publishes wait for room, with a publisher A."""
    rules = [("a", replace(POLICY, overflow="block", **(of_a or {})))]
    driver = Driver(overflow="block", rules=rules, **options)
    driver.join(A)
    return driver


def stored_now(driver: Driver) -> list[int]:
    """Return the sequences of A that have been stored since somebody asked."""
    driver.commit()
    return [number for one in driver.sent(A) if isinstance(one, Confirm) for number in one.sequences]


class TestInAll:
    """Room in the whole server."""

    def test_needs_that_differ(self) -> None:
        """What needs little passes what needs much; that has its turn when there is as much, and comes first then."""
        driver = blocking(max_pending=4)
        driver.join(B, "full")
        driver.stored(A, 1, 2, 3, 4, name="full")
        driver.publish(A, 5, "large", payloads=[b"1", b"2", b"3"])
        driver.publish(A, 8, "small")
        driver.publish(A, 9, "small")
        driver.ack(B, 1)
        assert stored_now(driver) == [8]
        driver.holds_changes = True
        driver.ack(B, 2, 3, 4)
        assert stored_now(driver) == [5]

    def test_bytes_and_messages(self) -> None:
        """Both must be free."""
        driver = blocking(max_pending=2, max_pending_size=3 * SIZE)
        driver.join(B, "a")
        driver.stored(A, 1, 2)
        driver.publish(A, 3, "b", payloads=[b"x" * SIZE])
        driver.publish(A, 4, "c")
        driver.ack(B, 1)
        assert stored_now(driver) == [3]
        driver.ack(B, 2)
        assert stored_now(driver) == [4]

    def test_dead_letters_that_are_dropped(self) -> None:
        """They took up bytes."""
        driver = blocking(of_a={"max_attempts": 1}, max_pending_size=2 * SIZE - 1)
        driver.join(B, "a")
        driver.stored(A, 1)
        driver.nack(B, 1, 0)
        driver.publish(A, 2)
        assert stored_now(driver) == []
        driver.drop(A, 1)
        assert stored_now(driver) == [2]

    def test_then_its_own(self) -> None:
        """What waits for the one may have to wait for the other after that."""
        driver = blocking(of_a={"max_pending": 1}, max_pending=2)
        driver.join(B, "a", "b")
        driver.stored(A, 1, 2, name="b")
        driver.publish(A, 3)
        driver.publish(A, 4)
        driver.ack(B, 1)
        assert stored_now(driver) == [3]
        driver.publish(A, 5, "b")
        driver.ack(B, 2)
        assert stored_now(driver) == [5]
        driver.ack(B, 4)
        assert stored_now(driver) == []
        driver.ack(B, 3)
        assert stored_now(driver) == [4]


class TestOfItsQueues:
    def test_fewer_queues(self) -> None:
        """A subscriber that goes leaves it to the group, which has room."""
        driver = blocking(of_a={"max_pending": 1})
        driver.join(B, "a")
        driver.member(C, "a")
        driver.publish(A, 1)
        driver.commit()
        driver.ack(C, 2)
        driver.publish(A, 2)
        assert stored_now(driver) == [1]
        driver.unsubscribe(B)
        assert stored_now(driver) == [2]
        assert waiting(driver, "a|g") == [3]

    def test_a_group_that_is_dropped(self) -> None:
        """With it goes what was in its queue."""
        driver = blocking(of_a={"max_pending": 1})
        driver.member(C, "a")
        driver.leave_group(C, "a")
        driver.stored(A, 1)
        driver.publish(A, 2)
        driver.drop_group(A)
        assert stored_now(driver) == [2]
        assert waiting(driver) == [2]

    def test_a_publisher_that_is_gone(self) -> None:
        """What came behind what is gone with it needs less."""
        driver = blocking(of_a={"max_pending": 3})
        driver.join(C)
        driver.stored(A, 1, 2)
        driver.publish(C, 1, payloads=[b"1", b"2"])
        driver.publish(A, 3)
        driver.sink(C)
        driver.wait(0.1)
        assert stored_now(driver) == [3]

    def test_what_is_delayed(self) -> None:
        """It counts in its queue until it is stored, and then no more."""
        driver = blocking(of_a={"max_pending": 1})
        driver.publish(A, 1, delay=5.0)
        driver.publish(A, 2)
        assert driver.storing == []
        assert stored_now(driver) == [1]
        assert stored_now(driver) == [2]

    def test_what_is_read_for_two(self) -> None:
        """When one of two names of a group waits no more, what was read is forgotten; the other has it read again."""
        large = replace(POLICY, overflow="drop_oldest", max_pending_size=100)
        rules = [("x.large", large), ("x.*", replace(POLICY, overflow="dead_letter", max_pending=2))]
        driver = Driver(rules=[*rules, ("z", replace(POLICY, max_attempts=1))], max_dead_letters=1)
        driver.join(B, "z")
        driver.member(C, "x.*")
        driver.leave_group(C, "x.*")
        driver.join(A)
        driver.stored(A, 1, 2, name="x.a")
        driver.stored(A, 3, name="z")
        driver.holds_loads = True
        driver.publish(A, 4, "x.large", payloads=[b"x" * 45])
        driver.publish(A, 5, "x.a")
        driver.nack(B, 3, 0)
        driver.load()
        (refusal,) = driver.sent(A)
        assert isinstance(refusal, Refuse)
        assert refusal.sequence == 5
        driver.holds_loads = False
        assert stored_now(driver) == [4]
        assert waiting(driver, "x.*|g") == [4]
