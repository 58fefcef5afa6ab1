"""Numbers for what somebody waits for, and when each wait is over."""

import heapq


class Tickets:
    """The tickets that are not done, with their deadlines."""

    def __init__(self) -> None:
        self._last = 0
        self._waiting: set[int] = set()
        self._deadlines: list[tuple[float, int]] = []

    def issue(self, deadline: float) -> int:
        """Return a new ticket."""
        self._last += 1
        self._waiting.add(self._last)
        heapq.heappush(self._deadlines, (deadline, self._last))
        return self._last

    def redeem(self, ticket: int) -> bool:
        """Take a ticket out; False if it is done already."""
        if ticket not in self._waiting:
            return False
        self._waiting.remove(ticket)
        return True

    def waiting(self) -> list[int]:
        """Return all tickets that are not done, oldest first."""
        return sorted(self._waiting)

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
