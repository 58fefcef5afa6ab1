"""Who is sent which stored frame, when, and how often."""

from mezzenger.protocol.commands import Deliver
from tests.broker.broker_driver import A, B, C, Driver, in_flight, joined, token_of
from tests.broker.steps import steps_of


class TestRounds:
    """What is not acknowledged is sent again."""

    def test_pauses_grow(self) -> None:
        """An entry is sent again after each pause, which grows up to its limit, with a rising attempt."""
        driver = joined(A)
        driver.stored(A, 1)
        assert driver.attempts(A) == [(1, 1)]
        for attempt, pause in enumerate([1.0, 2.0, 4.0, 5.0, 5.0], start=2):
            assert driver.next_round == driver.now + pause
            driver.wait(pause - 0.01)
            assert driver.all_sent() == {}
            driver.wait(0.01)
            assert driver.attempts(A) == [(1, attempt)]
        stats = driver.broker.stats()
        assert (stats.delivered, stats.redelivered, stats.in_flight) == (6, 5, 1)

    def test_to_every_subscriber(self) -> None:
        """A round goes to every subscriber of the name and to nobody else."""
        driver = joined(A, B)
        driver.join(C, "b")
        driver.stored(C, 1)
        driver.wait(1.0)
        assert driver.attempts(A) == driver.attempts(B) == [(1, 1), (1, 2)]
        assert driver.all_sent() == {}

    def test_nobody_there(self) -> None:
        """An entry without a subscriber waits without a deadline, and is delivered at once to one that comes."""
        driver = Driver()
        driver.join(B)
        driver.stored(B, 1, 2)
        driver.stored(B, 3, name="b")
        assert driver.next_round is None
        driver.wait(1000.0)
        assert driver.all_sent() == {}
        driver.join(A, "a")
        assert driver.attempts(A) == [(1, 1), (2, 1)]
        assert driver.next_round == driver.now + 1.0

    def test_nobody_there_any_more(self) -> None:
        """Once nobody has an entry in hand, rounds end; the next subscriber gets the next attempt."""
        driver = joined(A)
        driver.stored(A, 1)
        driver.sink(A)
        driver.look()
        assert driver.next_round is None
        driver.join(B, "a")
        assert driver.attempts(B) == [(1, 2)]

    def test_a_subscriber_that_comes_later(self) -> None:
        """Who subscribes while others have an entry in hand gets it too, and does not disturb the round."""
        driver = joined(A)
        driver.stored(A, 1)
        driver.wait(0.5)
        driver.join(B, "a")
        assert driver.attempts(B) == [(1, 1)]
        driver.wait(0.5)
        assert driver.attempts(A) == [(1, 1), (1, 2)]
        assert driver.attempts(B) == [(1, 2)]

    def test_order(self) -> None:
        """What is due is sent in the order in which it is due, and what is due together in order of storing."""
        driver = joined(A)
        driver.stored(A, 1, 2)
        driver.wait(0.5)
        driver.stored(A, 3)
        driver.wait(10.0)
        assert driver.delivered(A) == [1, 2, 3, 1, 2, 3]


class TestAck:
    """An ack by one settles."""

    def test_settled(self) -> None:
        """An acknowledged entry is forgotten by the store and not sent again; its messages are counted."""
        driver = joined(A)
        driver.stored(A, 1, payloads=[b"1", b"2"])
        driver.ack(A, 1)
        assert driver.delivered(A) == [1]
        assert driver.settled == [1]
        assert driver.next_round is None
        driver.wait(1000.0)
        assert driver.all_sent() == {}
        stats = driver.broker.stats()
        assert (stats.acked, stats.pending, stats.in_flight) == (2, 0, 0)

    def test_by_one_of_several(self) -> None:
        """One ack settles for all; a second one changes nothing but the second's credit."""
        driver = joined(A, B)
        driver.stored(A, 1)
        driver.ack(A, 1)
        assert in_flight(driver) == 1
        driver.ack(B, 1, 1)
        driver.ack(A, 1)
        assert (driver.broker.stats().acked, in_flight(driver)) == (1, 0)
        driver.look()
        assert driver.settled == [1]
        driver.wait(1000.0)
        assert driver.attempts(A) == driver.attempts(B) == [(1, 1)]

    def test_by_somebody_else(self) -> None:
        """An ack from a peer that was never sent the entry is ignored, and so is its nack."""
        driver = joined(A)
        driver.join(B, "b")
        driver.stored(A, 1)
        driver.ack(B, 1, 2)
        driver.nack(B, 1, 0)
        driver.wait(1.0)
        assert driver.attempts(A) == [(1, 1), (1, 2)]
        assert driver.settled == []
        assert (driver.broker.stats().acked, driver.broker.stats().nacked) == (0, 0)

    def test_what_waited_for_others_is_sent(self) -> None:
        """What one has settled is still sent to the other for whom it waited, whole, as one attempt and no more."""
        driver = joined(A, B, credit=1)
        driver.stored(A, 1)
        driver.ack(A, 1)
        driver.stored(A, 2, payloads=[b"1", b"2"])
        driver.nack(A, 2, 1)
        driver.wait(1.0)
        assert driver.sent(A) == [Deliver(1, 1, None, None), Deliver(2, 1, None, None), Deliver(2, 2, [1], None)]
        driver.ack(A, 2)
        assert driver.delivered(B) == [1]
        driver.ack(B, 1)
        assert driver.sent(B) == [Deliver(2, 2, None, None)]
        assert in_flight(driver) == 1
        driver.wait(1000.0)
        assert driver.all_sent() == {}
        driver.ack(B, 2)
        assert in_flight(driver) == 0
        assert driver.settled == [1, 2]

    def test_settled_before_one_was_sent_it(self) -> None:
        """The first attempt is 1 also where the entry was settled by then."""
        driver = joined(A, credit=1)
        driver.stored(A, 1, 2)
        driver.join(B, "a")
        driver.ack(B, 1)
        driver.ack(B, 2)
        driver.ack(A, 1)
        assert driver.sent(A) == [Deliver(1, 1, None, None), Deliver(2, 1, None, None)]

    def test_what_was_settled_by_another_costs_no_credit(self) -> None:
        """Who unsubscribes has nothing of that name in hand any more, also of what another has settled."""
        driver = joined(A, B, names=["a", "b"], credit=1)
        driver.stored(A, 1)
        driver.ack(B, 1)
        driver.stored(A, 2, name="b")
        assert driver.delivered(A) == [1]
        driver.unsubscribe(A)
        assert driver.delivered(A) == [2]


class TestCredit:
    """A subscriber has no more in hand than it can take."""

    def test_the_rest_waits(self) -> None:
        """A peer is never sent more than its credit; the rest follows in order as acks come."""
        driver = joined(A)
        driver.stored(A, *range(1, 8))
        assert driver.delivered(A) == [1, 2, 3]
        driver.ack(A, 2)
        assert driver.delivered(A) == [4]
        driver.ack(A, 1, 3)
        assert driver.delivered(A) == [5, 6]
        driver.ack(A, 4, 5, 6)
        assert driver.attempts(A) == [(7, 1)]
        assert in_flight(driver) == 1

    def test_a_nack_gives_credit_back(self) -> None:
        """What a peer could not handle is out of its hands."""
        driver = joined(A, credit=1)
        driver.stored(A, 1, 2)
        driver.nack(A, 1, 0)
        assert driver.delivered(A) == [1, 2]
        driver.wait(1.0)
        assert driver.attempts(A) == [(2, 2)]
        driver.ack(A, 2)
        assert driver.attempts(A) == [(1, 2)]

    def test_redeliveries_need_no_credit(self) -> None:
        """What a peer has in hand is sent again without credit, and what waits does not become due."""
        driver = joined(A, credit=1)
        driver.stored(A, 1, 2)
        driver.wait(1.0)
        driver.wait(2.0)
        assert driver.attempts(A) == [(1, 1), (1, 2), (1, 3)]
        driver.ack(A, 1)
        assert driver.attempts(A) == [(2, 1)]

    def test_waiting_with_one_and_due_by_another(self) -> None:
        """What waits for one peer is in the next round of the other, and is sent to each once for its credit."""
        driver = joined(A, B, credit=1)
        driver.stored(A, 1)
        driver.ack(B, 1)
        driver.stored(A, 2)
        driver.wait(1.0)
        assert driver.attempts(B) == [(1, 1), (2, 1), (2, 2)]
        driver.ack(A, 1)
        assert driver.attempts(A) == [(1, 1), (2, 2)]

    def test_a_slow_peer_holds_up_nobody(self) -> None:
        """While one peer acknowledges nothing, another gets everything."""
        driver = joined(A, B)
        for sequence in range(1, 21):
            driver.stored(A, sequence)
            driver.ack(B, sequence)
        assert driver.delivered(B) == list(range(1, 21))
        assert driver.delivered(A) == [1, 2, 3]
        assert driver.settled == list(range(1, 21))


class TestSendQueue:
    """Beyond what may wait for a peer, entries are left out."""

    def test_offered_again(self) -> None:
        """What was left out is offered again once half of what waits is sent, and nothing is lost or sent twice."""
        driver = joined(A)
        driver.stored(A, *range(1, 21))
        handled: list[int] = []
        while numbers := driver.delivered(A):
            handled += numbers
            assert in_flight(driver) <= 3
            driver.ack(A, numbers[0])
            driver.ack(A, *numbers[1:])
        assert handled == list(range(1, 21))
        driver.look()
        assert driver.settled == handled
        assert driver.dropped == {}
        assert driver.next_round is None

    def test_of_all_names(self) -> None:
        """All names of a peer that was behind are looked through; what another has in hand is left to its rounds."""
        driver = joined(A, names=["a", "b", "c"], credit=1, send_queue=1)
        driver.stored(A, 1, 2)
        for name in "abc":
            driver.stored(A, ord(name), name=name)
        driver.join(B, "c")
        assert driver.attempts(B) == [(5, 1)]
        driver.ack(A, 1)
        driver.ack(A, 2)
        driver.ack(A, *range(3, 5))
        handled = driver.delivered(A)
        assert handled == [1, 2, *handled[2:]]
        driver.ack(A, 3, 4)
        driver.ack(A, 3, 4)
        assert sorted(handled + driver.delivered(A)) == [1, 2, 3, 4]
        driver.wait(1.0)
        assert driver.attempts(A) == driver.attempts(B) == [(5, 2)]

    def test_settled_meanwhile(self) -> None:
        """What was left out for a peer, and was settled by another before it had room, is counted as dropped."""
        driver = joined(A, B, send_queue=1)
        for sequence in range(1, 7):
            driver.stored(A, sequence, payloads=[b"1", b"2"])
            driver.ack(B, sequence)
        assert driver.delivered(B) == [1, 2, 3, 4, 5, 6]
        assert driver.dropped == {"send_queue": 4}
        driver.ack(A, 1, 2, 3)
        assert driver.delivered(A) == [1, 2, 3, 4]
        driver.ack(A, 4)
        assert driver.all_sent() == {}

    def test_only_what_was_left_out_is_counted(self) -> None:
        """What a peer had in hand, waited for or did not subscribe to is not dropped for it."""
        driver = joined(A, B, names=["a", "b"], credit=1, send_queue=1)
        driver.stored(A, 1)
        driver.ack(B, 1)
        driver.stored(A, 2, 3)
        driver.ack(B, 2)
        assert driver.dropped == {}
        driver.unsubscribe(A, "b")
        driver.ack(B, 3)
        assert driver.dropped == {"send_queue": 1}
        driver.stored(A, 4, name="b")
        driver.ack(B, 4)
        driver.stored(A, 5)
        driver.ack(A, 1)
        assert driver.delivered(A) == [1, 2]
        assert driver.dropped == {"send_queue": 1}

    def test_a_peer_that_is_gone_is_not_behind(self) -> None:
        """Nothing is dropped for a peer that has left."""
        driver = joined(A, B, credit=1, send_queue=1)
        driver.stored(A, 1)
        driver.ack(B, 1)
        driver.stored(A, 2)
        driver.ack(B, 2)
        driver.stored(A, 3)
        driver.sink(A)
        driver.ack(B, 3)
        assert driver.dropped == {}
        assert driver.broker.stats().pending == 0
        assert driver.broker._deliveries._subscribers._behind == set()

    def test_many_wait(self) -> None:
        """A peer catches up with a long queue in steps that grow with its length, not with its square."""
        assert steps_of_catching_up(4000) < 2.2 * steps_of_catching_up(2000)


def steps_of_catching_up(length: int) -> int:
    """Return what it costs until a peer has acknowledged so many frames that wait for it."""
    driver = Driver(credit=100, send_queue=200_000)
    driver.join(B)
    driver.stored(B, *range(1, length + 1))
    driver.join(A, "a")

    def catch_up() -> None:
        while numbers := driver.delivered(A):
            driver.ack(A, *numbers)

    steps = steps_of(catch_up)
    assert len(driver.settled) == length
    return steps


class TestManyNames:
    """Who subscribes to patterns is not to pay for each name of which something waits."""

    def test_patterns_that_match_nothing(self) -> None:
        """They cost the same, whatever waits: with a subscriber, a group, and when these go."""
        assert steps_of_patterns(2000) < 1.1 * steps_of_patterns(200)

    def test_names_that_come_and_go(self) -> None:
        """What waits is found under names that were there before, are new, or have gone and come back."""
        driver = Driver(credit=100)
        driver.join(B)
        driver.join(A, "x.*.>")
        driver.stored(B, 1, name="dev.1.cmd")
        driver.subscribe(A, "dev.*.cmd", token=token_of("once"))
        assert numbers_of(driver, A) == [1]
        driver.ack(A, 1)
        driver.unsubscribe(A, "dev.*.cmd")
        driver.stored(B, 2, name="dev.2.cmd")
        driver.stored(B, 3, name="dev.1.cmd")
        driver.subscribe(A, "dev.*.cmd", token=token_of("again"))
        assert sorted(numbers_of(driver, A)) == [2, 3]


def steps_of_patterns(names: int) -> int:
    """Return what patterns that match nothing cost while something waits of so many names."""
    driver = Driver()
    driver.join(B)
    for number in range(1, names + 1):
        driver.publish(B, number, f"dev.{number}.cmd")
    driver.commit()
    # Whoever is the first to come with a pattern has all of them put in order.
    driver.join(C, "nobody.>")
    driver.join(A)
    patterns = [f"none.*.{number}" for number in range(100)]

    def come_and_go() -> None:
        driver.subscribe(A, *patterns)
        for pattern in patterns[:20]:
            driver.unsubscribe(A, pattern)
        for group in range(20):
            driver.join_group(A, "none.>", f"g{group}", request=group + 2)
        driver.broker.unreachable(A, driver.now)

    return steps_of(come_and_go)


def numbers_of(driver: Driver, peer: bytes) -> list[int]:
    """Return the numbers of what was delivered to a peer, whatever else it was sent."""
    return [command.delivery for command in driver.sent(peer) if isinstance(command, Deliver)]
