"""``AsyncMezzenger``: the client for programs with an asyncio loop."""

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack, overload

from mezzenger.channel import Channel
from mezzenger.client.async_engine import AsyncEngine
from mezzenger.client.async_sending import AsyncSender
from mezzenger.client.client import ChannelDecorator, Decorator
from mezzenger.client.dead import AsyncDeadLetters
from mezzenger.client.groups import AsyncGroups
from mezzenger.client.handlers import Callback
from mezzenger.client.memberships import DEFAULT_PREFETCH, AsyncSubscribeOptions
from mezzenger.client.messages import AckMode, Messages
from mezzenger.client.retained import AsyncRetainedMessages
from mezzenger.client.tracing import new_async_engine
from mezzenger.errors import InvalidMembership
from mezzenger.message import Message
from mezzenger.settings import ClientSettings

T = TypeVar("T")

_IN_HAND: Final = 64


class AsyncMezzenger(AsyncSender):
    """A connection to the server, for sending and subscribing, of one asyncio loop, whose tasks may all use it.

    It connects when it is awaited, or entered as a context manager: ``async with AsyncMezzenger() as mc``. Call
    ``stop()`` at the end, if it is not used as one. After that every method that needs the server raises
    ``ClientStopped``; in a forked process they raise ``UsedAfterFork``, in another loop ``UsedInAnotherLoop``.

    Whatever is cancelled has a note at its ``CancelledError`` that says what came of it. A message with ``ack=1`` that
    was sent is waited for all the same, until the server has stored it, and no longer than without; one that was not
    sent is not sent any more. Cancelled twice, it is given up.

    Args:
        server_address: Host name or address of the server.
        send_port: The server's ``recv_port``.
        sub_port: The server's ``pub_port``.
        send_timeout: Seconds that one attempt to reach the server may take.
        connection_retries: Further attempts before ``ServerUnreachable`` is raised.
        auto_start: Receive from the start. If not, sending and subscribing work, and what arrives reaches its callback
            after ``start()``.
        verbose: Log at level DEBUG what is sent and what is received.
        settings: All of these and more; given alone, without any of them.

    Raises:
        ConfigurationError: An argument is not valid.
        ServerUnreachable: When it connects: no server answered within ``send_timeout`` x (1 + ``connection_retries``).
        Rejected: Likewise: the server does not serve this client.
    """

    _takes_coroutines = True

    def _set_up(self, settings: ClientSettings) -> None:
        self._engine: AsyncEngine = self._new_engine(settings)
        self._payloads = self._engine.payloads
        self.dead = AsyncDeadLetters(self._engine.ask, self._payloads)
        """The messages that no subscriber could handle."""
        self.groups = AsyncGroups(self._engine.ask)
        """The groups that the server keeps."""
        self.retained = AsyncRetainedMessages(self._engine.ask)
        """The last messages that are kept for subscribers to come."""

    def _new_engine(self, settings: ClientSettings) -> AsyncEngine:
        """Make what drives the client."""
        return new_async_engine(settings)

    async def _connected(self) -> Self:
        await self._engine.connect()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._connected().__await__()

    # Receiving.

    @overload
    async def subscribe(
        self,
        msg_name: str,
        callback: Callback,
        **options: Unpack[AsyncSubscribeOptions],
    ) -> None: ...

    @overload
    async def subscribe(
        self,
        msg_name: Channel[T],
        callback: Callable[[T, Message[T]], object],
        **options: Unpack[AsyncSubscribeOptions],
    ) -> None: ...

    async def subscribe(
        self,
        msg_name: str | Channel[Any],
        callback: Callback,
        *,
        group: str | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        max_runtime: float | None = None,
        order_by: str | None = None,
        concurrency: int = 1,
    ) -> None:
        """Have messages given to a callback; none that is sent after this has returned is missed.

        Callbacks are tasks of the loop, ``concurrency`` of them at a time; they may use this client. A message with
        ``ack=1`` is acknowledged after its callback has returned; if it raises, or is cancelled, the message comes
        again later. While callbacks are busy the server sends no more than its credit, or ``prefetch``.

        Args:
            msg_name: Of the messages; or a pattern, in which ``*`` stands for one token between dots, and ``>`` at the
                end for all that follow; or a channel. What is not of the channel's type is not given to the callback:
                it counts as a message that it could not handle.
            callback: Called with the payload and the ``Message``; a function or a coroutine function. Without a
                channel, the type that it expects is not checked.
            group: Be one of its members: each message goes to one of them. The group stays when its members have
                gone, and collects ``ack=1`` messages.
            prefetch: As a member: ``ack=1`` messages that come before the first of them is acknowledged.
            max_runtime: As a member: seconds after which another one may have what this one has not acknowledged; if
                not given, never, as long as this process lives.
            order_by: A header; messages with equal values of it come to one member, one after the other. All members
                must say the same.
            concurrency: How many messages of this subscription are handled at once; with more than one, they are
                not handled in order.

        Raises:
            InvalidName: The name, pattern or group cannot be used.
            InvalidCallback: The callback is not callable with two arguments.
            InvalidMembership: One of the others cannot.
            AlreadySubscribed: There is a callback for that.
            Rejected: The server does not take this client into the group; or this is a name or pattern beyond the
                server's ``max_names``, and the client is closed.
            ServerUnreachable: The server did not answer in time; nothing is subscribed then.
        """
        self._engine.check_usable()
        subscription = self._subscription(msg_name, callback, group, prefetch, max_runtime, order_by, concurrency)
        await self._engine.subscribe(*subscription)

    async def unsubscribe(self, msg_name: str | Channel[Any], *, group: str | None = None) -> None:
        """Have no more messages of a name, pattern or group given to its callback; a call under way is finished.

        Raises:
            InvalidName: The name, pattern or group cannot be used.
            NotSubscribed: There is no callback for that name.
        """
        self._engine.check_usable()
        self._engine.unsubscribe(*self._place(msg_name, group))

    @overload
    def on(
        self,
        msg_name: str,
        **options: Unpack[AsyncSubscribeOptions],
    ) -> Decorator: ...

    @overload
    def on(
        self,
        msg_name: Channel[T],
        **options: Unpack[AsyncSubscribeOptions],
    ) -> ChannelDecorator[T]: ...

    def on(
        self,
        msg_name: str | Channel[Any],
        *,
        group: str | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        max_runtime: float | None = None,
        order_by: str | None = None,
        concurrency: int = 1,
    ) -> Decorator | ChannelDecorator[Any]:
        """Decorate a callback, which ``start()`` or ``running()`` subscribes; all else is as in ``subscribe``.

        Raises:
            InvalidName: The name, pattern or group cannot be used.
            InvalidCallback: The callback cannot be.
            InvalidMembership: One of the others cannot.
        """
        return self._registering(
            lambda callback: self._subscription(msg_name, callback, group, prefetch, max_runtime, order_by, concurrency)
        )

    @overload
    def messages(
        self, msg_name: str, *, ack: AckMode = "auto", **options: Unpack[AsyncSubscribeOptions]
    ) -> Messages[Any]: ...

    @overload
    def messages(
        self, msg_name: Channel[T], *, ack: AckMode = "auto", **options: Unpack[AsyncSubscribeOptions]
    ) -> Messages[T]: ...

    def messages(
        self,
        msg_name: str | Channel[Any],
        *,
        ack: AckMode = "auto",
        group: str | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        max_runtime: float | None = None,
        order_by: str | None = None,
        concurrency: int | None = None,
    ) -> Messages[Any]:
        """Return the messages of a name, pattern or channel, for ``async for msg in mc.messages("greetings")``.

        The loop subscribes when it begins, and unsubscribes when it is left. Each ``msg`` has what a ``Message`` has,
        and ``await msg.ack()`` and ``await msg.nack(error)``. If the loop is left, or cancelled, the message in hand
        is nacked, and comes again later.

        Args:
            msg_name: As in ``subscribe``, and so are all others but these.
            ack: When a message is acknowledged: ``"auto"`` when the next one is asked for, ``"manual"`` by ``ack()``.
            concurrency: With ``"manual"``, how many messages may be in hand at once, 64 if not given; then the loop
                waits until one of them is acknowledged. With ``"auto"`` it is one.

        Raises:
            InvalidName: The name, pattern or group cannot be used.
            InvalidMembership: One of the others cannot.
            AlreadySubscribed: When the loop begins, as all that ``subscribe`` raises.
        """
        if ack not in {"auto", "manual"}:
            raise InvalidMembership(f"ack must be 'auto' or 'manual', not {ack!r}")
        at_once = 1 if ack == "auto" else _IN_HAND if concurrency is None else concurrency

        async def subscribe(stream: Messages[Any]) -> None:
            self._engine.check_usable()
            await self._engine.subscribe(name, handler._replace(callback=stream.hand_over, stream=stream), member)

        name, handler, member = self._subscription(
            msg_name, _no_callback, group, prefetch, max_runtime, order_by, at_once
        )
        return Messages(
            subscribe, lambda: self._engine.unsubscribe(name, member and member.group), is_auto=ack == "auto"
        )

    # Life.

    async def start(self) -> None:
        """Connect, begin to receive, and subscribe what ``on`` has decorated.

        Only needed for these, and with ``auto_start=False``; does nothing that was done before.

        Raises:
            MezzengerError: As ``subscribe``.
        """
        await self._engine.connect()
        self._engine.start()
        while self._registered:
            await self._engine.subscribe(*self._registered[0])
            self._registered.pop(0)

    async def stop(self) -> None:
        """Finish the callback that runs, send what is still to be sent, and disconnect. May be called more than once.

        Called from a callback it returns at once, and the rest happens when that callback has returned. If this is
        cancelled, the callbacks that run are cancelled, too.
        """
        await self._engine.shut_down()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Be started, ``on`` included, until the end of the block; then be stopped.

        Raises:
            MezzengerError: As ``start``.
        """
        try:
            await self.start()
            yield self
        finally:
            await self.stop()

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


def _no_callback(_payload: object, _message: Message[Any]) -> None:
    """Stand for the callback of a subscription that has none yet."""
