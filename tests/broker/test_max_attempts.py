"""``max_attempts``: when a message becomes a dead letter, and when it does not."""

from collections.abc import Callable

import pytest

from mezzenger.broker import backlog
from mezzenger.broker.effects import Attempt, Bury
from mezzenger.protocol.commands import Deliver
from tests.broker.broker_driver import START, A, B, C, Driver, held, joined
from tests.broker.test_publishers import refusals


def burials(driver: Driver) -> list[int]:
    """Return the numbers of all that became dead letters."""
    driver.look()
    return [change.number for change in driver.changes if isinstance(change, Bury)]


def counts(driver: Driver) -> tuple[int, int, int]:
    """Return how many frames wait, how many are dead letters, and how many messages became dead letters."""
    driver.look()
    stats = driver.broker.stats()
    return stats.pending, stats.dead, stats.buried


def buried(*payloads: bytes, sequences: int = 1) -> Driver:
    """Return a driver in which A could not handle any of some frames, and nobody is subscribed any more."""
    driver = joined(A, max_attempts=1)
    driver.join(C)
    for number in driver.stored(C, *range(1, sequences + 1), payloads=payloads or (b"x",)):
        driver.nack(A, number, *range(len(payloads) or 1))
    driver.unsubscribe(A)
    driver.sent(A)
    return driver


class TestFailures:
    def test_the_last_failure_makes_a_dead_letter(self) -> None:
        """Nacked ``max_attempts`` times it is one, with all that is known of it; before, it is not."""
        driver = joined(A, max_attempts=3)
        frame = driver.publish(A, 1, payloads=[b"0", b"1", b"2"])
        driver.commit()
        for _ in range(2):
            driver.nack(A, 1, 0, 2)
            assert burials(driver) == []
            driver.wait(5.0)
        driver.nack(A, 1, 2)
        assert burials(driver) == [1]
        assert driver.changes[-1] == Bury(1, "a", 3, len(frame), 3, (2,), START + 10.0, "max_attempts", "no")
        driver.sent(A)
        driver.wait(100.0)
        assert driver.sent(A) == []
        assert held(driver) == []
        assert counts(driver) == (0, 1, 1)
        assert driver.broker.stats().dead_size == len(frame)
        assert driver.broker.stats().acked == 2
        assert driver.next_round is None

    def test_of_a_batch_that_failed_whole_all_is_dead(self) -> None:
        """Without indexes, all messages are; each is counted."""
        driver = buried(b"0", b"1")
        assert next(change.indexes for change in driver.changes if isinstance(change, Bury)) is None
        assert counts(driver) == (0, 1, 2)

    def test_one_attempt(self) -> None:
        """With ``max_attempts`` 1 the first failure is the last."""
        driver = buried()
        assert burials(driver) == [1]

    def test_it_is_settled_as_long_as_it_is_handled(self) -> None:
        """Handled at the last attempt, it is no dead letter."""
        driver = joined(A, max_attempts=2)
        driver.stored(A, 1)
        driver.nack(A, 1, 0)
        driver.wait(1.0)
        driver.ack(A, 1)
        driver.look()
        assert driver.settled == [1]
        assert counts(driver) == (0, 0, 0)

    def test_whoever_comes_later_does_not_get_it(self) -> None:
        """A new subscriber is not sent a dead letter, nor is it after a restart."""
        driver = buried()
        driver.join(B, "a")
        assert driver.delivered(B) == []
        driver.restart()
        driver.join(B, "a")
        assert driver.delivered(B) == []
        assert counts(driver) == (0, 1, 0)

    def test_the_next_go_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is in the store behind it is loaded, delivered and buried in turn."""
        monkeypatch.setattr(backlog, "LOAD_FRAMES", 2)
        driver = joined(C, names=(), max_attempts=1)
        driver.stored(C, *range(1, 11))
        driver.join(A, "a")
        for number in range(1, 11):
            assert number in driver.delivered(A) or driver.broker.stats().in_flight
            driver.nack(A, number, 0)
        assert burials(driver) == list(range(1, 11))
        assert counts(driver) == (0, 10, 10)


class TestOthers:
    def test_another_has_it_in_hand(self) -> None:
        """One fails at the last attempt, the other is busy: nothing is buried; what the other says counts."""
        for verdict, dead in ((Driver.ack, 0), (lambda driver, peer, number: driver.nack(peer, number, 0), 1)):
            driver = joined(A, B, max_attempts=1)
            driver.stored(A, 1)
            driver.nack(A, 1, 0)
            driver.wait(100.0)
            assert counts(driver) == (1, 0, 0)
            verdict(driver, B, 1)
            driver.nack(A, 1, 0)  # it was sent it again meanwhile
            assert counts(driver) == (0, dead, dead)

    def test_a_busy_subscriber_is_not_overtaken(self) -> None:
        """Who stays connected and says nothing has all the time it wants, however often it was sent again."""
        driver = joined(A, max_attempts=2)
        driver.stored(A, 1)
        for _ in range(20):
            driver.wait(5.0)
        assert counts(driver) == (1, 0, 0)
        driver.ack(A, 1)
        driver.look()
        assert driver.settled == [1]

    @pytest.mark.parametrize("leave", [Driver.sink, Driver.unsubscribe])
    def test_who_always_vanishes(self, leave: Callable[[Driver, bytes], None]) -> None:
        """A subscriber that dies of it each time has it ``max_attempts`` times and no more."""
        driver = joined(C, names=(), max_attempts=3)
        driver.stored(C, 1)
        for attempt in (1, 2, 3):
            driver.join(A, "a")
            assert driver.attempts(A) == [(1, attempt)]
            leave(driver, A)
            driver.look()
            driver.sink(A)
        assert burials(driver) == [1]
        assert next(one.error for one in driver.changes if isinstance(one, Bury)) == "no subscriber has acknowledged it"
        driver.join(A, "a")
        assert driver.attempts(A) == []

    def test_what_waits_for_credit_is_not_sent(self) -> None:
        """Who had no credit for it when it was buried does not see it: it would see it again when it is resent."""
        driver = joined(A, B, credit=1, max_attempts=1)
        driver.stored(A, 1, 2)
        driver.ack(A, 1)
        driver.nack(A, 2, 0)
        assert driver.delivered(B) == [1]
        driver.ack(B, 1)
        assert driver.delivered(B) == []
        assert counts(driver) == (0, 1, 1)


class TestRestarts:
    def test_attempts_go_on(self) -> None:
        """What failed before a restart counts, with the error it ended with."""
        driver = joined(A, max_attempts=3)
        driver.stored(A, 1)
        driver.nack(A, 1, 0)
        driver.wait(1.0)
        driver.nack(A, 1, 0)
        driver.restart()
        driver.join(A, "a")
        driver.wait(2.0)
        assert driver.attempts(A) == [(1, 3)]
        driver.sink(A)
        assert burials(driver) == [1]
        assert next(one.error for one in driver.changes if isinstance(one, Bury)) == "no"

    def test_the_last_attempt_was_made(self) -> None:
        """What was delivered for the last time before a crash is not delivered once more, and the next goes on."""
        driver = joined(A, max_attempts=2)
        driver.stored(A, 1, 2)
        driver.ack(A, 2)
        driver.wait(1.0)
        driver.stored(A, 3)
        driver.restart()
        driver.join(A, "a")
        assert driver.attempts(A) == [(3, 2)]
        assert burials(driver) == [1]
        assert counts(driver) == (1, 1, 1)

    def test_counts(self) -> None:
        """Dead letters and their bytes are counted again after a restart."""
        driver = buried(sequences=3)
        size = driver.broker.stats().dead_size
        driver.restart()
        stats = driver.broker.stats()
        assert (stats.pending, stats.dead, stats.dead_size) == (0, 3, size)

    @pytest.mark.parametrize("restart", [lambda _driver: None, lambda driver: driver.broker.farewell(driver.now)])
    def test_a_pause_outlives_the_server(self, restart: Callable[[Driver], None]) -> None:
        """However the server ends, what failed is not sent again before its pause is over."""
        driver = joined(A)
        driver.stored(A, 1)
        driver.nack(A, 1, 0)
        restart(driver)
        driver.restart()
        driver.join(A, "a")
        driver.wait(0.9)
        assert driver.attempts(A) == []
        driver.wait(0.1)
        assert driver.attempts(A) == [(1, 2)]

    def test_a_pause_is_for_those_who_failed(self) -> None:
        """A subscriber that is new need not wait for it, be the one that failed still there or not."""
        driver = joined(A)
        driver.stored(A, 1)
        driver.nack(A, 1, 0)
        driver.join(B, "a")
        assert driver.attempts(B) == [(1, 1)]
        driver.sink(B)
        driver.sink(A)
        assert Attempt(1, 2, None, error="no") not in driver.changes
        driver.join(C, "a")
        assert driver.attempts(C)[0][0] == 1


class TestLimits:
    def test_no_more_dead_letters(self) -> None:
        """At ``max_dead_letters`` a message stays pending and is delivered on, until there is room."""
        driver = joined(A, max_attempts=1, max_dead_letters=1)
        driver.stored(A, 1, 2)
        driver.nack(A, 1, 0)
        driver.nack(A, 2, 0)
        assert counts(driver) == (1, 1, 1)
        driver.sent(A)
        driver.wait(1.0)
        assert driver.attempts(A) == [(2, 2)]
        driver.drop(A, 1)
        driver.nack(A, 2, 0)
        assert counts(driver) == (0, 1, 2)

    def test_dead_letters_count_for_the_size(self) -> None:
        """``max_pending_size`` is of all that the store has; what is dropped makes room."""
        driver = joined(A, max_attempts=1, max_pending_size=100)
        driver.stored(A, 1)
        driver.nack(A, 1, 0)
        driver.sent(A)
        driver.publish(A, 2, payloads=[b"x" * 30])
        assert refusals(driver) == [(2, "limit")]
        driver.drop(A, 1)
        driver.publish(A, 2, payloads=[b"x" * 30])
        driver.commit()
        assert driver.broker.stats().pending == 1


def test_a_late_failure_counts() -> None:
    """Who unsubscribed and says so later has had it; the next subscriber is not sent more than is allowed."""
    driver = joined(A, B, max_attempts=2)
    driver.stored(A, 1)
    driver.unsubscribe(B)
    driver.nack(B, 1, 0)
    assert counts(driver) == (1, 0, 0)
    driver.unsubscribe(A)
    driver.nack(A, 1, 0)
    driver.join(C, "a")
    assert driver.sent(C) == [Deliver(1, 2, None, None)]
    driver.nack(C, 1, 0)
    assert counts(driver) == (0, 1, 1)
