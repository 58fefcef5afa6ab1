"""Subscribing through a session, and what is delivered to it."""

from collections.abc import Mapping

import pytest

from mezzenger.errors import AlreadySubscribed, NotSubscribed, ServerUnreachable
from mezzenger.protocol.bundle import encode_bundle, read_bundle
from mezzenger.protocol.commands import (
    DELIVERIES_PER_ACK,
    NAMES_PER_SUBSCRIBE,
    TOKEN_BYTES,
    Ack,
    Confirm,
    Deliver,
    Failure,
    Linked,
    Nack,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from mezzenger.protocol.events import Bundled, Delivery, Ignore, Listen, Send
from mezzenger.protocol.wire import Extra, encode_command, read_contents
from tests.protocol.session_driver import FAR, LIMIT, OPTIONS, Driver, data_frame, failure, opened


def subscribed(*names: str) -> Driver:
    """Return a driver whose session has subscribed to names, and has been looked at."""
    driver = opened()
    for number, name in enumerate(names or ("a",), 1):
        driver.session.subscribe(name, FAR)
        driver.say(Subscribed(number))
    driver.actions()
    driver.done()
    return driver


# Subscriptions.


def test_subscribe() -> None:
    """The client listens to the name, then to a token; when the server has seen the token, it is done."""
    driver = opened()
    ticket = driver.session.subscribe("caf\xe9", FAR)
    token = driver.tokens[-1]
    command = Send(encode_command(Subscribe(1, ["caf\xe9"], token)))
    assert driver.actions() == [Listen("caf\xe9|".encode()), Listen(token), command]
    assert len(set(driver.tokens)) == 2
    assert driver.done() == {}
    driver.say(Subscribed(1))
    assert driver.actions() == [Ignore(token)]
    assert driver.done() == {ticket: None}
    driver.say(Subscribed(1), Subscribed(2))
    assert driver.actions() == []


@pytest.mark.parametrize("welcomed", [True, False])
def test_subscribe_waits_for_the_connection(*, welcomed: bool) -> None:
    """A name asked for without an open connection is asked for as soon as there is one."""
    driver = Driver()
    first = driver.session.subscribe("a", FAR)
    driver.session.start(driver.now)
    if welcomed:
        driver.say(Welcome(1, LIMIT, retains=False))
    second = driver.session.subscribe("b", FAR)
    assert len(driver.actions()) == 2
    driver.link()
    assert driver.sent() == [Subscribe(1, ["a", "b"], driver.tokens[-1])]
    driver.say(Subscribed(1))
    assert driver.done() == {first: None, second: None}


def test_names_are_asked_for_again_after_a_reconnect() -> None:
    """Every connection asks for all names anew, as many at once as a command holds, each part with its token."""
    names = [f"n{number}" for number in range(2 * NAMES_PER_SUBSCRIBE + 1)]
    driver = subscribed(*names)
    driver.session.unsubscribe(names.pop(3))
    driver.reconnect()
    actions = driver.actions()
    parts = [names[:NAMES_PER_SUBSCRIBE], names[NAMES_PER_SUBSCRIBE:]]
    expected: list[object] = [Listen(f"{name}|".encode()) for name in names]
    for request, (part, token) in enumerate(zip(parts, driver.tokens[-2:], strict=True), len(names) + 2):
        expected += [Listen(token), Send(encode_command(Subscribe(request, part, token)))]
    assert actions == expected
    driver.say(Subscribed(len(names) + 3))
    assert driver.actions() == [Ignore(driver.tokens[-1])]
    assert driver.done() == {}


def test_a_subscription_under_way_survives_a_reconnect() -> None:
    """An answer on a new connection to what was asked on it counts; one to what was asked before does not."""
    driver = opened()
    ticket = driver.session.subscribe("a", FAR)
    driver.reconnect()
    driver.actions()
    driver.say(Subscribed(1))
    assert driver.done() == {}
    assert driver.actions() == []
    driver.say(Subscribed(2))
    assert driver.done() == {ticket: None}


def test_a_name_is_subscribed_once() -> None:
    """Subscribing twice is refused, whether or not the server has answered; there is no second request."""
    driver = opened()
    ticket = driver.session.subscribe("a", FAR)
    driver.actions()
    for answers in ([], [Subscribed(1)]):
        driver.say(*answers)
        driver.actions()
        with pytest.raises(AlreadySubscribed, match=r"^this client is subscribed to 'a' already; unsubscribe first$"):
            driver.session.subscribe("a", FAR)
        assert driver.actions() == []
    assert driver.done() == {ticket: None}


def test_unsubscribe() -> None:
    """The server is told, the name is not listened to any more, and can be subscribed again."""
    driver = subscribed("a", "b")
    driver.session.unsubscribe("a")
    assert driver.actions() == [Ignore(b"a|"), Send(encode_command(Unsubscribe("a")))]
    driver.session.subscribe("a", FAR)
    driver.reconnect()
    assert driver.sent() == [Subscribe(4, ["b", "a"], driver.tokens[-1])]


def test_unsubscribe_without_a_connection() -> None:
    """The next connection does not ask for the name; there is nobody to be told."""
    driver = subscribed("a")
    driver.lose()
    driver.actions()
    driver.session.unsubscribe("a")
    assert driver.actions() == []
    driver.reconnect()
    assert driver.actions() == []


def test_unsubscribe_needs_a_subscription() -> None:
    """Unsubscribing what is not subscribed, or not any more, is refused."""
    driver = subscribed("a")
    driver.session.unsubscribe("a")
    driver.actions()
    for name in ("a", "b"):
        with pytest.raises(NotSubscribed, match=f"^this client is not subscribed to '{name}'$"):
            driver.session.unsubscribe(name)
    assert driver.actions() == []


def test_unsubscribe_ends_the_wait() -> None:
    """Who still waits for a subscription is told that it was unsubscribed."""
    driver = opened()
    ticket = driver.session.subscribe("a", FAR)
    driver.session.unsubscribe("a")
    error = failure(driver, ticket)
    assert isinstance(error, NotSubscribed)
    assert str(error) == "'a' was unsubscribed before the server had answered"
    driver.say(Subscribed(1))
    assert driver.done() == {}


def test_an_older_answer_does_not_count() -> None:
    """After unsubscribe and subscribe, the answer to the older request does not complete the newer ticket."""
    driver = opened()
    driver.session.subscribe("a", FAR)
    driver.session.unsubscribe("a")
    newer = driver.session.subscribe("a", FAR)
    driver.actions()
    driver.done()
    driver.say(Subscribed(1))
    # The older token is of no use any more all the same.
    assert driver.actions() == [Ignore(driver.tokens[1])]
    assert driver.done() == {}
    driver.say(Subscribed(2))
    assert driver.actions() == [Ignore(driver.tokens[2])]
    assert driver.done() == {newer: None}


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("abandon", [True, False])
def test_a_subscription_that_nobody_waits_for_is_withdrawn(*, connected: bool, abandon: bool) -> None:
    """A subscribe that expires or is abandoned is undone: the server is told, and the name is free again."""
    driver = subscribed("b")
    if not connected:
        driver.lose("the cable was cut")
    ticket = driver.session.subscribe("a", driver.now + 0.25)
    driver.actions()
    if abandon:
        driver.session.abandon(ticket)
    else:
        driver.wait(0.25)
        error = failure(driver, ticket)
        assert isinstance(error, ServerUnreachable)
        assert str(error).endswith("it is slow to answer" if connected else "the cable was cut")
    assert driver.actions() == ([Ignore(b"a|"), Send(encode_command(Unsubscribe("a")))] if connected else [])
    assert driver.done() == {}
    driver.session.unsubscribe("b")
    driver.session.subscribe("a", FAR)


# Broadcasts.


def test_a_broadcast_arrives() -> None:
    """A frame of the SUB socket is for the callback of its name, and is a first attempt."""
    driver = subscribed("a")
    frame = data_frame("a", ack=0)
    driver.session.broadcast(frame, driver.now)
    driver.session.broadcast(frame, driver.now)
    assert driver.arrived() == [Delivery(read_contents(frame), 1, None)] * 2
    assert driver.actions() == []


def bundle_to(address: bytes, *names: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Write a bundle as the server sends it."""
    extras = [Extra(headers=headers or {})] * len(names)
    items = [(1.5, name.encode()) for name in names]
    return address + encode_bundle(names, items, extras, codec=1, client=5, sequence=1)[TOKEN_BYTES:]


def test_a_bundle_arrives() -> None:
    """A bundle with the address of this connection arrives as one, and each message of it has its name."""
    driver = subscribed("a", "b")
    frame = bundle_to(driver.tokens[0], "a", "b", "a")
    driver.session.broadcast(frame, driver.now)
    (bundled,) = driver.session.take_events()
    assert isinstance(bundled, Bundled)
    assert bundled.bundle == read_bundle(frame)
    assert [one.contents.header.name for one in bundled.deliveries()] == ["a", "b", "a"]


def test_a_bundle_with_headers_arrives() -> None:
    """Message by message, those for which there is a subscription."""
    driver = subscribed("a")
    driver.session.broadcast(bundle_to(driver.tokens[0], "a", "b", headers={"k": "v"}), driver.now)
    (one,) = driver.arrived()
    assert (one.contents.header.name, one.contents.extra.headers) == ("a", {"k": "v"})


def test_what_is_addressed_to_others() -> None:
    """A SUB socket that is subscribed to everything gets it too; it is passed over, and is no error.

    So is what was addressed to a former connection.
    """
    driver = subscribed(">")
    former = driver.tokens[0]
    driver.reconnect()
    for address in (bytes(TOKEN_BYTES), former):
        driver.session.broadcast(bundle_to(address, "a"), driver.now)
    assert driver.session.take_events() == []
    assert driver.session.inbox.malformed == {}


def test_a_damaged_bundle_is_counted() -> None:
    """And nothing of it is shown."""
    driver = subscribed("a")
    driver.session.broadcast(bundle_to(driver.tokens[0], "a", "a")[:-1], driver.now)
    assert driver.session.take_events() == []
    assert driver.session.inbox.malformed.total() == 1


def test_a_broadcast_of_another_name_is_ignored() -> None:
    """What still arrives after unsubscribe, or was never asked for, is not shown and is no error."""
    driver = subscribed("a", "b")
    driver.session.unsubscribe("a")
    driver.actions()
    for name in ("a", "c", "bb"):
        driver.session.broadcast(data_frame(name, ack=0), driver.now)
        driver.deliver(1, data_frame(name))
    assert driver.arrived() == []
    assert driver.actions() == []
    assert driver.session.inbox.malformed == {}


# Deliveries.


def test_a_delivery_arrives_and_is_acknowledged() -> None:
    """A delivery shows its attempt and which of its messages are meant; it is acked only when it was handled."""
    driver = subscribed("a")
    frame = data_frame("a", payloads=[b"1", b"2", b"3"])
    driver.deliver(4, frame, attempt=2, indexes=[0, 2])
    (delivery,) = driver.arrived()
    assert delivery == Delivery(read_contents(frame), 2, [0, 2])
    assert driver.actions() == []
    driver.session.handled(delivery, [])
    assert driver.sent() == [Ack([4])]
    assert driver.sent() == []


def test_acks_are_gathered() -> None:
    """What was handled between two looks at the actions is acked in one command, in the order of handling."""
    driver = subscribed("a")
    for number in (1, 2, 3):
        driver.deliver(number, data_frame(sequence=number))
    first, second, third = driver.arrived()
    for delivery in (second, first):
        driver.session.handled(delivery, [])
    assert driver.sent() == [Ack([2, 1])]
    driver.session.handled(third, [])
    assert driver.sent() == [Ack([3])]


def test_many_acks_are_several_commands() -> None:
    """No Ack is larger than what any server takes."""
    driver = subscribed("a")
    numbers = [2**64 - 1 - number for number in range(DELIVERIES_PER_ACK + 1)]
    for number in numbers:
        driver.deliver(number, data_frame(sequence=number))
    for delivery in driver.arrived():
        driver.session.handled(delivery, [])
    actions = driver.actions()
    assert max(len(action.frame) for action in actions if isinstance(action, Send)) < LIMIT
    assert actions == [
        Send(encode_command(Ack(numbers[:DELIVERIES_PER_ACK]))),
        Send(encode_command(Ack(numbers[DELIVERIES_PER_ACK:]))),
    ]


def test_acks_wait_while_the_socket_is_full() -> None:
    """A socket that is full gets no acks; they are gathered until it is not."""
    driver = subscribed("a")
    driver.deliver(1, data_frame())
    driver.session.blocked()
    driver.session.handled(driver.arrived()[0], [])
    assert driver.actions() == []
    driver.session.unblocked(driver.now)
    assert driver.sent() == [Ack([1])]


def test_what_failed_is_reported() -> None:
    """A callback that failed is reported at once; the redelivery is shown again."""
    driver = subscribed("a")
    driver.deliver(1, data_frame())
    driver.session.handled(driver.arrived()[0], [Failure(0, "KeyError: 'x'")])
    assert driver.sent() == [Nack(1, [Failure(0, "KeyError: 'x'")])]
    driver.deliver(2, data_frame(), attempt=2)
    (delivery,) = driver.arrived()
    assert delivery.attempt == 2
    driver.session.handled(delivery, [])
    assert driver.sent() == [Ack([2])]
    assert driver.session.inbox.duplicates == 0


def test_a_frame_that_was_handled_is_acked_again() -> None:
    """A redelivery of what was handled is not shown; it is counted, and acked with its own number."""
    driver = subscribed("a")
    driver.deliver(1, data_frame())
    driver.session.handled(driver.arrived()[0], [])
    driver.actions()
    driver.deliver(2, data_frame(), attempt=2)
    assert driver.arrived() == []
    assert driver.sent() == [Ack([2])]
    assert driver.session.inbox.duplicates == 1


@pytest.mark.parametrize(("failures", "answer"), [([], Ack([3])), ([Failure(0, "x")], Nack(3, [Failure(0, "x")]))])
def test_a_frame_in_hand_is_not_shown_again(failures: list[Failure], answer: Ack | Nack) -> None:
    """A redelivery of what a callback is handling is counted; the answer goes to the newest delivery."""
    driver = subscribed("a")
    driver.deliver(1, data_frame())
    driver.deliver(2, data_frame(), attempt=2)
    driver.deliver(3, data_frame(), attempt=3)
    (delivery,) = driver.arrived()
    assert driver.session.inbox.duplicates == 2
    driver.session.handled(delivery, failures)
    assert driver.sent() == [answer]


def test_acks_of_a_dead_connection_are_not_sent() -> None:
    """Delivery numbers mean nothing on another connection; the redelivery there is acked."""
    driver = subscribed("a")
    driver.deliver(1, data_frame())
    driver.session.handled(driver.arrived()[0], [])
    driver.reconnect()
    assert driver.sent() == [Subscribe(2, ["a"], driver.tokens[-1])]
    driver.deliver(1, data_frame(sequence=2))
    driver.deliver(2, data_frame(), attempt=2)
    assert driver.sent() == [Ack([2])]


@pytest.mark.parametrize("redelivered_in_hand", [True, False])
@pytest.mark.parametrize("linked", [True, False])
def test_what_is_handled_after_a_break(*, linked: bool, redelivered_in_hand: bool) -> None:
    """What a callback was handling when the connection broke is acked when it is delivered on the new one."""
    driver = subscribed("a")
    driver.deliver(1, data_frame())
    (delivery,) = driver.arrived()
    driver.lose()
    if linked:
        driver.wait(OPTIONS.reconnect_max)
        driver.link()
    driver.actions()
    if redelivered_in_hand:
        driver.deliver(7, data_frame(), attempt=2)  # without a connection nothing is heard
    driver.session.handled(delivery, [])
    assert driver.sent() == ([Ack([7])] if linked and redelivered_in_hand else [])
    if not linked:
        driver.reconnect()
        driver.actions()
    driver.deliver(9, data_frame(), attempt=3)
    assert driver.sent() == [Ack([9])]
    assert driver.arrived() == []


def test_what_failed_after_a_break_is_shown_again() -> None:
    """A failure that nobody can be told of is not told; the redelivery on the new connection is shown."""
    driver = subscribed("a")
    driver.deliver(1, data_frame())
    (delivery,) = driver.arrived()
    driver.reconnect()
    driver.actions()
    driver.session.handled(delivery, [Failure(0, "x")])
    assert driver.actions() == []
    driver.deliver(1, data_frame(), attempt=2)
    assert len(driver.arrived()) == 1


def test_frames_of_other_clients_are_others() -> None:
    """A frame is known by its client and its sequence: neither alone makes a duplicate."""
    driver = subscribed("a")
    for number, (client, sequence) in enumerate([(5, 1), (5, 2), (6, 1)]):
        driver.deliver(number, data_frame(client=client, sequence=sequence))
    assert len(driver.arrived()) == 3


def test_a_subscriber_that_left_still_acks() -> None:
    """What was in hand when its name was unsubscribed is acked all the same."""
    driver = subscribed("a")
    driver.deliver(1, data_frame())
    (delivery,) = driver.arrived()
    driver.session.unsubscribe("a")
    driver.actions()
    driver.session.handled(delivery, [])
    assert driver.sent() == [Ack([1])]


def test_malformed_frames_harm_nothing() -> None:
    """What nobody can read is counted by reason; the session goes on."""
    driver = subscribed("a")
    ticket = driver.ticket()
    driver.actions()
    damaged = data_frame()[:-1] + b"?"
    driver.session.receive([b"rubbish"], driver.now)
    driver.session.receive([damaged], driver.now)
    driver.session.receive([encode_command(Linked())[1:]], driver.now)
    driver.session.receive([encode_command(Deliver(1, 1, None, None))], driver.now)
    driver.session.broadcast(b"", driver.now)
    driver.session.broadcast(damaged, driver.now)
    driver.deliver(1, damaged)
    driver.deliver(1, b"a|")
    driver.deliver(1, data_frame(), indexes=[1])
    assert driver.session.inbox.malformed == {"command": 5, "name": 1, "digest": 2, "truncated": 1}
    assert driver.arrived() == []
    assert driver.actions() == []
    driver.say(Confirm([1]))
    assert driver.done() == {ticket: None}
