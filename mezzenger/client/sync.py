"""``Mezzenger``: the client for programs with threads, or without."""

import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from mezzenger.client import lifetime
from mezzenger.client.batches import Item, batches, max_batch_bytes, send_all
from mezzenger.client.connection import Connection
from mezzenger.client.dead import DeadLetters
from mezzenger.client.dispatch import Dispatcher, check_callback
from mezzenger.client.extras import extra_of
from mezzenger.client.gatherer import Gatherer
from mezzenger.client.options import session_options, socket_options
from mezzenger.client.payloads import Payloads
from mezzenger.client.pump import Pump, Waiter
from mezzenger.client.stats import ClientStats, count
from mezzenger.errors import ClientStopped, MezzengerError, UsedAfterFork
from mezzenger.message import Message, check_name
from mezzenger.protocol.commands import TOKEN_BYTES, Answer, Failure, Question
from mezzenger.protocol.events import Delivery
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import Identity, State
from mezzenger.protocol.wire import NO_EXTRA, Extra
from mezzenger.settings import ClientSettings, Settings

T = TypeVar("T")

logger = logging.getLogger("mezzenger.client")


class Mezzenger:
    """A connection to the server, for sending and subscribing. Any thread may use it; a forked process may not.

    Call ``stop()`` at the end, or use it as a context manager.

    Args:
        server_address: Host name or address of the server.
        send_port: The server's ``recv_port``.
        sub_port: The server's ``pub_port``.
        send_timeout: Seconds that one attempt to reach the server may take.
        connection_retries: Further attempts before ``ServerUnreachable`` is raised.
        auto_start: Receive from the start. If not, no thread is started, sending and subscribing work, and what
            arrives reaches its callback after ``start()``.
        verbose: Log every message at level DEBUG.
        settings: All of these and more; given alone.

    Raises:
        ConfigurationError: An argument is not valid.
        ServerUnreachable: No server answered within ``send_timeout`` x (1 + ``connection_retries``).
        Rejected: The server does not serve this client.
    """

    def __init__(
        self,
        server_address: str = "127.0.0.1",
        send_port: int = 7202,
        sub_port: int = 7201,
        send_timeout: float = 2.0,
        connection_retries: int = 5,
        auto_start: bool = True,
        verbose: bool = False,
        *,
        settings: ClientSettings | None = None,
    ) -> None:
        self.settings = settings = settings or ClientSettings(
            server_address=server_address,
            send_port=send_port,
            sub_port=sub_port,
            send_timeout=send_timeout,
            connection_retries=connection_retries,
            auto_start=auto_start,
            verbose=verbose,
        )
        self._pid = os.getpid()
        self._payloads = Payloads(settings)
        self._dispatcher = Dispatcher(
            self._payloads,
            settings.receive_queue,
            handled=self._on_handled,
            ignored=self._on_ignored,
            ended=self._disconnect,
        )
        session = ClientSession(
            Identity(secrets.randbits(64), secrets.token_bytes(16)),
            session_options(settings),
            random_token=lambda: b"\0" + secrets.token_bytes(TOKEN_BYTES - 1),
            jitter=random.random,
        )
        self._pump = Pump(session, Connection(session, socket_options(settings)), self._dispatcher.put)
        self._gatherer = Gatherer(self._pump, self._draft, self._patience())
        self._pump.before_sleep = self._gatherer.leave_if_due
        self.dead = DeadLetters(self._ask, self._payloads)
        """The messages that no subscriber could handle."""
        self._lifecycle = threading.Lock()
        self._io_thread: threading.Thread | None = None
        self._is_stopping = False
        self._has_stopped = threading.Event()
        lifetime.began(self)
        self._connect()

    @classmethod
    def from_config(cls, path: str | Path | None = None, **overrides: object) -> Self:
        """Connect as the YAML file and the environment say; ``overrides`` are keys of the client section.

        Args:
            path: The YAML file. Without it, the first of these that is there: the one that ``$MEZZENGER_CONFIG``
                names, ``mezzenger.yaml``, ``~/.config/mezzenger/mezzenger.yaml``, ``/etc/mezzenger/mezzenger.yaml``.
            overrides: Such as ``server_address="10.0.0.5"``.

        Raises:
            ConfigurationError: A setting is wrong.
            ServerUnreachable: No server answered in time.
        """
        return cls(settings=Settings.load(path, client=overrides).client)

    # Sending.

    def send_message(
        self,
        msg_name: str,
        payload: object,
        ack: int = 0,
        *,
        headers: Mapping[str, str] | None = None,
        ttl: float | None = None,
        delay: float | None = None,
    ) -> None:
        """Send one message.

        With ``ack=0`` it is handed to the transport of a server that is known to be alive, and reaches all who are
        subscribed and keep up; those of a burst leave together, within a millisecond. With ``ack=1`` the server has
        stored it when this returns, and sends it until a subscriber has acknowledged it.

        Args:
            msg_name: What the message is called.
            payload: Any object that the codec of the settings can write.
            ack: 0 or 1.
            headers: Text that travels beside the payload.
            ttl: With ``ack=1``: after so many seconds it is dropped. Without it, as the server's ``channels:`` have it.
            delay: Likewise: for so many seconds the server keeps it before it is first delivered.

        Raises:
            InvalidName: The name cannot be used.
            InvalidMessage: One of the others cannot.
            PayloadNotEncodable: The payload cannot be written with the codec of the settings.
            MessageTooLarge: The server takes no message of this size.
            ServerUnreachable: It did not answer within ``send_timeout`` x (1 + ``connection_retries``).
            Rejected: It answered, and refused.
            ClientStopped: ``stop()`` was called.
            UsedAfterFork: This process did not make the client.
        """
        self._require_usable()
        check_name(msg_name)
        item = (time.time(), self._payloads.encode(msg_name, payload))
        extra = extra_of(ack, headers, ttl, delay)
        if ack or self._io_thread is None:
            # Without a thread nobody would send later what waits for company.
            self._pump.wait(self._publish(msg_name, [item], ack, extra))
        elif extra is NO_EXTRA:
            self._gatherer.send(msg_name, item)
        else:
            self._gatherer.send_alone(self._draft(msg_name, [item], extra=extra))

    def send_messages(
        self,
        msg_name: str,
        payloads: Iterable[object],
        ack: int = 0,
        *,
        headers: Mapping[str, str] | None = None,
        ttl: float | None = None,
        delay: float | None = None,
    ) -> int:
        """Send many messages of one name, much faster than one by one; the rest is as in ``send_message``.

        Returns:
            How many; all of them are confirmed (``ack=1``) or handed to the transport (``ack=0``).

        Raises:
            MezzengerError: As ``send_message``; a note tells how many messages were done before. None after them were
                sent, but some of those may have been that were under way.
        """
        self._require_usable()
        check_name(msg_name)
        extra = extra_of(ack, headers, ttl, delay)
        self._gatherer.flush()
        encoded = (self._payloads.encode(msg_name, payload) for payload in payloads)

        def publish(batch: list[Item]) -> Waiter | None:
            return self._publish(msg_name, batch, ack, extra)

        max_size = self._pump.session.outgoing.max_message_size
        return send_all(batches(encoded, time.time, max_batch_bytes(max_size)), publish, self._pump)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has all that was sent before.

        Args:
            timeout: In seconds; ``send_timeout`` x (1 + ``connection_retries``) if not given.

        Raises:
            ServerUnreachable: It did not answer in time, or a connection broke while messages with ``ack=0`` were under
                way, which may be lost then.
            ClientStopped: ``stop()`` was called.
            UsedAfterFork: This process did not make the client.
        """
        self._require_usable()
        self._flush(timeout)

    # Receiving.

    def subscribe(self, msg_name: str, callback: Callable[[T, Message[T]], object]) -> None:
        """Have every message of a name given to a callback; none that is sent after this has returned is missed.

        Callbacks run one at a time, on a thread of their own; they may use this client. A message with ``ack=1`` is
        acknowledged after its callback has returned; if it raises, the message comes again later.

        Args:
            msg_name: Of the messages.
            callback: Called with the payload and the ``Message``. The type that it expects is not checked.

        Raises:
            InvalidName: The name cannot be used.
            InvalidCallback: The callback is not callable with two arguments, or is a coroutine function.
            AlreadySubscribed: There is a callback for that name.
            ServerUnreachable: The server did not answer in time; nothing is subscribed then.
            ClientStopped: ``stop()`` was called.
            UsedAfterFork: This process did not make the client.
        """
        self._require_usable()
        check_name(msg_name)
        check_callback(msg_name, callback)

        def request(session: ClientSession, now: float) -> int:
            ticket = session.subscribe(msg_name, now + self._patience())
            self._dispatcher.callbacks[msg_name] = callback
            return ticket

        waiter = self._pump.submit(request)
        if self._io_thread is not None:
            self._dispatcher.start()
        try:
            self._pump.wait(waiter)
        except BaseException:
            self._dispatcher.callbacks.pop(msg_name, None)
            raise

    def unsubscribe(self, msg_name: str) -> None:
        """Have no more messages of a name given to its callback; a call that is under way is finished.

        Raises:
            NotSubscribed: There is no callback for that name.
            ClientStopped: ``stop()`` was called.
            UsedAfterFork: This process did not make the client.
        """
        self._require_usable()

        def request(session: ClientSession, _now: float) -> None:
            session.unsubscribe(msg_name)
            del self._dispatcher.callbacks[msg_name]

        self._pump.run(request)

    # Life.

    def start(self) -> None:
        """Begin to receive; only needed with ``auto_start=False``, and does nothing if it was called before.

        Raises:
            ClientStopped: ``stop()`` was called.
            UsedAfterFork: This process did not make the client.
        """
        self._require_usable()
        self._start_io()
        self._dispatcher.start()

    def stop(self) -> None:
        """Finish the callback that runs, send what is still to be sent, and disconnect. May be called more than once.

        Called from a callback it returns at once, and the rest happens when that callback has returned.
        """
        if os.getpid() != self._pid:
            return
        with self._lifecycle:
            is_first = not self._is_stopping
            self._is_stopping = True
        self._dispatcher.stop()
        if self._dispatcher.is_current_thread():
            return
        if is_first and not self._dispatcher.has_started:
            self._disconnect()
        self._has_stopped.wait()

    def join_callbacks(self) -> None:
        """Wait until no callback will run any more, because ``stop()`` was called; not to be called from a callback."""
        self._dispatcher.join()

    def stopped(self) -> bool:
        """Whether ``stop()`` was called."""
        return self._is_stopping

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._pump.session.state

    @property
    def stats(self) -> ClientStats:
        """What was counted so far."""
        return count(self._pump.session, self._dispatcher)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # Inside.

    def _patience(self) -> float:
        return self.settings.send_timeout * (1 + self.settings.connection_retries)

    def _require_usable(self) -> None:
        if os.getpid() != self._pid:
            raise UsedAfterFork("this client was made before fork(); make a new one in the child process")
        if self._is_stopping:
            raise ClientStopped("this client was stopped; make a new one")

    def _connect(self) -> None:
        try:
            self._pump.run(lambda session, now: session.start(now))
            if self.settings.auto_start:
                self._start_io()
            self._pump.wait(self._pump.submit(lambda session, now: session.flush(now, now + self._patience())))
        except BaseException:
            self._is_stopping = True
            self._close()
            raise

    def _start_io(self) -> None:
        with self._lifecycle:
            if self._io_thread is None and not self._is_stopping:
                self._io_thread = threading.Thread(target=self._pump.lead, name="mezzenger-io", daemon=True)
                self._io_thread.start()

    def _ask(self, question: Callable[[int], Question]) -> Answer:
        self._require_usable()
        waiter = self._pump.submit(lambda session, now: session.ask(question, now + self._patience()))
        return self._pump.answer(waiter)

    def _publish(self, name: str, items: list[Item], ack: int, extra: Extra) -> Waiter | None:
        draft = self._draft(name, items, ack, extra)
        return self._pump.submit(lambda session, now: session.publish(draft, now, now + self._patience()))

    def _draft(self, name: str, items: list[Item], ack: int = 0, extra: Extra = NO_EXTRA) -> Draft:
        if self.settings.verbose:
            logger.debug("sending %d of %r with ack=%d", len(items), name, ack)
        return Draft(name, items, ack, self._payloads.codec.number, extra)

    def _flush(self, timeout: float | None) -> None:
        self._gatherer.flush()
        patience = self._patience() if timeout is None else timeout
        self._pump.wait(self._pump.submit(lambda session, now: session.flush(now, now + patience)))

    def _on_handled(self, delivery: Delivery, failures: list[Failure]) -> None:
        self._pump.run(lambda session, _now: session.handled(delivery, failures))

    def _on_ignored(self, delivery: Delivery) -> None:
        self._pump.run(lambda session, _now: session.inbox.dropped(delivery))

    def _disconnect(self) -> None:
        """Send what is still to be sent, acks above all, and close; nothing here raises."""
        try:
            if self.state is State.OPEN:
                self._flush(self.settings.send_timeout)
        except MezzengerError as error:
            logger.warning("stopped without knowing whether all was sent: %s", error)
        finally:
            self._close()

    def _close(self) -> None:
        self._pump.close()
        if self._io_thread is not None:
            self._io_thread.join()
        self._has_stopped.set()
        lifetime.ended(self)
