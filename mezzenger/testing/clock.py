"""Time that passes only when it is told to."""

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count

Act = Callable[[], object]
"""What is to be done."""


class Alarms:
    """What is to be done, and when; at the same time, in the order in which it was set. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Act]] = []
        self._numbers = count()
        self._lock = threading.Lock()

    def set(self, moment: float, act: Act) -> None:
        """Have something done at a moment."""
        with self._lock:
            heapq.heappush(self._waiting, (moment, next(self._numbers), act))

    def next_moment(self) -> float | None:
        """When something is to be done next, if anything is."""
        with self._lock:
            return self._waiting[0][0] if self._waiting else None

    def take(self, now: float) -> tuple[float, Act] | None:
        """Take out what is to be done first, and when it was to be done, if that is due."""
        with self._lock:
            if not self._waiting or self._waiting[0][0] > now:
                return None
            moment, _, act = heapq.heappop(self._waiting)
            return moment, act


class FakeClock:
    """A clock that stands still until somebody moves it, and alarms by that clock.

    Args:
        start: What it shows at first, in Unix seconds; without it, the time of now.
    """

    def __init__(self, start: float | None = None) -> None:
        self.now = time.time() if start is None else start
        self._alarms = Alarms()

    def __call__(self) -> float:
        """Return what it shows, as ``time.time`` and ``time.monotonic`` do."""
        return self.now

    def after(self, seconds: float, act: Act) -> None:
        """Have something done when so many seconds have passed; what is due at the same time, in this order.

        It may be anything that a test may do, such as ``lambda: server.cut(client)``.
        """
        self._alarms.set(self.now + seconds, act)

    def next_alarm(self) -> float | None:
        """When something is to be done next, if anything is."""
        return self._alarms.next_moment()

    def move(self, now: float) -> None:
        """Show another time, which is never earlier; what is due by then is done, each at its moment."""
        while (alarm := self._alarms.take(now)) is not None:
            moment, act = alarm
            self.now = max(self.now, moment)
            act()
        self.now = max(self.now, now)
