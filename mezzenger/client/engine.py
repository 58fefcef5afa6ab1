"""What drives a ``Mezzenger``: one session with its sockets, its threads and its end."""

import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from mezzenger.client import lifetime
from mezzenger.client.batches import Item, batches, max_batch_bytes, send_all
from mezzenger.client.dispatch import Dispatcher
from mezzenger.client.gatherer import Gatherer
from mezzenger.client.handlers import Handler
from mezzenger.client.line import socket_line
from mezzenger.client.options import session_options
from mezzenger.client.payloads import Payloads
from mezzenger.client.pump import Pump, Waiter
from mezzenger.client.responder import Responder
from mezzenger.client.sleep import Sleep
from mezzenger.client.stats import ClientStats, count
from mezzenger.errors import ClientStopped, MezzengerError, UsedAfterFork
from mezzenger.protocol.commands import TOKEN_BYTES, Answer, Failure, Question, Raised, Returned
from mezzenger.protocol.events import Delivery, Ended, Served
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import Identity, State
from mezzenger.protocol.subscriptions import Membership
from mezzenger.protocol.wire import NO_EXTRA, Contents, Extra
from mezzenger.queues import queue_of, split_queue
from mezzenger.settings import ClientSettings

logger = logging.getLogger("mezzenger.client")


def socket_pump(session: ClientSession, settings: ClientSettings) -> Pump:
    """Make the pump of a client that reaches its server as the settings have it."""
    return Pump(session, socket_line(session, settings), Sleep())


class Parts(NamedTuple):
    """What an engine is made of, where that is not always the same."""

    pump: Callable[[ClientSession, ClientSettings], Pump] = socket_pump
    dispatcher: type[Dispatcher] = Dispatcher


PARTS: Final = Parts()


class Engine:
    """Connects a session, a pump, a gatherer and a dispatcher, and sees to their threads.

    It takes what was checked: names, callbacks and extra fields are the business of who calls. Any thread may use it.
    What a method raises is told where the public method is that calls it.
    """

    def __init__(self, settings: ClientSettings, parts: Parts = PARTS) -> None:
        self.settings = settings
        self.payloads = Payloads(settings)
        self.is_usable = True
        """Whether no method need be asked; if not, ``check_usable`` tells why."""
        self.is_stopping = False
        """Whether ``stop`` was called."""
        self._pid = os.getpid()
        session = ClientSession(
            Identity(secrets.randbits(64), secrets.token_bytes(16)),
            session_options(settings),
            random_token=lambda: b"\0" + secrets.token_bytes(TOKEN_BYTES - 1),
            jitter=random.random,
        )
        self._pump = parts.pump(session, settings)
        self._responder = Responder(self.payloads, self._begins, self._respond, self._pump.clock)
        self._dispatcher = parts.dispatcher(
            self.payloads,
            self._responder,
            settings.receive_queue,
            handled=self._on_handled,
            ignored=self._on_ignored,
            ended=self._disconnect,
            rest=self._pump.rest,
            rouse=self._pump.rouse,
        )
        self._pump.arrived = self._dispatcher.put
        self._pump.ended = self._on_ended
        self._gatherer = Gatherer(self._pump, lambda batch: self._draft(*batch), self.patience)
        self.gather: Callable[[str, bytes, int], None] = self._send_at_once
        """Sends an encoded message with ``ack=0`` and nothing beside it, with others of its burst if it may be."""
        self._pump.before_sleep = self._gatherer.leave_if_due
        self._lifecycle = threading.Lock()
        self._is_receiving = False
        self._has_stopped = threading.Event()

    @property
    def patience(self) -> float:
        """How many seconds the server may take for an answer, if nothing else is said."""
        return self.settings.send_timeout * (1 + self.settings.connection_retries)

    def check_usable(self) -> None:
        """Do nothing if the client may be used.

        Raises:
            ClientStopped: ``stop()`` was called.
            UsedAfterFork: This process did not make the client.
        """
        if os.getpid() != self._pid:
            raise UsedAfterFork("this client was made before fork(); make a new one in the child process")
        if self.is_stopping:
            raise ClientStopped("this client was stopped; make a new one")

    # Sending and asking.

    def send(self, name: str, item: Item, codec: int, ack: int, extra: Extra) -> None:
        """Send one message by itself."""
        if ack or not self._pump.is_attended:
            self._pump.wait(self._publish(name, [item], codec, ack, extra))
        else:
            self._gatherer.send_alone(self._draft(name, [item], codec, extra=extra))

    def send_batches(self, name: str, payloads: Iterable[bytes], codec: int, ack: int, extra: Extra) -> int:
        """Send encoded payloads in batches, behind all that waits; return how many messages that were."""
        self._gatherer.flush()
        max_bytes = max_batch_bytes(self._pump.session.outgoing.max_message_size)

        def publish(batch: list[Item]) -> Waiter | None:
            return self._publish(name, batch, codec, ack, extra)

        return send_all(batches(payloads, time.time, max_bytes), publish, self._pump)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has all that was sent before."""
        self._gatherer.flush()
        patience = self.patience if timeout is None else timeout
        self._pump.wait(self._pump.submit(lambda session, now: session.flush(now, now + patience)))

    def ask(self, question: Callable[[int], Question]) -> Answer:
        """Ask the server the question that is made with a number, and return its answer."""
        self.check_usable()
        waiter = self._pump.submit(lambda session, now: session.ask(question, now + self.patience))
        return self._pump.answer(waiter)

    def request(self, name: str, item: Item, codec: int, extra: Extra, timeout: float | None) -> Contents:
        """Ask one subscriber, behind all that was sent before, and return what its callback returned."""
        self._gatherer.flush()
        draft = self._draft(name, [item], codec, extra=extra)
        patience = self.patience if timeout is None else timeout
        # While it waits here, no callback of this client can answer.
        elsewhere = self._dispatcher.is_current_thread()
        waiter = self._pump.submit(
            lambda session, now: session.request(draft, now, now + patience, elsewhere=elsewhere)
        )
        return self._pump.returned(waiter)

    # Receiving.

    def subscribe(self, name: str, handler: Handler, membership: Membership | None = None) -> None:
        """Subscribe, and wait until the subscription is active; if it fails, nothing is subscribed."""
        queue = queue_of(name, membership and membership.group)

        def request(session: ClientSession, now: float) -> int:
            ticket = session.subscribe(name, now + self.patience, membership)
            self._dispatcher.handlers.add(queue, handler)
            return ticket

        waiter = self._pump.submit(request)
        if self._is_receiving:
            self._dispatcher.start()
        try:
            self._pump.wait(waiter)
        except BaseException:
            self._dispatcher.handlers.remove(queue)
            raise

    def unsubscribe(self, name: str, group: str | None = None) -> None:
        """Have no more messages of a name given to its callback."""

        def request(session: ClientSession, _now: float) -> None:
            session.unsubscribe(name, group)
            self._dispatcher.handlers.remove(queue_of(name, group))

        self._pump.run(request)

    # Life.

    def connect(self) -> None:
        """Wait until the server has answered; if it does not, the engine has stopped."""
        lifetime.began(self)
        try:
            self._pump.run(lambda session, now: session.start(now))
            if self.settings.auto_start:
                self._start_io()
            self._pump.wait(self._pump.submit(lambda session, now: session.flush(now, now + self.patience)))
        except BaseException:
            self.is_stopping = True
            self.is_usable = False
            self._close()
            raise

    def start(self) -> None:
        """Start the threads; does nothing if they run."""
        self._start_io()
        self._dispatcher.start()

    def stop(self) -> None:
        """Finish the callback that runs, send what is still to be sent, and disconnect; from a callback: soon."""
        if os.getpid() != self._pid:
            return
        with self._lifecycle:
            is_first = not self.is_stopping
            self.is_stopping = True
            self.is_usable = False
        self._dispatcher.stop()
        if self._dispatcher.is_current_thread():
            return
        if is_first and not self._dispatcher.has_started:
            self._disconnect()
        self._has_stopped.wait()

    def join_callbacks(self) -> None:
        """Wait until no callback will run any more; not to be called from a callback."""
        self._dispatcher.join()

    def forked(self) -> None:
        """Take note that this is a copy in another process."""
        self.is_usable = False

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._pump.session.state

    @property
    def stats(self) -> ClientStats:
        """What was counted so far."""
        return count(self._pump.session, self._dispatcher, self._responder)

    # Inside.

    def _start_io(self) -> None:
        with self._lifecycle:
            if not self._is_receiving and not self.is_stopping:
                self._is_receiving = True
                self._pump.start()
                if self._pump.is_attended:
                    self.gather = self._gathering()

    def _gathering(self) -> Callable[[str, bytes, int], None]:
        """Return what ``gather`` is once there is a thread that sends what waits for company."""
        return self._gatherer.send

    def _send_at_once(self, name: str, encoded: bytes, codec: int) -> None:
        # Without a thread nobody would send later what waits for company.
        self.send(name, (time.time(), encoded), codec, 0, NO_EXTRA)

    def _publish(self, name: str, items: list[Item], codec: int, ack: int, extra: Extra) -> Waiter | None:
        draft = self._draft(name, items, codec, ack, extra)
        return self._pump.submit(lambda session, now: session.publish(draft, now, now + self.patience))

    def _draft(self, name: str, items: list[Item], codec: int, ack: int = 0, extra: Extra = NO_EXTRA) -> Draft:
        if self.settings.verbose:
            logger.debug("sending %d of %r with ack=%d", len(items), name, ack)
        return Draft(name, items, ack, codec, extra)

    def _on_handled(self, delivery: Delivery, failures: list[Failure]) -> None:
        self._pump.run(lambda session, _now: session.handled(delivery, failures))

    def _begins(self, served: Served) -> bool:
        return self._pump.run(lambda session, now: session.requests.begins(served, now))

    def _respond(self, served: Served, response: Draft | Raised) -> None:
        def respond(session: ClientSession, _now: float) -> None:
            if isinstance(response, Raised):
                session.requests.respond(served, response)
            else:
                session.requests.respond(served, Returned(session.outgoing.pack(response).frame))

        self._pump.run(respond)

    def _on_ended(self, ended: Ended) -> None:
        self._dispatcher.handlers.remove(ended.queue)
        name, group = split_queue(ended.queue)
        logger.error("the server does not take this client back into group %r of %r: %s", group, name, ended.error)

    def _on_ignored(self, delivery: Delivery) -> None:
        self._pump.run(lambda session, _now: session.inbox.dropped(delivery))

    def _disconnect(self) -> None:
        """Send what is still to be sent, acks above all, and close; nothing here raises."""
        try:
            if self.state is State.OPEN:
                self.flush(self.settings.send_timeout)
        except MezzengerError as error:
            logger.warning("stopped without knowing whether all was sent: %s", error)
        finally:
            self._close()

    def _close(self) -> None:
        self._pump.close()
        self._pump.join()
        self._has_stopped.set()
        lifetime.ended(self)
