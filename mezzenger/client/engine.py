"""What drives a client, whatever it waits with: its session, what is sent and asked, and who is subscribed."""

import logging
import os
import random
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from mezzenger.channel import Channel
from mezzenger.client import verbose
from mezzenger.client.batches import Item, batches, max_batch_bytes, send_all
from mezzenger.client.gatherer import Gatherer
from mezzenger.client.handlers import Handler
from mezzenger.client.log import log
from mezzenger.client.options import session_options
from mezzenger.client.payloads import Payloads
from mezzenger.client.receiver import Receiver
from mezzenger.client.responder import Responder
from mezzenger.client.runner import Runner, Waiter
from mezzenger.client.stats import ClientStats, count
from mezzenger.errors import ClientStopped, MezzengerError, UsedAfterFork
from mezzenger.protocol.commands import TOKEN_BYTES, Answer, Failure, Question, Raised, Returned
from mezzenger.protocol.events import Bundled, Delivery, Ended, Served
from mezzenger.protocol.gathering import Outlet
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import Identity, State
from mezzenger.protocol.subscriptions import Membership
from mezzenger.protocol.wire import NO_EXTRA, Contents, Extra
from mezzenger.queues import queue_of, split_queue
from mezzenger.settings import ClientSettings

Gather = Callable[[str | Channel[Any], object], Awaitable[None] | None]
Arrive = Callable[[Sequence[Delivery | Bundled]], None]


class Engine(ABC):
    """Connects a session, what runs it, a gatherer and a receiver.

    It takes what was checked: names, callbacks and extra fields are the business of who calls. What a method raises is
    told where the public method is that calls it. Methods that wait are coroutines; in a client with threads they block
    instead, and ``run_now`` runs them.
    """

    _runner: Runner
    """Runs the session; set by who inherits."""
    _receiver: Receiver
    """Runs callbacks; likewise."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self.payloads = Payloads(settings)
        self.is_stopping = False
        """Whether ``stop`` was called."""
        self._pid = os.getpid()
        self.session = ClientSession(
            Identity(secrets.randbits(64), secrets.token_bytes(16)),
            session_options(settings),
            random_token=lambda: b"\0" + secrets.token_bytes(TOKEN_BYTES - 1),
            jitter=random.random,
        )
        self.gather: Gather = self._send_at_once
        """Sends a message with ``ack=0`` and nothing beside it, with others of its burst if it may be.

        If that is not done at once, it returns what is to be awaited.
        """

    def _set_up(self, runner: Runner) -> None:
        """Take in what runs the session, and make what needs it."""
        self._runner = runner
        self._responder = Responder(self.payloads, self._begins, self._respond, runner.clock)
        self._gatherer = Gatherer(self.payloads, runner, self._tell, self.patience)

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

    async def send(self, name: str, item: Item, codec: int, ack: int, extra: Extra) -> None:
        """Send one message, with others of its burst if it has ``ack=0``."""
        if not ack and self._runner.is_attended:
            wait = self._gatherer.send_with(Outlet(name, codec, extra), item)
        else:
            waiter = self._publish(name, [item], codec, ack, extra)
            wait = None if waiter is None else waiter.wait()
        if wait is not None:
            await wait

    async def send_batches(self, name: str, payloads: Iterable[bytes], codec: int, ack: int, extra: Extra) -> int:
        """Send encoded payloads in batches, behind all that waits; return how many messages that were."""
        self._gatherer.leave()
        await self._gatherer.settle()
        max_bytes = max_batch_bytes(self.session.outgoing.max_message_size)

        def publish(batch: list[Item]) -> Waiter | None:
            return self._publish(name, batch, codec, ack, extra)

        return await send_all(batches(payloads, time.time, max_bytes), publish, self._give_turn)

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has all that was sent before, and no longer than ``timeout``."""
        self._gatherer.leave()
        await self._flush_session(self.patience if timeout is None else timeout)
        # What was sent before has arrived by now, or never will.
        await self._gatherer.check()

    async def ask(self, question: Callable[[int], Question]) -> Answer:
        """Ask the server the question that is made with a number, and return its answer."""
        self.check_usable()
        waiter = self._submit(lambda session, now: session.ask(question, now + self.patience))
        return await waiter.answered()

    async def request(self, name: str, item: Item, codec: int, extra: Extra, timeout: float | None) -> Contents:
        """Ask one subscriber, behind all that was sent before, and return what its callback returned."""
        self._gatherer.leave()
        draft = self._draft(name, [item], codec, extra=extra)
        patience = self.patience if timeout is None else timeout
        elsewhere = self._receiver.is_kept_from_answering(name)
        waiter = self._submit(lambda session, now: session.request(draft, now, now + patience, elsewhere=elsewhere))
        return await waiter.returned()

    # Receiving.

    async def subscribe(self, name: str, handler: Handler, membership: Membership | None = None) -> None:
        """Subscribe, and wait until the subscription is active; if it fails, nothing is subscribed."""
        group = membership and membership.group
        queue = queue_of(name, group)

        def request(session: ClientSession, now: float) -> int:
            ticket = session.subscribe(name, now + self.patience, membership)
            self._receiver.add(queue, handler)
            return ticket

        def undo(session: ClientSession, _now: float) -> None:
            # Somebody may have unsubscribed meanwhile, and have subscribed anew.
            if self._receiver.remove(queue, handler):
                session.unsubscribe(name, group)

        waiter = self._submit(request)
        try:
            self._subscribed()
            await waiter.wait()
        except BaseException as error:
            # Any thread may collect a coroutine that was forgotten; the session is not to be touched there.
            if waiter.error is None and not isinstance(error, GeneratorExit):
                # It has not failed: it may be active, or become so.
                with suppress(MezzengerError):
                    self._runner.run(undo)
            else:
                self._receiver.remove(queue, handler)
            raise

    def unsubscribe(self, name: str, group: str | None = None) -> None:
        """Have no more messages of a name given to its callback."""

        def request(session: ClientSession, _now: float) -> None:
            session.unsubscribe(name, group)
            self._receiver.remove(queue_of(name, group))

        self._runner.run(request)

    # Life.

    def forked(self) -> None:
        """Take note that this is a copy in another process."""
        self.gather = self._ask_first

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self.session.state

    @property
    def stats(self) -> ClientStats:
        """What was counted so far."""
        return count(self.session, self._receiver, self._responder)

    # What differs.

    @abstractmethod
    def _subscribed(self) -> None:
        """See to it that callbacks run."""

    @abstractmethod
    async def _give_turn(self) -> None:
        """Let others go on who cannot while this one sends on and on."""

    # Inside.

    def _gathering(self) -> Gather:
        """Return what ``gather`` is once there is somebody who sends what waits for company."""
        return self._gatherer.send

    def _send_at_once(self, msg_name: str | Channel[Any], payload: object) -> Awaitable[None] | None:
        outlet = self.payloads.outlet(msg_name)
        encoded = outlet.encode(payload)
        return self.send(outlet.name, (time.time(), encoded), outlet.codec, 0, NO_EXTRA)

    def _ask_first(self, msg_name: str | Channel[Any], payload: object) -> Awaitable[None] | None:
        """Send it if the client may be used; ``gather`` is this when that is in doubt."""
        self.check_usable()
        return self._send_at_once(msg_name, payload)

    def _submit(self, request: Callable[[ClientSession, float], int]) -> Waiter:
        waiter = self._runner.submit(request)
        if waiter is None:
            raise TypeError("there is nothing to wait for")
        return waiter

    def _publish(self, name: str, items: list[Item], codec: int, ack: int, extra: Extra) -> Waiter | None:
        draft = self._draft(name, items, codec, ack, extra)
        return self._runner.submit(lambda session, now: session.publish(draft, now, now + self.patience))

    def _draft(self, name: str, items: list[Item], codec: int, ack: int = 0, extra: Extra = NO_EXTRA) -> Draft:
        draft = Draft(name, items, ack, codec, extra)
        self._tell(draft)
        return draft

    def _tell(self, draft: Draft | MixedDraft) -> None:
        if self.settings.verbose:
            log(logging.DEBUG, "%s", verbose.sending(draft))

    def _arriving(self, put: Arrive) -> Arrive:
        """Return what is to be given what arrives: what puts it in, and has the log tell of it before if verbose."""
        if not self.settings.verbose:
            return put

        def tell_and_put(arrivals: Sequence[Delivery | Bundled]) -> None:
            for arrival in arrivals:
                self._runner.log(logging.DEBUG, "%s", verbose.received(arrival))
            put(arrivals)

        return tell_and_put

    def _on_handled(self, delivery: Delivery, failures: list[Failure]) -> None:
        self._runner.run(lambda session, _now: session.handled(delivery, failures))

    def _begins(self, served: Served) -> bool:
        return self._runner.run(lambda session, now: session.requests.begins(served, now))

    def _respond(self, served: Served, response: Draft | Raised) -> None:
        def respond(session: ClientSession, _now: float) -> None:
            if isinstance(response, Raised):
                session.requests.respond(served, response)
            else:
                session.requests.respond(served, Returned(session.outgoing.pack(response).frame))

        self._runner.run(respond)

    def _on_ended(self, ended: Ended) -> None:
        self._receiver.remove(ended.queue)
        name, group = split_queue(ended.queue)
        text = "the server does not take this client back into group %r of %r: %s"
        self._runner.log(logging.ERROR, text, group, name, ended.error)

    def _on_ignored(self, delivery: Delivery) -> None:
        self._runner.run(lambda session, _now: session.inbox.dropped(delivery))

    async def _flush_session(self, patience: float) -> None:
        await self._submit(lambda session, now: session.flush(now, now + patience)).wait()

    async def _send_the_rest(self) -> None:
        """Send what is still to be sent, acks above all; does not raise if that cannot be."""
        try:
            if self.state is State.OPEN:
                await self.flush(self.settings.send_timeout)
        except MezzengerError as error:
            log(logging.WARNING, "stopped without knowing whether all was sent: %s", error)
        if unsent := self._gatherer.unsent():
            log(logging.WARNING, "stopped before %d messages with ack=0 were sent", unsent)
