"""Last messages that a server has kept, beside what comes over the SUB socket at the same time."""

from typing import Final

import pytest

from mezzenger.protocol import freshness
from mezzenger.protocol.bundle import encode_bundle
from mezzenger.protocol.commands import (
    Ack,
    Deliver,
    Failure,
    Linked,
    Nack,
    Retained,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from mezzenger.protocol.events import Disconnect, Ignore, Listen, Send
from mezzenger.protocol.last_message import last_message
from mezzenger.protocol.wire import NO_EXTRA, encode_command
from tests.protocol.session_driver import FAR, LIMIT, OPTIONS, Driver, data_frame

OTHER: Final = 6
"""Another publisher."""


class Subscriber:
    """A session of a client that subscribes where messages are kept, and what was given to its callbacks."""

    def __init__(self, *names: str) -> None:
        self.driver = Driver()
        self.driver.session.start(self.driver.now)
        self.tokens: dict[int, bytes] = {}
        """By request."""
        self._link()
        for name in names:
            self.subscribe(name)

    def _link(self) -> None:
        self.driver.say(Welcome(1, LIMIT, retains=True), Linked())

    def subscribe(self, name: str) -> int:
        """Subscribe to a name; return the number of the request."""
        self.driver.session.subscribe(name, FAR)
        return self.requested()

    def requested(self) -> int:
        """Return the number of the one request that was made since this was asked last."""
        (command,) = (command for command in self.driver.sent() if isinstance(command, Subscribe))
        self.tokens[command.request] = command.token
        return command.request

    def reconnect(self) -> int:
        """Break the connection and make a new one; return the number of the request that it begins with."""
        self.driver.lose()
        self.driver.wait(OPTIONS.reconnect_max)
        self._link()
        return self.requested()

    def published(self, *sequences: int, name: str = "a", client: int = 5) -> None:
        """Let the SUB socket bring messages."""
        for sequence in sequences:
            frame = data_frame(name, ack=0, sequence=sequence, client=client)
            self.driver.session.broadcast(frame, self.driver.now)

    def kept(self, request: int, *sequences: int, name: str = "a", ack: int = 0, client: int = 5) -> None:
        """Let the DEALER socket bring last messages."""
        self.give(request, *(data_frame(name, ack=ack, sequence=one, client=client) for one in sequences))

    def give(self, request: int, *frames: bytes) -> None:
        self.driver.session.receive([encode_command(Retained(request)), *frames], self.driver.now)

    def mark(self, request: int) -> None:
        """Let the SUB socket bring the token of a request."""
        self.driver.session.broadcast(self.tokens[request], self.driver.now)

    def answer(self, request: int) -> None:
        self.driver.say(Subscribed(request))

    def deliver(self, number: int, frame: bytes) -> None:
        self.driver.deliver(number, frame)

    def seen(self) -> list[tuple[int, bool]]:
        """Return the sequence of each message that was given to a callback since, and whether it is marked."""
        return [
            (one.contents.header.sequence + index, one.is_retained)
            for one in self.driver.arrived()
            for index in range(one.contents.header.messages)
        ]

    def ignored(self) -> list[int]:
        """Return the requests whose tokens the SUB socket was unsubscribed from since."""
        tokens = {token: request for request, token in self.tokens.items()}
        ignored = [action.prefix for action in self.driver.actions() if isinstance(action, Ignore)]
        return [tokens[prefix] for prefix in ignored if prefix in tokens]


class TestOnce:
    def test_first_what_was_kept(self) -> None:
        """It is given, marked; what the SUB socket brings until the mark is older, or the same, and is passed over."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.published(1, 2, 3)
        subscriber.mark(request)
        subscriber.published(4, 5)
        assert subscriber.seen() == [(3, True), (4, False), (5, False)]

    def test_first_what_was_published(self) -> None:
        """What comes first is given; of what was kept then, what is newer."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.published(1, 2)
        subscriber.kept(request, 3)
        subscriber.published(3)
        subscriber.mark(request)
        subscriber.published(4)
        subscriber.answer(request)
        subscriber.published(5)
        assert subscriber.seen() == [(1, False), (2, False), (3, True), (4, False), (5, False)]

    def test_the_same_was_published(self) -> None:
        """It is not given a second time, and counted."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.published(1, 2)
        subscriber.kept(request, 2)
        subscriber.mark(request)
        subscriber.answer(request)
        assert subscriber.seen() == [(1, False), (2, False)]
        assert subscriber.driver.session.inbox.duplicates == 1

    def test_the_mark_comes_first(self) -> None:
        """What comes behind the mark is newer: once it was given, what was kept is not."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.published(1)
        subscriber.mark(request)
        subscriber.published(4, client=OTHER)
        subscriber.kept(request, 3)
        subscriber.answer(request)
        assert subscriber.seen() == [(1, False), (4, False)]

    def test_the_mark_comes_first_and_nothing_behind_it(self) -> None:
        """Then what was kept is the newest."""
        subscriber = Subscriber("b")
        request = subscriber.subscribe("a")
        subscriber.published(1)
        subscriber.mark(request)
        subscriber.published(7, name="b", client=OTHER)
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.published(4)
        assert subscriber.seen() == [(1, False), (7, False), (3, True), (4, False)]

    def test_of_a_batch(self) -> None:
        """A batch of which the last message is kept is known as that which was published."""
        batch = data_frame(ack=0, sequence=7, payloads=[b"0", b"1", b"2"])
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.driver.session.broadcast(batch, subscriber.driver.now)
        subscriber.give(request, last_message(batch))
        subscriber.answer(request)
        assert subscriber.seen() == [(7, False), (8, False), (9, False)]

    def test_names_for_themselves(self) -> None:
        """What was kept of one name says nothing of others."""
        subscriber = Subscriber("b")
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.published(4, name="b")
        subscriber.answer(request)
        assert subscriber.seen() == [(3, True), (4, False)]

    def test_without_the_setting(self) -> None:
        """A server that keeps nothing has nothing followed."""
        subscriber = Subscriber()
        subscriber.driver.say(Welcome(1, LIMIT, retains=False))
        subscriber.subscribe("a")
        subscriber.published(1)
        assert subscriber.driver.session._freshness._given == {}
        assert subscriber.seen() == [(1, False)]

    def test_a_bundle_goes_the_same_way(self) -> None:
        """What a bundle brings before the mark is older, name by name; what it brings behind it is newer."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        for first in (2, 4):
            frame = encode_bundle("aa", [(1.5, b""), (1.5, b"")], [NO_EXTRA] * 2, codec=1, client=5, sequence=first)
            address = subscriber.driver.session.inbox.address
            subscriber.driver.session.broadcast(address + frame[len(address) :], subscriber.driver.now)
            subscriber.mark(request)
        assert subscriber.seen() == [(3, True), (4, False), (5, False)]

    def test_nobody_subscribes(self) -> None:
        """What comes for a name that was unsubscribed meanwhile is passed over."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.driver.session.unsubscribe("a")
        subscriber.kept(request, 3)
        subscriber.mark(request)
        subscriber.answer(request)
        assert subscriber.seen() == []

    def test_malformed(self) -> None:
        """What cannot be read is counted, and the rest given; without a frame it is no command."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.give(request, b"junk", data_frame(ack=0, sequence=3))
        subscriber.give(request)
        subscriber.driver.session.broadcast(b"\0junk", subscriber.driver.now)
        assert subscriber.seen() == [(3, True)]
        assert subscriber.driver.session.inbox.malformed == {"name": 1, "truncated": 1, "command": 1}


class TestPatterns:
    def test_only_for_the_new_subscription(self) -> None:
        """What one subscription had is given to another that came later, and only to that."""
        subscriber = Subscriber("a.b")
        subscriber.answer(1)
        subscriber.published(1, name="a.b")
        subscriber.driver.arrived()
        request = subscriber.subscribe("a.*")
        subscriber.kept(request, 1, name="a.b")
        (delivery,) = subscriber.driver.arrived()
        assert delivery.wanted == ["a.*"]
        subscriber.kept(subscriber.reconnect(), 1, name="a.b")
        assert subscriber.driver.arrived() == []

    def test_old_for_one_and_new_for_the_other(self) -> None:
        """Until the mark, what is published is given to those subscriptions that were there before."""
        subscriber = Subscriber("a.b")
        subscriber.answer(1)
        request = subscriber.subscribe("a.*")
        subscriber.kept(request, 3, name="a.b")
        subscriber.published(2, name="a.b")
        subscriber.mark(request)
        subscriber.published(4, name="a.b")
        wanted = [(one.contents.header.sequence, one.wanted) for one in subscriber.driver.arrived()]
        assert wanted == [(3, ["a.*"]), (2, ["a.b"]), (4, None)]


class TestTokens:
    def test_without_anything_kept(self) -> None:
        """The token is needed until the answer."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.answer(request)
        assert subscriber.ignored() == [request]

    def test_until_the_mark(self) -> None:
        """If something was kept the token is needed until the mark has come, and the answer."""
        subscriber = Subscriber()
        for is_answered_first in (True, False):
            request = subscriber.subscribe("a")
            subscriber.kept(request, 3)
            steps = [subscriber.answer, subscriber.mark]
            for step in steps if is_answered_first else reversed(steps):
                assert subscriber.ignored() == []
                step(request)
            assert subscriber.ignored() == [request]
            subscriber.driver.session.unsubscribe("a")
            subscriber.driver.actions()

    def test_a_mark_of_nobody(self) -> None:
        """A token that is not known any more is passed over, and not counted as malformed."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.answer(request)
        subscriber.mark(request)
        assert subscriber.ignored() == [request]
        assert subscriber.driver.session.inbox.malformed == {}

    def test_a_lost_mark(self) -> None:
        """When no mark comes for some time, the names are asked for anew; until then what may be old is not given."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.seen()
        subscriber.published(4)
        assert subscriber.seen() == []
        subscriber.driver.wait(0.5)
        assert subscriber.driver.session.next_deadline() is not None
        subscriber.driver.pong()
        subscriber.driver.wait(OPTIONS.attempt_timeout - 0.5)
        again = subscriber.requested()
        assert again == request + 1
        subscriber.published(5)
        subscriber.kept(again, 6)
        subscriber.answer(again)
        subscriber.mark(again)
        subscriber.published(7)
        assert subscriber.seen() == [(6, True), (7, False)]
        assert subscriber.ignored() == [again]

    def test_a_lost_mark_ignores_its_token(self) -> None:
        """The token of the former request is of no use any more."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.driver.wait(OPTIONS.attempt_timeout)
        assert subscriber.ignored() == [request]

    def test_a_lost_mark_is_asked_for_alone(self) -> None:
        """The SUB socket counts: were it subscribed to the name once more, it would be so after an unsubscribe."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.driver.wait(OPTIONS.attempt_timeout)
        listened = [action.prefix for action in subscriber.driver.actions() if isinstance(action, Listen)]
        assert listened == [subscriber.driver.tokens[-1]]

    def test_a_lost_mark_of_what_was_unsubscribed(self) -> None:
        """It is not asked for anew, though a pattern that matches it is subscribed to."""
        subscriber = Subscriber("*")
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.driver.session.unsubscribe("a")
        subscriber.driver.actions()
        subscriber.driver.wait(OPTIONS.attempt_timeout)
        assert not [one for one in subscriber.driver.sent() if isinstance(one, Subscribe)]

    def test_a_lost_mark_of_a_closed_session(self) -> None:
        """Nobody waits for it any more: nothing is due, and nothing is asked for."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.driver.session.close()
        assert subscriber.driver.session.next_deadline() is None
        assert subscriber.driver.actions()[-1] == Disconnect()
        subscriber.driver.wait(OPTIONS.attempt_timeout)
        assert subscriber.driver.actions() == []

    def test_nothing_is_kept_any_more(self) -> None:
        """If the second answer has nothing, what is published is given again, and a late first mark does nothing."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.driver.wait(OPTIONS.attempt_timeout)
        again = subscriber.requested()
        subscriber.answer(again)
        subscriber.published(5)
        subscriber.mark(request)
        subscriber.published(6)
        assert subscriber.seen() == [(3, True), (5, False), (6, False)]

    def test_a_late_mark(self) -> None:
        """The mark of a former request is not that of a later one."""
        subscriber = Subscriber()
        first = subscriber.subscribe("a")
        subscriber.kept(first, 3)
        subscriber.answer(first)
        subscriber.driver.session.unsubscribe("a")
        second = subscriber.subscribe("a")
        subscriber.kept(second, 4)
        subscriber.mark(first)
        subscriber.published(2)
        subscriber.answer(second)
        subscriber.mark(second)
        subscriber.published(5)
        assert subscriber.seen() == [(3, True), (4, True), (5, False)]

    def test_unsubscribed_before_the_mark(self) -> None:
        """Only what is still subscribed is asked for anew; if that is nothing, nothing is."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.driver.session.unsubscribe("a")
        assert Unsubscribe("a") in subscriber.driver.sent()
        subscriber.driver.wait(OPTIONS.attempt_timeout)
        assert not any(isinstance(command, Subscribe) for command in subscriber.driver.sent())


class TestAgain:
    def test_what_was_missed(self) -> None:
        """After a break what was kept meanwhile is given, and what was given before is not."""
        subscriber = Subscriber("a")
        subscriber.answer(1)
        subscriber.published(1, 2)
        for kept, seen in ((2, []), (4, [(4, True)]), (4, []), (3, [])):
            subscriber.seen()
            request = subscriber.reconnect()
            subscriber.kept(request, kept)
            subscriber.mark(request)
            subscriber.answer(request)
            assert subscriber.seen() == seen

    def test_of_another_publisher(self) -> None:
        """The numbers of two publishers have nothing to do with each other."""
        subscriber = Subscriber("a")
        subscriber.answer(1)
        subscriber.published(9)
        request = subscriber.reconnect()
        subscriber.kept(request, 2, client=OTHER)
        assert subscriber.seen() == [(9, False), (2, True)]

    def test_a_new_subscription(self) -> None:
        """Who unsubscribes and subscribes again is a new subscriber, with ack=1 too."""
        subscriber = Subscriber()
        for ack in (0, 1):
            for _ in range(2):
                request = subscriber.subscribe("a")
                subscriber.kept(request, 3, ack=ack)
                (delivery,) = subscriber.driver.arrived()
                if ack:
                    subscriber.driver.session.handled(delivery, [])
                subscriber.mark(request)
                subscriber.answer(request)
                subscriber.driver.session.unsubscribe("a")
                subscriber.driver.actions()

    def test_marks_end_with_the_connection(self) -> None:
        """What is published on a new connection is not taken for old because of a former one."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3)
        subscriber.answer(request)
        subscriber.reconnect()
        subscriber.published(4)
        assert subscriber.seen() == [(3, True), (4, False)]


class TestStored:
    """With ack=1."""

    def test_needs_no_ack(self) -> None:
        """What was kept is given, and nothing is answered, whether the callback returns or fails."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        for sequence, failures in ((1, []), (2, [Failure(0, "no")])):
            subscriber.kept(request, sequence, ack=1)
            (delivery,) = subscriber.driver.arrived()
            assert (delivery.attempt, delivery.indexes, delivery.is_retained) == (1, None, True)
            subscriber.driver.actions()
            subscriber.driver.session.handled(delivery, failures)
            assert subscriber.driver.sent() == []

    def test_delivered_before(self) -> None:
        """What is in hand, or was handled since the subscription began, is not given again."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.deliver(7, data_frame(sequence=3))
        (delivery,) = subscriber.driver.arrived()
        subscriber.kept(request, 3, ack=1)
        subscriber.driver.session.handled(delivery, [])
        subscriber.kept(request, 3, ack=1)
        assert subscriber.seen() == []
        subscriber.kept(subscriber.reconnect(), 3, ack=1)
        assert subscriber.seen() == []
        assert subscriber.driver.session.inbox.duplicates == 3

    def test_a_batch_delivered_before(self) -> None:
        """The last message of a batch is known as a part of it."""
        batch = data_frame(sequence=3, payloads=[b"0", b"1", b"2"])
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.deliver(7, batch)
        (delivery,) = subscriber.driver.arrived()
        subscriber.give(request, last_message(batch))
        subscriber.driver.session.handled(delivery, [])
        subscriber.give(request, last_message(batch))
        assert subscriber.seen() == []

    def test_of_a_batch_that_failed_in_part(self) -> None:
        """If the last message was handled, it is not given again; if it was not, it is."""
        for failed, seen in ((0, []), (2, [(5, True)])):
            batch = data_frame(sequence=3, payloads=[b"0", b"1", b"2"])
            subscriber = Subscriber()
            request = subscriber.subscribe("a")
            subscriber.deliver(7, batch)
            (delivery,) = subscriber.driver.arrived()
            subscriber.driver.session.handled(delivery, [Failure(failed, "no")])
            subscriber.give(request, last_message(batch))
            assert subscriber.seen() == seen

    def test_of_a_batch_after_a_break(self) -> None:
        """The last message of a batch that was given by itself is not given a second time so."""
        last = last_message(data_frame(sequence=3, payloads=[b"0", b"1", b"2"]))
        subscriber = Subscriber()
        subscriber.give(subscriber.subscribe("a"), last)
        (delivery,) = subscriber.driver.arrived()
        subscriber.driver.session.handled(delivery, [])
        subscriber.give(subscriber.reconnect(), last)
        assert subscriber.seen() == []

    def test_delivered_after(self) -> None:
        """What was given as it was kept is acknowledged when it is delivered, and not given again."""
        subscriber = Subscriber()
        subscriber.kept(subscriber.subscribe("a"), 3, ack=1)
        (delivery,) = subscriber.driver.arrived()
        subscriber.deliver(7, data_frame(sequence=3))
        subscriber.driver.actions()
        subscriber.driver.session.handled(delivery, [])
        assert subscriber.driver.sent() == [Ack([7])]
        subscriber.deliver(8, data_frame(sequence=3))
        assert subscriber.driver.sent() == [Ack([8])]
        assert subscriber.seen() == []

    @pytest.mark.parametrize("is_old_first", [True, False])
    @pytest.mark.parametrize("failures", [[], [Failure(0, "no")]])
    def test_in_hand_of_a_former_subscription(self, failures: list[Failure], *, is_old_first: bool) -> None:
        """Who subscribes anew meanwhile is given it as well; who is done first answers, and the other one need not."""
        subscriber = Subscriber("a")
        subscriber.deliver(7, data_frame(sequence=3))
        (old,) = subscriber.driver.arrived()
        subscriber.driver.session.unsubscribe("a")
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3, ack=1)
        (new,) = subscriber.driver.arrived()
        assert new.is_retained
        subscriber.kept(request, 3, ack=1)
        assert subscriber.seen() == []
        first, second = (old, new) if is_old_first else (new, old)
        subscriber.driver.session.handled(first, failures)
        assert subscriber.driver.sent() == [Nack(7, failures) if failures else Ack([7])]
        subscriber.driver.session.handled(second, [])
        assert subscriber.driver.sent() == []
        subscriber.kept(request, 3, ack=1)
        assert subscriber.seen() == []

    def test_failed_and_delivered(self) -> None:
        """If its callback raised, that is told once it is delivered; after that it is given as any other."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 3, ack=1)
        (delivery,) = subscriber.driver.arrived()
        subscriber.deliver(7, data_frame(sequence=3))
        subscriber.driver.actions()
        subscriber.driver.session.handled(delivery, [Failure(0, "no")])
        assert subscriber.driver.sent() == [Nack(7, [Failure(0, "no")])]
        subscriber.deliver(7, data_frame(sequence=3))
        assert subscriber.seen() == [(3, False)]

    def test_not_handled(self) -> None:
        """What found no callback any more may be delivered."""
        subscriber = Subscriber()
        subscriber.kept(subscriber.subscribe("a"), 3, ack=1)
        (delivery,) = subscriber.driver.arrived()
        subscriber.driver.session.inbox.dropped(delivery)
        subscriber.deliver(7, data_frame(sequence=3))
        assert subscriber.seen() == [(3, False)]

    def test_deliveries_are_as_before(self) -> None:
        """What was published with ack=1 is given whatever was kept."""
        subscriber = Subscriber()
        request = subscriber.subscribe("a")
        subscriber.kept(request, 5)
        subscriber.driver.session.receive([encode_command(Deliver(7, 1, None, None)), data_frame(sequence=3)], 1000.0)
        assert subscriber.seen() == [(5, True), (3, False)]


def test_a_mark_is_no_answer() -> None:
    """It is no command, and nothing is sent for it."""
    subscriber = Subscriber()
    request = subscriber.subscribe("a")
    subscriber.kept(request, 3)
    subscriber.mark(request)
    assert not any(isinstance(action, Send) for action in subscriber.driver.actions())


def test_names_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, the name of which something was given longest ago is forgotten."""
    monkeypatch.setattr(freshness, "REMEMBERED_NAMES", 2)
    subscriber = Subscriber(">")
    subscriber.answer(1)
    for name in ("a", "b", "a", "c"):
        subscriber.published(1, name=name)
    assert list(subscriber.driver.session._freshness._given) == ["a", "c"]
