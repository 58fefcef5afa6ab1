"""Numbers for what somebody waits for, and when each wait is over."""

import heapq
from typing import Final

from mezzenger.errors import ClientStopped, MezzengerError
from mezzenger.protocol.commands import Answer
from mezzenger.protocol.events import Done, Event
from mezzenger.protocol.wire import Contents

SLOW: Final = ("it is slow to answer", "it is slow to answer, or has no room for the message yet (overflow: block)")
"""Why a server that is there may not have answered: anything, and a publish that it was sent."""

_SPARE: Final = 64
"""Deadlines of tickets that are done which are kept at most, beside as many as there are tickets."""


class Tickets:
    """The tickets that are not done, with their deadlines.

    Args:
        events: What is done is told there.
    """

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self._closed_by: MezzengerError | None = None
        self._last = 0
        self._waiting: set[int] = set()
        self._deadlines: list[tuple[float, int]] = []

    def require_open(self) -> None:
        """Do nothing unless ``close`` was called; then raise the error that it was given, or ClientStopped."""
        if self._closed_by is not None:
            # One error is raised many times; its traceback must not grow each time.
            raise self._closed_by.with_traceback(None)

    def close(self, error: MezzengerError | None) -> None:
        """Issue no more tickets; all that are not done fail."""
        self._closed_by = error or ClientStopped("the client was stopped; make a new one")
        for ticket in sorted(self._waiting):
            self.done(ticket, error or ClientStopped("the client was stopped before this was done"))

    def issue(self, deadline: float) -> int:
        """Return a new ticket; raises as ``require_open``."""
        self.require_open()
        self._last += 1
        if len(self._deadlines) > 2 * len(self._waiting) + _SPARE:
            # Behind a deadline that is near, those of what is done long before would pile up.
            self._deadlines = [(moment, number) for moment, number in self._deadlines if number in self._waiting]
            heapq.heapify(self._deadlines)
        self._waiting.add(self._last)
        heapq.heappush(self._deadlines, (deadline, self._last))
        return self._last

    def redeem(self, ticket: int) -> bool:
        """Take a ticket out; False if it is done already."""
        if ticket not in self._waiting:
            return False
        self._waiting.remove(ticket)
        return True

    def done(self, ticket: int, error: MezzengerError | None = None, answer: Answer | Contents | None = None) -> None:
        """Tell that what a ticket stands for is done, or failed."""
        self.redeem(ticket)
        self._events.append(Done(ticket, error, answer))

    def expired(self, now: float) -> list[int]:
        """Return the tickets whose deadline has come; each is returned once."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, ticket = heapq.heappop(self._deadlines)
            if ticket in self._waiting:
                expired.append(ticket)
        return expired

    def next_deadline(self) -> float | None:
        """Return when the next ticket expires."""
        while self._deadlines and self._deadlines[0][1] not in self._waiting:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None
