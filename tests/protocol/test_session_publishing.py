"""Publishing through a session: what is sent when, what is confirmed, and what is said about the rest."""

from collections.abc import Callable

import pytest

from mezzenger.errors import MessageTooLarge, Rejected, ServerUnreachable
from mezzenger.protocol.bundle import read_bundle
from mezzenger.protocol.commands import Confirm, Ping, Pong, Refuse, Welcome
from mezzenger.protocol.events import Disconnect, Send
from mezzenger.protocol.outgoing import MixedDraft
from mezzenger.protocol.states import State
from mezzenger.protocol.wire import NO_EXTRA
from tests.protocol.session_driver import FAR, LIMIT, OPTIONS, Data, Driver, data_frame, failure, opened

# Without waiting for a confirm.


def test_ack_0_is_sent_at_once() -> None:
    """To a server that lives, ack=0 is handed over at once, and nobody waits."""
    driver = opened()
    assert driver.publish(b"1", ack=0) is None
    assert driver.publish(b"2", b"3", ack=0, name="b", headers={"k": "v"}) is None
    assert driver.publish(b"4", ack=0) is None
    assert driver.sent() == [Data("a", 1, b"1", ack=0), Data("b", 2, b"2+3", ack=0), Data("a", 4, b"4", ack=0)]
    assert driver.done() == {}


def start(driver: Driver) -> None:
    driver.session.start(driver.now)


@pytest.mark.parametrize("prepare", [lambda driver: None, start], ids=["new", "connecting"])
def test_ack_0_is_held_until_there_is_a_connection(prepare: Callable[[Driver], None]) -> None:
    """Without a connection, ack=0 is held; it is done when it was handed over."""
    driver = Driver()
    prepare(driver)
    tickets = [driver.ticket(b"1", ack=0), driver.ticket(b"2", ack=0)]
    assert driver.done() == {}
    if driver.session.state is State.NEW:
        start(driver)
    driver.actions()
    driver.link()
    assert driver.sent() == [Data("a", 1, b"1", ack=0), Data("a", 2, b"2", ack=0)]
    assert driver.done() == dict.fromkeys(tickets)


def test_ack_0_is_held_while_the_server_is_silent() -> None:
    """A server that was not heard for heartbeat_timeout is asked first, once; its answer lets out what was held."""
    driver = opened()
    driver.now += OPTIONS.heartbeat_timeout
    assert driver.publish(b"1", ack=0) is None
    driver.now += 0.125
    tickets = [driver.ticket(b"2", ack=0), driver.ticket(b"3", ack=0), driver.ticket(b"4", ack=1)]
    assert driver.sent() == [Data("a", 1, b"1", ack=0), Ping(1)]
    assert driver.done() == {}
    driver.say(Pong(1))
    assert driver.sent() == [Data("a", 2, b"2", ack=0), Data("a", 3, b"3", ack=0), Data("a", 4, b"4")]
    assert driver.done() == dict.fromkeys(tickets[:2])


def test_ack_0_is_held_while_the_socket_is_full() -> None:
    """A socket that takes no more frames holds publishes back, until it takes them again."""
    driver = opened()
    driver.session.blocked()
    ticket = driver.ticket(b"1", ack=0)
    driver.ticket(b"2", ack=1)
    driver.say(Pong(0))
    assert driver.sent() == []
    driver.session.unblocked(driver.now)
    assert driver.sent() == [Data("a", 1, b"1", ack=0), Data("a", 2, b"2")]
    assert driver.done() == {ticket: None}


def test_a_new_connection_has_an_empty_socket() -> None:
    """A socket that was full is closed with its connection; the next one is not."""
    driver = opened()
    driver.session.blocked()
    driver.reconnect()
    assert driver.publish(ack=0) is None
    assert driver.sent() == [Data("a", 1, ack=0)]


def test_sends_keep_the_order_of_publishes() -> None:
    """What comes behind something that is held waits for it, whatever its ack."""
    driver = opened(window=1)
    driver.ticket(b"1")
    tickets = [driver.ticket(b"2"), driver.ticket(b"3", ack=0), driver.ticket(b"4"), driver.ticket(b"5", ack=0)]
    assert driver.sent() == [Data("a", 1, b"1")]
    driver.say(Confirm([1]))
    assert driver.sent() == [Data("a", 2, b"2"), Data("a", 3, b"3", ack=0)]
    assert driver.done() == {1: None, tickets[1]: None}
    driver.say(Confirm([2]))
    assert driver.sent() == [Data("a", 4, b"4"), Data("a", 5, b"5", ack=0)]
    assert driver.publish(b"6", ack=0) is None


def test_ack_0_that_could_not_be_sent_expires() -> None:
    """What was held until its deadline is never sent, and the error does not say that it may have been stored."""
    driver = opened()
    driver.lose("the cable was cut")
    ticket = driver.ticket(ack=0, deadline=driver.now + 0.25)
    driver.wait(0.25)
    error = failure(driver, ticket)
    assert isinstance(error, ServerUnreachable)
    assert str(error) == "no answer in time from the server at 10.0.0.5:7202: the cable was cut"
    driver.reconnect()
    assert driver.sent() == []


# With a confirm.


def test_ack_1_is_done_when_confirmed() -> None:
    """An ack=1 publish is sent at once and done with its confirm, whatever the order of the confirms."""
    driver = opened()
    tickets = [driver.ticket(b"1"), driver.ticket(b"2", b"3"), driver.ticket(b"4")]
    assert driver.sent() == [Data("a", 1, b"1"), Data("a", 2, b"2+3"), Data("a", 4, b"4")]
    driver.say(Confirm([4, 1]))
    assert driver.done() == {tickets[2]: None, tickets[0]: None}
    driver.say(Confirm([1, 3, 99]))
    assert driver.done() == {}
    driver.say(Confirm([2]))
    assert driver.done() == {tickets[1]: None}


def test_ack_1_is_refused_with_a_reason() -> None:
    """What the server refuses fails with its reason and its words, and is not sent again."""
    driver = opened()
    ticket = driver.ticket()
    driver.say(Refuse(7, "digest", "never heard of it"), Refuse(1, "storage", "the disk is full"))
    error = failure(driver, ticket)
    assert isinstance(error, Rejected)
    assert error.reason == "storage"
    assert str(error) == "the disk is full (storage)"
    driver.reconnect()
    assert driver.sent() == []


def test_the_window_is_kept() -> None:
    """At most ``window`` frames are sent and not confirmed; each answer lets out one more."""
    driver = opened(window=2)
    for _ in range(5):
        driver.ticket()
    assert driver.sent() == [Data("a", 1), Data("a", 2)]
    driver.say(Confirm([2]))
    assert driver.sent() == [Data("a", 3)]
    driver.say(Refuse(1, "storage", "the disk is full"))
    assert driver.sent() == [Data("a", 4)]
    driver.say(Confirm([3, 4]))
    assert driver.sent() == [Data("a", 5)]


def test_a_frame_that_expired_makes_room() -> None:
    """When a frame is given up, or nobody waits for it any more, what the window held back is sent at the next tick."""
    driver = opened(window=1)
    expiring = driver.ticket(b"1", deadline=driver.now + 0.5)
    abandoned = driver.ticket(b"2")
    driver.ticket(b"3")
    driver.actions()
    driver.wait(0.5)
    assert driver.sent() == [Data("a", 2, b"2")]
    assert list(driver.done()) == [expiring]
    driver.session.abandon(abandoned)
    driver.wait()
    assert driver.sent() == [Data("a", 3, b"3")]


def test_the_unconfirmed_is_sent_again_in_order() -> None:
    """After a reconnect all that is not confirmed is sent again in the order of publishing, before what was held."""
    driver = opened(window=3)
    for payload in (b"1", b"2", b"3", b"4"):
        driver.ticket(payload)
    driver.say(Confirm([2]))
    driver.actions()
    driver.done()
    driver.ticket(b"5")
    driver.reconnect()
    assert driver.sent() == [Data("a", 1, b"1"), Data("a", 3, b"3"), Data("a", 4, b"4")]
    driver.say(Confirm([1, 3, 4]))
    assert driver.sent() == [Data("a", 5, b"5")]
    assert list(driver.done().values()) == [None, None, None]


def test_ack_0_is_not_sent_again() -> None:
    """What was handed over once is not sent on the next connection."""
    driver = opened()
    driver.publish(ack=0)
    driver.reconnect()
    assert driver.sent() == []


def test_an_unconfirmed_message_may_have_been_stored() -> None:
    """A sent message that nobody confirmed in time fails; the error names the server and says that it may be stored."""
    driver = opened()
    ticket = driver.ticket(deadline=driver.now + 0.5)
    driver.wait(0.5)
    error = failure(driver, ticket)
    assert isinstance(error, ServerUnreachable)
    assert str(error) == (
        "no answer in time from the server at 10.0.0.5:7202: it is slow to answer, "
        "or has no room for the message yet (overflow: block); the message may have been stored all the same"
    )
    driver.say(Confirm([1]))
    assert driver.done() == {}


def test_a_held_message_was_not_stored() -> None:
    """The error of a message that waited for the window does not say that it may have been stored."""
    driver = opened(window=1)
    driver.ticket()
    ticket = driver.ticket(deadline=driver.now + 0.5)
    driver.wait(0.5)
    assert str(failure(driver, ticket)) == "no answer in time from the server at 10.0.0.5:7202: it is slow to answer"


def test_deadlines_are_kept_one_by_one() -> None:
    """Each ticket fails at its own deadline, however they were ordered; next_deadline() tells the first."""
    driver = Driver()
    late, early = driver.ticket(deadline=driver.now + 2), driver.ticket(deadline=driver.now + 1)
    assert driver.session.next_deadline() == driver.now + 1
    driver.wait(0.875)
    assert driver.done() == {}
    driver.wait(0.125)
    assert list(driver.done()) == [early]
    assert driver.session.next_deadline() == driver.now + 1
    driver.wait(5)
    assert list(driver.done()) == [late]
    assert driver.session.next_deadline() is None


@pytest.mark.parametrize("sent", [True, False])
def test_an_abandoned_publish_is_forgotten(*, sent: bool) -> None:
    """Nobody is told of a ticket that was abandoned, and its message is not sent any more."""
    driver = opened() if sent else Driver()
    ticket = driver.ticket()
    driver.session.abandon(ticket)
    driver.session.abandon(ticket)
    if sent:
        driver.actions()
        driver.say(Confirm([1]))
    else:
        driver.session.start(driver.now)
    driver.reconnect()
    assert driver.sent() == []
    driver.wait(FAR)
    assert driver.done() == {}


def test_who_is_told_already_cannot_abandon() -> None:
    """Abandoning what is done, or never was, changes nothing."""
    driver = opened()
    ticket = driver.ticket()
    driver.say(Confirm([1]))
    driver.actions()
    driver.session.abandon(ticket)
    driver.session.abandon(12345)
    assert driver.done() == {ticket: None}
    assert driver.actions() == []


# Too large.


@pytest.mark.parametrize("ack", [0, 1])
def test_what_is_too_large_is_not_sent(ack: int) -> None:
    """A message above the server's limit is refused at once, with both sizes; it takes no sequence."""
    driver = opened()
    overhead = len(data_frame(payloads=[b""]))
    with pytest.raises(MessageTooLarge) as caught:
        driver.publish(bytes(LIMIT - overhead + 1), ack=ack)
    assert str(caught.value) == (
        "message 'a' is 65537 bytes on the wire; the server takes at most 65536 "
        "(its setting server.max_message_size); nothing was stored"
    )
    assert driver.actions() == []
    driver.publish(bytes(LIMIT - overhead), ack=ack)
    assert driver.sent() == [Data("a", 1, bytes(LIMIT - overhead), ack)]


def test_a_lower_limit_stops_what_waits() -> None:
    """When a server comes back with a lower limit, what it would refuse fails; the rest is sent."""
    driver = opened(window=2)
    sent = [driver.ticket(bytes(2000)), driver.ticket(b"1")]
    held = [driver.ticket(bytes(2001)), driver.ticket(bytes(2002), ack=0), driver.ticket(b"2", ack=0)]
    driver.lose()
    driver.wait(OPTIONS.reconnect_max)
    driver.actions()
    driver.say(Welcome(1, 1000, retains=False))
    done = driver.done()
    assert list(done) == [sent[0], held[0], held[1]]
    assert all(isinstance(error, MessageTooLarge) for error in done.values())
    # Only what was sent may be with a server whose limit was higher then.
    assert [str(error).rsplit("; ", maxsplit=1)[1] for error in done.values()] == [
        "it may have been stored before",
        "nothing was stored",
        "nothing was stored",
    ]
    driver.link(1000)
    assert driver.sent() == [Data("a", 2, b"1"), Data("a", 5, b"2", ack=0)]
    with pytest.raises(MessageTooLarge, match="at most 1000 "):
        driver.publish(bytes(1000))


def test_before_the_first_welcome_there_is_no_limit() -> None:
    """What is published before the server was reached is measured when the server tells its limit."""
    driver = Driver()
    ticket = driver.ticket(bytes(LIMIT), ack=0)
    driver.session.start(driver.now)
    driver.actions()
    driver.link()
    assert isinstance(failure(driver, ticket), MessageTooLarge)
    assert driver.sent() == []


def test_a_limit_outlives_the_connection() -> None:
    """While there is no connection the last limit counts, until the next server raises it."""
    driver = opened()
    driver.lose()
    with pytest.raises(MessageTooLarge):
        driver.publish(bytes(LIMIT))
    driver.wait(OPTIONS.reconnect_max)
    driver.link(2 * LIMIT)
    driver.ticket(bytes(LIMIT))


# flush.


def test_flush_of_nothing_asks_the_server() -> None:
    """A flush is done when its ping is answered, not before."""
    driver = opened()
    ticket = driver.flush()
    assert driver.sent() == [Ping(1)]
    driver.say(Pong(0))
    assert driver.done() == {}
    driver.say(Pong(1))
    assert driver.done() == {ticket: None}


def test_flush_waits_for_all_before_it() -> None:
    """Its ping follows ack=0 messages at once, but ack=1 messages only when all before it are confirmed."""
    driver = opened(window=1)
    driver.publish(b"1", ack=0)
    first = driver.flush()
    driver.ticket(b"2")
    driver.ticket(b"3")
    driver.ticket(b"4", ack=0)
    second = driver.flush()
    driver.ticket(b"5")
    assert driver.sent() == [Data("a", 1, b"1", ack=0), Ping(1), Data("a", 2, b"2")]
    driver.say(Pong(1))
    assert list(driver.done()) == [first]
    driver.say(Confirm([2]))
    assert driver.sent() == [Data("a", 3, b"3"), Data("a", 4, b"4", ack=0)]
    driver.done()
    driver.say(Confirm([3]))
    # What was published after the flush is not waited for.
    assert driver.sent() == [Data("a", 5, b"5"), Ping(2)]
    assert second not in driver.done()
    driver.say(Pong(2))
    assert driver.done() == {second: None}


def test_flush_waits_for_a_socket_that_is_full() -> None:
    """Its ping goes out behind what the socket did not take."""
    driver = opened()
    driver.session.blocked()
    driver.ticket(ack=0)
    ticket = driver.flush()
    assert driver.sent() == []
    driver.session.unblocked(driver.now)
    assert driver.sent() == [Data("a", 1, ack=0), Ping(1)]
    driver.say(Pong(1))
    assert ticket in driver.done()


def test_one_answer_completes_all_flushes_before_it() -> None:
    """Flushes are done in order; an answer to a later ping shows that all before it has arrived."""
    driver = opened()
    tickets = [driver.flush(), driver.flush(), driver.flush()]
    driver.say(Pong(2))
    assert list(driver.done()) == tickets[:2]
    driver.say(Pong(3))
    assert list(driver.done()) == tickets[2:]


def test_flush_is_asked_again_on_the_next_connection() -> None:
    """A flush under way when the connection broke is completed on the next one, if nothing is in doubt."""
    driver = opened()
    sent = driver.ticket()
    ticket = driver.flush()
    driver.say(Confirm([1]))
    assert driver.sent() == [Data("a", 1), Ping(1)]
    driver.reconnect()
    assert driver.sent() == [Ping(2)]
    driver.say(Pong(2))
    assert driver.done() == {sent: None, ticket: None}


def test_flush_fails_where_messages_may_be_lost() -> None:
    """ack=0 messages under way when a connection broke fail the next flush, with their number, but no other."""
    driver = opened()
    driver.publish(b"1", ack=0)
    driver.wait(1)
    driver.pong()
    driver.publish(b"2", ack=0)
    driver.publish(b"3", b"4", ack=0)
    pending = driver.flush()
    driver.publish(b"5", ack=0)
    driver.reconnect()
    driver.publish(b"6", ack=0)
    driver.pong()
    error = failure(driver, pending)
    assert isinstance(error, ServerUnreachable)
    assert str(error) == "the connection broke while 4 messages with ack=0 were under way; they may be lost"
    following = driver.flush()
    driver.pong()
    assert driver.done() == {following: None}


def test_losses_of_several_connections_add_up() -> None:
    """Messages that were held and then sent count too; each loss is reported once."""
    driver = opened()
    driver.publish(ack=0)
    driver.lose()
    driver.ticket(ack=0)
    driver.wait(OPTIONS.reconnect_max)
    driver.link()
    driver.reconnect()
    driver.done()
    first, second = driver.flush(), driver.flush()
    driver.pong()
    done = driver.done()
    assert str(done[first]).startswith("the connection broke while 2 messages")
    assert done[second] is None


@pytest.mark.parametrize("messages", [0, 1])
def test_a_flush_that_expired(messages: int) -> None:
    """A flush whose ping is not answered in time fails; what was under way is reported by a later one."""
    driver = opened()
    for _ in range(messages):
        driver.publish(ack=0)
    expired = driver.flush(driver.now + 0.5)
    driver.wait(0.5)
    assert str(failure(driver, expired)).endswith("10.0.0.5:7202: it is slow to answer")
    driver.reconnect()
    ticket = driver.flush()
    driver.pong()
    assert list(driver.done()) == [ticket]
    assert driver.session.outgoing.uncertain == 0


def test_a_flush_makes_no_heartbeat_late() -> None:
    """The ping of a flush counts as one: a server that leaves it unanswered is given up in time."""
    driver = opened()
    driver.flush()
    driver.wait(2)
    driver.flush()
    driver.wait(1.875)
    assert driver.session.state == State.OPEN
    driver.actions()
    driver.wait(0.125)
    assert driver.actions() == [Disconnect()]


def test_a_bundle_is_sent_once_connected() -> None:
    """Like any message with ``ack=0``: it is held until there is a connection, then handed over, and done."""
    driver = Driver()
    driver.session.start(driver.now)
    draft = MixedDraft(["a", "b"], [(1.5, b"x"), (1.5, b"y")], [NO_EXTRA] * 2, 1)
    ticket = driver.session.publish(draft, driver.now, FAR)
    assert driver.done() == {}
    driver.actions()
    driver.link()
    assert driver.done() == {ticket: None}
    (frame,) = [action.frame for action in driver.actions() if isinstance(action, Send)]
    assert read_bundle(frame).names == ["a", "b"]
    assert driver.session.publish(draft, driver.now, FAR) is None
    (frame,) = [action.frame for action in driver.actions() if isinstance(action, Send)]
    assert read_bundle(frame).sequence == 3


def test_a_bundle_may_be_too_large() -> None:
    """It is refused like a single message, by the name of the first."""
    driver = opened()
    draft = MixedDraft(["a", "b"], [(1.5, b"x"), (1.5, bytes(LIMIT))], [NO_EXTRA] * 2, 1)
    with pytest.raises(MessageTooLarge, match="'a'"):
        driver.session.publish(draft, driver.now, FAR)
