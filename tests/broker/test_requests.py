"""Requests: one subscriber is asked, what it says comes back to who asked, and nothing is kept longer than need be."""

from collections.abc import Sequence
from typing import Final

import pytest

from mezzenger.protocol.commands import (
    Command,
    Deliver,
    Goodbye,
    Raised,
    Request,
    Respond,
    Response,
    Returned,
    Serve,
    Unserved,
    Unsubscribe,
    Withdraw,
)
from mezzenger.protocol.wire import encode_data
from tests.broker.broker_driver import LIMIT, A, B, C, Driver, client_of, joined, link_token

TIMEOUT: Final = 4.0
RETURNED: Final = Returned(b"a data frame")
RAISED: Final = Raised("ValueError", "not today", "in line 1")


def data_frame(peer: bytes, name: str = "a", *, ack: int = 0, payloads: tuple[bytes, ...] = (b"x",)) -> bytes:
    items = [(1.5, payload) for payload in payloads]
    return encode_data(name, items, ack=ack, codec=1, client=client_of(peer), sequence=1)


def ask(
    driver: Driver,
    peer: bytes,
    request: int = 1,
    *,
    name: str = "a",
    timeout: float = TIMEOUT,
    elsewhere: bool = False,
    frame: bytes | None = None,
) -> None:
    frame = data_frame(peer, name) if frame is None else frame
    driver.say(peer, Request(request, timeout, elsewhere, frame))


def served(driver: Driver, peer: bytes) -> list[int]:
    """Return the numbers of the requests that a peer was given since this was asked last, and that it was no more."""
    sent = driver.sent(peer)
    assert all(isinstance(command, Serve) for command in sent), sent
    return [command.number for command in sent if isinstance(command, Serve)]


def refusal(driver: Driver, peer: bytes) -> tuple[int, str]:
    """Return which request is not served, and why; nothing else was sent to who asked."""
    ((request, outcome),) = responses(driver, peer)
    assert isinstance(outcome, Unserved)
    return request, outcome.reason


def responses(driver: Driver, peer: bytes) -> list[tuple[int, Returned | Raised | Unserved]]:
    sent = driver.sent(peer)
    assert all(isinstance(command, Response) for command in sent), sent
    return [(command.request, command.outcome) for command in sent if isinstance(command, Response)]


def rests(driver: Driver) -> bool:
    """Whether nothing is kept of any request, and all of them are counted."""
    requests, stats = driver.broker._requests, driver.broker.stats()
    peers = driver.broker._peers.values()
    kept = [requests._open, *(peer.asking for peer in peers), *(peer.serving for peer in peers)]
    assert stats.requests == stats.responses + sum(stats.unserved.values()) + stats.open_requests
    return not any(kept) and stats.open_requests == 0


class TestAsk:
    """From who asks to one subscriber, and back."""

    def test_one_of_them(self) -> None:
        """One subscriber is given the very frame, and how long somebody waits; nothing is stored or broadcast."""
        driver = joined(A, B)
        driver.hello(C)
        driver.sent(C)
        ask(driver, C, 7)
        given = {peer: driver.sent(peer) for peer in (A, B)}
        (command,) = given[A] + given[B]
        assert command == Serve(1, TIMEOUT, data_frame(C))
        assert driver.all_sent() == {}
        assert (driver.published, driver.storing, driver.changes) == ([], [], [])
        assert driver.broker.stats().open_requests == 1

    @pytest.mark.parametrize("outcome", [RETURNED, RAISED])
    def test_what_came_of_it(self, outcome: Returned | Raised) -> None:
        """Who asked is told, by its own number, and the rest is forgotten."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B, 7)
        (number,) = served(driver, A)
        driver.say(A, Respond(number, outcome))
        assert responses(driver, B) == [(7, outcome)]
        assert driver.all_sent() == {}
        assert rests(driver)

    def test_each_its_own(self) -> None:
        """Any number of requests may be under way, and be answered in any order."""
        driver = joined(A)
        driver.join(B)
        driver.join(C)
        for request in (1, 2):
            ask(driver, B, request)
            ask(driver, C, request)
        numbers = served(driver, A)
        assert len(set(numbers)) == 4
        for index in (3, 0, 2, 1):
            driver.say(A, Respond(numbers[index], Returned(b"%d" % index)))
        assert responses(driver, B) == [(1, Returned(b"0")), (2, Returned(b"2"))]
        assert responses(driver, C) == [(2, Returned(b"3")), (1, Returned(b"1"))]
        assert rests(driver)

    def test_oneself(self) -> None:
        """A client may answer its own requests."""
        driver = joined(A)
        ask(driver, A)
        (number,) = served(driver, A)
        driver.say(A, Respond(number, RETURNED))
        assert responses(driver, A) == [(1, RETURNED)]
        assert rests(driver)


class TestChoice:
    """Who is asked."""

    def test_in_turn(self) -> None:
        """Responders that have equally much to do take turns."""
        driver = joined(A, B)
        driver.join(C)
        turns = []
        for request in range(1, 7):
            ask(driver, C, request)
            for peer in (A, B):
                for number in served(driver, peer):
                    turns.append(peer)
                    driver.say(peer, Respond(number, RETURNED))
        assert sorted(turns[:2]) == [A, B]
        assert turns == turns[:2] * 3

    def test_who_has_least_to_do(self) -> None:
        """A slow responder is passed over as long as others have fewer requests to answer."""
        driver = joined(A, B)
        driver.join(C)
        ask(driver, C, 1)
        ask(driver, C, 2)
        (number,) = served(driver, B)
        assert len(served(driver, A)) == 1
        driver.say(B, Respond(number, RETURNED))
        for request in (3, 4, 5):
            ask(driver, C, request)
        assert (len(served(driver, A)), len(served(driver, B))) == (1, 2)

    def test_nobody(self) -> None:
        """Without a subscriber who asks is told at once."""
        driver = joined(A, names=("other",))
        ask(driver, A, 7)
        assert refusal(driver, A) == (7, "no_responders")
        assert driver.broker.stats().unserved == {"no_responders": 1}
        assert rests(driver)

    def test_nobody_any_more(self) -> None:
        """Who has unsubscribed is not asked; what it was given before it may still answer."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B, 1)
        (number,) = served(driver, A)
        driver.say(A, Unsubscribe("a"))
        ask(driver, B, 2)
        assert refusal(driver, B) == (2, "no_responders")
        driver.say(A, Respond(number, RETURNED))
        assert responses(driver, B) == [(1, RETURNED)]

    def test_elsewhere(self) -> None:
        """Who cannot answer itself is not asked, though it has less to do than the others."""
        driver = joined(A, B)
        for request in (1, 2):
            ask(driver, A, request, elsewhere=True)
        assert len(served(driver, B)) == 2
        assert driver.sent(A) == []

    def test_nobody_elsewhere(self) -> None:
        """If nobody else is there it is told so, with the reason."""
        driver = joined(A)
        ask(driver, A, 7, elsewhere=True)
        ((request, outcome),) = responses(driver, A)
        assert request == 7
        assert outcome == Unserved(
            "no_responders", "nobody subscribes to 'a' but the client that asks, whose callbacks wait for the response"
        )


class TestLimits:
    """How much may be under way."""

    def test_of_who_asks(self) -> None:
        """Beyond max_requests one is refused, with the limit and its setting; an answer makes room."""
        driver = joined(A, B, max_requests=2)
        driver.join(C)
        for request in (1, 2, 3):
            ask(driver, C, request)
        ((request, outcome),) = responses(driver, C)
        assert (request, outcome) == (
            3,
            Unserved(
                "limit", "2 requests of this client are not answered (the server's limit is its setting "
                "server.max_requests, 2)"
            ),
        )  # fmt: skip
        (number,) = served(driver, A)
        driver.say(A, Respond(number, RETURNED))
        driver.sent(C)
        ask(driver, C, 4)
        assert driver.sent(C) == []
        assert driver.broker.stats().unserved == {"limit": 1}

    def test_of_who_answers(self) -> None:
        """If every responder has max_requests to answer, one is refused."""
        driver = joined(A, max_requests=2)
        driver.join(B)
        driver.join(C)
        ask(driver, B, 1)
        ask(driver, C, 1)
        ask(driver, C, 2)
        assert refusal(driver, C) == (2, "limit")
        assert len(served(driver, A)) == 2

    def test_the_largest(self) -> None:
        """A frame of max_message_size is passed on."""
        driver = joined(A)
        driver.join(B)
        room = LIMIT - len(data_frame(B, payloads=(b"",)))
        ask(driver, B, frame=data_frame(B, payloads=(bytes(room),)))
        assert len(served(driver, A)) == 1
        ask(driver, B, 2, frame=data_frame(B, payloads=(bytes(room + 1),)))
        assert refusal(driver, B) == (2, "size")


class TestTime:
    """What happens when somebody has waited long enough."""

    def test_it_is_over(self) -> None:
        """At its deadline a request is forgotten, its responder need not begin it, and its response is of no use."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B)
        (number,) = served(driver, A)
        assert driver.broker.next_deadline() == driver.now + TIMEOUT
        driver.wait(TIMEOUT - 0.25)
        assert driver.all_sent() == {}
        driver.wait(0.25)
        assert driver.sent(A) == [Withdraw(number)]
        assert rests(driver)
        driver.say(A, Respond(number, RETURNED))
        assert driver.all_sent() == {}
        stats = driver.broker.stats()
        assert (stats.unserved, stats.unwanted, stats.malformed) == ({"expired": 1}, 1, {})

    def test_what_was_answered_does_not_expire(self) -> None:
        """Its deadline means nothing any more."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B, 1)
        ask(driver, B, 2, timeout=TIMEOUT + 1)
        first, second = served(driver, A)
        driver.say(A, Respond(first, RETURNED))
        assert driver.broker._requests.next_deadline() == driver.now + TIMEOUT + 1
        driver.wait(TIMEOUT)
        assert driver.sent(A) == []
        driver.wait(1)
        assert driver.sent(A) == [Withdraw(second)]
        assert driver.broker._requests.next_deadline() is None

    def test_answered_before_the_look(self) -> None:
        """A request that was answered is passed over when the deadlines of others have come."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B, 1, timeout=1.0)
        ask(driver, B, 2, timeout=2.0)
        (first, second) = served(driver, A)
        driver.say(A, Respond(first, RETURNED))
        driver.wait(3.0)
        assert driver.sent(A) == [Withdraw(second)]
        assert driver.broker.stats().unserved == {"expired": 1}

    def test_deadlines_do_not_pile_up(self) -> None:
        """Of many requests that were answered long before their time nothing is left, even behind one that waits."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B, 1, timeout=10.0)
        for request in range(2, 10_000):
            ask(driver, B, request, timeout=1e9)
            driver.say(A, Respond(served(driver, A)[-1], RETURNED))
        assert len(driver.broker._requests._deadlines) < 100
        assert driver.broker._requests.next_deadline() == driver.now + 10.0


class TestGone:
    """What happens when one of the two is gone."""

    def test_the_responder(self) -> None:
        """Who asked is told at once; nobody else is asked, for it may have been carried out."""
        driver = joined(A, B)
        driver.join(C)
        for request in (1, 2):
            ask(driver, C, request)
        (number,) = served(driver, B)
        driver.broker.sunk(link_token(A), driver.now)
        ((request, outcome),) = responses(driver, C)
        assert isinstance(outcome, Unserved)
        assert (request, outcome.reason) == (1, "gone")
        assert driver.sent(B) == []
        driver.say(B, Respond(number, RETURNED))
        assert responses(driver, C) == [(2, RETURNED)]
        assert driver.broker.stats().unserved == {"gone": 1}
        assert rests(driver)

    def test_who_asked(self) -> None:
        """Its responder need not begin, and what it says is of no use."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B)
        (number,) = served(driver, A)
        driver.broker.sunk(link_token(B), driver.now)
        assert driver.all_sent() == {A: [Withdraw(number)]}
        driver.say(A, Respond(number, RETURNED))
        assert driver.all_sent() == {}
        stats = driver.broker.stats()
        assert (stats.unserved, stats.unwanted) == ({"asker_gone": 1}, 1)
        assert rests(driver)

    def test_both_in_one(self) -> None:
        """A client that asked itself, and is gone, is told nothing."""
        driver = joined(A)
        ask(driver, A)
        served(driver, A)
        driver.broker.sunk(link_token(A), driver.now)
        assert driver.all_sent() == {}
        assert driver.broker.stats().unserved == {"asker_gone": 1}

    def test_another_connection(self) -> None:
        """A client that comes back is another responder: it cannot answer what the former connection was given."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B)
        (number,) = served(driver, A)
        driver.broker.sunk(link_token(A), driver.now)
        assert refusal(driver, B) == (1, "gone")
        driver.join(b"A2", "a", client=client_of(A))
        driver.say(b"A2", Respond(number, RETURNED))
        assert driver.all_sent() == {}
        assert driver.broker.stats().unwanted == 1

    def test_dismissed(self) -> None:
        """Who is sent away by the server is gone as well."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B)
        served(driver, A)
        driver.give(A, b"what is this")
        assert refusal(driver, B) == (1, "gone")


class TestStopping:
    """What happens when the server stops."""

    def test_what_is_under_way_is_finished(self) -> None:
        """No further request is taken, and who asks may ask the next server; responses are passed on."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B, 1)
        (number,) = served(driver, A)
        driver.broker.drain()
        ask(driver, B, 2)
        assert refusal(driver, B) == (2, "stopping")
        driver.say(A, Respond(number, RETURNED))
        assert responses(driver, B) == [(1, RETURNED)]
        assert rests(driver)

    def test_what_cannot_be_finished(self) -> None:
        """When the server says farewell, the rest ends with the connections."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B)
        served(driver, A)
        driver.broker.drain()
        driver.broker.farewell(driver.now)
        assert refusal_then_goodbye(driver.sent(B)) == (1, "gone")
        assert rests(driver)


def refusal_then_goodbye(sent: Sequence[Command]) -> tuple[int, str]:
    response, goodbye = sent
    assert isinstance(goodbye, Goodbye)
    assert isinstance(response, Response)
    assert isinstance(response.outcome, Unserved)
    return response.request, response.outcome.reason


class TestStrangers:
    """What peers send that is not as it should be."""

    def test_a_response_of_somebody_else(self) -> None:
        """Only who was given a request can answer it; what others say is counted, and harms nobody."""
        driver = joined(A)
        driver.join(B)
        driver.join(C, "b")
        ask(driver, B)
        (number,) = served(driver, A)
        for wrong in (number, number + 1, 0, 2**64 - 1):
            driver.say(C, Respond(wrong, Returned(b"stolen")))
        driver.say(B, Respond(number, Returned(b"stolen")))
        driver.say(A, Respond(number + 1, RETURNED))
        assert driver.all_sent() == {}
        assert driver.broker.stats().unwanted == 6
        driver.say(A, Respond(number, RETURNED))
        assert responses(driver, B) == [(1, RETURNED)]

    def test_twice(self) -> None:
        """The second response to one request is of no use."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B)
        (number,) = served(driver, A)
        driver.say(A, Respond(number, RETURNED), Respond(number, RAISED))
        assert responses(driver, B) == [(1, RETURNED)]
        assert driver.broker.stats().unwanted == 1

    def test_a_number_that_is_under_way(self) -> None:
        """A second request with the number of one that is not answered is counted; the first is answered."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B, 7)
        ask(driver, B, 7)
        (number,) = served(driver, A)
        assert driver.sent(B) == []
        assert driver.malformed == {"request": 1}
        driver.say(A, Respond(number, RETURNED))
        assert responses(driver, B) == [(7, RETURNED)]
        ask(driver, B, 7)
        assert len(served(driver, A)) == 1

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            (b"", "name"),
            (b"what is this", "name"),
            (b"a|", "truncated"),
            (data_frame(B, ack=1), "request"),
            (data_frame(B, payloads=(b"1", b"2")), "request"),
            (data_frame(C), "client"),
            (data_frame(B, payloads=(bytes(LIMIT),)), "size"),
        ],
    )
    def test_a_frame_that_is_no_request(self, frame: bytes, reason: str) -> None:
        """It is refused to who asked and counted; the connection stands, and no responder sees it."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B, 7, frame=frame)
        assert refusal(driver, B) == (7, reason)
        assert driver.malformed == {reason: 1}
        assert driver.sent(A) == []
        assert driver.broker.stats().requests == 0
        assert rests(driver)

    def test_a_damaged_payload_is_passed_on(self) -> None:
        """The responder verifies the digest, as for all that is not stored."""
        driver = joined(A)
        driver.join(B)
        ask(driver, B, frame=data_frame(B)[:-1] + b"?")
        assert len(served(driver, A)) == 1


def test_other_messages_are_not_concerned() -> None:
    """A name that is asked for is published as ever."""
    driver = joined(A)
    driver.publish(A, 1, ack=0)
    (number,) = driver.stored(A, 2)
    ask(driver, A)
    assert len(driver.published) == 1
    deliver, serve = driver.sent(A)
    assert (type(deliver), type(serve)) == (Deliver, Serve)
    driver.ack(A, number)
    assert driver.sent(A) == []
    assert driver.settled == [number]
    assert driver.broker.stats().open_requests == 1


class TestGroupsAndPatterns:
    """Who subscribes in other ways answers, too."""

    def test_a_pattern(self) -> None:
        """A subscriber whose pattern matches is asked."""
        driver = joined(A, names=("a.*",))
        driver.join(B)
        ask(driver, B, name="a.b")
        assert len(served(driver, A)) == 1
        ask(driver, B, 2, name="a.b.c")
        assert refusal(driver, B) == (2, "no_responders")

    def test_members_of_a_group(self) -> None:
        """They are asked like subscribers, each in turn; who is both is one responder."""
        driver = joined(A)
        driver.join(B)
        driver.join(C)
        driver.member(A)
        driver.member(B)
        for request in range(1, 5):
            ask(driver, C, request)
        assert (len(served(driver, A)), len(served(driver, B))) == (2, 2)
