"""What an asyncio client sends and asks."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Unpack, overload

from mezzenger.channel import Channel, Fits
from mezzenger.client.async_engine import AsyncEngine
from mezzenger.client.client import NO_ACK, Client
from mezzenger.client.extras import RequestOptions, SendOptions, check_timeout

T = TypeVar("T")


class AsyncSender(Client):
    """The sending half of an ``AsyncMezzenger``."""

    _engine: AsyncEngine

    @overload
    async def send_message(
        self, msg_name: str, payload: object, ack: int = 0, **options: Unpack[SendOptions]
    ) -> None: ...

    @overload
    async def send_message(
        self, msg_name: Channel[T], payload: Fits[T], ack: int = 0, **options: Unpack[SendOptions]
    ) -> None: ...

    async def send_message(
        self,
        msg_name: str | Channel[Any],
        payload: object,
        ack: int = 0,
        *,
        headers: Mapping[str, str] | None = None,
        ttl: float | None = None,
        delay: float | None = None,
    ) -> None:
        """Send one message.

        With ``ack=0`` it is handed to the transport of a server that is known to be alive, and reaches all who are
        subscribed and keep up. One of a burst may wait for others up to a millisecond after this has returned; if they
        cannot be sent, the next call that sends with ``ack=0``, or ``flush``, raises for all of them, with a note that
        says how many they are. With ``ack=1`` the server has stored it when this returns, and sends it until a
        subscriber has acknowledged it.

        Args:
            msg_name: What the message is called, or a channel.
            payload: Any object that the codec of the settings can write; with a channel, one of its type.
            ack: 0 or 1.
            headers: Text that travels beside the payload.
            ttl: With ``ack=1``: it is dropped after so many seconds, which begin when ``delay`` is over. Without it, as
                the server's ``channels:`` have it.
            delay: Likewise: for so many seconds the server keeps it before it is first delivered.

        Raises:
            InvalidName: The name cannot be used.
            InvalidMessage: One of the others cannot.
            PayloadNotEncodable: The payload cannot be written with the codec of the settings, or of the channel.
            PayloadInvalid: It is not of the channel's type.
            MessageTooLarge: The server takes no message of this size.
            ServerUnreachable: It did not answer within ``send_timeout`` x (1 + ``connection_retries``).
            Rejected: It answered, and refused.
        """
        engine = self._engine
        if ack is NO_ACK and headers is None and ttl is None and delay is None:
            rest = engine.gather(msg_name, payload)
            if rest is not None:
                await rest
            elif engine.pump.is_turn_due:
                await engine.turn()
        else:
            await engine.send(*self._letter(msg_name, payload, ack, headers, ttl, delay))

    @overload
    async def send_messages(
        self, msg_name: str, payloads: Iterable[object], ack: int = 0, **options: Unpack[SendOptions]
    ) -> int: ...

    @overload
    async def send_messages(
        self, msg_name: Channel[T], payloads: Iterable[Fits[T]], ack: int = 0, **options: Unpack[SendOptions]
    ) -> int: ...

    async def send_messages(
        self,
        msg_name: str | Channel[Any],
        payloads: Iterable[object],
        ack: int = 0,
        *,
        headers: Mapping[str, str] | None = None,
        ttl: float | None = None,
        delay: float | None = None,
    ) -> int:
        """Send many messages of one name in batches; the rest is as in ``send_message``.

        With ``ack=1`` that is a hundred times as fast as one by one: the server's answer is not awaited for each.

        Returns:
            How many; all of them are confirmed (``ack=1``) or handed to the transport (``ack=0``).

        Raises:
            MezzengerError: As ``send_message``; a note tells how many messages were done before. None after them were
                sent, but some of those may have been that were under way.
        """
        return await self._engine.send_batches(*self._batches(msg_name, payloads, ack, headers, ttl, delay))

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has all that was sent before.

        Args:
            timeout: In seconds; ``send_timeout`` x (1 + ``connection_retries``) if not given.

        Raises:
            InvalidMessage: The timeout cannot be used.
            ServerUnreachable: It did not answer in time, or a connection broke while messages with ``ack=0`` were under
                way, which may be lost then.
        """
        self._engine.check_usable()
        await self._engine.flush(check_timeout(timeout))

    @overload
    async def request(
        self, msg_name: str, payload: object, timeout: float | None = None, **options: Unpack[RequestOptions]
    ) -> Any: ...  # noqa: ANN401  # it is for the other program to say

    @overload
    async def request(
        self, msg_name: Channel[T], payload: Fits[T], timeout: float | None = None, **options: Unpack[RequestOptions]
    ) -> Any: ...  # noqa: ANN401  # it is for the other program to say

    async def request(
        self,
        msg_name: str | Channel[Any],
        payload: object,
        timeout: float | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # it is for the other program to say
        """Have one subscriber of a name run its callback, and return what that has returned.

        The server chooses the subscriber that has the fewest requests to answer, each in turn. A request is never
        stored, and never carried out twice: if nobody knows what came of it, this raises.

        Args:
            msg_name: What the message is called, or a channel.
            payload: Any object that the codec of the settings can write; with a channel, one of its type. The same
                codec writes the answer.
            timeout: In seconds; ``send_timeout`` x (1 + ``connection_retries``) if not given. A callback that has not
                begun by then is not run; ``msg_obj.deadline`` tells it when that is.
            headers: Text that travels beside the payload.

        Raises:
            InvalidName: The name cannot be used.
            InvalidMessage: The timeout or the headers cannot.
            PayloadNotEncodable: The payload cannot be written with the codec of the settings, or of the channel.
            PayloadInvalid: It is not of the channel's type.
            MessageTooLarge: The server takes no message of this size.
            NoResponders: Nobody subscribes to the name, or, if a callback asks, nobody but that callback itself, or
                others of its subscription.
            RemoteError: The responder's callback raised, or its answer cannot be sent.
            RequestTimeout: There was no answer in time; the request may have been carried out.
            RequestLost: The responder is gone, or the connection broke; the request may have been carried out.
            Rejected: The server refused: more than its ``max_requests`` are not answered, for example.
            ServerUnreachable: There was no connection in time; nothing was sent.
            PayloadNotDecodable: The answer cannot be read; UntrustedPayload: and must not be.
        """
        contents = await self._engine.request(*self._question(msg_name, payload, timeout, headers))
        return self._answer(contents)
