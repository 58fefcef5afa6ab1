"""What a subscriber gives back: nacks, what it leaves behind when it unsubscribes, what it had when it is gone."""

from collections.abc import Callable

import pytest

from mezzenger.protocol.commands import Deliver
from tests.broker.broker_driver import A, B, C, Driver, in_flight, joined, token_of


class TestNack:
    """What a callback could not handle comes again, and no more than that."""

    def test_a_part(self) -> None:
        """After the pause, only the messages that failed are sent again; the others count as handled."""
        driver = joined(A)
        driver.stored(A, 1, payloads=[b"0", b"1", b"2"])
        driver.wait(0.5)
        driver.nack(A, 1, 2, 0)
        assert driver.sent(A) == [Deliver(1, 1, None, None)]
        assert (driver.broker.stats().acked, driver.broker.stats().nacked, in_flight(driver)) == (1, 1, 0)
        driver.wait(0.9)
        assert driver.all_sent() == {}
        driver.wait(0.1)
        assert driver.sent(A) == [Deliver(1, 2, [0, 2], None)]
        driver.nack(A, 1, 1, 2)
        driver.wait(2.0)
        assert driver.sent(A) == [Deliver(1, 3, [2], None)]
        driver.ack(A, 1)
        driver.look()
        assert driver.settled == [1]
        assert driver.broker.stats().acked == 3

    def test_all(self) -> None:
        """Where every message failed, all of them are sent again after pauses that grow."""
        driver = joined(A)
        driver.stored(A, 1, payloads=[b"0", b"1"])
        for attempt, pause in enumerate([1.0, 2.0, 4.0, 5.0], start=1):
            assert driver.sent(A) == [Deliver(1, attempt, None, None)]
            driver.nack(A, 1, 0, 1)
            driver.wait(pause - 0.01)
            assert driver.all_sent() == {}
            driver.wait(0.01)
        assert driver.sent(A) == [Deliver(1, 5, None, None)]
        assert driver.broker.stats().acked == 0

    def test_nothing_that_is_left(self) -> None:
        """A nack of what was handled before settles the rest."""
        driver = joined(A, B)
        driver.stored(A, 1, payloads=[b"0", b"1"])
        driver.nack(A, 1, 1)
        driver.nack(B, 1, 0)
        driver.look()
        assert driver.settled == [1]
        assert driver.broker.stats().acked == 2
        driver.wait(1000.0)
        assert driver.delivered(A) == driver.delivered(B) == [1]

    def test_while_another_has_it(self) -> None:
        """A nack does not take the entry out of another's hands, nor put off its round."""
        driver = joined(A, B)
        driver.stored(A, 1)
        driver.wait(0.5)
        driver.nack(A, 1, 0)
        driver.wait(0.5)
        assert driver.attempts(A) == driver.attempts(B) == [(1, 1), (1, 2)]

    def test_one_who_comes_during_the_pause(self) -> None:
        """A new subscriber need not wait for the end of the pause."""
        driver = joined(A)
        driver.stored(A, 1)
        driver.nack(A, 1, 0)
        driver.join(B, "a")
        assert driver.delivered(B) == [1]

    def test_a_message_that_is_not_there(self) -> None:
        """A nack of a message beyond the frame is counted and changes nothing."""
        driver = joined(A, credit=1)
        driver.stored(A, 1, 2, payloads=[b"0", b"1"])
        driver.nack(A, 1, 0, 2)
        assert driver.malformed == {"nack": 1}
        assert (driver.broker.stats().nacked, in_flight(driver)) == (0, 1)
        assert driver.sent(A) == [Deliver(1, 1, None, None)]
        driver.wait(1.0)
        assert driver.sent(A) == [Deliver(1, 2, None, None)]
        driver.ack(A, 1)
        assert driver.delivered(A) == [2]

    def test_of_what_is_settled(self) -> None:
        """A nack of what another has settled only gives the credit back."""
        driver = joined(A, B, credit=1)
        driver.stored(A, 1, 2)
        driver.ack(B, 1)
        driver.nack(A, 1, 9)
        assert driver.delivered(A) == [1, 2]
        assert driver.malformed == {}
        assert driver.broker.stats().nacked == 0


class TestUnsubscribe:
    """What a peer had in hand of a name that it left."""

    def test_others_get_it_at_once(self) -> None:
        """What only the one who leaves had in hand goes to the others at once."""
        driver = joined(A, B)
        driver.stored(A, 1)
        driver.nack(B, 1, 0)
        driver.all_sent()
        driver.unsubscribe(A)
        assert driver.all_sent() == {B: [Deliver(1, 2, None, None)]}
        assert in_flight(driver) == 1

    def test_the_last_of_several_who_leave(self) -> None:
        """When all who have it in hand have left, it goes to one for whom it was left out, at once."""
        driver = joined(A, B)
        driver.join(C, "a", "c")
        driver.stored(A, 1)
        driver.nack(C, 1, 0)
        driver.all_sent()
        driver.unsubscribe(A)
        assert driver.all_sent() == {}
        driver.unsubscribe(B)
        assert driver.all_sent() == {C: [Deliver(1, 2, None, None)]}

    def test_gone_after_another_left(self) -> None:
        """When one who has it in hand is gone and the other has left, it goes to a third at once."""
        driver = joined(A, B, C)
        driver.stored(A, 1)
        driver.nack(C, 1, 0)
        driver.unsubscribe(A)
        driver.all_sent()
        driver.sink(B)
        assert driver.all_sent() == {C: [Deliver(1, 2, None, None)]}

    def test_a_late_ack(self) -> None:
        """An ack after Unsubscribe still settles, whether nobody or another has the entry by then."""
        driver = joined(A)
        driver.stored(A, 1, 2)
        driver.unsubscribe(A)
        assert driver.next_round is None
        assert driver.broker.stats().pending == 2
        driver.ack(A, 1)
        driver.join(B, "a")
        assert driver.attempts(B) == [(2, 2)]
        driver.ack(A, 2)
        driver.look()
        assert driver.settled == [1, 2]

    def test_a_late_nack(self) -> None:
        """A nack after Unsubscribe narrows the entry; it leaves it parked, or in another's hands."""
        driver = joined(A)
        driver.stored(A, 1, payloads=[b"0", b"1", b"2"])
        driver.unsubscribe(A)
        driver.nack(A, 1, 1)
        assert driver.next_round is None
        driver.join(B, "a")
        assert driver.sent(B) == [Deliver(1, 2, [1], None)]
        driver.nack(A, 1, 0)
        driver.wait(2.0)
        assert driver.sent(B) == [Deliver(1, 3, [1], None)]

    @pytest.mark.parametrize("leave", [Driver.unsubscribe, Driver.sink])
    def test_what_a_late_ack_settled(self, leave: Callable[[Driver, bytes], None]) -> None:
        """What a late ack settled is delivered to nobody when the one who still has it leaves."""
        driver = joined(A, B, C)
        driver.stored(A, 1)
        driver.nack(C, 1, 0)
        driver.unsubscribe(B)
        driver.ack(B, 1)
        assert in_flight(driver) == 1
        driver.all_sent()
        leave(driver, A)
        assert driver.all_sent() == {}
        assert driver.settled == [1]
        assert in_flight(driver) == 0
        driver.ack(A, 1)
        assert driver.settled == [1]

    def test_what_waited(self) -> None:
        """What waited for the one who leaves waits for it no more; what waits of other names is sent."""
        driver = joined(A, names=["a", "b"], credit=1)
        driver.stored(A, 1, 2)
        driver.stored(A, 3, name="b")
        driver.unsubscribe(A)
        assert driver.delivered(A) == [1, 3]
        driver.ack(A, 1, 3)
        assert driver.all_sent() == {}
        assert driver.broker.stats().pending == 1

    def test_back_again(self) -> None:
        """Who subscribes again is sent again what it had, and one ack is enough."""
        driver = joined(A)
        driver.stored(A, 1)
        driver.unsubscribe(A)
        driver.subscribe(A, "a")
        assert driver.attempts(A) == [(1, 1), (1, 2)]
        driver.ack(A, 1)
        driver.look()
        assert (driver.settled, in_flight(driver)) == ([1], 0)

    def test_what_is_settled_is_not_remembered(self) -> None:
        """However often a peer leaves without an ack, what others settled since is forgotten."""
        driver = joined(A, B)
        for sequence in range(1, 50):
            driver.stored(B, sequence)
            driver.unsubscribe(A)
            driver.ack(B, sequence)
            driver.subscribe(A, "a", token=token_of(str(sequence)))
        (peer,) = (peer for peer in driver.broker._peers.values() if peer.id == A)
        assert len(peer.late) <= 1


@pytest.mark.parametrize(
    "leave",
    [lambda driver: driver.sink(A), lambda driver: driver.broker.unreachable(A, driver.now)],
    ids=["sunk", "unreachable"],
)
def test_a_peer_that_is_gone(leave: Callable[[Driver], None]) -> None:
    """Of a peer that is gone, what it alone had goes to others at once; what others have too stays in its round."""
    driver = joined(A, B)
    driver.stored(A, 1, 2)
    driver.nack(B, 2, 0)
    driver.ack(B, 99)
    driver.stored(A, 3)
    driver.ack(B, 3)
    driver.all_sent()
    leave(driver)
    assert driver.all_sent() == {B: [Deliver(2, 2, None, None)]}
    assert driver.settled == [3]
    driver.wait(1.0)
    assert driver.attempts(B) == [(1, 2)]
