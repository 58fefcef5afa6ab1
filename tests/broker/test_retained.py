"""The last message of a name: which one it is, what is written of it and when, and who is given it."""

from dataclasses import replace
from typing import Any

import pytest

from mezzenger.broker import retained, sweeper
from mezzenger.broker.effects import Requeue, Retain, Send, Unretain, in_need_of_room
from mezzenger.policy import Policy
from mezzenger.protocol.commands import (
    Completed,
    DropRetained,
    Failed,
    LastMessage,
    LastMessages,
    ListRetained,
    Retained,
    ServerCommand,
    Subscribed,
    Welcome,
)
from mezzenger.protocol.wire import Extra, encode_data, read_contents, read_header
from tests.broker.broker_driver import LIMIT, POLICY, START, A, B, C, Driver, link_token, token_of
from tests.broker.steps import steps_of

LAST = replace(POLICY, retain="last")
BRIEF = replace(LAST, ttl=10.0)
SLOW = replace(LAST, delay=5.0, ttl=20.0)
RULES: list[tuple[str, Policy]] = [("a", LAST), ("b", LAST), ("many.*", LAST), ("brief", BRIEF), ("slow", SLOW)]
WRITE = retained.WRITE_SECONDS


def keeping(**options: Any) -> Driver:
    """Return a driver with a publisher, and names that keep their last message."""
    driver = Driver(rules=RULES, **options)
    driver.join(C)
    return driver


def given(driver: Driver, *names: str, peer: bytes = B) -> list[bytes]:
    """Let somebody new subscribe; return the payloads of what it is given."""
    driver.join(peer, *names)
    frames = driver.retained.pop(peer, [])
    driver.sent(peer)
    driver.sink(peer)
    driver.look()
    return [bytes(read_contents(frame).items[0].payload) for frame in frames]


def written(driver: Driver) -> list[Retain | Unretain]:
    """Return what the store was told of last messages since this was asked last."""
    driver.look()
    changes, driver.changes = driver.changes, []
    return [change for change in changes if isinstance(change, Retain | Unretain)]


def damaged(name: str = "a", *, sequence: int = 1) -> bytes:
    """Return a frame whose digest does not fit."""
    frame = encode_data(name, [(1.5, b"x")], ack=0, codec=1, client=67, sequence=sequence)
    return frame[:-1] + bytes([frame[-1] ^ 1])


class TestWhichOne:
    @pytest.mark.parametrize("ack", [0, 1])
    def test_the_last(self, ack: int) -> None:
        """Of several messages a new subscriber is given the last one; of other names nothing."""
        driver = keeping()
        driver.join(A, "a", "other")
        for sequence, name in enumerate(("a", "a", "other"), 1):
            driver.publish(C, sequence, name, payloads=[b"%d" % sequence], ack=ack)
            driver.commit()
            driver.ack(A, sequence)
        assert given(driver, "a", "other") == [b"2"]

    def test_without_subscribers(self) -> None:
        """What nobody was there for is the last one all the same."""
        driver = keeping()
        driver.publish(C, 1, ack=0)
        assert given(driver, "a") == [b"x"]
        assert driver.dropped == {"no_subscriber": 1}

    def test_of_a_batch(self) -> None:
        """The last message is a frame of its own, with the same id, timestamp and headers, and tells what it was."""
        driver = keeping()
        extra = Extra(headers={"k": "v"})
        items = [(1.5, b"0"), (2.5, b"1"), (3.5, b"2")]
        driver.give(C, encode_data("a", items, ack=0, codec=2, client=67, sequence=7, extra=extra))
        driver.join(B, "a")
        (frame,) = driver.retained[B]
        contents = read_contents(frame)
        header, extra, (item,) = contents.header, contents.extra, contents.items
        assert (header.client, header.sequence, header.messages, header.codec, header.ack) == (67, 9, 1, 2, 0)
        assert (extra, item.timestamp, bytes(item.payload)) == (Extra(headers={"k": "v"}, index=2), 3.5, b"2")

    def test_stored_is_stored_first(self) -> None:
        """With ack=1 it is the last one once it is stored, not before, and never if it is refused."""
        driver = keeping()
        driver.join(A, "a")
        driver.publish(C, 1, payloads=[b"1"], ack=0)
        driver.publish(C, 2, payloads=[b"2"])
        assert given(driver, "a") == [b"1"]
        driver.commit()
        driver.ack(A, 2)
        assert given(driver, "a") == [b"2"]
        driver.publish(C, 3, payloads=[b"3"])
        driver.fail()
        assert given(driver, "a") == [b"2"]

    @pytest.mark.parametrize("is_stored", [True, False])
    def test_none_when_a_later_one_was_dropped(self, is_stored: bool) -> None:
        """What was published before it, and is stored after that, is not the last one; what is published then is."""
        driver = keeping()
        driver.publish(C, 1, payloads=[b"1"])
        driver.publish(C, 2, payloads=[b"2"], ack=0)
        driver.say(C, DropRetained(1, ["a"]))
        if is_stored:
            driver.commit()
        else:
            driver.fail()
        assert driver.broker.stats().retained == 0
        assert driver.storage.retained == {}
        driver.publish(C, 3, payloads=[b"3"])
        driver.commit()
        assert driver.broker.stats().retained == 1
        assert driver.storage.retained.keys() == {"a"}

    def test_none_when_a_later_one_has_expired(self) -> None:
        """Likewise."""
        driver = keeping()
        driver.publish(C, 1, "brief", ttl=100.0)
        driver.publish(C, 2, "brief", ack=0)
        driver.wait(10.0)
        driver.commit()
        assert driver.broker.stats().retained == 0
        assert driver.storage.retained == {}

    def test_in_the_order_of_publishes(self) -> None:
        """What was published while a former one was being stored stays the last."""
        driver = keeping()
        driver.join(A, "a")
        driver.publish(C, 1, payloads=[b"1"])
        driver.publish(C, 2, payloads=[b"2"], ack=0)
        driver.commit()
        driver.ack(A, 1)
        assert given(driver, "a") == [b"2"]
        driver.wait(WRITE)
        driver.restart()
        driver.join(C)
        assert given(driver, "a") == [b"2"]

    def test_damaged(self) -> None:
        """A damaged one is no message: what was the last before is it still, and if there was none, there is none."""
        driver = keeping()
        driver.give(C, damaged())
        assert driver.broker.stats().retained == 1  # nobody has looked at it yet
        assert given(driver, "a") == []
        assert driver.broker.stats().retained == 0
        driver.publish(C, 2, payloads=[b"good"], ack=0)
        assert given(driver, "a") == [b"good"]
        driver.give(C, damaged(sequence=3))
        assert given(driver, "a") == [b"good"]
        assert driver.malformed == {"digest": 2}
        assert driver.broker.stats().retained_size == len(driver.broker._retained._values["a"].last.frame)

    def test_a_batch_that_cannot_be_taken_apart(self) -> None:
        """More headers than a message may have, which no client of ours sends, are not kept, and do no harm."""
        driver = keeping()
        extra = Extra(headers={"k": "v" * 65_518})
        items = [(1.5, b"0"), (1.5, b"1")]
        frame = encode_data("a", items, ack=0, codec=1, client=67, sequence=1, extra=extra)
        driver.broker._retained.published("a", frame, driver.now)
        assert given(driver, "a") == []
        assert driver.malformed == {"extra": 1}

    def test_what_is_resent_is_not_the_last(self) -> None:
        """A dead letter that is delivered after all is older than what came meanwhile."""
        driver = keeping(max_attempts=1)
        driver.broker._options.delivery.policies._rules = (("a", replace(LAST, max_attempts=1)),)
        driver.join(A, "a")
        (number,) = driver.stored(C, 1, payloads=[b"1"])
        driver.nack(A, number, 0)
        (second,) = driver.stored(C, 2, payloads=[b"2"])
        driver.ack(A, second)
        driver.resend(C, number)
        driver.look()
        driver.ack(A, *driver.delivered(A))
        assert given(driver, "a") == [b"2"]

    def test_no_name_retains(self) -> None:
        """Then nothing is kept, and clients are told so; with the setting they are told that, too."""
        for driver, retains in (
            (Driver(), False),
            (Driver(rules=RULES), True),
            (Driver(rules=RULES, max_retained=0), False),
        ):
            driver.hello(C)
            assert driver.sent(C) == [Welcome(1, LIMIT, retains=retains)]
            driver.broker.surfaced(link_token(C), driver.now)
            driver.publish(C, 1, ack=0)
            driver.stored(C, 2)
            assert driver.broker.stats().retained == retains


class TestWhoIsGivenIt:
    def test_before_the_answer(self) -> None:
        """First what was kept, then the mark over the XPUB, then that the subscription is active."""
        driver = keeping()
        driver.publish(C, 1, "a", ack=0)
        driver.publish(C, 2, "b", ack=0)
        driver.hello(B)
        driver.broker.surfaced(link_token(B), driver.now)
        driver.subscribe(B, "b", "c", "a", request=7)
        driver.sent(B)
        assert (driver.retained, driver.marks) == ({}, [])
        driver.broker.surfaced(token_of("sync"), driver.now)
        assert driver.sent(B) == [Retained(7), Subscribed(7)]
        assert [read_header(frame).name for frame in driver.retained[B]] == ["b", "a"]
        assert driver.marks == [token_of("sync")]
        assert driver.retained.keys() == {B}

    def test_nothing_kept(self) -> None:
        """Then there is no mark either."""
        driver = keeping()
        assert given(driver, "a", "b") == []
        assert driver.marks == []

    def test_once_for_each_name(self) -> None:
        """A name that is named twice is looked up once."""
        driver = keeping()
        driver.publish(C, 1, ack=0)
        assert given(driver, "a", "a") == [b"x"]

    def test_who_has_left_again(self) -> None:
        """Names that were unsubscribed before the sync token surfaced are left out."""
        driver = keeping()
        driver.publish(C, 1, ack=0)
        driver.publish(C, 2, "b", ack=0)
        driver.join(B)
        driver.subscribe(B, "a", "b")
        driver.unsubscribe(B, "a")
        driver.broker.surfaced(token_of("sync"), driver.now)
        driver.look()
        assert [read_header(frame).name for frame in driver.retained[B]] == ["b"]

    def test_what_is_pending_is_delivered_instead(self) -> None:
        """What is still to be acknowledged comes in its turn; once it is settled, it is given as the last one."""
        driver = keeping()
        numbers = driver.stored(C, 1, 2)
        driver.join(A, "a")
        assert driver.retained[A] == []
        assert driver.delivered(A) == numbers
        driver.ack(A, *numbers)
        assert given(driver, "a") == [b"x"]

    def test_pending_after_a_restart(self) -> None:
        """The store tells whether it is still to be acknowledged."""
        driver = keeping()
        first, second = driver.stored(C, 1, 2)
        driver.restart()
        driver.join(A, "a")
        assert driver.retained[A] == []
        driver.ack(A, first, second)
        driver.look()
        driver.restart()
        assert given(driver, "a") == [b"x"]

    def test_expired_unseen(self) -> None:
        """What expires in the store alone is pending no more, and forgotten."""
        driver = keeping()
        driver.stored(C, 1, name="brief")
        assert len(driver.broker._deliveries.pending.last) == 1
        driver.wait(10)
        driver.look()
        assert not driver.broker._deliveries.pending.last
        assert given(driver, "brief") == []

    def test_in_parcels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many travel together, as far as their number and size allow, one at least; all of them are sent once."""
        monkeypatch.setattr(retained, "PARCEL_FRAMES", 3)
        monkeypatch.setattr(retained, "PARCEL_SIZE", 1000)
        driver = keeping()
        sizes = [10, 10, 10, 10, 900, 2000, 10]
        for number, size in enumerate(sizes):
            driver.publish(C, number + 1, f"many.{number}", payloads=[bytes(size)], ack=0)
        driver.join(B)
        driver.subscribe(B, *(f"many.{number}" for number in range(len(sizes))))
        driver.broker.surfaced(token_of("sync"), driver.now)
        sends = [effect for effect in driver.broker.effects if isinstance(effect, Send)]
        assert [len(send.frames) - 1 for send in sends] == [3, 1, 1, 1, 1, 0]
        driver.look()
        assert [read_header(frame).name for frame in driver.retained[B]] == [f"many.{n}" for n in range(len(sizes))]


class TestWriting:
    def test_stored_with_its_commit(self) -> None:
        """With ack=1 the change is decided together with that which stores the frame, under its number."""
        driver = keeping()
        frame = driver.publish(C, 1)
        assert written(driver) == [Retain(1, "a", frame, is_pending=True)]
        driver.commit()
        driver.wait(WRITE)
        assert written(driver) == []

    def test_within_a_second(self) -> None:
        """With ack=0 the last of many is written, once, a second after the first change; and again after the next."""
        driver = keeping()
        for sequence in range(1, 6):
            frame = driver.publish(C, sequence, ack=0)
            driver.now += 0.1
        assert driver.broker.next_deadline() == START + WRITE
        driver.wait(WRITE - 0.6)
        assert written(driver) == []
        driver.wait(0.1)
        assert written(driver) == [Retain(5, "a", frame)]
        assert driver.broker._retained.next_deadline() is None
        driver.wait(10)
        assert written(driver) == []
        frame = driver.publish(C, 9, ack=0)
        driver.wait(WRITE)
        assert written(driver) == [Retain(6, "a", frame)]

    def test_not_twice_at_a_time(self) -> None:
        """As long as the store has not answered, nothing more is written, so that nothing piles up."""
        driver = keeping()
        driver.holds_changes = True
        driver.publish(C, 1, ack=0)
        driver.wait(WRITE)
        assert len(written(driver)) == 1
        driver.publish(C, 2, ack=0)
        driver.wait(WRITE)
        assert written(driver) == []
        assert driver.broker._retained.next_deadline() is None
        driver.holds_changes = False
        driver.look()
        assert driver.broker.next_deadline() == START + 2 * WRITE
        driver.wait(0)
        assert [change.number for change in written(driver)] == [2]

    def test_not_after_it_was_stored(self) -> None:
        """A change that a stored one has overtaken need not be written."""
        driver = keeping()
        driver.publish(C, 1, ack=0)
        driver.stored(C, 2)
        written(driver)
        driver.wait(WRITE)
        assert written(driver) == []

    def test_a_failed_write(self) -> None:
        """What cannot be written stays in memory, and is written a second later, unless it was dropped meanwhile."""
        driver = keeping()
        driver.holds_changes = True
        driver.publish(C, 1, payloads=[b"1"], ack=0)
        driver.wait(WRITE)
        driver.look()
        driver.fail_all()
        driver.holds_changes = False
        assert given(driver, "a") == [b"1"]
        written(driver)
        driver.wait(WRITE - 0.1)
        assert written(driver) == []
        driver.wait(0.1)
        assert [change.number for change in written(driver)] == [1]
        driver.publish(C, 2, ack=0)
        driver.holds_changes = True
        driver.wait(WRITE)
        driver.say(C, DropRetained(1, ["a"]))
        driver.look()
        driver.fail_all()
        assert driver.broker._retained.next_deadline() is None

    def test_at_the_end(self) -> None:
        """A server that stops writes what has changed."""
        driver = keeping()
        driver.publish(C, 1, payloads=[b"1"], ack=0)
        driver.broker.farewell(driver.now)
        driver.look()
        driver.restart()
        assert given(driver, "a") == [b"1"]

    def test_damaged_before_it_is_written(self) -> None:
        """Nothing damaged is written."""
        driver = keeping()
        driver.give(C, damaged())
        driver.wait(WRITE)
        assert written(driver) == []
        assert driver.storage.retained == {}

    def test_a_crash(self) -> None:
        """What was stored outlives it; what was not yet written is what it was a second before."""
        driver = keeping()
        driver.publish(C, 1, payloads=[b"1"], ack=0)
        driver.wait(WRITE)
        driver.publish(C, 2, payloads=[b"2"], ack=0)
        driver.publish(C, 3, "b", payloads=[b"3"])
        driver.commit()
        driver.restart()
        driver.join(C)
        assert given(driver, "a") == [b"1"]
        assert driver.storage.retained.keys() == {"a", "b"}

    def test_numbers_go_on(self) -> None:
        """After a restart the next message is the last one, not what the store has kept."""
        driver = keeping()
        for sequence in range(1, 9):
            driver.publish(C, sequence, ack=0)
        driver.wait(WRITE)
        driver.look()
        driver.restart()
        driver.join(C)
        driver.publish(C, 9, payloads=[b"new"], ack=0)
        assert given(driver, "a") == [b"new"]

    def test_other_settings(self) -> None:
        """What a pattern does not retain any more is forgotten at the next start, and so is all if there is none."""
        driver = keeping()
        driver.publish(C, 1, ack=0)
        driver.publish(C, 2, "b", ack=0)
        driver.wait(WRITE)
        driver.look()
        driver.options = Driver(rules=[("b", LAST)]).options
        driver.restart()
        driver.look()
        assert driver.storage.retained.keys() == {"b"}
        driver.options = Driver().options
        driver.restart()
        driver.look()
        assert driver.storage.retained == {}


class TestTime:
    @pytest.mark.parametrize("ack", [0, 1])
    def test_expired(self, ack: int) -> None:
        """After its ttl it is forgotten, here and in the store, and is given to nobody, even before that."""
        driver = keeping()
        driver.join(A, "brief")
        driver.publish(C, 1, "brief", ack=ack)
        driver.commit()
        driver.ack(A, 1)
        driver.wait(WRITE)
        driver.look()
        assert driver.storage.retained["brief"].expires == START + 10
        assert driver.broker._retained.next_deadline() == START + 10
        assert given(driver, "brief") == [b"x"]
        driver.now = START + 10
        assert given(driver, "brief") == []
        assert driver.broker.stats().retained == 1
        driver.wait(0)
        driver.look()
        assert (driver.broker.stats().retained, driver.storage.retained) == (0, {})

    def test_a_message_that_lives_longer(self) -> None:
        """Each expires for itself: a later one keeps the name, an earlier one does not wait for the former's moment."""
        driver = keeping()
        driver.join(A, "brief", "a")
        driver.publish(C, 1, "brief", ack=0)
        driver.wait(6)
        driver.look()
        driver.publish(C, 2, "brief", payloads=[b"2"], ack=0)
        driver.wait(5)
        assert given(driver, "brief") == [b"2"]
        assert driver.broker._retained.next_deadline() == driver.now + 5
        driver.ack(A, *driver.stored(C, 3, name="brief", ttl=1.0))
        assert driver.broker._retained.next_deadline() == driver.now + 1
        driver.wait(1)
        assert driver.broker.stats().retained == 0
        driver.wait(20)
        assert driver.broker._retained.next_deadline() is None

    def test_a_message_that_does_not_expire(self) -> None:
        """The moment of the former one means nothing for it."""
        driver = keeping()
        driver.join(A, "a")
        driver.ack(A, *driver.stored(C, 1, ttl=1.0))
        driver.publish(C, 2, payloads=[b"2"], ack=0)
        driver.wait(1)
        assert given(driver, "a") == [b"2"]

    def test_moments_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However often a name changes, and is forgotten, few moments are remembered."""
        monkeypatch.setattr(retained, "_SPARE", 3)
        driver = keeping()
        for sequence in range(1, 100):
            driver.publish(C, sequence, "brief", ack=0)
            driver.say(C, DropRetained(1, ["brief"]))
            driver.stored(C, sequence + 1000, name="brief", ttl=10.0 - sequence / 20)
            driver.say(C, DropRetained(1, ["brief"]))
        assert len(driver.broker._retained._expiring) <= 6
        driver.wait(20)
        assert driver.broker._retained._expires == {}

    def test_delayed(self) -> None:
        """It is the last message when it is due, and expires as any other."""
        driver = keeping()
        driver.stored(C, 1, name="slow", payloads=[b"0", b"1"])
        driver.publish(C, 3, "slow", payloads=[b"early"], ack=0)
        assert given(driver, "slow") == [b"early"]
        driver.wait(5)
        driver.look()
        (number,) = driver.storage.rows()
        driver.join(A, "slow")
        assert driver.delivered(A) == [number]
        driver.ack(A, number)
        assert given(driver, "slow") == [b"1"]
        assert driver.storage.retained["slow"].expires == START + 25
        driver.wait(20)
        assert given(driver, "slow") == []

    def test_what_has_expired_while_the_server_was_down(self) -> None:
        """It is forgotten at the first occasion."""
        driver = keeping()
        driver.publish(C, 1, "brief", ack=0)
        driver.wait(WRITE)
        driver.look()
        driver.now += 20
        driver.restart()
        assert given(driver, "brief") == []
        driver.wait(0)
        driver.look()
        assert driver.storage.retained == {}


class TestRoom:
    def test_names(self) -> None:
        """Beyond the limit nothing is kept of further names, and that is counted; the message itself goes on."""
        driver = keeping(max_retained=2)
        driver.join(A, *(f"many.{number}" for number in range(4)))
        for number in range(3):
            driver.publish(C, number + 1, f"many.{number}", ack=0)
        driver.stored(C, 4, name="many.3")
        stats = driver.broker.stats()
        assert (stats.retained, stats.unretained, stats.published) == (2, 2, 3)
        assert len(driver.delivered(A)) == 1
        assert given(driver, "many.0", "many.1", "many.2") == [b"x", b"x"]
        assert not any(isinstance(change, Unretain) for change in written(driver))
        driver.publish(C, 5, "many.0", payloads=[b"new"], ack=0)
        assert given(driver, "many.0") == [b"new"]

    def test_names_of_what_is_being_stored(self) -> None:
        """What was let in, and finds no room when it is stored, is taken back."""
        driver = keeping(max_retained=1)
        driver.publish(C, 1, "many.1")
        driver.publish(C, 2, "many.2")
        driver.commit()
        assert driver.storage.retained.keys() == {"many.1"}
        assert (driver.broker.stats().retained, driver.broker.stats().unretained) == (1, 1)

    def test_bytes(self) -> None:
        """A message for which there is no room takes the place of the former: no older one is given for it."""
        driver = keeping(max_retained_size=1000)
        driver.publish(C, 1, "a", payloads=[bytes(100)], ack=0)
        driver.publish(C, 2, "b", payloads=[bytes(500)], ack=0)
        driver.wait(WRITE)
        driver.look()
        driver.publish(C, 3, "a", payloads=[bytes(800)], ack=0)
        assert given(driver, "a") == []
        assert given(driver, "b") == [bytes(500)]
        driver.look()
        assert driver.storage.retained.keys() == {"b"}
        assert driver.broker.stats().unretained == 1
        assert driver.broker.stats().retained_size == len(driver.storage.retained["b"].frame)

    def test_batches_are_taken_apart_for_room(self) -> None:
        """Whole batches stand for their last messages only as long as there is room for that."""
        driver = keeping(max_retained_size=1000)
        for sequence in range(10):
            driver.publish(C, 10 * sequence + 1, "a", payloads=[bytes(300)] * 2 + [b"last"], ack=0)
            assert driver.broker.stats().retained_size <= 1000
        assert driver.broker.stats().unretained == 0
        assert given(driver, "a") == [b"last"]

    def test_damaged_for_room(self) -> None:
        """What turns out to be damaged when room is made is not counted as left out."""
        driver = keeping(max_retained_size=10)
        driver.give(C, damaged())
        assert driver.broker.stats().unretained == 0
        assert driver.malformed == {"digest": 1}
        assert driver.broker.stats().retained == 0

    def test_smaller_limits(self) -> None:
        """What a restarted server has no room for is forgotten in the store, too."""
        driver = keeping()
        for sequence in (1, 2, 3):
            driver.publish(C, sequence, f"many.{sequence}", ack=0)
        driver.wait(WRITE)
        driver.look()
        driver.options = Driver(rules=RULES, max_retained=2).options
        driver.restart()
        driver.look()
        assert len(driver.storage.retained) == driver.broker.stats().retained == 2


class TestQuestions:
    def test_a_list(self) -> None:
        """In order of the names, with what is known of each."""
        driver = keeping()
        frame = driver.publish(C, 1, "b", ack=0)
        driver.publish(C, 2, "brief", payloads=[b"0", b"1"])
        driver.commit()
        driver.give(C, damaged("a"))
        driver.sent(C)
        driver.say(C, ListRetained(7, ""))
        size = driver.broker._retained._values["brief"].last
        assert driver.sent(C) == [
            LastMessages(
                7,
                [
                    LastMessage("b", 67, 1, 1.5, 0, len(frame), None),
                    LastMessage("brief", 67, 3, 1.5, 1, len(size.frame), START + 10),
                ],
            )
        ]

    def test_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The list goes on behind a name, and is empty at its end."""
        monkeypatch.setattr(retained, "LISTED", 2)
        driver = keeping()
        for sequence, name in enumerate(("many.c", "many.a", "many.b"), 1):
            driver.publish(C, sequence, name, ack=0)
        for after, names in (("", ["many.a", "many.b"]), ("many.b", ["many.c"]), ("many.c", [])):
            driver.say(C, ListRetained(1, after))
            (answer,) = driver.sent(C)
            assert isinstance(answer, LastMessages)
            assert [message.name for message in answer.messages] == names

    def test_dropping(self) -> None:
        """Each name once, unknown ones not at all; it is answered when the store has forgotten them."""
        driver = keeping()
        driver.publish(C, 1, "a", ack=0)
        driver.stored(C, 2, name="b")
        driver.wait(WRITE)
        driver.look()
        driver.sent(C)
        driver.holds_changes = True
        driver.say(C, DropRetained(5, ["a", "b", "a", "unknown", "not|a name"]))
        assert answers(driver) == []
        driver.holds_changes = False
        assert answers(driver) == [Completed(5, 2)]
        assert (driver.storage.retained, driver.broker.stats().retained) == ({}, 0)

    def test_dropped_before_it_was_written(self) -> None:
        """What the store never had need not be forgotten there; what is being written is."""
        driver = keeping()
        driver.publish(C, 1, "a", ack=0)
        driver.say(C, DropRetained(5, ["a"]))
        assert written(driver) == []
        driver.holds_changes = True
        driver.publish(C, 2, "a", ack=0)
        driver.wait(WRITE)
        driver.say(C, DropRetained(5, ["a"]))
        driver.holds_changes = False
        driver.look()
        assert driver.storage.retained == {}
        assert given(driver, "a") == []

    def test_dropped_while_the_next_one_is_stored(self) -> None:
        """What is stored afterwards is the last one."""
        driver = keeping()
        driver.publish(C, 1, "a", ack=0)
        driver.publish(C, 2, "a", payloads=[b"2"])
        driver.say(C, DropRetained(5, ["a"]))
        driver.commit()
        assert driver.storage.retained["a"].number == 2
        assert driver.broker.stats().retained == 1

    def test_dropped_behind_one_that_is_being_stored(self) -> None:
        """What is dropped is newer than what is on its way to the store: that is not kept either, here as there."""
        driver = keeping()
        driver.stored(C, 1)
        driver.holds_changes = True
        driver.publish(C, 2, payloads=[b"2"])
        driver.publish(C, 3, payloads=[b"3"], ack=0)
        driver.say(C, DropRetained(5, ["a"]))
        driver.holds_changes = False
        driver.commit()
        assert driver.storage.retained == {}
        assert (driver.broker.stats().retained, given(driver, "a")) == (0, [])

    def test_a_failed_store(self) -> None:
        """Who asked is told."""
        driver = keeping()
        driver.stored(C, 1)
        driver.holds_changes = True
        driver.say(C, DropRetained(5, ["a"]))
        driver.look()
        driver.fail_all("broken")
        assert answers(driver) == [Failed(5, "storage", "broken")]


def answers(driver: Driver) -> list[ServerCommand]:
    return driver.sent(C)


class TestPatternsAndGroups:
    def test_a_pattern(self) -> None:
        """Its subscriber is given one for each name that matches, in order, and no name twice."""
        driver = keeping()
        for sequence, name in enumerate(("many.b", "a", "many.a", "brief"), 1):
            driver.publish(C, sequence, name, payloads=[name.encode()], ack=0)
        assert given(driver, "many.*", "many.a") == [b"many.a", b"many.b"]
        driver.publish(C, 9, "many.c", payloads=[b"many.c"], ack=0)
        assert given(driver, "*.c", "x.>") == [b"many.c"]

    def test_patterns_that_match_nothing(self) -> None:
        """What they cost does not grow with the names of which something is kept."""
        assert steps_of_patterns(1000) < 1.1 * steps_of_patterns(100)

    def test_stored_for_groups_alone(self) -> None:
        """Where nobody but groups is served, the last message is kept, and is not pending for subscribers."""
        driver = keeping()
        driver.member(A, "a")
        driver.publish(C, 1, payloads=[b"0", b"1"])
        driver.commit()
        assert given(driver, "a") == [b"1"]

    def test_inherited_by_a_group(self) -> None:
        """What is being stored when the first group comes is that one's, and not pending for subscribers."""
        driver = keeping()
        driver.join(A)
        driver.publish(C, 1)
        driver.join_group(A)
        driver.commit()
        assert given(driver, "a") == [b"x"]

    def test_due_and_inherited_by_a_group(self) -> None:
        """Likewise what was delayed."""
        driver = keeping()
        driver.stored(C, 1, name="slow")
        driver.member(A, "slow")
        driver.wait(5)
        driver.look()
        assert given(driver, "slow") == [b"x"]

    def test_due_for_groups_alone(self) -> None:
        """Likewise what was delayed; each message of the batch waits alone for them."""
        driver = keeping()
        driver.member(A, "slow")
        driver.publish(C, 1, "slow", payloads=[b"0", b"1"])
        driver.commit()
        driver.wait(5)
        driver.look()
        assert given(driver, "slow") == [b"1"]

    def test_due_for_both(self) -> None:
        """The copies for groups do not take the place of what is due for subscribers."""
        driver = keeping()
        driver.member(A, "slow")
        driver.join(B, "slow")
        driver.publish(C, 1, "slow", payloads=[b"0", b"1"])
        driver.commit()
        driver.wait(5)
        driver.look()
        assert driver.broker._deliveries.pending.last.keys() == {"slow"}

    @pytest.mark.parametrize("is_subscribed", [False, True])
    @pytest.mark.parametrize("restarts", [False, True])
    def test_due_for_several(self, is_subscribed: bool, restarts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is the last one when it is due, and not once more for each queue that it is in, be it after a restart."""
        monkeypatch.setattr(sweeper, "SWEEP_FRAMES", 1)
        driver = keeping()
        driver.member(A, "slow", "g")
        driver.member(A, "slow", "h")
        if is_subscribed:
            driver.join(B, "slow")
        driver.publish(C, 1, "slow", payloads=[b"0", b"1"])
        driver.commit()
        driver.wait(5)
        driver.look()
        driver.publish(C, 3, "slow", payloads=[b"newer"], ack=0)
        driver.wait(WRITE)
        driver.look()
        if restarts:
            driver.restart()
            driver.join(C)
        for _ in range(5):
            driver.wait(0)
            driver.look()
        assert given(driver, "slow", peer=b"D") == [b"newer"]

    def test_several_that_are_due(self) -> None:
        """Of several messages that are due the last one is kept."""
        driver = keeping()
        driver.member(A, "slow")
        for sequence in (1, 2):
            driver.publish(C, sequence, "slow", payloads=[b"%d" % sequence])
            driver.commit()
            driver.now += 1
        driver.wait(5)
        driver.look()
        assert given(driver, "slow") == [b"2"]

    def test_due_with_a_full_disk(self) -> None:
        """What is due for groups alone is the last message all the same, be there room for nothing new."""
        driver = keeping()
        driver.member(A, "slow")
        driver.publish(C, 1, "slow")
        driver.commit()
        driver.holds_changes = True
        driver.wait(5)
        driver.look()
        refused, later = in_need_of_room(driver._queue)
        assert refused == []
        assert {type(change) for change in later} >= {Requeue, Retain}

    def test_due_where_nothing_retains(self) -> None:
        """What is due is delivered, and not looked at."""
        driver = Driver()
        driver.join(C)
        driver.stored(C, 1, delay=5.0)
        driver.wait(5)
        driver.look()
        assert driver.broker.stats().retained == 0


def steps_of_patterns(names: int) -> int:
    """Return what patterns that match nothing cost while the last messages of so many names are kept."""
    driver = keeping()
    for number in range(1, names + 1):
        driver.publish(C, number, f"many.{number}", ack=0)
    assert given(driver, "nobody.>") == []
    patterns = [f"*.none.{number}" for number in range(100)]
    return steps_of(lambda: given(driver, *patterns))
