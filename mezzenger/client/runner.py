"""How a session is run: with threads by ``Pump``, in an asyncio loop by ``AsyncPump``; the rest need not know which."""

import logging
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from mezzenger.client.line import Line
from mezzenger.client.log import log
from mezzenger.errors import MezzengerError
from mezzenger.protocol.commands import Answer
from mezzenger.protocol.events import Bundled, Delivery, Ended
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import State
from mezzenger.protocol.wire import Contents

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_ARRIVALS: Final = (Delivery, Bundled)
_FRESH: Final = 0.1
"""Seconds; shorter than any silence that matters."""

R = TypeVar("R")


class Waiter(ABC):
    """Somebody who waits for a ticket."""

    def __init__(self, ticket: int = 0) -> None:
        self.ticket = ticket
        self.is_done = False
        self.error: MezzengerError | None = None
        self.answer: Answer | Contents | None = None
        self.messages = 0
        """How many with ``ack=0`` could not be sent yet, if it is these that the ticket stands for."""

    @abstractmethod
    async def wait(self) -> None:
        """Wait until the ticket is done; who does not wait to the end has abandoned it.

        Raises:
            MezzengerError: It has failed.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Wait no more."""

    @abstractmethod
    def notify(self) -> None:
        """Have ``wait`` look whether the ticket is done."""

    async def answered(self) -> Answer:
        """Wait until a question is answered.

        Raises:
            MezzengerError: It was refused, or not answered in time.
        """
        await self.wait()
        if self.answer is None or isinstance(self.answer, Contents):
            raise TypeError("this was no question")
        return self.answer

    async def returned(self) -> Contents:
        """Wait until a request is answered; return what its responder returned.

        Raises:
            MezzengerError: It has no result, or not in time.
        """
        await self.wait()
        if not isinstance(self.answer, Contents):
            raise TypeError("this was no request")
        return self.answer

    def finish(self, error: MezzengerError | None, answer: Answer | Contents | None) -> None:
        """Take note that the ticket is done, or has failed."""
        self.error, self.answer = error, answer
        self.is_done = True
        self.notify()


class Runner(ABC):
    """Runs a session: what is the same whoever waits, and however.

    Args:
        session: To be used through this object only.
        line: How it reaches the server.
    """

    def __init__(self, session: ClientSession, line: Line) -> None:
        self.session = session
        self._line = line
        self.clock = line.clock
        """Tells the time by which the session lives."""
        self.lock: AbstractContextManager[object] = threading.Lock()
        """Held by whoever hands over frames, which must not overtake each other."""
        self._waiting: dict[int, Waiter] = {}
        self._received = 0.0
        self._due = 0.0
        """When the session has to be told the time, if nothing happens before."""
        self._state = session.state
        self._was_open = False
        self.arrived: Callable[[Sequence[Delivery | Bundled]], None] = lambda _: None
        """Is given what comes for callbacks; must not wait."""
        self.ended: Callable[[Ended], None] = lambda _: None
        """Is told of subscriptions that are active no more; likewise."""
        self.failed: Callable[[MezzengerError], None] = lambda _: None
        """Is told why a client that was connected will not be any more; likewise."""
        self.before_sleep: Callable[[], float | None] = lambda: None
        """Sends what has waited long enough for company; returns when it is to be called again, if at all."""
        self.leaves_by: Callable[[], float | None] = lambda: None
        """Tells when ``before_sleep`` is to be called, if at all; takes no lock."""

    @property
    @abstractmethod
    def is_attended(self) -> bool:
        """Whether what waits for company is sent in time."""

    @abstractmethod
    def run(self, request: Callable[[ClientSession, float], R]) -> R:
        """Use the session for what needs no waiting."""

    @abstractmethod
    def submit(self, request: Callable[[ClientSession, float], int | None]) -> Waiter | None:
        """Use the session for what gives a ticket; wait with what is returned, unless that is None."""

    @abstractmethod
    def publish(self, drafts: Sequence[Draft | MixedDraft], patience: float) -> Sequence[Waiter]:
        """Publish what needs no answer; wait with each that is returned, for it could not be sent yet."""

    @abstractmethod
    def wake_by(self, deadline: float) -> None:
        """See to it that ``before_sleep`` is called at that time."""

    def log(self, level: int, text: str, *values: object) -> None:
        """Have the log tell something, now or when the handlers of the log may do what they like."""
        log(level, text, *values)

    # For who inherits.

    def _take_in(self) -> float:
        """Let the session see what has arrived before it is used: it must not count a silence that is over."""
        now = self.clock()
        if now - self._received > _FRESH:
            self._line.doubt_all()
            self._receive(now)
        return now

    def _receive(self, now: float) -> None:
        """Take in what has arrived, and do what is due."""
        self._received = now
        is_changed = self._line.receive(now)
        if now >= self._due:
            self.session.tick(now)
            is_changed = True
        if is_changed:
            self._line.perform(now)
        self._pass_on()
        if is_changed:
            self._set_due()
            self._log_state()

    def _set_due(self) -> None:
        due = self.session.next_deadline()
        self._due = math.inf if due is None else due

    def _pass_on(self) -> bool:
        """Tell those who wait what has happened; return whether there is something for callbacks."""
        arrived = []
        for event in self.session.take_events():
            if isinstance(event, _ARRIVALS):
                arrived.append(event)
                continue
            if isinstance(event, Ended):
                self.ended(event)
                continue
            waiter = self._waiting.pop(event.ticket, None)
            if waiter is not None:
                waiter.finish(event.error, event.answer)
        if arrived:
            self.arrived(arrived)
        return bool(arrived)

    def _log_state(self) -> None:
        state, before = self.session.state, self._state
        self._state = state
        if state is before:
            return
        if state is State.OPEN:
            self._was_open = True
            self.log(logging.INFO, "connected")
        elif state is State.CLOSED:
            # Before the first connection it is raised; now there may be nobody who calls anything.
            if self._was_open and self.session.error is not None:
                self.log(logging.ERROR, "this client is closed: %s", self.session.error)
                self.failed(self.session.error)
        elif before is State.OPEN:
            self.log(logging.WARNING, "the connection is lost (%s); trying to connect again", self.session.reason)
