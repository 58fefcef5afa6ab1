"""A client's session: what it asks the server, and what comes of the answers."""

from functools import partial

import pytest

from mezzenger.errors import ClientStopped, Rejected, ServerUnreachable
from mezzenger.protocol.commands import Completed, DropDead, Failed, Letters, ShowDead
from mezzenger.protocol.states import State
from tests.protocol.session_driver import Driver, failure, opened

QUESTION = ShowDead(1, 5)
ANSWER = Letters(1, [])


def test_open() -> None:
    """Asked at once; the answer comes with the ticket."""
    driver = opened()
    ticket = driver.ask()
    assert driver.sent() == [QUESTION]
    driver.say(ANSWER)
    assert driver.answers() == {ticket: ANSWER}


def test_each_has_its_own_request() -> None:
    """Two questions alike are told apart, in whatever order they are answered."""
    driver = opened()
    first, second = driver.ask(), driver.ask(partial(DropDead, numbers=[7]))
    assert driver.sent() == [QUESTION, DropDead(2, [7])]
    driver.say(Completed(2, 1))
    assert driver.answers() == {second: Completed(2, 1)}
    driver.say(ANSWER)
    assert driver.answers() == {first: ANSWER}


def test_not_yet_connected() -> None:
    """Asked when the connection stands."""
    driver = Driver()
    driver.session.start(driver.now)
    driver.actions()
    ticket = driver.ask()
    assert driver.sent() == []
    driver.link()
    assert driver.sent() == [QUESTION]
    driver.say(ANSWER)
    assert driver.answers() == {ticket: ANSWER}


def test_again_on_a_new_connection() -> None:
    """What was not answered when the connection broke is asked again; what was, is not."""
    driver = opened()
    driver.ask()
    second = driver.ask(partial(DropDead, numbers=[7]))
    driver.say(ANSWER)
    driver.answers()
    driver.reconnect()
    assert driver.sent() == [DropDead(2, [7])]
    driver.say(Completed(2, 0))
    assert driver.answers() == {second: Completed(2, 0)}
    driver.reconnect()
    assert driver.sent() == []


def test_answered_once() -> None:
    """A second answer, and one to a question that nobody asked, are ignored."""
    driver = opened()
    ticket = driver.ask()
    driver.say(Completed(99, 1), ANSWER, ANSWER, Failed(1, "storage", "no"))
    assert driver.answers() == {ticket: ANSWER}
    assert driver.state() is State.OPEN


def test_failed() -> None:
    """A refusal is an error with the server's reason and text."""
    driver = opened()
    ticket = driver.ask()
    driver.say(Failed(1, "storage", "message 5 is damaged"))
    error = failure(driver, ticket)
    assert isinstance(error, Rejected)
    assert (error.reason, str(error)) == ("storage", "message 5 is damaged (storage)")
    driver.reconnect()
    assert driver.sent() == []


def test_not_answered_in_time() -> None:
    """It ends with an error at its deadline, and is not asked again; a late answer is ignored."""
    driver = opened()
    ticket = driver.ask(deadline=driver.now + 2.0)
    driver.wait(1.9)
    assert driver.done() == {}
    driver.wait(0.1)
    assert isinstance(failure(driver, ticket), ServerUnreachable)
    driver.say(ANSWER)
    assert driver.done() == {}
    driver.reconnect()
    assert driver.sent() == []


def test_abandoned() -> None:
    """Nobody is told, and it is not asked again; others are."""
    driver = opened()
    ticket = driver.ask()
    driver.ask(partial(DropDead, numbers=[7]))
    driver.session.abandon(ticket)
    driver.reconnect()
    assert driver.sent() == [DropDead(2, [7])]
    driver.say(ANSWER)
    assert driver.done() == {}


def test_closed() -> None:
    """What is not answered fails; what is asked afterwards fails at once, and asks nothing."""
    driver = opened()
    ticket = driver.ask()
    driver.session.close()
    assert isinstance(failure(driver, ticket), ClientStopped)
    driver.actions()
    with pytest.raises(ClientStopped):
        driver.ask()
    assert driver.sent() == []
