"""Messages that expire, and messages that are delayed."""

import pytest

from mezzenger.broker import sweeper
from mezzenger.broker.effects import Settle, Store, Sweep
from mezzenger.protocol.commands import Confirm
from tests.broker.broker_driver import POLICY, START, A, B, C, Driver, held, joined
from tests.broker.test_publishers import refusals


def counts(driver: Driver) -> tuple[int, int, int]:
    """Return how many frames wait, how many are delayed, and how many messages have expired."""
    driver.look()
    stats = driver.broker.stats()
    assert (stats.pending == 0) is (stats.pending_size == 0)
    assert (stats.delayed == 0) is (stats.delayed_size == 0)
    return stats.pending, stats.delayed, stats.dropped.get("expired", 0)


def sweep_of(driver: Driver) -> Sweep:
    """Return the one question about time that the broker now asks the store; the rest is done in its turn."""
    effects = driver.broker.take_effects()
    for effect in effects:
        if not isinstance(effect, Sweep):
            driver._sort(effect)
    (sweep,) = (effect for effect in effects if isinstance(effect, Sweep))
    return sweep


def moments(driver: Driver) -> list[tuple[float | None, float | None]]:
    """Return when what is being stored is due and expires."""
    driver.look()
    return [(store.due, store.expires) for store in driver.storing]


class TestExpiry:
    def test_whoever_subscribes_later_is_not_sent_it(self) -> None:
        """Be the sweep done or not: what has expired is not delivered."""
        for swept in (False, True):
            driver = joined(C, names=())
            driver.stored(C, 1, ttl=2.0)
            driver.stored(C, 2)
            driver.now += 2.0
            if swept:
                driver.wait(0.0)
            driver.join(A, "a")
            assert driver.delivered(A) == [2]
            assert counts(driver) == (1, 0, 1)
            driver.wait(0.0)
            assert counts(driver) == (1, 0, 1)

    def test_until_then_it_is_like_any_other(self) -> None:
        """A moment before its end it is delivered."""
        driver = joined(C, names=())
        driver.stored(C, 1, ttl=2.0)
        driver.wait(1.9)
        driver.join(A, "a")
        assert driver.delivered(A) == [1]

    def test_it_is_not_sent_again(self) -> None:
        """In a pause or in hand, it is not delivered once more; an ack that comes too late changes nothing."""
        driver = joined(A, B)
        driver.stored(A, 1, ttl=2.5)
        driver.nack(A, 1, 0)
        driver.sink(B)
        assert driver.attempts(A) == [(1, 1), (1, 2)]
        driver.nack(A, 1, 0)
        driver.sent(B)
        driver.wait(1.0)
        assert driver.attempts(A) == []
        driver.now += 1.5
        driver.join(B, "a")
        assert driver.delivered(B) == []
        driver.wait(0.0)
        assert counts(driver) == (0, 0, 1)
        driver.ack(A, 1)
        assert counts(driver) == (0, 0, 1)
        assert driver.broker.stats().acked == 0
        assert held(driver) == []

    def test_a_round_finds_it(self) -> None:
        """Due again in the moment in which it expires, it is taken out, once."""
        driver = joined(A)
        driver.stored(A, 1, ttl=1.0)
        driver.sent(A)
        driver.wait(1.0)
        assert driver.attempts(A) == []
        assert counts(driver) == (0, 0, 1)
        assert driver.settled == [1]

    def test_what_waits_for_credit_is_not_sent(self) -> None:
        """A subscriber that gets credit too late is not sent it, whether it was taken out meanwhile or not."""
        for swept in (False, True):
            driver = joined(A, credit=1)
            driver.stored(A, 1)
            driver.stored(A, 2, ttl=0.5)
            driver.stored(A, 3)
            driver.now += 0.5
            if swept:
                driver.wait(0.0)
            driver.ack(A, 1)
            assert driver.delivered(A) == [1, 3]
            driver.wait(0.0)
            assert counts(driver) == (1, 0, 1)

    def test_what_was_left_out_is_not_sent(self) -> None:
        """Nor is it to one for whom too much waited; it is not counted as dropped for its queue, either."""
        driver = joined(A, credit=1, send_queue=1)
        driver.stored(A, 1, 2)
        driver.stored(A, 3, 4, ttl=0.5)
        driver.stored(A, 5)
        driver.now += 0.5
        driver.ack(A, 1)
        driver.ack(A, 2)
        assert driver.delivered(A) == [1, 2, 5]
        driver.wait(0.0)
        assert counts(driver) == (1, 0, 2)
        assert driver.dropped == {"expired": 2}

    def test_room_without_a_subscriber(self) -> None:
        """Its bytes are free when its time has come, though nobody ever asks for it."""
        driver = joined(A, names=(), max_pending_size=80)
        driver.stored(A, 1, ttl=2.0)
        driver.publish(A, 2)
        assert refusals(driver) == [(2, "limit")]
        assert driver.broker.next_deadline() == START + 2.0
        driver.wait(2.0)
        assert counts(driver) == (0, 0, 1)
        assert driver.settled == [1]
        assert driver.storage.rows() == {}
        driver.publish(A, 2)
        driver.commit()
        assert driver.sent(A) == [Confirm([2])]

    def test_of_a_batch_what_is_left(self) -> None:
        """Messages that were handled are not counted as expired."""
        for there in (True, False):
            driver = joined(A)
            driver.stored(A, 1, payloads=[b"0", b"1", b"2"], ttl=1.5)
            driver.nack(A, 1, 1, 2)
            if not there:
                driver.sink(A)
                driver.look()
            driver.wait(1.5)
            assert counts(driver) == (0, 0, 2)
            assert driver.broker.stats().acked == 1

    def test_settled_while_the_store_looks(self) -> None:
        """An ack that comes between the question and the answer counts, and nothing is counted twice."""
        driver = joined(A)
        driver.stored(A, 1, 2, ttl=0.5)
        driver.sent(A)
        driver.wait(0.5)
        sweep = sweep_of(driver)
        driver.ack(A, 1)
        driver.queries.append(sweep)
        assert counts(driver) == (0, 0, 1)
        assert driver.broker.stats().acked == 1
        assert sorted(driver.settled) == [1, 2]

    def test_settled_before_the_store_has_heard_of_it(self) -> None:
        """Also if what was settled is found all the same."""
        driver = joined(A)
        driver.stored(A, 1, ttl=0.5)
        driver.wait(0.5)
        driver.holds_changes = True
        sweep = sweep_of(driver)
        driver.ack(A, 1)
        driver.queries.append(sweep)
        driver.look()
        driver.holds_changes = False
        assert counts(driver) == (0, 0, 0)
        assert driver.settled == [1]

    def test_while_it_is_read(self) -> None:
        """What expires between the order to read and the reading is not taken in."""
        driver = joined(C, names=())
        driver.stored(C, 1, ttl=1.0)
        driver.stored(C, 2)
        driver.holds_loads = driver.holds_changes = True
        driver.join(A, "a")
        driver.wait(1.0)
        driver.look()
        driver.load()
        assert held(driver) == [2]
        driver.holds_changes = False
        assert driver.delivered(A) == [2]
        assert counts(driver) == (1, 0, 1)

    def test_a_restart(self) -> None:
        """The next server knows when; also what expired while there was none is counted and taken out."""
        driver = joined(C, names=())
        driver.stored(C, 1, ttl=2.0)
        driver.stored(C, 2, ttl=4.0)
        driver.restart()
        assert driver.broker.next_deadline() == START + 2.0
        driver.now += 3.0
        driver.join(A, "a")
        assert driver.delivered(A) == [2]
        driver.wait(0.0)
        assert counts(driver) == (1, 0, 1)
        assert driver.broker._sweeper.next_deadline() == START + 4.0

    def test_thousands_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are taken out in slices, each once."""
        monkeypatch.setattr(sweeper, "SWEEP_FRAMES", 10)
        driver = joined(C, names=())
        driver.stored(C, *range(1, 36), ttl=1.0)
        driver.now += 1.0
        slices = 0
        while (deadline := driver.broker._sweeper.next_deadline()) is not None and deadline <= driver.now:
            driver.wait(0.0)
            driver.look()
            slices += 1
        assert slices in {4, 5}
        assert sorted(driver.settled) == list(range(1, 36))
        assert counts(driver) == (0, 0, 35)

    def test_a_resent_dead_letter_does_not_expire(self) -> None:
        """Somebody wants it after all."""
        driver = joined(A, max_attempts=1)
        driver.stored(A, 1, ttl=1.0)
        driver.nack(A, 1, 0)
        driver.wait(5.0)
        assert driver.broker.stats().dead == 1
        driver.sent(A)
        driver.resend(A, 1)
        driver.sent(A)
        driver.wait(100.0)
        assert counts(driver) == (1, 0, 0)


class TestDelay:
    def test_not_before(self) -> None:
        """It is confirmed at once, counted apart, and delivered when it is due."""
        driver = joined(A)
        frame = driver.publish(A, 1, delay=2.0)
        driver.commit()
        assert driver.sent(A) == [Confirm([1])]
        stats = driver.broker.stats()
        assert (stats.pending, stats.delayed, stats.delayed_size) == (0, 1, len(frame))
        driver.wait(1.9)
        assert driver.attempts(A) == []
        assert driver.broker.next_deadline() == START + 2.0
        driver.wait(0.1)
        assert driver.attempts(A) == [(2, 1)]
        assert driver.frames[2] == frame
        assert counts(driver) == (1, 0, 0)
        driver.ack(A, 2)
        assert counts(driver) == (0, 0, 0)
        assert driver.storage.rows() == {}

    def test_no_delay_at_all(self) -> None:
        """A delay of 0 is none."""
        driver = joined(A, delay=5.0)
        driver.stored(A, 1, delay=0.0)
        assert driver.attempts(A) == [(1, 1)]

    def test_in_order_of_their_times(self) -> None:
        """Not in that of their sending; those of one moment, in that."""
        driver = joined(A, credit=10, send_queue=10)
        for sequence, delay in enumerate((3.0, 1.0, 2.0, 1.0), 1):
            driver.stored(A, sequence, payloads=[b"%d" % sequence], delay=delay)
        driver.wait(3.0)
        assert [driver.frames[number][-9:-8] for number in driver.delivered(A)] == [b"2", b"4", b"3", b"1"]

    def test_a_restart(self) -> None:
        """It is delivered when it is due, by whatever server there is then."""
        driver = joined(C, names=())
        driver.stored(C, 1, delay=2.0)
        driver.restart()
        stats = driver.broker.stats()
        assert (stats.pending, stats.delayed) == (0, 1)
        assert stats.delayed_size > 0
        driver.join(A, "a")
        driver.wait(1.0)
        assert driver.attempts(A) == []
        driver.wait(1.0)
        assert driver.attempts(A) == [(2, 1)]

    def test_a_restart_in_the_wrong_moment(self) -> None:
        """What was found due, and not moved yet when the server was killed, is found by the next."""
        driver = joined(A)
        driver.stored(A, 1, delay=2.0)
        driver.holds_changes = True
        driver.wait(2.0)
        driver.look()
        driver.restart()
        driver.holds_changes = False
        driver.join(A, "a")
        driver.wait(0.0)
        assert driver.attempts(A) == [(2, 1)]
        assert counts(driver) == (1, 0, 0)

    def test_it_counts_for_the_size(self) -> None:
        """All the time, also while it is being moved."""
        driver = joined(A, names=(), max_pending_size=80)
        driver.stored(A, 1, delay=2.0)
        driver.publish(A, 2)
        assert refusals(driver) == [(2, "limit")]
        driver.holds_changes = True
        driver.wait(2.0)
        driver.look()
        driver.publish(A, 2)
        assert refusals(driver) == [(2, "limit")]
        driver.holds_changes = False
        assert counts(driver) == (1, 0, 0)
        driver.publish(A, 2)
        assert refusals(driver) == [(2, "limit")]

    def test_its_ttl_begins_when_it_is_due(self) -> None:
        """A message with both lives as long as one without a delay."""
        driver = joined(C, names=())
        driver.stored(C, 1, delay=2.0, ttl=1.0)
        driver.wait(2.0)
        assert counts(driver) == (1, 0, 0)
        driver.wait(0.9)
        assert counts(driver) == (1, 0, 0)
        driver.wait(0.1)
        assert counts(driver) == (0, 0, 1)

    def test_all_of_its_time_is_over(self) -> None:
        """Found by a server that starts only after its end, it is expired, not delivered."""
        driver = joined(C, names=())
        driver.stored(C, 1, delay=2.0, ttl=1.0)
        driver.restart()
        driver.join(A, "a")
        driver.wait(10.0)
        driver.look()
        driver.wait(0.0)
        assert driver.attempts(A) == []
        assert counts(driver) == (0, 0, 1)

    def test_refused_by_the_store(self) -> None:
        """Neither it nor its bytes are counted any more."""
        driver = joined(A, max_pending_size=80)
        driver.publish(A, 1, delay=1.0)
        driver.fail()
        assert refusals(driver) == [(1, "storage")]
        assert counts(driver) == (0, 0, 0)
        driver.publish(A, 1)
        driver.commit()
        assert driver.broker.stats().pending == 1

    def test_it_cannot_be_moved(self) -> None:
        """If the store fails as it is moved, it stays delayed, and others of its name are delivered."""
        driver = joined(A)
        driver.stored(A, 1, delay=1.0)
        driver.holds_changes = True
        driver.wait(1.0)
        driver.look()
        driver.fail_all()
        driver.holds_changes = False
        assert counts(driver) == (0, 1, 0)
        assert driver.broker._deliveries.pending._backlogs == {}
        driver.stored(A, 2)
        assert driver.attempts(A) == [(3, 1)]

    def test_amid_stores(self) -> None:
        """What is stored while it is moved neither overtakes it into oblivion nor is overtaken; all come once."""
        driver = joined(A, credit=20, send_queue=20)
        driver.stored(A, 1, 2, delay=1.0)
        driver.publish(A, 3)
        driver.wait(1.0)
        sweep = sweep_of(driver)
        driver.commit()
        driver.publish(A, 4)
        driver.queries.append(sweep)
        driver.publish(A, 5)
        driver.commit()
        driver.look()
        driver.stored(A, 6)
        sent = driver.sent(A)
        numbers = [one.delivery for one in sent if hasattr(one, "delivery")]
        assert numbers == sorted(set(numbers))
        assert sorted(driver.storage.rows()) == numbers
        assert len(numbers) == 6

    def test_thousands_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They come in slices, and none is lost."""
        monkeypatch.setattr(sweeper, "SWEEP_FRAMES", 10)
        driver = joined(A, credit=100, send_queue=100)
        driver.stored(A, *range(1, 36), delay=1.0)
        driver.now += 1.0
        for _ in range(5):
            driver.wait(0.0)
            driver.look()
        assert driver.delivered(A) == list(range(36, 71))
        assert counts(driver) == (35, 0, 0)


class TestPolicies:
    def test_by_default(self) -> None:
        """The policy of a name says how long its messages live, and how long they are kept first."""
        driver = joined(A, names=(), ttl=10.0, delay=5.0)
        driver.publish(A, 1)
        assert moments(driver) == [(START + 5.0, START + 15.0)]

    def test_the_publisher_knows_better(self) -> None:
        """What it says overrides the policy, each by itself."""
        driver = joined(A, names=(), ttl=10.0, delay=5.0)
        driver.publish(A, 1, ttl=1.0)
        driver.publish(A, 2, delay=1.0)
        driver.publish(A, 3, ttl=1.0, delay=0.0)
        assert moments(driver) == [
            (START + 5.0, START + 6.0),
            (START + 1.0, START + 11.0),
            (None, START + 1.0),
        ]

    def test_without_a_policy(self) -> None:
        """What neither says does not expire, and is not delayed."""
        assert (POLICY.ttl, POLICY.delay) == (None, 0.0)
        driver = joined(A, names=())
        driver.publish(A, 1)
        assert moments(driver) == [(None, None)]


class TestSweeping:
    def test_one_at_a_time(self) -> None:
        """The store is not asked again while it looks; what is earlier is noted meanwhile."""
        driver = joined(C, names=())
        driver.stored(C, 1, ttl=1.0)
        driver.wait(1.0)
        sweep = sweep_of(driver)
        driver.stored(C, 2, ttl=0.5)
        driver.stored(C, 3, ttl=5.0)
        driver.wait(0.6)
        assert driver.broker._sweeper.next_deadline() is None
        assert [effect for effect in driver.broker.take_effects() if isinstance(effect, Sweep)] == []
        driver.queries.append(sweep)
        driver.look()
        driver.wait(0.0)
        assert counts(driver) == (1, 0, 2)

    def test_the_store_cannot_be_read(self) -> None:
        """It is asked again a while later, or when the next moment comes; nothing is remembered for good meanwhile."""
        driver = joined(A)
        driver.stored(A, 1, 2, ttl=0.5)
        driver.wait(0.5)
        sweep_of(driver)
        driver.ack(A, 1)
        driver.broker.not_swept(driver.now)
        assert driver.broker._deliveries.pending._sweep_settled is None
        assert driver.broker._sweeper.next_deadline() == driver.now + sweeper.RETRY_SECONDS
        driver.wait(sweeper.RETRY_SECONDS)
        assert counts(driver) == (0, 0, 1)

    def test_nothing_to_wait_for(self) -> None:
        """Without a ttl or a delay the store is never asked."""
        driver = joined(A)
        driver.stored(A, 1)
        assert driver.broker._sweeper.next_deadline() is None
        driver.wait(1000.0)
        assert [change for change in driver.changes if isinstance(change, Settle | Store)] == []
        assert driver.queries == []
