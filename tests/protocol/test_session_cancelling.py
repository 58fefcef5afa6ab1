"""What becomes of something that nobody wants to wait for any more: it is known whether it was sent."""

import pytest

from mezzenger.protocol.commands import Confirm
from mezzenger.protocol.events import Fate
from mezzenger.protocol.outgoing import Draft
from tests.protocol.session_driver import FAR, Data, Driver, opened


@pytest.mark.parametrize("ack", [0, 1])
def test_what_was_not_sent_is_not_sent(ack: int) -> None:
    """A message that is held back is given up, the others are not."""
    driver = Driver()
    tickets = [driver.ticket(payload, ack=ack) for payload in (b"1", b"2", b"3")]
    assert driver.session.cancel(tickets[1]) is Fate.UNSENT
    driver.session.start(driver.now)
    driver.actions()
    driver.link()
    assert [command.payload for command in driver.sent() if isinstance(command, Data)] == [b"1", b"3"]
    assert tickets[1] not in driver.done()


def test_what_is_held_by_the_window_is_not_sent() -> None:
    """The same, when the connection stands and the window is full."""
    driver = opened(window=1)
    driver.ticket(b"1")
    assert driver.session.cancel(driver.ticket(b"2")) is Fate.UNSENT
    driver.actions()
    driver.say(Confirm([1]))
    assert driver.sent() == []


def test_what_is_stored_soon_is_waited_for() -> None:
    """A message with ack=1 that was sent keeps its ticket, and is sent again after a break; the ticket tells."""
    driver = opened()
    first, second = driver.ticket(b"1"), driver.ticket(b"2")
    assert driver.session.cancel(second) is Fate.UNDER_WAY
    driver.reconnect()
    assert driver.sent() == [Data("a", 1, b"1"), Data("a", 2, b"2")]
    driver.say(Confirm([2]))
    assert driver.done() == {second: None}
    assert driver.session.cancel(first) is Fate.UNDER_WAY
    driver.session.abandon(first)
    driver.reconnect()
    assert driver.sent() == []


@pytest.mark.parametrize("sent", [True, False])
def test_a_request_is_given_up(sent: bool) -> None:
    """Nobody knows what comes of a request that was sent; one that was not is not sent any more."""
    driver = opened() if sent else Driver()
    ticket = driver.session.request(Draft("a", [(1.5, b"x")], 0, 1), driver.now, FAR)
    assert driver.session.cancel(ticket) is (Fate.UNKNOWN if sent else Fate.UNSENT)
    driver.actions()
    if not sent:
        driver.session.start(driver.now)
        driver.actions()
        driver.link()
        assert driver.sent() == []
    driver.wait(FAR)
    assert driver.done() == {}


def test_all_else_is_given_up() -> None:
    """A question, a flush, a subscription, and what was done before: nobody is told of them."""
    driver = opened()
    done = driver.ticket()
    driver.say(Confirm([1]))
    assert driver.done() == {done: None}
    for ticket in (driver.ask(), driver.flush(), driver.session.subscribe("a", FAR), done):
        assert driver.session.cancel(ticket) is Fate.UNKNOWN
    driver.wait(FAR)
    assert driver.done() == {}
