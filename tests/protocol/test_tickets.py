"""Tickets: each is issued once, redeemed once and expires once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mezzenger.errors import ClientStopped, ServerUnreachable
from mezzenger.protocol.commands import Completed
from mezzenger.protocol.events import Done, Event
from mezzenger.protocol.tickets import Tickets


def test_tickets_differ() -> None:
    """No number is given out twice, not even after its ticket was redeemed."""
    tickets = Tickets([])
    first = tickets.issue(1.0)
    assert tickets.redeem(first)
    second = tickets.issue(1.0)
    assert first != second
    assert not tickets.redeem(first)
    assert tickets.redeem(second)


def test_a_ticket_is_redeemed_once() -> None:
    """Only the first who redeems a ticket may report it; unknown ones are refused."""
    tickets = Tickets([])
    ticket = tickets.issue(1.0)
    assert tickets.redeem(ticket)
    assert not tickets.redeem(ticket)
    assert not tickets.redeem(ticket + 1)


def test_a_ticket_expires_once_at_its_deadline() -> None:
    """It expires at its deadline, not before, and not again; expiring alone does not redeem it."""
    tickets = Tickets([])
    ticket = tickets.issue(2.0)
    assert tickets.expired(1.875) == []
    assert tickets.expired(2.0) == [ticket]
    assert tickets.expired(3.0) == []
    assert tickets.redeem(ticket)


def test_the_next_deadline_is_of_a_ticket_that_waits() -> None:
    """Tickets that are done are passed over."""
    tickets = Tickets([])
    assert tickets.next_deadline() is None
    first, second = tickets.issue(1.0), tickets.issue(2.0)
    assert tickets.next_deadline() == 1.0
    tickets.redeem(first)
    assert tickets.next_deadline() == 2.0
    tickets.redeem(second)
    assert tickets.next_deadline() is None


def test_a_redeemed_ticket_does_not_expire() -> None:
    """What is done in time is not given up later."""
    tickets = Tickets([])
    tickets.redeem(tickets.issue(1.0))
    second = tickets.issue(1.0)
    assert tickets.expired(1.0) == [second]


def test_what_is_done_is_told() -> None:
    """With its error or its answer; the ticket is redeemed by that."""
    events: list[Event] = []
    tickets = Tickets(events)
    first, second = tickets.issue(1.0), tickets.issue(1.0)
    error, answer = ServerUnreachable("no"), Completed(1, 2)
    tickets.done(second, error)
    tickets.done(first, answer=answer)
    assert events == [Done(second, error), Done(first, None, answer)]
    assert not tickets.redeem(first)


def test_closed() -> None:
    """What is not done fails, the oldest first, and nothing can be asked for any more."""
    events: list[Event] = []
    tickets = Tickets(events)
    tickets.require_open()
    first, second, third = (tickets.issue(1.0) for _ in range(3))
    tickets.redeem(second)
    tickets.close(None)
    assert [event.ticket for event in events if isinstance(event, Done)] == [first, third]
    assert all(isinstance(event, Done) and isinstance(event.error, ClientStopped) for event in events)
    for refused in (tickets.require_open, lambda: tickets.issue(1.0)):
        with pytest.raises(ClientStopped, match="make a new one"):
            refused()


def test_closed_for_a_reason() -> None:
    """The error that ended it is what everybody gets."""
    events: list[Event] = []
    tickets = Tickets(events)
    ticket, error = tickets.issue(1.0), ServerUnreachable("no")
    tickets.close(error)
    assert events == [Done(ticket, error)]
    with pytest.raises(ServerUnreachable) as caught:
        tickets.issue(1.0)
    assert caught.value is error


def test_deadlines_of_what_is_done_do_not_pile_up() -> None:
    """Not even behind one that is near and waits; those that wait are kept."""
    tickets = Tickets([])
    near = tickets.issue(1.0)
    for _ in range(10_000):
        tickets.redeem(tickets.issue(2.0))
    assert len(tickets._deadlines) < 100
    far = tickets.issue(2.0)
    assert tickets.expired(2.0) == [near, far]


@given(deadlines=st.lists(st.integers(0, 9)), redeemed=st.sets(st.integers(1, 10)), now=st.integers(0, 9))
def test_any_deadlines(deadlines: list[int], redeemed: set[int], now: int) -> None:
    """Whatever is redeemed, exactly the other tickets whose time has come expire, earliest first."""
    tickets = Tickets([])
    issued = {tickets.issue(deadline): deadline for deadline in deadlines}
    waiting = {ticket: deadline for ticket, deadline in issued.items() if ticket not in redeemed}
    for ticket in redeemed:
        assert tickets.redeem(ticket) is (ticket in issued)
    expired = tickets.expired(now)
    due = [ticket for ticket, deadline in waiting.items() if deadline <= now]
    assert expired == sorted(due, key=lambda ticket: (issued[ticket], ticket))
    assert tickets.next_deadline() == min((waiting[ticket] for ticket in waiting if ticket not in due), default=None)
