"""Time that passes only when it is told to."""

import heapq
import time
from collections.abc import Callable
from itertools import count


class FakeClock:
    """A clock that stands still until somebody moves it, and alarms by that clock.

    Args:
        start: What it shows at first, in Unix seconds; without it, the time of now.
    """

    def __init__(self, start: float | None = None) -> None:
        self.now = time.time() if start is None else start
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def __call__(self) -> float:
        """Return what it shows, as ``time.time`` and ``time.monotonic`` do."""
        return self.now

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something done when so many seconds have passed; what is due at the same time, in this order."""
        heapq.heappush(self._alarms, (self.now + seconds, next(self._numbers), act))

    def next_alarm(self) -> float | None:
        """When something is to be done next, if anything is."""
        return self._alarms[0][0] if self._alarms else None

    def move(self, now: float) -> None:
        """Show another time, which is never earlier; what is due by then is done, each at its moment."""
        while self._alarms and self._alarms[0][0] <= now:
            due, _, act = heapq.heappop(self._alarms)
            self.now = max(self.now, due)
            act()
        self.now = max(self.now, now)
