"""A session asks and answers: each request is sent once, done once, and answered only where it came from."""

from typing import Final

import pytest

from mezzenger.errors import (
    ClientStopped,
    MessageTooLarge,
    MezzengerError,
    NoResponders,
    ProtocolError,
    Rejected,
    RemoteError,
    RequestLost,
    RequestTimeout,
    ServerUnreachable,
)
from mezzenger.protocol.commands import (
    MAX_ERROR_CHARACTERS,
    Confirm,
    Outcome,
    Ping,
    Raised,
    Request,
    Respond,
    Response,
    Returned,
    Serve,
    Unserved,
    Withdraw,
)
from mezzenger.protocol.events import Delivery, Served
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.wire import read_contents
from tests.protocol.session_driver import FAR, LIMIT, OPTIONS, Data, Driver, data_frame, failure, opened

RAISED: Final = Raised("ValueError", "not today", "line 1")
GONE: Final = Unserved("gone", "it is gone")


def ask(driver: Driver, payload: bytes = b"x", *, timeout: float = 4.0, elsewhere: bool = False) -> int:
    draft = Draft("a", [(1.5, payload)], 0, 1)
    return driver.session.request(draft, driver.now, driver.now + timeout, elsewhere=elsewhere)


def requests(driver: Driver) -> list[tuple[int, float, bool, bytes]]:
    """Return what was asked since this was asked last, and that nothing else was sent."""
    sent = driver.sent()
    assert all(isinstance(command, Request) for command in sent), sent
    found = [command for command in sent if isinstance(command, Request)]
    payloads = [bytes(read_contents(command.frame).items[0].payload) for command in found]
    return [
        (command.request, command.timeout, command.elsewhere, payload)
        for command, payload in zip(found, payloads, strict=True)
    ]


def answer(driver: Driver, request: int, payload: bytes = b"y") -> None:
    driver.say(Response(request, Returned(data_frame(ack=0, payloads=[payload]))))


def subscribed(*names: str) -> Driver:
    """Return a driver whose session is subscribed."""
    driver = opened()
    for name in names or ("a",):
        driver.session.subscribe(name, FAR)
    driver.actions()
    return driver


def serve(driver: Driver, number: int = 5, *, name: str = "a", timeout: float = 4.0) -> Delivery:
    """Let the server pass on a request."""
    driver.say(Serve(number, timeout, data_frame(name, ack=0)))
    (delivery,) = driver.arrived()
    return delivery


def served(delivery: Delivery) -> Served:
    assert delivery.served is not None
    return delivery.served


def begins(driver: Driver, delivery: Delivery) -> bool:
    return driver.session.requests.begins(served(delivery), driver.now)


def respond(driver: Driver, delivery: Delivery, outcome: Returned | Raised = RAISED) -> None:
    driver.session.requests.respond(served(delivery), outcome)


class TestAsking:
    """From a request to what came of it."""

    def test_it_is_sent_and_answered(self) -> None:
        """The frame says who asks, is sent at once with the time that is left, and the payload comes back."""
        driver = opened()
        ticket = ask(driver, b"question", timeout=4.0)
        (command,) = driver.sent()
        assert isinstance(command, Request)
        contents = read_contents(command.frame)
        header = contents.header
        assert (header.name, header.ack, header.batch, header.client, header.codec) == ("a", 0, False, 77, 1)
        assert bytes(contents.items[0].payload) == b"question"
        assert (command.timeout, command.elsewhere, driver.done()) == (4.0, False, {})
        answer(driver, command.request, b"answer")
        assert driver.returned() == {ticket: b"answer"}

    def test_each_its_own(self) -> None:
        """A thousand requests that are under way at a time are answered in any order, each with its own answer."""
        driver = opened()
        tickets = {ask(driver, b"%d" % index): b"%d" % index for index in range(1000)}
        asked = {request: payload for request, _, _, payload in requests(driver)}
        for request in sorted(asked, key=lambda request: asked[request]):
            answer(driver, request, asked[request] * 2)
        assert driver.returned() == {ticket: payload * 2 for ticket, payload in tickets.items()}

    def test_messages_differ(self) -> None:
        """Each request has an id of its own, which no publish has."""
        driver = opened()
        driver.publish(ack=0)
        ask(driver)
        driver.publish(ack=0)
        first, command, third = driver.sent()
        assert isinstance(first, Data)
        assert isinstance(command, Request)
        assert isinstance(third, Data)
        assert (first.sequence, read_contents(command.frame).header.sequence, third.sequence) == (1, 2, 3)

    def test_elsewhere(self) -> None:
        """Who cannot answer itself says so."""
        driver = opened()
        ask(driver, elsewhere=True)
        assert requests(driver)[0][2] is True

    @pytest.mark.parametrize(
        ("outcome", "kind", "words"),
        [
            (RAISED, RemoteError, "'a' failed: ValueError: not today\nline 1"),
            (Raised("ValueError", "not today", ""), RemoteError, "ValueError: not today$"),
            (Unserved("no_responders", "nobody is there"), NoResponders, "nobody is there; nothing was run"),
            (GONE, RequestLost, "it is gone; it may have been carried out"),
            (Unserved("limit", "too many"), Rejected, r"'a' was not carried out: too many \(limit\)"),
            (Unserved("anything", "else"), Rejected, r"else \(anything\)"),
        ],
    )
    def test_it_fails(self, outcome: Outcome, kind: type[MezzengerError], words: str) -> None:
        """Each end of a request has its error, which names the message."""
        driver = opened()
        ticket = ask(driver)
        ((request, *_),) = requests(driver)
        driver.say(Response(request, outcome))
        with pytest.raises(kind, match=words):
            raise failure(driver, ticket)

    def test_the_remote_error_tells_all(self) -> None:
        """Its parts can be asked for."""
        driver = opened()
        ticket = ask(driver)
        driver.say(Response(requests(driver)[0][0], RAISED))
        error = failure(driver, ticket)
        assert isinstance(error, RemoteError)
        assert (error.type, error.text, error.traceback) == ("ValueError", "not today", "line 1")

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            (data_frame(ack=0)[:-1] + b"?", "digest"),
            (b"what is this", "name"),
            (data_frame(ack=0, payloads=[b"1", b"2"]), "request"),
        ],
    )
    def test_an_answer_that_cannot_be_read(self, frame: bytes, reason: str) -> None:
        """It is an error of who asked, and counted; the connection stands."""
        driver = opened()
        ticket = ask(driver)
        driver.say(Response(requests(driver)[0][0], Returned(frame)))
        error = failure(driver, ticket)
        assert isinstance(error, ProtocolError)
        assert error.reason == reason
        assert driver.session.inbox.malformed == {reason: 1}
        assert driver.state() == "open"

    def test_answers_that_nobody_waits_for(self) -> None:
        """They are passed over: those that came twice, and those to numbers that are not there."""
        driver = opened()
        ticket = ask(driver)
        ((request, *_),) = requests(driver)
        answer(driver, request + 1)
        assert driver.done() == {}
        answer(driver, request)
        answer(driver, request)
        driver.say(Response(request, GONE))
        assert driver.returned() == {ticket: b"y"}
        assert driver.done() == {}

    def test_too_large(self) -> None:
        """What the server would not take is refused here."""
        driver = opened()
        with pytest.raises(MessageTooLarge):
            ask(driver, bytes(LIMIT))
        assert driver.sent() == []

    def test_after_the_end(self) -> None:
        """A session that is closed asks nothing any more; what was under way fails."""
        driver = opened()
        ticket = ask(driver)
        driver.session.close()
        assert isinstance(failure(driver, ticket), ClientStopped)
        with pytest.raises(ClientStopped):
            ask(driver)


class TestTime:
    """When an answer takes too long."""

    def test_it_is_over(self) -> None:
        """At the deadline a request that was sent fails, with how long it waited; a late answer is passed over."""
        driver = opened()
        ticket = ask(driver, timeout=2.0)
        ((request, *_),) = requests(driver)
        assert driver.session.next_deadline() == driver.now + OPTIONS.heartbeat_interval
        driver.wait(1.875)
        assert driver.done() == {}
        driver.wait(0.125)
        error = failure(driver, ticket)
        assert isinstance(error, RequestTimeout)
        assert "within 2 s; it may have been carried out" in str(error)
        answer(driver, request)
        assert driver.done() == {}

    def test_it_is_given_up(self) -> None:
        """Nobody waits for a request that was abandoned."""
        driver = opened()
        ticket = ask(driver)
        ((request, *_),) = requests(driver)
        driver.session.abandon(ticket)
        answer(driver, request)
        assert driver.done() == {}

    def test_before_it_was_sent(self) -> None:
        """Without a connection nothing was sent, and the error says that the server is out of reach."""
        driver = Driver()
        driver.session.start(driver.now)
        ticket = ask(driver, timeout=1.0)
        driver.wait(1.0)
        assert isinstance(failure(driver, ticket), ServerUnreachable)
        driver.link()
        assert [command for command in driver.sent() if isinstance(command, Request)] == []

    def test_at_the_last_moment(self) -> None:
        """What is due cannot be sent any more, though nobody has looked at the time yet."""
        driver = Driver()
        driver.session.start(driver.now)
        ticket = ask(driver, timeout=1.0)
        driver.now += 1.0
        driver.link()
        assert [command for command in driver.sent() if isinstance(command, Request)] == []
        driver.wait()
        assert isinstance(failure(driver, ticket), ServerUnreachable)


class TestConnection:
    """When the connection breaks, and when it comes back."""

    def test_what_was_sent_fails(self) -> None:
        """At once, for it may have been carried out; it is not sent again."""
        driver = opened()
        ticket = ask(driver)
        ((request, *_),) = requests(driver)
        driver.lose("the cable was cut")
        error = failure(driver, ticket)
        assert isinstance(error, RequestLost)
        assert "the cable was cut" in str(error)
        assert "may have been carried out" in str(error)
        driver.reconnect()
        assert requests(driver) == []
        answer(driver, request)
        assert driver.done() == {}

    def test_what_was_not_sent_waits(self) -> None:
        """It is sent as soon as there is a connection, with the time that is left by then."""
        driver = opened()
        driver.lose()
        ticket = ask(driver, timeout=20.0)
        driver.wait(OPTIONS.reconnect_max)
        driver.actions()
        assert driver.done() == {}
        driver.link()
        ((request, timeout, _, _),) = requests(driver)
        assert timeout == 20.0 - OPTIONS.reconnect_max
        answer(driver, request)
        assert driver.returned() == {ticket: b"y"}

    def test_a_silent_server_is_asked_first(self) -> None:
        """Nothing is handed to a server that was not heard lately."""
        driver = opened()
        driver.now += OPTIONS.heartbeat_timeout + 1
        ask(driver)
        (ping,) = driver.sent()
        assert isinstance(ping, Ping)
        driver.say(Withdraw(1))
        assert len(requests(driver)) == 1

    def test_a_blocked_socket(self) -> None:
        """While the socket takes no more, requests are held back."""
        driver = opened()
        driver.session.blocked()
        ask(driver)
        assert driver.sent() == []
        driver.session.unblocked(driver.now)
        assert len(requests(driver)) == 1

    def test_it_overtakes_no_ack_0(self) -> None:
        """What is held with ack=0 goes before it; not what is held with ack=1, nor what is held later."""
        driver = opened(window=1)
        driver.publish(b"1")
        driver.publish(b"2")
        assert driver.sent() == [Data("a", 1, b"1")]
        ask(driver, b"3")
        assert len(requests(driver)) == 1
        driver.publish(b"4", ack=0)
        driver.publish(b"5")
        ask(driver, b"6")
        driver.publish(b"7", ack=0)
        assert driver.sent() == []
        driver.say(Confirm([1]))
        first, *others = driver.sent()
        assert (first, others[0]) == (Data("a", 2, b"2"), Data("a", 4, b"4", ack=0))
        assert [type(other) for other in others[1:]] == [Request]
        driver.say(Confirm([2]))
        assert driver.sent() == [Data("a", 5, b"5"), Data("a", 7, b"7", ack=0)]

    def test_a_server_that_stops(self) -> None:
        """What it did not take the next one is asked; until then it is not asked again."""
        driver = opened()
        ticket = ask(driver, timeout=20.0)
        ((request, *_),) = requests(driver)
        driver.say(Response(request, Unserved("stopping", "the server is stopping")))
        other = ask(driver, timeout=20.0)
        assert driver.sent() == []
        assert driver.done() == {}
        driver.lose()
        driver.wait(OPTIONS.reconnect_max)
        driver.actions()
        driver.link()
        assert {asked for asked, *_ in requests(driver)} == {ticket, other}
        answer(driver, ticket)
        answer(driver, other)
        assert driver.returned() == {ticket: b"y", other: b"y"}


class TestAnswering:
    """From what the server passes on to the response."""

    def test_it_is_answered(self) -> None:
        """A callback gets the message and when its time is over; what came of it is sent with the server's number."""
        driver = subscribed()
        delivery = serve(driver, 5, timeout=4.0)
        assert (delivery.contents.header.name, delivery.attempt, delivery.indexes) == ("a", 1, None)
        assert served(delivery) != Served(5, driver.now + 4.0)
        assert (served(delivery).number, served(delivery).deadline) == (5, driver.now + 4.0)
        assert begins(driver, delivery)
        outcome = Returned(b"frame")
        respond(driver, delivery, outcome)
        assert driver.sent() == [Respond(5, outcome)]
        respond(driver, delivery, outcome)
        assert driver.sent() == []

    def test_too_late(self) -> None:
        """From its deadline on it is not begun, and counted; nothing is sent, for nobody waits."""
        driver = subscribed()
        first, second = serve(driver, 5, timeout=1.0), serve(driver, 6, timeout=2.0)
        driver.now += 1.0
        assert not begins(driver, first)
        assert begins(driver, second)
        assert driver.session.requests.expired == 1
        respond(driver, first)
        assert driver.sent() == []

    def test_withdrawn(self) -> None:
        """What the server takes back is not begun; if it has begun, its answer is not sent."""
        driver = subscribed()
        first, second = serve(driver, 5), serve(driver, 6)
        assert begins(driver, second)
        driver.say(Withdraw(5), Withdraw(6), Withdraw(7))
        assert not begins(driver, first)
        respond(driver, second)
        assert driver.sent() == []
        assert driver.session.requests.expired == 1

    def test_another_connection(self) -> None:
        """What came on a former connection is neither begun nor answered, though the number is in use again."""
        driver = subscribed()
        running, waiting = serve(driver, 5), serve(driver, 6)
        assert begins(driver, running)
        driver.reconnect()
        driver.actions()
        again, other = serve(driver, 5), serve(driver, 6)
        respond(driver, running, Returned(b"of the former"))
        assert driver.sent() == []
        assert not begins(driver, waiting)
        assert begins(driver, again)
        assert begins(driver, other)
        respond(driver, again, Returned(b"right"))
        assert driver.sent() == [Respond(5, Returned(b"right"))]

    def test_after_the_end(self) -> None:
        """A session that is closed answers nothing any more."""
        driver = subscribed()
        delivery = serve(driver)
        driver.session.close()
        driver.actions()
        assert not begins(driver, delivery)
        respond(driver, delivery)
        assert driver.sent() == []

    def test_not_subscribed(self) -> None:
        """A request that has crossed an unsubscribe is answered at once."""
        driver = subscribed()
        driver.say(Serve(5, 4.0, data_frame("b", ack=0)))
        (command,) = driver.sent()
        assert isinstance(command, Respond)
        assert isinstance(command.outcome, Raised)
        assert (command.number, command.outcome.kind) == (5, "NotSubscribed")
        assert "has unsubscribed from 'b'; nothing was run" in command.outcome.text
        assert driver.arrived() == []

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            (data_frame(ack=0)[:-1] + b"?", "digest"),
            (b"|", "name"),
            (data_frame(ack=0, payloads=[b"1", b"2"]), "request"),
        ],
    )
    def test_what_cannot_be_read(self, frame: bytes, reason: str) -> None:
        """It is counted and answered at once, so that who asked need not wait."""
        driver = subscribed()
        driver.say(Serve(5, 4.0, frame))
        (command,) = driver.sent()
        assert isinstance(command, Respond)
        assert isinstance(command.outcome, Raised)
        assert command.outcome.kind == "ProtocolError"
        assert len(command.outcome.text) <= MAX_ERROR_CHARACTERS
        assert driver.session.inbox.malformed == {reason: 1}
        assert driver.arrived() == []
