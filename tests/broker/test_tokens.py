"""Tokens surface and are named in either order."""

import pytest

from mezzenger.broker import tokens
from mezzenger.broker.tokens import Tokens
from tests.broker.broker_driver import LINK_TIMEOUT, START, A, Driver, link_token, token_of

ONE, TWO, THREE = token_of("1"), token_of("2"), token_of("3")


class Waiter:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, now: float) -> None:
        assert now == START
        self.calls += 1


def test_either_order() -> None:
    """Whoever waits for a token is called once, when both have come."""
    known = Tokens()
    first, second = Waiter(), Waiter()
    known.expect(ONE, first, START)
    known.surfaced(TWO, START)
    assert (first.calls, second.calls) == (0, 0)
    known.expect(TWO, second, START)
    known.surfaced(ONE, START)
    assert (first.calls, second.calls) == (1, 1)
    known.surfaced(ONE, START)
    assert first.calls == 1


def test_a_token_is_claimed_once() -> None:
    """A token that has answered one has to surface again to answer another."""
    known = Tokens()
    first, second = Waiter(), Waiter()
    known.surfaced(ONE, START)
    known.expect(ONE, first, START)
    known.expect(ONE, second, START)
    assert (first.calls, second.calls) == (1, 0)
    known.surfaced(ONE, START)
    assert (first.calls, second.calls) == (1, 1)


def test_waited_for() -> None:
    """A token is waited for from when it is named until it surfaces or is forgotten."""
    known = Tokens()
    assert ONE not in known
    known.expect(ONE, Waiter(), START)
    assert ONE in known
    known.surfaced(ONE, START)
    assert ONE not in known
    known.surfaced(TWO, START)
    assert TWO not in known
    known.expect(THREE, Waiter(), START)
    known.forget(THREE)
    assert THREE not in known


@pytest.mark.parametrize("surfaced_first", [True, False])
def test_forgotten(surfaced_first: bool) -> None:
    """A token that is forgotten has neither surfaced nor is it waited for; one that nobody knows may be forgotten."""
    known = Tokens()
    waiter = Waiter()
    known.forget(ONE)
    if surfaced_first:
        known.surfaced(ONE, START)
        known.forget(ONE)
        known.expect(ONE, waiter, START)
    else:
        known.expect(ONE, waiter, START)
        known.forget(ONE)
        known.surfaced(ONE, START)
    assert waiter.calls == 0


def test_unclaimed_tokens_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the tokens that nobody has named, the oldest is forgotten beyond the limit."""
    monkeypatch.setattr(tokens, "MAX_UNCLAIMED", 2)
    known = Tokens()
    waiters = {ONE: Waiter(), TWO: Waiter(), THREE: Waiter()}
    for token in waiters:
        known.surfaced(token, START)
    for token, waiter in waiters.items():
        known.expect(token, waiter, START)
    assert [waiter.calls for waiter in waiters.values()] == [0, 1, 1]


def test_a_token_that_sank_before_hello() -> None:
    """A link token that is gone by the time of Hello does not link."""
    driver = Driver()
    driver.broker.surfaced(link_token(A), driver.now)
    driver.sink(A)
    driver.hello(A)
    assert len(driver.sent(A)) == 1
    driver.wait(LINK_TIMEOUT)
    assert driver.goodbye(A) == ("link", True)
