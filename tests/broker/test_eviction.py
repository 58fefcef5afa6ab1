"""When the last subscriber of a name leaves: what stays in memory, and what counts as delivered."""

from collections.abc import Callable

import pytest

from mezzenger.broker import backlog
from mezzenger.broker.effects import Attempt, Offered, Settle
from mezzenger.protocol.commands import Deliver
from tests.broker.broker_driver import START, A, B, C, Driver, held, joined, token_of


def left(count: int, credit: int = 3) -> Driver:
    """Return a driver in which A was sent its credit of some frames, has not acknowledged any, and has unsubscribed."""
    driver = joined(A, credit=credit)
    driver.join(C)
    driver.stored(C, *range(1, count + 1))
    driver.unsubscribe(A)
    return driver


class TestMemory:
    """Everything leaves memory but what may still be acknowledged."""

    def test_in_hand(self) -> None:
        """What the one who unsubscribed has in hand stays; what waited for it, or was left out, does not."""
        driver = left(20)
        assert driver.delivered(A) == held(driver) == [1, 2, 3]
        assert driver.broker.stats().pending == 20
        assert driver.next_round is None

    def test_acknowledged_late(self) -> None:
        """A late ack settles; then nothing of the name is in memory."""
        driver = left(20)
        driver.ack(A, 1, 2, 3, 4)
        driver.look()
        assert driver.settled == [1, 2, 3]
        assert held(driver) == []
        assert driver.broker.stats().pending == 17
        assert list(driver.storage.rows()) == list(range(4, 21))

    def test_failed_late(self) -> None:
        """A late nack is taken in, and what it leaves goes to the store alone."""
        driver = joined(A)
        driver.stored(A, 1, payloads=[b"0", b"1"])
        driver.unsubscribe(A)
        driver.nack(A, 1, 1)
        driver.look()
        assert held(driver) == []
        assert Attempt(1, 1, (1,), error="no") in driver.changes
        driver.join(B, "a")
        assert driver.sent(B) == [Deliver(1, 2, [1], None)]

    @pytest.mark.parametrize("leave", [Driver.sink, lambda driver, peer: driver.broker.unreachable(peer, driver.now)])
    def test_gone(self, leave: Callable[[Driver, bytes], None]) -> None:
        """Nobody waits for the acks of one who is gone, be it after it unsubscribed or at once."""
        driver = left(20)
        leave(driver, A)
        assert held(driver) == []
        driver = joined(A)
        driver.join(C)
        driver.stored(C, 1, 2)
        leave(driver, A)
        assert held(driver) == []
        assert driver.broker.stats().pending == 2

    def test_another_is_there(self) -> None:
        """As long as somebody else has subscribed, all stays."""
        driver = joined(A, B)
        driver.stored(A, 1, 2)
        driver.unsubscribe(A)
        driver.look()
        assert held(driver) == [1, 2]
        assert [change for change in driver.changes if isinstance(change, Offered)] == []

    def test_of_this_name(self) -> None:
        """What is in memory of other names stays."""
        driver = joined(A, names=["a", "b"])
        driver.stored(A, 1)
        driver.stored(A, 2, name="b")
        driver.sink(A)
        driver.join(B, "b")
        driver.join(C, "a")
        driver.sink(C)
        assert (held(driver), held(driver, "b")) == ([], [2])

    def test_what_failed_before(self) -> None:
        """A pause that has not ended when the last subscriber leaves is forgotten; the next one is sent it at once."""
        driver = joined(A, B)
        driver.stored(A, 1)
        driver.unsubscribe(B)
        driver.nack(A, 1, 0)
        driver.unsubscribe(A)
        assert held(driver) == [1]
        assert driver.next_round is None
        driver.holds_loads = True
        driver.join(C, "a")
        driver.wait(10.0)
        assert driver.delivered(C) == []
        driver.load()
        assert driver.attempts(C) == [(1, 2)]


class TestOrder:
    """The next subscriber is sent everything in order, whoever may still acknowledge a part of it."""

    def test_what_is_in_hand_does_not_go_first(self) -> None:
        """What stayed in memory is delivered in its turn, after what is loaded before it."""
        driver = left(5)
        driver.nack(A, 1, 0)
        driver.ack(A, 3)
        driver.look()
        assert held(driver) == [2]
        driver.join(B, "a")
        driver.ack(B, 1)
        driver.ack(B, 2)
        assert driver.attempts(B) == [(1, 2), (2, 2), (4, 1), (5, 1)]

    def test_left_twice(self) -> None:
        """Also what two have in hand, who left one after the other, may be acknowledged late by either."""
        driver = left(3, credit=2)
        driver.join(B, "a")
        assert driver.delivered(B) == [1, 2]
        driver.unsubscribe(B)
        driver.ack(A, 1)
        driver.ack(B, 2)
        driver.look()
        assert driver.settled == [1, 2]
        assert held(driver) == []


class TestOffered:
    """The store is told what was delivered, so that only that counts as such."""

    def test_the_highest_that_was_delivered(self) -> None:
        """What was delivered has attempt 2 for the next subscriber, what had waited has attempt 1."""
        driver = left(6)
        driver.look()
        assert driver.changes[-1] == Offered("a", 3)
        assert driver.storage.offered() == 3
        driver.join(B, "a")
        driver.ack(B, 1, 2, 3)
        assert driver.attempts(B) == [(1, 2), (2, 2), (3, 2), (4, 1), (5, 1), (6, 1)]

    def test_nothing_was_delivered(self) -> None:
        """Where nothing that is left was delivered, all of it counts as new."""
        driver = joined(A, names=["a", "b"], credit=1)
        driver.stored(A, 1, name="b")
        driver.stored(A, 2, 3)
        driver.unsubscribe(A)
        driver.look()
        assert driver.changes[-1] == Offered("a", 1)
        driver.join(B, "a")
        driver.ack(B, 2)
        assert driver.attempts(B) == [(2, 1), (3, 1)]

    def test_all_was_delivered(self) -> None:
        """Where all was delivered, there is nothing to say: what was stored to be delivered counts as delivered."""
        driver = left(3)
        driver.look()
        assert [change for change in driver.changes if isinstance(change, Offered)] == []
        driver.join(B, "a")
        assert driver.attempts(B) == [(1, 2), (2, 2), (3, 2)]

    def test_attempts_go_on(self) -> None:
        """How often an entry was delivered survives the eviction."""
        driver = joined(A)
        driver.stored(A, 1)
        driver.wait(1.0)
        driver.wait(2.0)
        assert driver.attempts(A) == [(1, 1), (1, 2), (1, 3)]
        driver.sink(A)
        driver.join(B, "a")
        assert driver.attempts(B) == [(1, 4)]

    def test_what_the_window_did_not_reach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was delivered once counts as delivered, though a later subscriber left before it was loaded again."""
        monkeypatch.setattr(backlog, "LOAD_FRAMES", 2)
        driver = left(6, credit=6)
        driver.sink(A)
        assert held(driver) == []
        driver.holds_loads = True
        driver.join(B, "a")
        driver.load()
        assert driver.attempts(B) == [(1, 2), (2, 2)]
        driver.sink(B)
        driver.holds_loads = False
        driver.join(B, "a")
        assert driver.attempts(B) == [(1, 3), (2, 3), (3, 2), (4, 2), (5, 2), (6, 2)]

    def test_what_is_being_stored(self) -> None:
        """What is stored after the last subscriber left has attempt 1 for the next, though it was to go to that one."""
        driver = joined(A)
        driver.join(C)
        driver.stored(C, 1)
        driver.publish(C, 2)
        driver.look()
        assert driver.storing[0].is_offered
        driver.sink(A)
        driver.look()
        assert driver.changes[-1] == Offered("a", 1)
        driver.commit()
        assert held(driver) == []
        driver.join(B, "a")
        assert driver.attempts(B) == [(1, 2), (2, 1)]

    def test_what_is_being_stored_and_back_again(self) -> None:
        """What is stored after a name lost its subscriber and has one again counts as delivered once it was."""
        driver = joined(A)
        driver.join(C)
        driver.publish(C, 1)
        driver.look()
        driver.unsubscribe(A)
        driver.subscribe(A, "a", token=token_of("again"))
        driver.commit()
        assert driver.attempts(A) == [(1, 1)]
        assert driver.storage.offered() == 1
        driver.sink(A)
        driver.join(B, "a")
        assert driver.attempts(B) == [(1, 2)]

    def test_farewell(self) -> None:
        """A server that stops tells the store what was delivered, and what was not."""
        driver = joined(A, B)
        driver.join(C)
        driver.stored(C, *range(1, 7))
        driver.broker.farewell(driver.now)
        driver.look()
        assert driver.changes[-1] == Offered("a", 3)
        assert held(driver) == []
        driver.restart()
        driver.join(A, "a")
        driver.ack(A, 1, 2, 3)
        assert driver.attempts(A) == [(1, 2), (2, 2), (3, 2), (4, 1), (5, 1), (6, 1)]


def test_what_the_store_is_told_of_an_attempt() -> None:
    """From the second attempt on the store is told each of them, and of each failure what is left, when and why."""
    driver = joined(A)
    driver.join(C)
    driver.stored(C, 1, payloads=[b"0", b"1", b"2"])
    know, *_ = driver.changes
    assert driver.changes == [know]
    driver.wait(1.0)
    driver.nack(A, 1, 0, 2)
    driver.wait(2.0)
    driver.nack(A, 1, 2)
    driver.ack(A, 1)
    driver.look()
    assert driver.changes == [
        know,
        Attempt(1, 2, None),
        Attempt(1, 2, (0, 2), START + 3, "no"),
        Attempt(1, 3, (0, 2), None, "no"),
        Attempt(1, 3, (2,), START + 7, "no"),
        *driver.changes[5:],
    ]
    driver.wait(4.0)
    driver.ack(A, 1)
    driver.look()
    assert driver.changes[5:] == [Attempt(1, 4, (2,), None, "no"), Settle(1, "a", 3, len(driver.frames[1]))]
