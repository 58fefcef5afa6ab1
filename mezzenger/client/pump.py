"""Threads around one session: any of them may use it, and one at a time waits on the sockets for all.

The one who waits is the leader. With an I/O thread, that thread leads for good; without one (``auto_start=False``)
whoever waits for an answer leads until it is there, and passes the lead on to the next who still waits.
"""

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from mezzenger.client.connection import Connection
from mezzenger.errors import MezzengerError
from mezzenger.protocol.commands import Answer
from mezzenger.protocol.events import Arrived, Delivery, Ended
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import State
from mezzenger.protocol.wire import Contents

_LONGEST_WAIT: Final = 60.0
_AT_ONCE: Final = 0.0
_FRESH: Final = 0.1
"""Seconds; shorter than any silence that matters."""

R = TypeVar("R")

logger = logging.getLogger("mezzenger.client")


class Waiter:
    """Somebody who waits: for a ticket, or for the lead."""

    def __init__(self, ticket: int = 0) -> None:
        self.ticket = ticket
        self.event = threading.Event()
        self.is_done = False
        self.error: MezzengerError | None = None
        self.answer: Answer | Contents | None = None


class Pump:
    """Runs a session with real sockets.

    Args:
        session: To be used through this object only.
        connection: Its sockets.
        arrived: Is given what comes for callbacks; called with the lock held, so it must not wait.
        ended: Is told of subscriptions that are active no more; likewise.
    """

    def __init__(
        self,
        session: ClientSession,
        connection: Connection,
        arrived: Callable[[Sequence[Delivery]], None],
        ended: Callable[[Ended], None],
    ) -> None:
        self.session = session
        self._connection = connection
        self._arrived = arrived
        self._ended = ended
        self._lock = threading.Lock()
        self._waiting: dict[int, Waiter] = {}
        self._followers: dict[Waiter, None] = {}
        self._leader_deadline: float | None = None
        """When the leader will look by itself; None if there is no leader."""
        self._generation = -1
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)  # noqa: FBT003  # the standard library's way
        self._received = 0.0
        self._selector: selectors.BaseSelector | None = None
        self._state = session.state
        self.before_sleep: Callable[[], float | None] = lambda: None
        """Called by the leader, without the lock; returns when it is to be called again, at the latest."""

    def run(self, request: Callable[[ClientSession, float], R]) -> R:
        """Use the session for what needs no waiting."""
        with self._lock:
            try:
                return request(self.session, self._take_in())
            finally:
                self._carry_out()

    def submit(self, request: Callable[[ClientSession, float], int | None]) -> Waiter | None:
        """Use the session for what gives a ticket; ``wait`` for what is returned, unless that is None."""
        with self._lock:
            try:
                ticket = request(self.session, self._take_in())
                if ticket is None:
                    return None
                waiter = self._waiting[ticket] = Waiter(ticket)
                return waiter
            finally:
                self._carry_out()

    def submit_all(self, request: Callable[[ClientSession, float], Sequence[int | None]]) -> list[Waiter]:
        """Use the session for what gives several tickets, some of which may be done; ``wait`` for each returned."""
        with self._lock:
            try:
                waiters = [Waiter(ticket) for ticket in request(self.session, self._take_in()) if ticket is not None]
                self._waiting.update((waiter.ticket, waiter) for waiter in waiters)
                return waiters
            finally:
                self._carry_out()

    def wake_by(self, deadline: float) -> None:
        """See to it that the leader calls ``before_sleep`` at that time."""
        leader_deadline = self._leader_deadline
        # A leader that is not asleep has asked already, and does not know yet.
        if leader_deadline is None or not _AT_ONCE < leader_deadline <= deadline:
            self._wake()

    def wait(self, waiter: Waiter | None) -> None:
        """Wait until a ticket is done.

        Raises:
            MezzengerError: It has failed.
        """
        if waiter is None:
            return
        try:
            self._lead_or_follow(waiter, lambda: waiter.is_done)
        except BaseException:
            self.abandon(waiter)
            raise
        if waiter.error is not None:
            raise waiter.error

    def answer(self, waiter: Waiter | None) -> Answer:
        """Wait until a question is answered.

        Raises:
            MezzengerError: It was refused, or not answered in time.
        """
        self.wait(waiter)
        if waiter is None or waiter.answer is None or isinstance(waiter.answer, Contents):
            raise TypeError("this was no question")
        return waiter.answer

    def returned(self, waiter: Waiter | None) -> Contents:
        """Wait until a request is answered; return what its responder returned.

        Raises:
            MezzengerError: It has no result, or not in time.
        """
        self.wait(waiter)
        if waiter is None or not isinstance(waiter.answer, Contents):
            raise TypeError("this was no request")
        return waiter.answer

    def abandon(self, waiter: Waiter | None) -> None:
        """Wait no more for a ticket."""
        if waiter is not None and not waiter.is_done:
            with self._lock:
                self._waiting.pop(waiter.ticket, None)
                self.session.abandon(waiter.ticket)
                self._carry_out()

    def lead(self) -> None:
        """Pump until the session is closed."""
        try:
            self._lead_or_follow(Waiter(), lambda: self.session.state is State.CLOSED)
        except Exception as error:
            logger.exception("the client fails")
            self.close(MezzengerError(f"the client has failed, see its log: {error!r}"))

    def close(self, error: MezzengerError | None = None) -> None:
        """Close the session; whoever waits gets an error."""
        with self._lock:
            self.session.close(error)
            self._carry_out()
            self._wake()
            self._pass_lead_on()

    # Waiting, without the lock.

    def _lead_or_follow(self, waiter: Waiter, is_over: Callable[[], bool]) -> None:
        try:
            while not is_over():
                with self._lock:
                    leads = self._leader_deadline is None
                    if leads:
                        self._leader_deadline = _AT_ONCE
                    else:
                        self._followers[waiter] = None
                if leads:
                    self._lead(is_over)
                else:
                    waiter.event.wait()
                    waiter.event.clear()
        finally:
            with self._lock:
                self._followers.pop(waiter, None)
                self._pass_lead_on()

    def _lead(self, is_over: Callable[[], bool]) -> None:
        try:
            while not is_over():
                due = self.before_sleep()
                with self._lock:
                    now = time.monotonic()
                    self._receive(now)
                    self._log_state()
                    selector = self._selector_of_now()
                    deadline = self.session.next_deadline()
                    deadlines = (now + _LONGEST_WAIT, deadline, due)
                    self._leader_deadline = min(moment for moment in deadlines if moment is not None)
                    is_awake = self._connection.is_awake()
                if not is_awake and not is_over():
                    selector.select(max(self._leader_deadline - now, 0.0))
                    self._drain_wakes()
        finally:
            with self._lock:
                self._leader_deadline = None

    def _pass_lead_on(self) -> None:
        if self._leader_deadline is None:
            for follower in self._followers:
                follower.event.set()
                return
            self._dispose()

    def _dispose(self) -> None:
        """Close what waiting needs, once nobody will ever wait again."""
        if self.session.state is State.CLOSED:
            self._wake_reader.close()
            self._wake_writer.close()
            if self._selector is not None:
                self._selector.close()

    def _selector_of_now(self) -> selectors.BaseSelector:
        if self._selector is None or self._generation != self._connection.generation:
            if self._selector is not None:
                self._selector.close()
            self._generation = self._connection.generation
            self._selector = selectors.DefaultSelector()
            for descriptor in (*self._connection.descriptors(), self._wake_reader.fileno()):
                self._selector.register(descriptor, selectors.EVENT_READ)
        return self._selector

    def _drain_wakes(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass

    # With the lock held.

    def _take_in(self) -> float:
        """Let the session see what has arrived before it is used: it must not count a silence that is over."""
        now = time.monotonic()
        if now - self._received > _FRESH:
            self._receive(now)
        return now

    def _carry_out(self) -> None:
        """Do what the session asks for, tell those who wait, and see to it that the rest is done."""
        now = time.monotonic()
        self._connection.perform(now)
        self._pass_on()
        if self._leader_deadline is None:
            # Nobody waits on the sockets: what a use of them may have hidden must be taken in now.
            if self._connection.has_more():
                self._receive(now)
        elif self._leader_sleeps_wrongly() or self._connection.has_more():
            self._wake()
        self._log_state()

    def _receive(self, now: float) -> None:
        """Take in what has arrived."""
        self._received = now
        self._connection.receive(now)
        self._connection.perform(now)
        self._pass_on()

    def _leader_sleeps_wrongly(self) -> bool:
        """Whether the leader sleeps too long, or on descriptors that are no more."""
        deadline = self.session.next_deadline()
        is_earlier = deadline is not None and self._leader_deadline is not None and deadline < self._leader_deadline
        return is_earlier or self._generation != self._connection.generation

    def _pass_on(self) -> None:
        arrived = []
        for event in self.session.take_events():
            if isinstance(event, Arrived):
                arrived.append(event.delivery)
                continue
            if isinstance(event, Ended):
                self._ended(event)
                continue
            waiter = self._waiting.pop(event.ticket, None)
            if waiter is not None:
                waiter.error, waiter.answer = event.error, event.answer
                waiter.is_done = True
                waiter.event.set()
        if arrived:
            self._arrived(arrived)

    def _wake(self) -> None:
        # If so many wakes are on their way that the buffer is full, one more would tell nothing.
        with suppress(OSError):
            self._wake_writer.send(b"\0")

    def _log_state(self) -> None:
        state, before = self.session.state, self._state
        self._state = state
        if state is before:
            return
        if before is State.OPEN and state is not State.CLOSED:
            logger.warning("the connection is lost (%s); trying to connect again", self.session.reason)
        elif state is State.OPEN:
            logger.info("connected")
