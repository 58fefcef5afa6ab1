"""What a broker makes of what the last run left in the store."""

import pytest

from mezzenger.broker import publishers
from mezzenger.broker.effects import Forget, Know, Refusal
from mezzenger.protocol.commands import Confirm, Deliver
from tests.broker.broker_driver import A, B, C, Driver, held, joined, key_of, token_of
from tests.broker.test_publishers import damaged, refusals


class TestFrames:
    """What was stored is delivered."""

    def test_not_delivered_before(self) -> None:
        """What was stored for nobody is counted, not held, and delivered to the first who subscribes, as attempt 1."""
        driver = joined(C, names=())
        driver.stored(C, 1, 2)
        driver.stored(C, 3, name="b")
        before = driver.broker.stats()
        driver.restart()
        stats = driver.broker.stats()
        assert (stats.pending, stats.pending_size) == (before.pending, before.pending_size) == (3, before.pending_size)
        assert held(driver) == []
        assert driver.broker.next_deadline() is None
        driver.join(A, "a")
        assert driver.attempts(A) == [(1, 1), (2, 1)]

    def test_delivered_before(self) -> None:
        """What may have been delivered has attempt 2, or the one after the last that was noted."""
        driver = joined(A)
        driver.join(C)
        driver.stored(C, 1)
        driver.wait(1.0)
        driver.stored(C, 2)
        assert driver.attempts(A) == [(1, 1), (1, 2), (2, 1)]
        driver.restart()
        driver.join(A, "a")
        assert driver.attempts(A) == [(1, 3), (2, 2)]
        assert driver.broker.stats().redelivered == 2

    def test_delivered_after_it_was_loaded(self) -> None:
        """Also what was loaded counts as delivered after a crash, and is not taken to be new."""
        driver = joined(C, names=())
        driver.stored(C, 1)
        driver.join(A, "a")
        assert driver.attempts(A) == [(1, 1)]
        driver.restart()
        driver.join(A, "a")
        assert driver.attempts(A) == [(1, 2)]

    def test_the_part_that_is_left(self) -> None:
        """Only the messages of a batch that were not handled are delivered again, when the pause is over."""
        driver = joined(A)
        driver.stored(A, 1, payloads=[b"0", b"1", b"2"])
        driver.nack(A, 1, 0, 2)
        driver.restart()
        driver.join(A, "a")
        driver.wait(0.9)
        assert driver.sent(A) == []
        driver.wait(0.1)
        assert driver.sent(A) == [Deliver(1, 2, [0, 2], None)]
        driver.ack(A, 1)
        driver.look()
        assert driver.settled == [1]
        assert driver.broker.stats().acked == 2

    def test_what_was_settled(self) -> None:
        """What was acknowledged is not there any more."""
        driver = joined(A)
        driver.stored(A, 1, 2)
        driver.ack(A, 1)
        driver.restart()
        assert driver.broker.stats().pending == 1
        driver.join(A, "a")
        assert driver.delivered(A) == [2]

    def test_numbers_go_on(self) -> None:
        """The first number of this run is above all of the last, also above what was settled."""
        driver = joined(A)
        driver.ack(A, *driver.stored(A, 1, 2, 3))
        driver.restart()
        driver.join(A)
        assert driver.stored(A, 4) == [4]

    def test_what_was_not_committed(self) -> None:
        """What the store had not answered is stored when it comes again."""
        driver = joined(A, names=())
        driver.stored(A, 1)
        driver.publish(A, 2)
        driver.restart()
        driver.join(A)
        driver.publish(A, 2)
        driver.commit()
        assert driver.sent(A) == [Confirm([2])]
        assert driver.broker.stats().pending == 2


class TestPublishers:
    """A publish that comes again is neither stored twice nor confirmed falsely."""

    def test_stored_before(self) -> None:
        """What was stored is confirmed and not stored again, be it settled or not."""
        driver = joined(A)
        driver.stored(A, 1, 2)
        driver.ack(A, 1)
        driver.restart()
        driver.join(B, client=65)
        for sequence in (1, 2):
            driver.publish(B, sequence, client=65)
        assert driver.sent(B) == [Confirm([1]), Confirm([2])]
        assert driver.storing == []
        assert driver.broker.stats().repeated == 2

    @pytest.mark.parametrize("is_known", [False, True])
    def test_refused_before(self, is_known: bool) -> None:
        """What was refused is stored when it comes again, though later ones are stored, and is confirmed then."""
        driver = joined(A, names=())
        if is_known:
            driver.stored(A, 1)
        driver.give(A, damaged(2))
        driver.stored(A, 3)
        for _ in range(2):
            driver.restart()
            driver.join(A)
            driver.publish(A, 2)
            assert driver.sent(A) == []
            (store,) = driver.storing
            assert store.sequence == 2
        driver.commit()
        assert driver.sent(A) == [Confirm([2])]
        driver.restart()
        driver.join(A)
        driver.publish(A, 2)
        assert driver.sent(A) == [Confirm([2])]

    def test_what_the_store_is_told(self) -> None:
        """A client is made known with its first frame, together with what was refused before; refusals follow."""
        driver = joined(A, names=())
        driver.give(A, damaged(1))
        driver.give(A, damaged(2))
        driver.look()
        assert driver.changes == []
        driver.publish(A, 2)
        driver.look()
        known = [Know(65, key_of(65)), Refusal(65, 1), Refusal(65, 2), Refusal(65, 2, is_lifted=True)]
        assert driver.changes == known
        driver.give(A, damaged(3))
        driver.commit()
        driver.publish(A, 4)
        driver.fail()
        assert driver.changes == [*known, Refusal(65, 3), Refusal(65, 4)]

    def test_oldest(self) -> None:
        """The store is told once which refusals the client does not care for any more."""
        driver = joined(A, names=())
        driver.stored(A, 1)
        driver.give(A, damaged(2))
        driver.give(A, damaged(3))
        driver.stored(A, 4)
        driver.changes.clear()
        for peer in (B, C):
            driver.hello(peer, client=65, oldest=3)
        driver.look()
        assert driver.changes == [Know(65, key_of(65)), Forget(65, 3), Know(65, key_of(65))]
        driver.restart()
        driver.join(A)
        for sequence in (2, 3):
            driver.publish(A, sequence)
        assert driver.sent(A) == [Confirm([2])]
        assert [store.sequence for store in driver.storing] == [3]

    def test_a_wrong_key(self) -> None:
        """A client id belongs to its key also after a restart."""
        driver = joined(A, names=())
        driver.stored(A, 1)
        driver.restart()
        driver.hello(B, client=65, key=key_of(66))
        assert driver.goodbye(B) == ("key", False)
        driver.hello(A)
        assert driver.broker.stats().peers == 1

    def test_only_who_stores_is_known(self) -> None:
        """A client that has published nothing, or nothing that was stored, leaves nothing in the store."""
        driver = joined(A, B)
        driver.publish(B, 1, ack=0)
        driver.give(A, damaged(1))
        assert refusals(driver) == [(1, "digest")]
        assert driver.changes == []

    def test_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The store is told whom the broker has forgotten, once, and goes on without; it never knew the others."""
        monkeypatch.setattr(publishers, "MAX_PUBLISHERS", 2)
        driver = joined(A, B, names=())
        driver.stored(A, 1)
        for peer in (A, B):
            driver.sink(peer)
        for n, peer in enumerate((C, b"D", b"E")):
            driver.hello(peer, token=token_of(str(n)))
        driver.look()
        assert driver.changes == [Know(65, key_of(65)), Forget(65)]
        assert driver.storage.publishers == {}
        driver.restart()
        driver.join(A)
        driver.publish(A, 1)
        driver.look()
        assert [store.sequence for store in driver.storing] == [1]

    def test_who_came_last_is_forgotten_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a restart, too, the client that said Hello the longest ago is the first to be forgotten."""
        driver = joined(A, B, names=())
        driver.stored(A, 1)
        driver.stored(B, 1)
        driver.sink(A)
        driver.join(A)
        driver.restart()
        monkeypatch.setattr(publishers, "MAX_PUBLISHERS", 2)
        driver.join(C)
        driver.look()
        assert driver.storage.publishers.keys() == {65}

    def test_who_stays_is_not_forgotten_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A client that has been connected all the time has been seen when something of it was stored last."""
        monkeypatch.setattr(publishers, "MAX_PUBLISHERS", 2)
        driver = joined(A, names=())
        driver.stored(A, 1)
        driver.join(B)
        driver.stored(B, 1)
        driver.sink(B)
        driver.publish(A, 2)
        driver.commit()
        driver.restart()
        driver.join(C)
        driver.join(A)
        driver.publish(A, 2)
        driver.look()
        assert driver.sent(A) == [Confirm([2])]
        assert driver.storing == []


def test_nothing_left() -> None:
    """A broker that starts with an empty store is as any new one."""
    driver = Driver()
    driver.restart()
    driver.join(A, "a")
    assert driver.stored(A, 1) == [1]
    assert driver.attempts(A) == [(1, 1)]
