"""What is stored of a name, and the window of it that is in memory."""

from collections.abc import Callable

import pytest

from mezzenger.broker import backlog
from mezzenger.broker.effects import Load
from mezzenger.protocol.commands import Deliver
from tests.broker.broker_driver import A, B, C, Driver, held, joined, token_of

FRAMES = 6
LOAD_FRAMES = 3


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "WINDOW_FRAMES", FRAMES)
    monkeypatch.setattr(backlog, "LOAD_FRAMES", LOAD_FRAMES)


def waiting(count: int, **options: int) -> Driver:
    """Return a driver whose store has some frames, numbered from 1, for which nobody has subscribed yet."""
    driver = Driver(**options)
    driver.join(C)
    driver.stored(C, *range(1, count + 1))
    return driver


def handle_all(driver: Driver, peer: bytes = A) -> list[int]:
    """Let a peer acknowledge one after the other all that it is sent; return the numbers."""
    handled: list[int] = []
    numbers = driver.delivered(peer)
    while numbers:
        handled.append(numbers.pop(0))
        driver.ack(peer, handled[-1])
        numbers += driver.delivered(peer)
        assert len(held(driver)) <= backlog.WINDOW_FRAMES
    return handled


class TestNobodyThere:
    """Without a subscriber, a frame is in the store and nowhere else."""

    def test_counted_and_not_held(self) -> None:
        """A frame for which nobody has subscribed is counted, and is not in the broker's memory."""
        driver = Driver()
        driver.join(B)
        frame = driver.publish(B, 1)
        (store,) = driver.commit()
        assert not store.is_offered
        assert driver.broker._deliveries.pending.get(1) is None
        assert held(driver) == []
        stats = driver.broker.stats()
        assert (stats.pending, stats.pending_size) == (1, len(frame))

    def test_loaded_for_the_first_subscriber(self) -> None:
        """The first who subscribes is sent in order what is stored, as attempt 1."""
        driver = waiting(3)
        driver.holds_loads = True
        driver.join(A, "a")
        assert driver.all_sent() == {}
        assert driver.loads == [Load("a", 0, backlog.LOAD_FRAMES, backlog.LOAD_SIZE)]
        driver.load()
        assert driver.attempts(A) == [(1, 1), (2, 1), (3, 1)]
        assert held(driver) == [1, 2, 3]
        assert driver.loads == []

    def test_nothing_there(self) -> None:
        """Where nothing is stored, the store is not asked."""
        driver = waiting(1)
        driver.holds_loads = True
        driver.join(A, "b")
        driver.look()
        assert driver.loads == []

    def test_what_is_settled_leaves_nothing(self) -> None:
        """A name of which nothing is stored any more takes no memory."""
        driver = waiting(2)
        driver.join(A, "a")
        assert handle_all(driver) == [1, 2]
        assert driver.broker._deliveries.pending._backlogs == {}
        assert (driver.broker.stats().pending, driver.broker.stats().pending_size) == (0, 0)


@pytest.mark.usefixtures("_small")
class TestWindow:
    """Whatever waits, little of it is in memory."""

    def test_loaded_as_acks_come(self) -> None:
        """A long backlog is loaded piece by piece as acks come, and delivered in order, each frame once."""
        driver = waiting(50)
        driver.join(A, "a")
        assert held(driver) == [1, 2, 3, 4, 5, 6]
        assert driver.loads == []
        assert handle_all(driver) == list(range(1, 51))
        assert driver.settled == list(range(1, 51))
        assert driver.broker.stats().redelivered == 0

    def test_not_before_half_of_it_is_free(self) -> None:
        """The next frames are asked for once half of the window is free, from after the last that was read."""
        driver = waiting(20)
        driver.join(A, "a")
        driver.holds_loads = True
        driver.ack(A, 1, 2)
        driver.look()
        assert driver.loads == []
        driver.ack(A, 3)
        driver.look()
        assert driver.loads == [Load("a", 6, 3, backlog.LOAD_SIZE)]
        driver.ack(A, 4)
        driver.look()
        assert len(driver.loads) == 1

    @pytest.mark.parametrize("peers", [[A], [A, B]])
    def test_limit_of_bytes(self, peers: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        """The window is limited in bytes as well, but for the last frame that went in, however many subscribe."""
        driver = waiting(1)
        size = driver.broker.stats().pending_size
        monkeypatch.setattr(backlog, "WINDOW_SIZE", 4 * size - 1)
        monkeypatch.setattr(backlog, "LOAD_SIZE", 2 * size)
        driver.stored(C, *range(2, 21))
        for peer in peers:
            driver.join(peer, "a")
        assert held(driver) == [1, 2]
        driver.ack(A, 1)
        driver.look()
        assert held(driver) == [2, 3, 4]
        driver = joined(A)
        driver.stored(A, *range(1, 10))
        assert held(driver) == [1, 2, 3, 4]

    def test_a_frame_above_any_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A frame that is larger than the whole window is delivered all the same."""
        monkeypatch.setattr(backlog, "WINDOW_SIZE", 1)
        monkeypatch.setattr(backlog, "LOAD_SIZE", 1)
        driver = waiting(4)
        driver.join(A, "a")
        assert held(driver) == [1]
        assert handle_all(driver) == [1, 2, 3, 4]

    def test_stored_while_the_window_is_full(self) -> None:
        """What is stored while the window is full is loaded and delivered after what is in it, as attempt 1."""
        driver = joined(A)
        driver.join(C)
        for sequence in range(1, FRAMES + 1):
            driver.publish(C, sequence)
            (store,) = driver.commit()
            assert store.is_offered
        driver.publish(C, FRAMES + 1)
        (store,) = driver.commit()
        assert not store.is_offered
        assert held(driver) == list(range(1, FRAMES + 1))
        assert driver.broker.stats().pending == FRAMES + 1
        assert handle_all(driver) == list(range(1, FRAMES + 2))
        assert driver.broker.stats().redelivered == 0

    def test_no_more_is_promised_than_there_is_room_for(self) -> None:
        """Of what is being stored at once, only what fits into the window is to be delivered at once."""
        driver = joined(A)
        driver.join(C)
        for sequence in range(1, 11):
            driver.publish(C, sequence)
        stores = driver.commit()
        assert [store.is_offered for store in stores] == [True] * FRAMES + [False] * 4
        assert held(driver) == list(range(1, FRAMES + 1))
        assert handle_all(driver) == list(range(1, 11))
        assert driver.broker.stats().redelivered == 0

    def test_stored_while_being_loaded(self) -> None:
        """What is stored while the store is being read comes after what is read, and is not promised before."""
        driver = waiting(2)
        driver.holds_loads = True
        driver.join(A, "a")
        driver.publish(C, 3)
        (store,) = driver.commit()
        assert not store.is_offered
        assert driver.all_sent().keys() == {C}
        driver.holds_loads = False
        assert handle_all(driver) == [1, 2, 3]
        driver.publish(C, 4)
        (store,) = driver.commit()
        assert store.is_offered
        assert driver.attempts(A) == [(4, 1)]

    def test_stored_after_what_was_not_promised(self) -> None:
        """What is published after frames that must be loaded, and before those are stored, must be loaded too."""
        driver = joined(C, names=())
        driver.publish(C, 1)
        driver.look()
        driver.join(A, "a")
        driver.publish(C, 2)
        stores = driver.commit()
        assert [store.is_offered for store in stores] == [False, False]
        assert driver.attempts(A) == [(1, 1), (2, 1)]

    def test_what_could_not_be_stored_takes_no_room(self) -> None:
        """A failed commit leaves neither a promise nor a doubt behind."""
        driver = joined(A)
        driver.join(C)
        for sequence in range(1, FRAMES + 3):
            driver.publish(C, sequence)
        driver.fail()
        assert driver.broker._deliveries.pending._backlogs == {}
        driver.all_sent()
        for sequence in range(1, FRAMES + 1):
            driver.publish(C, sequence)
        stores = driver.commit()
        assert all(store.is_offered for store in stores)
        assert handle_all(driver) == [store.number for store in stores]

    def test_each_name_has_its_own(self) -> None:
        """A window that is full holds up no other name."""
        driver = waiting(20)
        driver.stored(C, 21, name="b")
        driver.join(A, "a")
        driver.join(B, "b")
        assert driver.attempts(B) == [(21, 1)]
        assert held(driver, "b") == [21]

    def test_a_second_subscriber(self) -> None:
        """Who subscribes later is sent what is in the window, then what is loaded, in order."""
        driver = waiting(10)
        driver.join(A, "a")
        driver.join(B, "a")
        assert handle_all(driver, B) == list(range(1, 11))
        assert driver.delivered(A) == [1, 2, 3]


class TestOrder:
    """Left out or not, what was stored first goes first."""

    def test_what_was_left_out_goes_first(self) -> None:
        """What is stored while there is room again, but others are still left out, does not overtake them."""
        driver = joined(A, credit=1, send_queue=4)
        driver.stored(A, *range(1, 9))
        driver.ack(A, 1)
        driver.stored(A, 9)
        assert driver.delivered(A) == [1, 2]
        driver.ack(A, 2)
        assert handle_all(driver) == [3, 4, 5, 6, 7, 8, 9]


class TestWhileLoading:
    """What happens between the question to the store and its answer."""

    @staticmethod
    def asked(count: int = 3) -> Driver:
        """Return a driver in which the store is being read for A."""
        driver = waiting(count)
        driver.holds_loads = True
        driver.join(A, "a")
        driver.look()
        assert len(driver.loads) == 1
        return driver

    @pytest.mark.parametrize("leave", [Driver.unsubscribe, Driver.sink])
    def test_nobody_there_any_more(self, leave: Callable[[Driver, bytes], None]) -> None:
        """What is read for somebody who has left meanwhile is ignored, and is there for the next who comes."""
        driver = self.asked()
        leave(driver, A)
        driver.load()
        assert held(driver) == []
        assert driver.all_sent() == {}
        assert driver.broker.stats().pending == 3
        driver.holds_loads = False
        driver.join(B, "a")
        assert driver.delivered(B) == [1, 2, 3]

    def test_subscribed_again(self) -> None:
        """An answer to the question before the eviction is ignored; the one to the question after it counts, once."""
        driver = self.asked()
        driver.unsubscribe(A)
        driver.subscribe(A, "a", token=token_of("again"))
        driver.look()
        before, after = driver.loads
        assert before == after
        driver.loads = [before]
        driver.load()
        assert driver.delivered(A) == []
        driver.loads = [after]
        driver.load()
        assert driver.delivered(A) == [1, 2, 3]
        assert driver.loads == []

    def test_the_name_is_not_known_any_more(self) -> None:
        """An answer for a name of which everything was settled meanwhile is ignored."""
        driver = joined(A)
        driver.stored(A, 1)
        driver.unsubscribe(A)
        driver.holds_loads = True
        driver.subscribe(A, "a", token=token_of("again"))
        driver.look()
        driver.ack(A, 1)
        assert driver.delivered(A) == [1]
        driver.load()
        assert driver.all_sent() == {}
        assert driver.broker._deliveries.pending._backlogs == {}

    def test_settled_meanwhile(self) -> None:
        """What was settled while the store was being read is not delivered again, though it was read."""
        driver = joined(A)
        driver.join(C)
        driver.stored(C, 1, 2, 3)
        driver.unsubscribe(A)
        assert driver.delivered(A) == [1, 2, 3]
        driver.holds_loads = True
        driver.join(B, "a")
        driver.look()
        (load,) = driver.loads
        rows = list(driver.storage.rows().values())
        driver.ack(A, 2)
        driver.look()
        driver.broker.loaded(load, rows, driver.now)
        assert driver.attempts(B) == [(1, 2), (3, 2)]
        assert driver.broker.stats().pending == 2

    def test_the_store_has_less(self) -> None:
        """A store that has less than was counted is believed, and not asked again."""
        driver = self.asked()
        (load,) = driver.loads
        driver.loads.clear()
        first, *_ = driver.storage.rows().values()
        driver.broker.loaded(load, [first], driver.now)
        driver.look()
        (load,) = driver.loads
        assert load.after == 1
        driver.loads.clear()
        driver.broker.loaded(load, [], driver.now)
        driver.look()
        assert driver.loads == []
        assert driver.delivered(A) == [1]
        stats = driver.broker.stats()
        assert (stats.pending, stats.pending_size) == (1, len(first.frame))
        driver.publish(C, 4)
        (store,) = driver.commit()
        assert store.is_offered
        assert driver.sent(A) == [Deliver(4, 1, None, None)]

    def test_the_store_has_nothing(self) -> None:
        """A store that has nothing of what was counted is believed; nothing of the name is remembered."""
        driver = self.asked()
        driver.broker.loaded(driver.loads[0], [], driver.now)
        assert driver.broker.stats().pending == 0
        assert driver.broker._deliveries.pending._backlogs == {}

    def test_the_store_has_not_what_is_in_hand(self) -> None:
        """What may still be acknowledged is known, whatever the store says."""
        driver = joined(A)
        driver.stored(A, 1, 2)
        driver.unsubscribe(A)
        driver.holds_loads = True
        driver.join(B, "a")
        driver.look()
        driver.broker.loaded(driver.loads[0], [], driver.now)
        assert driver.attempts(B) == [(1, 2), (2, 2)]
        assert driver.broker.stats().pending == 2
        driver.ack(A, 1)
        driver.ack(B, 2)
        assert driver.broker.stats().pending == 0
