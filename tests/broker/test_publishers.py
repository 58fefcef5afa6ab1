"""``ack=1``: a publish is stored before it is confirmed, and stored once however often it is sent."""

import struct
from collections.abc import Callable

import pytest
from xxhash import xxh3_64_intdigest

from mezzenger.broker import intake, publishers
from mezzenger.broker.effects import Store
from mezzenger.broker.publishers import Publisher, Publishers
from mezzenger.protocol.commands import MAX_ERROR_CHARACTERS, Confirm, Deliver, Refuse
from mezzenger.protocol.wire import encode_data
from tests.broker.broker_driver import A, B, C, Driver, joined, token_of

DISK_FULL = "the disk is full"


def damaged(sequence: int) -> bytes:
    """Write a frame of A of which a payload byte was changed on its way."""
    frame = encode_data("a", [(1.5, b"xy")], ack=1, codec=1, client=65, sequence=sequence)
    return frame[:-9] + b"z" + frame[-8:]


def malformed_batch(sequence: int) -> bytes:
    """Write a batch of A whose digest fits and whose lengths do not add up."""
    frame = encode_data("a", [(1.5, b"xy"), (1.5, b"z")], ack=1, codec=1, client=65, sequence=sequence)
    content = frame[:-8] + b"more"
    return content + struct.pack("!Q", xxh3_64_intdigest(content))


def refusals(driver: Driver, peer: bytes = A) -> list[tuple[int, str]]:
    """Return sequence and reason of all that was sent to a peer, and that it was nothing else."""
    sent = driver.sent(peer)
    assert all(isinstance(command, Refuse) for command in sent), sent
    return [(command.sequence, command.reason) for command in sent if isinstance(command, Refuse)]


class TestStored:
    """Stored first, then confirmed, then delivered."""

    def test_nothing_before_the_commit(self) -> None:
        """A publish is handed to the store; until that has it, nothing is confirmed, delivered or counted."""
        driver = joined(A)
        frame = driver.publish(A, 7, payloads=[b"1", b"2"])
        assert driver.all_sent() == {}
        assert driver.storing == [Store(1, 65, 7, "a", 2, frame, is_offered=True)]
        assert (driver.broker.stats().stored, driver.broker.stats().pending) == (0, 0)
        driver.commit()
        assert driver.sent(A) == [Confirm([7]), Deliver(1, 1, None, None)]
        assert driver.frames == {1: frame}
        assert (driver.broker.stats().stored, driver.broker.stats().pending) == (2, 1)
        assert driver.published == []

    def test_one_confirm_for_each_client(self) -> None:
        """A commit sends each client one Confirm, with all its sequences, and then delivers to every subscriber."""
        driver = joined(A, B)
        driver.join(C)
        driver.publish(C, 1)
        driver.publish(A, 5)
        driver.publish(C, 2)
        driver.commit()
        deliveries = [Deliver(1, 1, None, None), Deliver(2, 1, None, None), Deliver(3, 1, None, None)]
        assert driver.all_sent() == {A: [Confirm([5]), *deliveries], B: deliveries, C: [Confirm([1, 2])]}

    def test_numbers_rise(self) -> None:
        """Every frame that is stored has a higher number than all before it."""
        driver = Driver()
        driver.join(A)
        assert driver.stored(A, 1, 2) == [1, 2]
        assert driver.stored(A, 3) == [3]

    def test_a_publisher_that_left(self) -> None:
        """What was published by a client that is gone is stored and delivered; the Confirm has nobody to go to."""
        driver = joined(B)
        driver.join(A)
        driver.publish(A, 1)
        driver.look()
        driver.sink(A)
        driver.commit()
        assert driver.all_sent() == {B: [Deliver(1, 1, None, None)]}

    def test_an_empty_commit(self) -> None:
        """A commit of settlements alone confirms nothing."""
        driver = joined(A)
        driver.broker.committed([], driver.now)
        driver.broker.commit_failed([], "storage", DISK_FULL)
        assert driver.all_sent() == {}


class TestNotStored:
    """A failed commit is no Confirm, now or later."""

    def test_each_is_refused(self) -> None:
        """A failed commit refuses each publish, with the reason; nothing is delivered."""
        driver = joined(A, B)
        driver.publish(A, 1)
        driver.publish(A, 2)
        driver.publish(B, 1)
        driver.fail()
        assert driver.all_sent() == {
            A: [Refuse(1, "storage", DISK_FULL), Refuse(2, "storage", DISK_FULL)],
            B: [Refuse(1, "storage", DISK_FULL)],
        }
        assert (driver.broker.stats().stored, driver.broker.stats().pending) == (0, 0)

    @pytest.mark.parametrize("later", [0, 1, 2])
    def test_sent_again(self, later: int) -> None:
        """What could not be stored is stored when it is sent again, however many later ones are stored by then."""
        driver = joined(B)
        driver.join(A)
        driver.publish(A, 1)
        driver.fail()
        assert refusals(driver) == [(1, "storage")]
        for n in range(later):
            driver.stored(A, 2 + n)
        driver.publish(A, 1)
        assert driver.sent(A) == []
        (store,) = driver.commit()
        assert store.sequence == 1
        assert driver.sent(A) == [Confirm([1])]
        driver.publish(A, 1)
        assert driver.sent(A) == [Confirm([1])]
        assert driver.broker.stats().repeated == 1
        for n in range(later):
            driver.publish(A, 2 + n)
            assert driver.sent(A) == [Confirm([2 + n])]
        assert driver.storing == []

    def test_failed_twice(self) -> None:
        """A publish may fail again after it was sent again."""
        driver = joined(A, names=())
        driver.publish(A, 1)
        driver.fail()
        driver.stored(A, 2)
        driver.sent(A)
        for _ in range(2):
            driver.publish(A, 1)
            driver.fail()
            assert refusals(driver) == [(1, "storage")]

    def test_a_long_text(self) -> None:
        """A text of any length and any characters is cut so that it can be sent."""
        driver = joined(A)
        driver.publish(A, 1)
        driver.fail("\udcff" + "x" * MAX_ERROR_CHARACTERS)
        assert driver.sent(A) == [Refuse(1, "storage", "?" + "x" * (MAX_ERROR_CHARACTERS - 1))]

    def test_a_publisher_that_left(self) -> None:
        """A Refuse for a client that is gone goes to nobody; it stores the publish when it comes back."""
        driver = joined(A, names=())
        driver.publish(A, 1)
        driver.look()
        driver.sink(A)
        driver.fail()
        assert driver.all_sent() == {}
        driver.join(B, client=65)
        driver.publish(B, 1, client=65)
        driver.commit()
        assert driver.sent(B) == [Confirm([1])]


class TestSentAgain:
    """A client that heard nothing sends its publishes again; they are stored once."""

    def test_while_storing(self) -> None:
        """What is sent again while the store is at it is neither answered nor stored a second time."""
        driver = joined(A)
        driver.publish(A, 1)
        driver.publish(A, 1)
        assert driver.all_sent() == {}
        assert len(driver.storing) == 1
        driver.commit()
        assert driver.sent(A) == [Confirm([1]), Deliver(1, 1, None, None)]
        assert driver.broker.stats().repeated == 0

    def test_after_it_was_stored(self) -> None:
        """What is sent again after it was stored is confirmed again and counted, on any connection of its client."""
        driver = joined(A, names=())
        driver.stored(A, 1, 2)
        driver.join(B, client=65)
        driver.publish(B, 1, client=65)
        driver.publish(B, 2, client=65)
        driver.publish(B, 3, client=65)
        assert driver.sent(B) == [Confirm([1]), Confirm([2])]
        assert [store.sequence for store in driver.storing] == [3]
        stats = driver.broker.stats()
        assert (stats.repeated, stats.stored, stats.pending) == (2, 2, 2)

    def test_after_it_was_settled(self) -> None:
        """What was stored, delivered and acknowledged is not stored again."""
        driver = joined(A)
        driver.ack(A, *driver.stored(A, 1))
        assert driver.delivered(A) == [1]
        driver.publish(A, 1)
        assert driver.sent(A) == [Confirm([1])]
        assert driver.storing == []


class TestRefused:
    """What cannot be stored is said to be so."""

    @pytest.mark.parametrize(("reason", "write"), [("digest", damaged), ("truncated", malformed_batch)])
    def test_a_frame_that_cannot_be_used(self, reason: str, write: Callable[[int], bytes]) -> None:
        """A frame that was damaged, or whose batch does not add up, is refused with the reason and counted."""
        driver = joined(A)
        driver.give(A, write(1))
        assert refusals(driver) == [(1, reason)]
        assert driver.malformed == {reason: 1}
        assert driver.storing == []

    def test_refused_then_whole(self) -> None:
        """A frame that was damaged is stored when it is sent again, also after later ones."""
        driver = joined(A, names=())
        driver.give(A, damaged(1))
        driver.stored(A, 2)
        driver.publish(A, 1)
        driver.commit()
        assert driver.sent(A) == [Confirm([1])]

    def test_another_clients_id(self) -> None:
        """A frame that bears another client's id is refused and counted; that client is not touched."""
        driver = joined(A, B)
        driver.publish(A, 1, client=66)
        assert driver.all_sent() == {A: [Refuse(1, "client", "the frame bears another client's id")]}
        assert driver.malformed == {"client": 1}
        driver.publish(B, 1)
        driver.commit()
        assert driver.sent(B) == [Confirm([1]), Deliver(1, 1, None, None)]

    def test_draining(self) -> None:
        """A server that stops takes no more publishes and does not answer them; what it took, it confirms."""
        driver = joined(A)
        driver.publish(A, 1)
        driver.broker.drain()
        driver.publish(A, 2)
        driver.give(A, damaged(3))
        driver.commit()
        assert driver.sent(A) == [Confirm([1]), Deliver(1, 1, None, None)]
        driver.publish(A, 1)
        assert driver.all_sent() == {}
        driver.ack(A, 1)
        driver.look()
        assert driver.settled == [1]

    @pytest.mark.parametrize("by_the_store", [True, False])
    def test_too_many(self, by_the_store: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """A client of which more was refused than is remembered is dismissed, and may come back."""
        monkeypatch.setattr(intake, "MAX_REFUSED", 3)
        driver = joined(A, names=())
        for sequence in range(1, 5):
            if by_the_store:
                driver.publish(A, sequence)
                driver.fail()
            else:
                driver.give(A, damaged(sequence))
        assert [sequence for sequence, _ in refusals(driver)] == [1, 2, 3, 4]
        driver.publish(A, 5)
        assert driver.goodbye(A) == ("refused", True)
        assert driver.broker.stats().peers == 0
        driver.hello(B, client=65, oldest=4)
        driver.publish(B, 4, client=65)
        driver.look()
        assert [store.sequence for store in driver.storing] == [4]

    def test_hello_says_what_is_the_oldest(self) -> None:
        """What a client will never send again is forgotten at its Hello; what it may, is not."""
        driver = joined(A, names=())
        for sequence in range(1, 5):
            driver.give(A, damaged(sequence))
        driver.hello(B, client=65, oldest=3)
        assert driver.broker._intake._publishers.of(65).refused == {3, 4}


class TestPublishers:
    """The memory of what was stored for whom is limited."""

    @staticmethod
    def greet(publishers: Publishers, *clients: int) -> list[Publisher]:
        greeted = [publishers.greet(client, b"key") for client in clients]
        return [publisher for publisher in greeted if publisher is not None]

    def test_the_oldest_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond the limit, the client that said Hello the longest ago is forgotten."""
        monkeypatch.setattr(publishers, "MAX_PUBLISHERS", 2)
        known = Publishers()
        self.greet(known, 1, 2, 1, 3)
        assert known.greet(1, b"wrong") is known.greet(3, b"wrong") is None
        assert known.greet(2, b"another") is not None

    def test_who_left_last_is_forgotten_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However long ago it said Hello; its connection may have broken just now."""
        monkeypatch.setattr(publishers, "MAX_PUBLISHERS", 2)
        driver = joined(A, names=())
        driver.join(B)
        driver.stored(A, 1)
        driver.sink(B)
        driver.sink(A)
        driver.join(C)
        driver.join(A)
        driver.publish(A, 1)
        assert driver.sent(A) == [Confirm([1])]

    def test_the_connected_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Clients that are connected, or for which something is being stored, are kept while others come and go."""
        monkeypatch.setattr(publishers, "MAX_PUBLISHERS", 4)
        known = Publishers()
        connected, storing = self.greet(known, 1, 2)
        connected.peer = A
        storing.keep(1)
        self.greet(known, *range(3, 100))
        assert (known.of(1), known.of(2)) == (connected, storing)
        assert len(known._by_client) == 4
        assert known.greet(99, b"wrong") is None

    def test_more_connected_than_the_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The limit gives way to clients that are connected, and holds again once they left."""
        monkeypatch.setattr(publishers, "MAX_PUBLISHERS", 2)
        known = Publishers()
        for client in range(5):
            (publisher,) = self.greet(known, client)
            publisher.peer = bytes([client])
        assert len(known._by_client) == 5
        for client in range(5):
            known.left(client)
        self.greet(known, 4)
        assert list(known._by_client)[-1] == 4
        assert len(known._by_client) == 2

    def test_a_forgotten_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The broker goes on without what it has forgotten."""
        monkeypatch.setattr(publishers, "MAX_PUBLISHERS", 1)
        driver = joined(A, names=())
        driver.stored(A, 1)
        driver.sink(A)
        driver.join(B)
        driver.hello(A, token=token_of("new"))
        driver.publish(A, 1)
        driver.look()
        assert [store.sequence for store in driver.storing] == [1]
