"""Messages that are asked for one by one, instead of being given to a callback."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar
from weakref import WeakSet

from mezzenger.client.shares import LeftOut
from mezzenger.errors import ClientStopped, MezzengerError
from mezzenger.message import Message

T = TypeVar("T")

AckMode = Literal["auto", "manual"]

_consumed: ContextVar["WeakSet[Messages[Any]]"] = ContextVar("consumed", default=WeakSet())  # noqa: B039  # nobody changes it
"""Those over which a task loops, or has when it left the loop; the tasks that it makes have the same."""


class MessageInHand(Generic[T]):
    """A message that somebody has asked for, until it is acknowledged.

    It has what a ``Message`` has, ``msg["name"]`` included; only whether that was sent with ``ack=1`` is told by
    ``msg.message.ack``, or ``msg["ack"]``. If it is dropped before anybody has acknowledged it, it is nacked.
    """

    def __init__(self, message: Message[T], outcome: asyncio.Future[object]) -> None:
        self.message = message
        """The message itself."""
        self._outcome = outcome

    def __del__(self) -> None:
        if not self._outcome.done():
            # Whatever thread collects it; and if the loop is at its end, so is the connection.
            with suppress(RuntimeError):
                self._outcome.get_loop().call_soon_threadsafe(
                    _fail, self._outcome, NotHandled("dropped without an ack")
                )

    @property
    def name(self) -> str:
        """What the message is called."""
        return self.message.name

    @property
    def payload(self) -> T:
        """The object that was sent."""
        return self.message.payload

    @property
    def timestamp(self) -> float:
        """When it was created, in Unix seconds by the publisher's clock."""
        return self.message.timestamp

    @property
    def id(self) -> str:
        """The publisher's client id and the message's sequence number; equal for every delivery of one message."""
        return self.message.id

    @property
    def attempt(self) -> int:
        """1 for the first delivery, more when the server sends it again."""
        return self.message.attempt

    @property
    def headers(self) -> Mapping[str, str]:
        """Text that travels beside the payload."""
        return self.message.headers

    @property
    def checksum(self) -> str:
        """MD5 over name, payload bytes, ack and timestamp."""
        return self.message.checksum

    @property
    def retained(self) -> bool:
        """Whether the server had kept it as the last message of its name."""
        return self.message.retained

    @property
    def deadline(self) -> float | None:
        """When whoever sent it as a request waits no longer, in Unix seconds; None if it is none."""
        return self.message.deadline

    def __getitem__(self, field: str) -> object:
        """Read a field of the message by its name.

        Raises:
            KeyError: There is no such field.
        """
        return self.message[field]

    @property
    def is_settled(self) -> bool:
        """Whether it was acknowledged, or has failed."""
        return self._outcome.done()

    async def ack(self, answer: object = None) -> None:
        """Take note that it was handled; does nothing if that is known, or if it has failed.

        Args:
            answer: What its sender is returned, if it is a request.
        """
        if not self._outcome.done():
            self._outcome.set_result(answer)
            await asyncio.sleep(0)

    async def nack(self, error: BaseException | str = "not acknowledged") -> None:
        """Take note that it was not handled, and why; with ``ack=1`` it comes again later. Does nothing likewise."""
        self.fail(error if isinstance(error, BaseException) else NotHandled(error))
        await asyncio.sleep(0)

    def fail(self, error: BaseException) -> None:
        """Do the same without waiting until that is told."""
        _fail(self._outcome, error)


def _fail(outcome: asyncio.Future[object], error: BaseException) -> None:
    if not outcome.done():
        # That one no future takes.
        outcome.set_exception(NotHandled(repr(error)) if isinstance(error, StopIteration) else error)


class NotHandled(Exception):  # a reason that somebody gave; nobody catches it
    """Why a message was nacked."""


class Messages(Generic[T]):
    """What ``mc.messages()`` returns: the messages of a subscription, to be asked for with ``async for``.

    The subscription begins with the loop, and ends with it. To have it before, use this as a context manager around the
    loop: then it is also known at the end whether the last message was handled, and with ``"auto"`` it is acknowledged
    unless something was raised. The loop ends when the subscription does, or the client stops; it raises if the server
    will not have the client again after a break.

    Args:
        subscribe: Subscribes.
        unsubscribe: Undoes that.
        is_auto: Whether a message is acknowledged when the next one is asked for.
    """

    def __init__(
        self,
        subscribe: "Callable[[Messages[T]], Awaitable[None]]",
        unsubscribe: Callable[[], None],
        *,
        is_auto: bool,
    ) -> None:
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._is_auto = is_auto
        self._waiting: deque[MessageInHand[T]] = deque()
        self._outcomes: set[asyncio.Future[object]] = set()
        """Of what is in hand, or waits to be. Not the messages: one that everybody has forgotten is to be nacked."""
        self._arrived = asyncio.Event()
        """Set when there may be something for those who wait; several tasks may ask for messages."""
        self._consumer: asyncio.Task[Any] | None = None
        """Who was given a message last; with ``"auto"`` nobody else has one in hand."""
        self._is_subscribed = False
        self._is_over = False
        self._error: MezzengerError | None = None
        """Why it is over, if nobody wanted that."""

    async def __aenter__(self) -> Self:
        if not self._is_subscribed:
            self._is_over, self._error = False, None
            await self._subscribe(self)
            self._is_subscribed = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_over:  # else it has ended before, and there may be another one of that name
            with suppress(MezzengerError):
                self._unsubscribe()
        self.end()
        self._is_subscribed = False
        if self._is_auto:
            for outcome in self._outcomes:
                if error is not None:
                    _fail(outcome, error)
                elif not outcome.done():
                    outcome.set_result(None)
            await asyncio.sleep(0)

    def __aiter__(self) -> AsyncIterator[MessageInHand[T]]:
        return self._iterate()

    def end(self, error: MezzengerError | None = None) -> None:
        """Have the loop end when it asks for the next message, or raise an error there."""
        self._is_over = True
        self._error = self._error or error
        while self._waiting:
            self._waiting.popleft().fail(LeftOut("nobody asks for messages any more"))
        self._arrived.set()

    def stop(self) -> None:
        """Do the same; a message is waited for only if another task is at work with it, and will ask for the next."""
        self.end()
        consumer = self._consumer
        if not self._is_auto or consumer is None or consumer.done() or self in _consumed.get():
            for outcome in self._outcomes:
                _fail(outcome, ClientStopped("the client was stopped before the message was acknowledged"))

    async def hand_over(self, _payload: T, message: Message[T]) -> object:
        """Have the loop given a message, and wait until it is acknowledged; the callback of the subscription."""
        if self._is_over:
            raise LeftOut("nobody asks for messages any more")
        outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append(MessageInHand(message, outcome))
        self._outcomes.add(outcome)
        self._arrived.set()
        try:
            return await outcome
        finally:
            self._outcomes.discard(outcome)

    async def _iterate(self) -> AsyncGenerator[MessageInHand[T], None]:
        async with nullcontext() if self._is_subscribed else self:
            _consumed.set(_consumed.get() | {self})
            try:
                while (message := await self._next()) is not None:
                    try:
                        yield message
                    except BaseException:
                        # With a context manager around the loop that knows better, and has told by now.
                        if self._is_auto:
                            message.fail(NotHandled("the loop was left before the next message was asked for"))
                        raise
                    if self._is_auto:
                        await message.ack()
            finally:
                _consumed.set(_consumed.get() - {self})

    async def _next(self) -> MessageInHand[T] | None:
        while True:
            while self._waiting:
                message = self._waiting.popleft()
                if not message.is_settled:  # the client may be stopping
                    self._consumer = asyncio.current_task()
                    return message
            if self._error is not None:
                raise self._error
            if self._is_over:
                return None
            self._arrived.clear()
            await self._arrived.wait()
