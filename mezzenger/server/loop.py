"""The server's loop: wait, let the broker decide, commit, send."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

from mezzenger.broker.core import Broker
from mezzenger.broker.effects import (
    Change,
    Effect,
    Know,
    Mark,
    Publish,
    Query,
    Retain,
    Send,
    Settle,
    Store,
)
from mezzenger.broker.stats import BrokerStats
from mezzenger.protocol.commands import is_token
from mezzenger.server.outbox import Outbox
from mezzenger.server.storing import Storing
from mezzenger.storage.base import Storage
from mezzenger.transport.sockets import Readable, Sent, ServerSockets, Socket, broadcast, receive_from_peer, send

_SLICE: Final = 512
"""Messages taken from a socket before everything else has its turn."""
_RETRY_SECONDS: Final = 0.01
"""Between two attempts to send to a peer whose queue was full: ZeroMQ does not tell when it is not any more."""
_DRAIN_SECONDS: Final = 0.02
"""Between two looks at whether all is done, when the server stops."""
_REPORT_SECONDS: Final = 10.0

logger = logging.getLogger("mezzenger.server")


class ServerLoop:
    """Joins a broker, a store and the sockets; all of it runs in one asyncio loop.

    Args:
        broker: Decides.
        storage: Keeps.
        sockets: Bound; closed when the loop ends.
        send_queue: How many messages may wait for one peer before it is given up.
        send_queue_size: How many bytes, likewise.
        drain_timeout: How many seconds a stop may take.
        verbose: Log each effect: what is sent, stored and settled.
    """

    def __init__(  # noqa: PLR0913  # what it joins, and its limits
        self,
        broker: Broker,
        storage: Storage,
        sockets: ServerSockets,
        *,
        send_queue: int,
        send_queue_size: int,
        drain_timeout: float,
        verbose: bool,
    ) -> None:
        self._broker = broker
        self._storage = storage
        self._sockets = sockets
        self._readable = Readable(sockets.xpub, sockets.router)
        self._send_queue = send_queue
        self._send_queue_size = send_queue_size
        self._drain_timeout = drain_timeout
        self._verbose = verbose
        self._outboxes: dict[bytes, Outbox] = {}
        self._storing = Storing(broker, storage, now=self._now, perform=self._perform, later=_later)
        self._is_storing = False
        self._failure: Exception | None = None
        """Because of which it cannot go on."""
        self._is_hurried = False
        self._stop_requested = asyncio.Event()
        self._is_pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due: float | None = None
        """When it fires; uvloop's handle of a timer that is due at once cannot tell."""
        self._retry: asyncio.TimerHandle | None = None
        self._malformed: dict[str, int] = {}
        self._has_told_of_room = False
        self._has_told_of_fault = False
        self._is_over = False
        """Whether the sockets are not to be used any more; timers may fire still."""
        self._loop_time = time.monotonic
        """The loop's clock, once that runs."""
        self._start = 0.0
        """What the loop's clock showed, less Unix time, when the broker's time began."""

    def request_stop(self) -> None:
        """Begin to drain."""
        self._stop_requested.set()

    def interrupt(self) -> None:
        """Begin to drain; if that has begun, stop at once."""
        self._is_hurried = self._stop_requested.is_set()
        self.request_stop()

    def stats(self) -> BrokerStats:
        """Return what the broker has counted."""
        return self._broker.stats()

    async def run(self, when_ready: Callable[[], None]) -> None:
        """Serve until a stop is requested and what was under way is done.

        Raises:
            StorageError: The store cannot be read.
        """
        loop = asyncio.get_running_loop()
        # From now on the wall clock may jump: nothing is sent again, or expires, the earlier or later for it.
        self._loop_time = loop.time
        self._start = loop.time() - time.time()
        try:
            self._broker.restored(await self._storage.open())
            reporter = loop.create_task(self._report_forever())
            loop.add_reader(self._sockets.router.fileno(), self._on_message)
            loop.add_reader(self._sockets.xpub.fileno(), self._pump)
            self._perform()
            self._pump()
            when_ready()
            await self._stop_requested.wait()
            if self._failure is None:
                await self._drain()
            if self._failure is not None:
                raise self._failure
            reporter.cancel()
            for socket in (self._sockets.router, self._sockets.xpub):
                loop.remove_reader(socket.fileno())
        finally:
            self._is_over = True
            self._outboxes.clear()
            await self._storage.close()
            self._sockets.close()

    def _now(self) -> float:
        return self._loop_time() - self._start

    # Waiting.

    def _pump(self) -> None:
        """Take what has arrived and do what follows from it."""
        if not self._is_over:
            readable = self._readable.now()
            if readable:
                self._take(readable)

    def _on_message(self) -> None:
        """Do the same when the ROUTER has told of something, which is mostly one message: ask for more after that."""
        if not self._is_over:
            self._take([self._sockets.router])

    def _take(self, readable: Sequence[Socket]) -> None:
        now, is_calm, router = self._now(), True, self._sockets.router
        for _ in range(_SLICE):
            for socket in readable:
                try:
                    if socket is router:
                        received = receive_from_peer(router)
                        is_calm &= received is None or self._broker.receive(*received, now)
                    else:
                        self._take_subscription(now)
                        is_calm = False
                except Exception as error:  # noqa: BLE001  # it is logged; whoever sent this, others are to be served
                    self._note_fault(error)
                    is_calm = False
            self._do_all()
            # Every use of a socket may have taken the signal that was meant to wake us.
            readable = self._readable.now()
            if not readable:
                break
        else:
            self._pump_soon()
        if not is_calm:
            self._perform()

    def _note_fault(self, error: Exception) -> None:
        """Count what the broker has failed on, and log it: once between two reports, for each frame may bring it on."""
        self._broker.malformed("failed")
        if not self._has_told_of_fault:
            self._has_told_of_fault = True
            logger.error("the server has failed on what a client sent, and goes on", exc_info=error)

    def _pump_soon(self) -> None:
        if not self._is_pump_due:
            self._is_pump_due = True
            asyncio.get_running_loop().call_soon(self._pump_on)

    def _pump_on(self) -> None:
        self._is_pump_due = False
        self._pump()

    def _take_subscription(self, now: float) -> None:
        frame = self._sockets.xpub.recv()
        is_subscribed, prefix = frame[:1], frame[1:]
        if is_subscribed not in {b"\0", b"\1"}:
            self._broker.malformed("subscription")
        elif is_token(prefix):
            if is_subscribed == b"\1":
                self._broker.surfaced(prefix, now)
            else:
                self._broker.sunk(prefix, now)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self._broker.tick(self._now())
        except Exception as error:  # noqa: BLE001  # it is raised where the server ends
            self._fail(error)
            return
        # Also if nothing has arrived: the next deadline is a later one, and what was decided may have to be stored.
        self._perform()
        self._pump()

    def _set_timer(self) -> None:
        deadline = self._broker.next_deadline()
        if self._timer is not None:
            if self._timer_due == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline + self._start, self._on_timer)
            self._timer_due = deadline

    # Doing.

    def _perform(self) -> None:
        if self._is_over:
            return
        self._do_all()
        self._set_timer()
        # Last of all: the store's thread can begin only when this one sleeps.
        self._store()

    def _do_all(self) -> None:
        # A send that fails makes the broker give a peer up, and that has effects of its own.
        while self._broker.effects:
            for effect in self._broker.take_effects():
                if self._verbose:
                    logger.debug("%s", _describe(effect))
                if isinstance(effect, Publish):
                    broadcast(self._sockets.xpub, effect.frame)
                else:
                    self._do(effect)

    def _do(self, effect: Send | Mark | Change | Query) -> None:
        match effect:
            case Send():
                self._send(effect.peer, [effect.peer, *effect.frames])
            case Mark():
                send(self._sockets.xpub, [effect.token])
            case _:
                self._storing.add(effect)

    def _send(self, peer: bytes, frames: list[bytes]) -> None:
        outbox = self._outboxes.get(peer)
        if outbox is None:
            match send(self._sockets.router, frames):
                case Sent.FULL:
                    outbox = self._outboxes[peer] = Outbox()
                    outbox.add(frames)
                    self._retry_later()
                case Sent.UNREACHABLE:
                    self._give_up(peer)
        elif len(outbox) < self._send_queue and outbox.size < self._send_queue_size:
            outbox.add(frames)
        else:
            logger.warning("a client is given up that takes nothing: %d bytes wait for it", outbox.size)
            self._give_up(peer)

    def _give_up(self, peer: bytes) -> None:
        self._outboxes.pop(peer, None)
        self._broker.unreachable(peer, self._now())
        # Who only passes on what has ack=0, or sends again, looks at neither store nor timer afterwards.
        asyncio.get_running_loop().call_soon(self._perform)

    def _retry_later(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._send_again)

    def _send_again(self) -> None:
        self._retry = None
        for peer, outbox in list(self._outboxes.items()):
            result = Sent.DONE
            while outbox and result is Sent.DONE:
                result = send(self._sockets.router, outbox.first())
                if result is Sent.DONE:
                    outbox.sent()
            if result is Sent.UNREACHABLE:
                self._give_up(peer)
            elif not outbox:
                del self._outboxes[peer]
        if self._outboxes:
            self._retry_later()
        self._pump()

    # Storing.

    def _store(self) -> None:
        """Have stored what has gathered, unless something is being stored: then it is the next."""
        if self._storing.has_work and not self._is_storing:
            self._is_storing = True
            if self._is_done(self._storing.work()):
                # Others have their turn before more is stored.
                asyncio.get_running_loop().call_soon(self._stored)

    def _is_done(self, work: Coroutine[asyncio.Future[object], None, None]) -> bool:
        """Have work go on until it waits for the store; return whether it is done.

        A task does so too, but begins only when the loop comes to it.
        """
        try:
            answer = work.send(None)
        except StopIteration:
            return True
        except Exception as error:  # noqa: BLE001  # it is raised where the server ends
            self._fail(error)
        else:
            answer.add_done_callback(lambda _: self._go_on(work))
        return False

    def _go_on(self, work: Coroutine[asyncio.Future[object], None, None]) -> None:
        if self._is_over:
            work.close()
        elif self._is_done(work):
            self._stored()

    def _stored(self) -> None:
        self._is_storing = False
        self._pump()
        self._store()

    # Watching and ending.

    def _fail(self, error: Exception) -> None:
        """End: a server that is not able to go on must not look as if it were."""
        self._failure = error
        self.request_stop()

    async def _report_forever(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            self._report()

    def _report(self) -> None:
        self._has_told_of_fault = False
        stats = self._broker.stats()
        if stats.unretained and not self._has_told_of_room:
            self._has_told_of_room = True
            logger.warning("last messages are not kept for lack of room: see max_retained and max_retained_size")
        malformed = dict(stats.malformed)
        if malformed != self._malformed:
            self._malformed = malformed
            logger.warning("malformed frames from peers so far, by reason: %s", malformed)

    async def _drain(self) -> None:
        self._broker.drain()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_timeout
        # The end of being busy is no single event.
        while self._is_busy() and not self._is_hurried and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_SECONDS)
        self._broker.farewell(self._now())
        self._do_all()
        await self._storing.commit()
        self._report()
        pending = self._broker.stats().pending
        if pending and not self._storage.survives_restart:
            logger.warning("%d unacknowledged frames are lost: without persist_file they end with the server", pending)

    def _is_busy(self) -> bool:
        stats = self._broker.stats()
        is_waiting = stats.in_flight > 0 or stats.open_requests > 0
        return is_waiting or self._storing.is_busy or bool(self._outboxes)


def _later(seconds: float, act: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, act)


def _describe(effect: Effect) -> str:
    match effect:
        case Publish():
            return f"publish {len(effect.frame)} bytes"
        case Send():
            return f"send {sum(map(len, effect.frames))} bytes in {len(effect.frames)} frames to {effect.peer.hex()}"
        case Store() | Retain():
            what = type(effect).__name__.lower()
            return f"{what} {effect.name!r} as {effect.number}: {len(effect.frame)} bytes"
        case Settle():
            return f"settle {effect.number}"
        case Know():  # its key is secret
            return f"know client {effect.client}"
        case _:
            return str(effect)
