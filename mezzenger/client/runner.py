"""How a session is run: with threads by ``Pump``, in an asyncio loop by ``AsyncPump``; the rest need not know which."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from mezzenger.errors import MezzengerError
from mezzenger.protocol.commands import Answer
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.wire import Contents

R = TypeVar("R")


class Waiter(ABC):
    """Somebody who waits for a ticket."""

    def __init__(self, ticket: int = 0) -> None:
        self.ticket = ticket
        self.is_done = False
        self.error: MezzengerError | None = None
        self.answer: Answer | Contents | None = None

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


class Runner(Protocol):
    """Runs a session."""

    clock: Callable[[], float]
    """Tells the time by which the session lives."""

    @property
    def is_attended(self) -> bool:
        """Whether what waits for company is sent in time."""

    def run(self, request: Callable[[ClientSession, float], R], /) -> R:
        """Use the session for what needs no waiting."""

    def submit(self, request: Callable[[ClientSession, float], int | None], /) -> Waiter | None:
        """Use the session for what gives a ticket; wait with what is returned, unless that is None."""

    def publish(self, drafts: Sequence[Draft], patience: float, /) -> Sequence[Waiter]:
        """Publish what needs no answer; wait with each that is returned, for it could not be sent yet."""

    def wake_by(self, deadline: float, /) -> None:
        """See to it that what waits for company leaves at that time."""
