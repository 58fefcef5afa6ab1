"""``Mezzenger``: the client for programs with threads, or without."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from mezzenger.channel import Channel, Fits
from mezzenger.client.client import NO_ACK, ChannelDecorator, Client, Decorator
from mezzenger.client.dead import DeadLetters
from mezzenger.client.extras import RequestOptions, SendOptions, check_timeout
from mezzenger.client.groups import Groups
from mezzenger.client.handlers import Callback
from mezzenger.client.memberships import DEFAULT_PREFETCH, SubscribeOptions
from mezzenger.client.now import run_now
from mezzenger.client.retained import RetainedMessages
from mezzenger.client.threads import ThreadEngine
from mezzenger.client.tracing import new_engine
from mezzenger.message import Message
from mezzenger.settings import ClientSettings

T = TypeVar("T")


class Mezzenger(Client):
    """A connection to the server, for sending and subscribing. Any thread may use it; a forked process may not.

    Call ``stop()`` at the end, or use it as a context manager. After that every method that needs the server raises
    ``ClientStopped``; in a forked process they raise ``UsedAfterFork``. No signal handler may use it, for it may have
    interrupted it: there raise ``SystemExit``, or set an event for which another thread waits.

    Args:
        server_address: Host name or address of the server.
        send_port: The server's ``recv_port``.
        sub_port: The server's ``pub_port``.
        send_timeout: Seconds that one attempt to reach the server may take.
        connection_retries: Further attempts before ``ServerUnreachable`` is raised.
        auto_start: Receive from the start. If not, no thread is started, sending and subscribing work, and what
            arrives reaches its callback after ``start()``.
        verbose: Log at level DEBUG what is sent and what is received.
        settings: All of these and more; given alone, without any of them.

    Raises:
        ConfigurationError: An argument is not valid.
        ServerUnreachable: No server answered within ``send_timeout`` x (1 + ``connection_retries``).
        Rejected: The server does not serve this client.
    """

    _takes_coroutines = False

    def _set_up(self, settings: ClientSettings) -> None:
        self._engine: ThreadEngine = self._new_engine(settings)
        self._payloads = self._engine.payloads
        self.dead = DeadLetters(self._engine.ask, self._payloads)
        """The messages that no subscriber could handle."""
        self.groups = Groups(self._engine.ask)
        """The groups that the server keeps."""
        self.retained = RetainedMessages(self._engine.ask)
        """The last messages that are kept for subscribers to come."""
        self._engine.connect()

    def _new_engine(self, settings: ClientSettings) -> ThreadEngine:
        """Make what drives the client."""
        return new_engine(settings)

    # Sending.

    @overload
    def send_message(self, msg_name: str, payload: object, ack: int = 0, **options: Unpack[SendOptions]) -> None: ...

    @overload
    def send_message(
        self, msg_name: Channel[T], payload: Fits[T], ack: int = 0, **options: Unpack[SendOptions]
    ) -> None: ...

    def send_message(
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
        if ack is NO_ACK and headers is None and ttl is None and delay is None:
            rest = self._engine.gather(msg_name, payload)
            if rest is not None:
                run_now(rest)
        else:
            run_now(self._engine.send(*self._letter(msg_name, payload, ack, headers, ttl, delay)))

    @overload
    def send_messages(
        self, msg_name: str, payloads: Iterable[object], ack: int = 0, **options: Unpack[SendOptions]
    ) -> int: ...

    @overload
    def send_messages(
        self, msg_name: Channel[T], payloads: Iterable[Fits[T]], ack: int = 0, **options: Unpack[SendOptions]
    ) -> int: ...

    def send_messages(
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
        return run_now(self._engine.send_batches(*self._batches(msg_name, payloads, ack, headers, ttl, delay)))

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has all that was sent before.

        Args:
            timeout: In seconds; ``send_timeout`` x (1 + ``connection_retries``) if not given.

        Raises:
            InvalidMessage: The timeout cannot be used.
            ServerUnreachable: It did not answer in time, or a connection broke while messages with ``ack=0`` were under
                way, which may be lost then.
        """
        self._engine.check_usable()
        run_now(self._engine.flush(check_timeout(timeout)))

    @overload
    def request(
        self, msg_name: str, payload: object, timeout: float | None = None, **options: Unpack[RequestOptions]
    ) -> Any: ...  # noqa: ANN401  # it is for the other program to say

    @overload
    def request(
        self, msg_name: Channel[T], payload: Fits[T], timeout: float | None = None, **options: Unpack[RequestOptions]
    ) -> Any: ...  # noqa: ANN401  # it is for the other program to say

    def request(
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
            NoResponders: Nobody subscribes to the name, or, if a callback asks, nobody but this client itself, which
                has one thread for callbacks.
            RemoteError: The responder's callback raised, or its answer cannot be sent.
            RequestTimeout: There was no answer in time; the request may have been carried out.
            RequestLost: The responder is gone, or the connection broke; the request may have been carried out.
            Rejected: The server refused: more than its ``max_requests`` are not answered, for example.
            ServerUnreachable: There was no connection in time; nothing was sent.
            PayloadNotDecodable: The answer cannot be read; UntrustedPayload: and must not be.
        """
        contents = run_now(self._engine.request(*self._question(msg_name, payload, timeout, headers)))
        return self._answer(contents)

    # Receiving.

    @overload
    def subscribe(
        self,
        msg_name: str,
        callback: Callback,
        **options: Unpack[SubscribeOptions],
    ) -> None: ...

    @overload
    def subscribe(
        self,
        msg_name: Channel[T],
        callback: Callable[[T, Message[T]], object],
        **options: Unpack[SubscribeOptions],
    ) -> None: ...

    def subscribe(
        self,
        msg_name: str | Channel[Any],
        callback: Callback,
        *,
        group: str | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        max_runtime: float | None = None,
        order_by: str | None = None,
    ) -> None:
        """Have messages given to a callback; none that is sent after this has returned is missed.

        Callbacks run one at a time, on a thread of their own; they may use this client. A message with ``ack=1`` is
        acknowledged after its callback has returned; if it raises, the message comes again later.

        Args:
            msg_name: Of the messages; or a pattern, in which ``*`` stands for one token between dots, and ``>`` at the
                end for all that follow; or a channel. What is not of the channel's type is not given to the callback:
                it counts as a message that it could not handle.
            callback: Called with the payload and the ``Message``. Without a channel, the type that it expects is not
                checked.
            group: Be one of its members: each message goes to one of them. The group stays when its members have
                gone, and collects ``ack=1`` messages.
            prefetch: As a member: ``ack=1`` messages that come before the first of them is acknowledged.
            max_runtime: As a member: seconds after which another one may have what this one has not acknowledged; if
                not given, never, as long as this process lives.
            order_by: A header; messages with equal values of it come to one member, one after the other. All members
                must say the same.

        Raises:
            InvalidName: The name, pattern or group cannot be used.
            InvalidCallback: The callback is not callable with two arguments, or is a coroutine function.
            InvalidMembership: One of the others cannot.
            AlreadySubscribed: There is a callback for that.
            Rejected: The server does not take this client into the group; or this is a name or pattern beyond the
                server's ``max_names``, and the client is closed.
            ServerUnreachable: The server did not answer in time; nothing is subscribed then.
        """
        self._engine.check_usable()
        subscription = self._subscription(msg_name, callback, group, prefetch, max_runtime, order_by)
        run_now(self._engine.subscribe(*subscription))

    def unsubscribe(self, msg_name: str | Channel[Any], *, group: str | None = None) -> None:
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
        **options: Unpack[SubscribeOptions],
    ) -> Decorator: ...

    @overload
    def on(
        self,
        msg_name: Channel[T],
        **options: Unpack[SubscribeOptions],
    ) -> ChannelDecorator[T]: ...

    def on(
        self,
        msg_name: str | Channel[Any],
        *,
        group: str | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        max_runtime: float | None = None,
        order_by: str | None = None,
    ) -> Decorator | ChannelDecorator[Any]:
        """Decorate a callback, which ``start()`` or ``running()`` subscribes; all else is as in ``subscribe``.

        Raises:
            InvalidName: The name, pattern or group cannot be used.
            InvalidCallback: The callback cannot be.
            InvalidMembership: One of the others cannot.
        """
        return self._registering(
            lambda callback: self._subscription(msg_name, callback, group, prefetch, max_runtime, order_by)
        )

    # Life.

    def start(self) -> None:
        """Begin to receive, and subscribe what ``on`` has decorated.

        Only needed for these, and with ``auto_start=False``; does nothing that was done before.

        Raises:
            MezzengerError: As ``subscribe``.
        """
        self._engine.check_usable()
        self._engine.start()
        while self._registered:
            run_now(self._engine.subscribe(*self._registered[0]))
            self._registered.pop(0)

    def stop(self) -> None:
        """Finish the callback that runs, send what is still to be sent, and disconnect. May be called more than once.

        Called from a callback it returns at once, and the rest happens when that callback has returned.
        """
        self._engine.stop()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Be started, ``on`` included, until the end of the block; then be stopped.

        Raises:
            MezzengerError: As ``start``.
        """
        with self:
            self.start()
            yield self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
