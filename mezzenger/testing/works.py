"""What makes everything happen in memory: frames, commits, callbacks, and the passing of time."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from mezzenger.client.log import log
from mezzenger.errors import MezzengerError
from mezzenger.protocol.session import ClientSession
from mezzenger.testing.clock import FakeClock
from mezzenger.testing.line import MemoryLine
from mezzenger.testing.server import MemoryServer

_GRAIN: Final = 1e-6
"""Seconds; less than that is lost when times are added."""
_ENDLESS: Final = 50_000
"""Frames with messages that are sent at one moment, after which it is said that there is no end to them."""


class Works:
    """Does what is to be done, one thing after the other, on the thread that asks for it. Any thread may.

    Args:
        server: Of all clients.
        clock: Of all.
    """

    def __init__(self, server: MemoryServer, clock: FakeClock) -> None:
        self._server = server
        self._clock = clock
        self.receivers: list[Callable[[], bool]] = []
        """Each runs the next callback of one client; and returns whether there was one to run."""
        self.carried = 0
        """How often something was sent; as long as this rises, something happens."""
        self.waiting: set[object] = set()
        """Tasks of asyncio loops that wait for an answer of the server."""
        self._lines: list[MemoryLine] = []
        self._under_way: deque[Callable[[], None]] = deque()
        self._untold: deque[Callable[[], None]] = deque()
        """What tells the log something."""
        # Held while frames are carried; never while callbacks run, alarms, or handlers of the log: these may do, and
        # wait for, what they like.
        self._lock = threading.Lock()
        self._bell = threading.Condition()
        """Rung when there is something to do, or a callback has returned."""
        self._busy: list[int] = []
        """Threads that run callbacks or alarms; one that waits within one of these is not among them."""

    # For clients.

    def new_line(self, session: ClientSession) -> MemoryLine:
        """Make the line of a session."""
        line = MemoryLine(session, self._server, self._clock, self._carry)
        self._lines.append(line)
        return line

    def log(self, level: int, text: str, *values: object) -> None:
        """Have the log tell something, as soon as its handlers may use clients."""
        self._untold.append(partial(log, level, text, *values))

    def step(self) -> None:
        """Do something that is to be done; if nothing is, let time pass until something is."""
        if not self.move() and not self._call_next():
            self._let_time_pass()

    # For who tests.

    def settle(self) -> None:
        """Do all that is to be done, without letting time pass."""
        began = self.sent
        while self.move() or self._call_next():
            self.check_end(began)

    def check_end(self, began: int) -> None:
        """Do nothing if few messages were sent at this moment; callbacks alone come to an end, however many they are.

        Args:
            began: What ``sent`` was when it began.

        Raises:
            MezzengerError: It is likely that each callback sends what makes another one run.
        """
        if self.sent - began > _ENDLESS:
            raise MezzengerError(f"no end after {_ENDLESS} messages: each callback sends what makes another one run")

    @property
    def sent(self) -> int:
        """How many frames with messages the server has taken."""
        return self._server.messages

    def advance(self, seconds: float) -> None:
        """Let time pass; everything happens at its moment."""
        self.settle()
        for _ in self.moments(seconds):
            self.settle()

    def moments(self, seconds: float) -> Iterator[None]:
        """Let time pass, from one moment at which something is due to the next, and to the end."""
        end = self._clock.now + seconds
        while (moment := self._next_moment()) is not None and moment <= end + _GRAIN:
            self._pass(moment)
            yield
        self._pass(end)
        yield

    def do(self, act: Callable[[], None]) -> None:
        """Have something happen, and all that follows from it at once."""
        with self._lock:
            act()
        self.move()

    def move(self) -> bool:
        """Carry all that is under way, store, and do what is due now; return whether there was anything."""
        has_moved = False
        while self._move_all() or self._tell():
            has_moved = True
        return has_moved

    # Inside.

    def _carry(self, act: Callable[[], None]) -> None:
        self._under_way.append(act)
        self.carried += 1
        self._ring()

    def _ring(self) -> None:
        with self._bell:
            self._bell.notify_all()

    def _move_all(self) -> bool:
        has_moved = False
        with self._lock:
            while self._move_one():
                has_moved = True
        return has_moved

    def _tell(self) -> bool:
        """Tell the log what it is to be told; return whether there was something."""
        try:
            tell = self._untold.popleft()
        except IndexError:
            return False
        tell()
        return True

    def _move_one(self) -> bool:
        if self._under_way:
            self._under_way.popleft()()
        elif self._server.has_work:
            self._server.work()
        else:
            return self._do_due()
        return True

    def _do_due(self) -> bool:
        """Tell of the time who wants to know; return whether there was somebody, and has done it."""
        has_done = False
        for next_deadline, tick in [
            (self._server.next_deadline, self._server.tick),
            *((line.session.next_deadline, line.wake) for line in self._lines),
        ]:
            if self._is_due(next_deadline()):
                tick()
                # The client of a loop that runs in another thread does it later.
                has_done |= not self._is_due(next_deadline())
        return has_done

    def _is_due(self, deadline: float | None) -> bool:
        return deadline is not None and deadline <= self._clock.now

    def _call_next(self) -> bool:
        with self._at_work():
            return any(call_next() for call_next in self.receivers)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Have time pass for nobody who waits on another thread."""
        me = threading.get_ident()
        with self._bell:
            self._busy.append(me)
        try:
            yield
        finally:
            with self._bell:
                self._busy.remove(me)
                self._bell.notify_all()

    def _let_time_pass(self) -> None:
        me = threading.get_ident()
        with self._bell:
            # This thread waits, also if callbacks of it are under way.
            mine, self._busy = self._busy.count(me), [thread for thread in self._busy if thread != me]
            try:
                if self._busy:
                    # A callback on another thread takes no time at all, however long it takes.
                    if not self._under_way:
                        self._bell.wait()
                    return
            finally:
                self._busy += [me] * mine
        moment = self._next_moment()
        if moment is None:
            raise MezzengerError("this would wait forever: nothing is under way, and nothing is ever due")
        self._pass(moment)

    def _next_moment(self) -> float | None:
        moments = [self._clock.next_alarm(), self._server.next_deadline()]
        moments += [line.session.next_deadline() for line in self._lines]
        return min((moment for moment in moments if moment is not None), default=None)

    def _pass(self, moment: float) -> None:
        with self._at_work():
            self._clock.move(moment)
