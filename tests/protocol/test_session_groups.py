"""Being a member of groups through a session: joining, what is delivered, and leaving."""

import pytest

from mezzenger.errors import AlreadySubscribed, NotSubscribed, Rejected, ServerUnreachable
from mezzenger.protocol.commands import (
    Ack,
    Declined,
    Failure,
    Join,
    Leave,
    Nack,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from mezzenger.protocol.events import Delivery, Ended, Ignore, Listen, Send
from mezzenger.protocol.subscriptions import Membership
from mezzenger.protocol.wire import encode_command, read_contents
from tests.protocol.session_driver import FAR, Driver, data_frame, failure, opened

WORKERS = Membership("workers", 64)
JOIN = Join(1, "jobs", "workers", 64, None, None)
QUEUE = "jobs|workers"


def joined(*names: str, membership: Membership = WORKERS) -> Driver:
    """Return a driver whose session is a member of groups of these names, and has been looked at."""
    driver = opened()
    for number, name in enumerate(names or ("jobs",), 1):
        driver.session.subscribe(name, FAR, membership)
        driver.say(Subscribed(number))
    driver.actions()
    driver.done()
    return driver


# Joining and leaving.


def test_join() -> None:
    """One command asks for a group, and its answer makes the client a member; the SUB socket is told nothing."""
    driver = opened()
    ticket = driver.session.subscribe("jobs", FAR, Membership("workers", 1, 2.5, "customer"))
    assert driver.actions() == [Send(encode_command(Join(1, "jobs", "workers", 1, 2.5, "customer")))]
    assert driver.done() == {}
    driver.say(Subscribed(1))
    assert driver.done() == {ticket: None}
    assert driver.actions() == []


def test_join_waits_for_the_connection() -> None:
    """A group that was asked for without an open connection is asked for as soon as there is one."""
    driver = Driver()
    ticket = driver.session.subscribe("jobs", FAR, WORKERS)
    driver.session.start(driver.now)
    driver.actions()
    driver.link()
    assert driver.sent() == [JOIN]
    driver.say(Subscribed(1))
    assert driver.done() == {ticket: None}


def test_a_membership_is_one_of_its_own() -> None:
    """A client may be subscriber, and member of several groups, of one name; each of them once."""
    driver = joined()
    driver.session.subscribe("jobs", FAR)
    driver.session.subscribe("jobs", FAR, Membership("audit", 64))
    assert driver.sent() == [
        Subscribe(2, ["jobs"], driver.tokens[-1]),
        Join(3, "jobs", "audit", 64, None, None),
    ]
    text = r"^this client is a member of group 'workers' of 'jobs' already; unsubscribe first$"
    with pytest.raises(AlreadySubscribed, match=text):
        driver.session.subscribe("jobs", FAR, Membership("workers", 1))
    driver.session.unsubscribe("jobs")
    assert driver.actions() == [Ignore(b"jobs|"), Send(encode_command(Unsubscribe("jobs")))]
    driver.session.unsubscribe("jobs", "workers")
    assert driver.actions() == [Send(encode_command(Leave("jobs", "workers")))]


def test_leave() -> None:
    """The server is told; the group can be joined again, and is not asked for on the next connection before."""
    driver = joined("jobs", "mail")
    driver.session.unsubscribe("jobs", "workers")
    assert driver.sent() == [Leave("jobs", "workers")]
    with pytest.raises(NotSubscribed, match=r"^this client is not a member of group 'workers' of 'jobs'$"):
        driver.session.unsubscribe("jobs", "workers")
    with pytest.raises(NotSubscribed, match=r"^this client is not subscribed to 'mail'$"):
        driver.session.unsubscribe("mail")
    driver.reconnect()
    assert driver.sent() == [Join(3, "mail", "workers", 64, None, None)]
    driver.session.subscribe("jobs", FAR, WORKERS)
    assert driver.sent() == [Join(4, "jobs", "workers", 64, None, None)]


def test_leave_without_a_connection() -> None:
    """There is nobody to be told, and the next connection does not ask for the group."""
    driver = joined()
    driver.lose()
    driver.actions()
    driver.session.unsubscribe("jobs", "workers")
    assert driver.actions() == []
    driver.reconnect()
    assert driver.actions() == []


def test_groups_are_asked_for_again_after_a_reconnect() -> None:
    """The subscriptions together, the groups one by one: the server may take the client into some of them only."""
    driver = joined("a", "b.*")
    driver.session.subscribe("c", FAR)
    driver.session.subscribe("d.>", FAR)
    driver.actions()
    driver.reconnect()
    token = driver.tokens[-1]
    assert driver.actions() == [
        Listen(b"c|"),
        Listen(b"d."),
        Listen(token),
        Send(encode_command(Subscribe(5, ["c", "d.>"], token))),
        Send(encode_command(Join(6, "a", "workers", 64, None, None))),
        Send(encode_command(Join(7, "b.*", "workers", 64, None, None))),
    ]
    driver.say(Subscribed(7), Subscribed(6))
    assert driver.actions() == []


# Declined.


def test_declined_at_first() -> None:
    """Who asks is told why; nothing is left of it, so that it can be asked for again."""
    driver = opened()
    ticket = driver.session.subscribe("jobs", FAR, WORKERS)
    driver.actions()
    driver.say(Declined(1, "groups", "there are 10 groups already"))
    error = failure(driver, ticket)
    assert isinstance(error, Rejected)
    assert (error.reason, str(error)) == ("groups", "there are 10 groups already (groups)")
    assert driver.ended() == []
    # If only its store has failed, the server has the client as a member all the same.
    assert driver.sent() == [Leave("jobs", "workers")]
    driver.session.subscribe("jobs", FAR, WORKERS)
    assert driver.sent() == [Join(2, "jobs", "workers", 64, None, None)]


def test_declined_on_a_later_connection() -> None:
    """Nobody waits for it any more, so that is an event; the other groups go on."""
    driver = joined("jobs", "mail")
    driver.reconnect()
    driver.actions()
    driver.say(Declined(3, "order_by", "another one"), Subscribed(4))
    assert driver.done() == {}
    (ended,) = driver.ended()
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, Rejected)
    assert (ended.queue, ended.error.reason, str(ended.error)) == (QUEUE, "order_by", "another one (order_by)")
    assert driver.sent() == [Leave("jobs", "workers")]
    driver.deliver(1, data_frame("jobs"), group=QUEUE)
    assert driver.arrived() == []
    driver.reconnect()
    assert driver.sent() == [Join(5, "mail", "workers", 64, None, None)]


@pytest.mark.parametrize("request_number", [1, 2, 9])
def test_declined_what_is_of_no_interest(request_number: int) -> None:
    """An answer to an older request, to a subscription or to nothing ends no membership."""
    driver = opened()
    driver.session.subscribe("jobs", FAR, WORKERS)
    driver.session.unsubscribe("jobs", "workers")
    driver.session.subscribe("mail", FAR)
    newer = driver.session.subscribe("jobs", FAR, WORKERS)
    driver.actions()
    driver.done()
    driver.say(Declined(request_number, "groups", "no"))
    assert (driver.done(), driver.ended(), driver.actions()) == ({}, [], [])
    driver.say(Subscribed(3))
    assert driver.done() == {newer: None}


def test_declined_when_it_has_left() -> None:
    """Who has left the group meanwhile is not told that it may not be a member."""
    driver = opened()
    driver.session.subscribe("jobs", FAR, WORKERS)
    driver.session.unsubscribe("jobs", "workers")
    driver.actions()
    driver.done()
    driver.say(Declined(1, "groups", "no"))
    assert (driver.done(), driver.ended(), driver.actions()) == ({}, [], [])


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("abandon", [True, False])
def test_a_membership_that_nobody_waits_for_is_withdrawn(*, connected: bool, abandon: bool) -> None:
    """One that expires or is abandoned is undone: the server is told, and the group can be joined again."""
    driver = joined("mail")
    if not connected:
        driver.lose()
    ticket = driver.session.subscribe("jobs", driver.now + 0.25, WORKERS)
    driver.actions()
    if abandon:
        driver.session.abandon(ticket)
    else:
        driver.wait(0.25)
        assert isinstance(failure(driver, ticket), ServerUnreachable)
    assert driver.actions() == ([Send(encode_command(Leave("jobs", "workers")))] if connected else [])
    driver.session.subscribe("jobs", FAR, WORKERS)


# Deliveries.


def test_a_delivery_of_a_group() -> None:
    """It tells the group as whose member the client has it, and is acknowledged like any other."""
    driver = joined("jobs.*")
    frame = data_frame("jobs.mail")
    driver.deliver(4, frame, attempt=2, group="jobs.*|workers")
    (delivery,) = driver.arrived()
    assert delivery == Delivery(read_contents(frame), 2, None, "jobs.*|workers")
    driver.session.handled(delivery, [])
    assert driver.sent() == [Ack([4])]


def test_a_failure_of_a_group() -> None:
    """What failed is reported, and the redelivery is shown again."""
    driver = joined()
    driver.deliver(1, data_frame("jobs"), group=QUEUE)
    driver.session.handled(driver.arrived()[0], [Failure(0, "x")])
    assert driver.sent() == [Nack(1, [Failure(0, "x")])]
    driver.deliver(2, data_frame("jobs"), attempt=2, group=QUEUE)
    assert len(driver.arrived()) == 1


def test_one_without_ack_is_not_answered() -> None:
    """Deliveries with ``ack=0`` are shown each time, and neither remembered nor acknowledged."""
    driver = joined()
    frame = data_frame("jobs", ack=0)
    driver.deliver(0, frame, group=QUEUE)
    driver.deliver(0, frame, group=QUEUE)
    assert driver.arrived() == [Delivery(read_contents(frame), 1, None, QUEUE)] * 2
    assert driver.actions() == []
    assert driver.session.inbox.duplicates == 0


def test_each_group_has_a_frame_for_itself() -> None:
    """A frame that came for one group, or for the subscriber, is no duplicate for another."""
    driver = joined("jobs")
    driver.session.subscribe("jobs", FAR)
    driver.session.subscribe("*", FAR, WORKERS)
    driver.actions()
    frame = data_frame("jobs")
    queues = ["jobs|workers", None, "*|workers"]
    for number, group in enumerate(queues, 1):
        driver.deliver(number, frame, group=group)
    arrived = driver.arrived()
    assert [delivery.group for delivery in arrived] == queues
    for delivery in arrived[:2]:
        driver.session.handled(delivery, [])
    assert driver.sent() == [Ack([1, 2])]
    for number, group in enumerate(queues, 4):
        driver.deliver(number, frame, attempt=2, group=group)
    assert driver.arrived() == []
    assert driver.sent() == [Ack([4, 5])]
    assert driver.session.inbox.duplicates == 3
    driver.session.handled(arrived[2], [])
    assert driver.sent() == [Ack([6])]


def test_a_delivery_of_another_group_is_ignored() -> None:
    """What still arrives after leaving, or was never asked for, is not shown, though its name is subscribed to."""
    driver = joined()
    driver.session.subscribe("jobs", FAR)
    driver.session.unsubscribe("jobs", "workers")
    driver.actions()
    for number, group in enumerate(["jobs|workers", "jobs|others", "*|workers"], 1):
        driver.deliver(number, data_frame("jobs"), group=group)
        driver.deliver(number, data_frame("jobs", ack=0), group=group)
    assert driver.arrived() == []
    assert driver.actions() == []


def test_a_member_is_no_subscriber() -> None:
    """What comes for subscribers is not for who is only a member."""
    driver = joined()
    driver.deliver(1, data_frame("jobs"))
    driver.session.broadcast(data_frame("jobs", ack=0), driver.now)
    assert driver.arrived() == []


# Patterns.


def test_a_pattern_listens_to_what_it_may_match() -> None:
    """The SUB socket takes what begins as the pattern does; what does not match is not shown."""
    driver = opened()
    driver.session.subscribe("jobs.*.urgent", FAR)
    token = driver.tokens[-1]
    assert driver.actions() == [
        Listen(b"jobs."),
        Listen(token),
        Send(encode_command(Subscribe(1, ["jobs.*.urgent"], token))),
    ]
    driver.say(Subscribed(1))
    for name in ("jobs.mail", "jobs.mail.urgent", "jobs.mail.urgent.now", "jobs.urgent"):
        driver.session.broadcast(data_frame(name, ack=0), driver.now)
        driver.deliver(1, data_frame(name))
    assert [delivery.contents.header.name for delivery in driver.arrived()] == ["jobs.mail.urgent"] * 2
    driver.actions()
    driver.session.unsubscribe("jobs.*.urgent")
    assert driver.actions() == [Ignore(b"jobs."), Send(encode_command(Unsubscribe("jobs.*.urgent")))]
