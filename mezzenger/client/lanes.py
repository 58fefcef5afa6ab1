"""Runs the callbacks of an asyncio client: a lane for each subscription, with as many calls at once as it may have."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from inspect import isawaitable
from time import monotonic
from types import CoroutineType
from typing import Final

from mezzenger.client.handlers import Handler, Handlers
from mezzenger.client.log import log_unhandled
from mezzenger.client.payloads import Payloads
from mezzenger.client.responder import Responder
from mezzenger.client.shares import InWork, LeftOut, Share
from mezzenger.errors import MezzengerError
from mezzenger.protocol.commands import Failure
from mezzenger.protocol.events import Bundled, Delivery, Served

_TURN: Final = 0.002
"""Seconds after which callbacks that do not wait for anything let others have a turn."""
_RESPITE: Final = 0.01
"""Seconds after a task was cancelled: who cancels all tasks, to end a loop, must not meet a new one."""

_ENDS: Final = (GeneratorExit, KeyboardInterrupt, SystemExit)
"""What ends a task, or the program, whatever a message's callback makes of it."""

_lane: ContextVar["Lane | None"] = ContextVar("lane", default=None)
"""Whose callback runs; the tasks that it makes have the same."""


class Counts:
    """What the lanes of a client count together."""

    def __init__(self) -> None:
        self.received = 0
        self.failed = 0
        self.dropped = 0
        self.waiting = 0
        """Messages with ``ack=0`` that no callback has begun with."""


class Lane:
    """The messages and requests of one subscription that wait, and the tasks that handle them.

    There are tasks only while there is something to do. The messages of one delivery are handled in order, as far as
    ``concurrency`` lets only one call run at a time.

    Args:
        handler: Has the callback, and how many calls may run at once.
        payloads: Decodes.
        responder: Has requests answered.
        counts: Of the client.
    """

    def __init__(self, handler: Handler, payloads: Payloads, responder: Responder, counts: Counts) -> None:
        self.handler = handler
        self._payloads = payloads
        self.is_running = False
        """Whether callbacks may be called."""
        self.counts = counts
        self._responder = responder
        self._context = copy_context()
        """Of who has subscribed: what arrives must not be handled in that of who happens to have woken the client."""
        self._waiting: deque[Share | Delivery] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, work: Share | Delivery) -> None:
        """Take in messages: a share of a delivery, or one that is a request, or a single message with ``ack=0``."""
        self._waiting.append(work)
        if self.is_running:
            self._hire(work.left if isinstance(work, Share) else 1)

    def start(self) -> None:
        """Begin to call back."""
        self.is_running = True
        self._hire_for_all()

    def stop(self) -> None:
        """Begin no further callback, but for the messages of a batch that is begun."""
        self.is_running = False
        if self.handler.stream is not None:
            self.handler.stream.stop()

    def give_up(self) -> None:
        """Handle nothing more of what nobody has begun with, because there is no subscription any more."""
        if self.handler.stream is not None:
            self.handler.stream.end()
        waiting, self._waiting = self._waiting, deque()
        for work in waiting:
            if isinstance(work, Share):
                work.give_up()
            elif work.served is not None:
                self._responder.serve(work, work.served, None)
            else:
                self.counts.waiting -= 1

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """Those that handle something now."""
        return list(self._tasks)

    @property
    def is_full(self) -> bool:
        """Whether as many callbacks run as may."""
        return len(self._tasks) >= self.handler.concurrency

    def _hire(self, work: int) -> None:
        for _ in range(min(work, self.handler.concurrency - len(self._tasks))):
            loop, context = asyncio.get_running_loop(), self._context.copy()
            task = loop.create_task(self._run(), name="mezzenger-callbacks", context=context)
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _hire_for_all(self) -> None:
        if self.is_running and self._waiting:
            self._hire(sum(work.left if isinstance(work, Share) else 1 for work in self._waiting))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is not None:
            asyncio.get_running_loop().call_later(_RESPITE, self._hire_for_all)

    async def _run(self) -> None:
        """Handle what waits, until nothing does."""
        _lane.set(self)
        turn_ends = monotonic() + _TURN
        while self._waiting and self.is_running:
            work = self._waiting[0]
            if isinstance(work, Share):
                await self._handle(work)
                if self._waiting and self._waiting[0] is work:
                    self._waiting.popleft()
            else:
                self._waiting.popleft()
                await (self._handle_one(work) if work.served is None else self._serve(work, work.served))
            if (now := monotonic()) > turn_ends:
                turn_ends = now + _TURN
                await asyncio.sleep(0)
        # At once: what is put from now on needs another task.
        current = asyncio.current_task()
        if current is not None:
            self._tasks.discard(current)

    async def _handle(self, share: Share) -> None:
        """Call back for messages, one after the other, as long as there are some that nobody has begun with."""
        callback, counts = self.handler.callback, self.counts
        share.work.begin()
        for message, index in share.messages:
            counts.received += share.weight
            try:
                if message is None:
                    message = share.read(index)  # noqa: PLW2901  # it is the same one
                result = callback(message.payload, message)
                # Most are coroutines, and isawaitable takes longer to say so.
                if result is not None and (result.__class__ is CoroutineType or isawaitable(result)):
                    await result
            except LeftOut:
                share.work.leave_out(index)
                share.one_done()
            except BaseException as error:
                self._failed(share, index, error)
                share.one_done()
                if isinstance(error, _ENDS) or _is_cancelled():
                    raise
            else:
                share.left -= 1
                if not share.left:
                    share.work.share_done()

    def _failed(self, share: Share, index: int, error: BaseException) -> None:
        self.counts.failed += share.fail(index, error)
        log_unhandled(share.work.delivery.contents.header.name, error)

    async def _handle_one(self, delivery: Delivery) -> None:
        """Call back for a single message of which nobody waits to hear."""
        handler, counts = self.handler, self.counts
        counts.waiting -= 1
        counts.received += 1
        try:
            message = self._payloads.read(delivery, handler.channel)
            result = handler.callback(message.payload, message)
            if result is not None and isawaitable(result):
                await result
        except LeftOut:
            pass
        except BaseException as error:
            counts.failed += 1
            log_unhandled(delivery.contents.header.name, error)
            if isinstance(error, _ENDS) or _is_cancelled():
                raise

    async def _serve(self, delivery: Delivery, served: Served) -> None:
        with self._responder.answering(delivery, served, self.handler) as call:
            if call is not None:
                result = self.handler.callback(call.message.payload, call.message)
                call.result = await result if isawaitable(result) else result
        if call is not None and isinstance(call.error, _ENDS):
            raise call.error
        if _is_cancelled():
            raise asyncio.CancelledError


class Lanes:
    """The lanes of a client.

    Args:
        payloads: Decodes.
        responder: Has requests answered.
        limit: How many messages with ``ack=0`` may wait; further ones are dropped and counted. Those with ``ack=1``,
            and requests, are limited by the server.
        handled: Is told of each delivery whose callbacks have returned, and of the messages of it that failed.
        ignored: Is told of each delivery for which there is no callback any more.
    """

    def __init__(
        self,
        payloads: Payloads,
        responder: Responder,
        limit: int,
        *,
        handled: Callable[[Delivery, list[Failure]], None],
        ignored: Callable[[Delivery], None],
    ) -> None:
        self._payloads = payloads
        self._responder = responder
        self._limit = limit
        self._handled = handled
        self._ignored = ignored
        self._handlers: Handlers[Lane] = Handlers()
        self._lanes: dict[str, Lane] = {}
        self._ending: set[Lane] = set()
        """Those of subscriptions that have ended, and still have something in hand."""
        self._counts = Counts()
        self._is_running = False

    @property
    def received(self) -> int:
        """Messages that were given to callbacks."""
        return self._counts.received

    @property
    def failed(self) -> int:
        """Those that could not be handled."""
        return self._counts.failed

    @property
    def dropped(self) -> int:
        """Those with ``ack=0`` for which there was no room."""
        return self._counts.dropped

    def add(self, queue: str, handler: Handler) -> None:
        """Take in the handler of a subscription, in place of one that has failed and was not taken out yet."""
        self.remove(queue)
        lane = self._lanes[queue] = Lane(handler, self._payloads, self._responder, self._counts)
        self._handlers.add(queue, lane)
        if self._is_running:
            lane.start()

    def remove(self, queue: str, handler: Handler | None = None) -> bool:
        """Take out the handler of a subscription, as ``Handlers.remove`` does; calls that run are finished."""
        lane = self._lanes.get(queue)
        if lane is None or (handler is not None and handler is not lane.handler):
            return False
        del self._lanes[queue]
        self._handlers.remove(queue)
        for task in lane.tasks:
            self._ending.add(lane)
            task.add_done_callback(lambda _: self._forget_if_done(lane))
        lane.give_up()
        return True

    def is_kept_from_answering(self, name: str) -> bool:
        """Whether a callback is asking that would have to answer itself."""
        lane = self._handlers.responder(name)
        return lane is not None and lane is _lane.get() and lane.is_full

    def start(self) -> None:
        """Begin to call back; does nothing if it has begun."""
        if not self._is_running:
            self._is_running = True
            for lane in self._lanes.values():
                lane.start()

    def stop(self) -> None:
        """Begin no further callback, but for the messages of a batch that is begun."""
        self._is_running = False
        for lane in self._all():
            lane.stop()

    def fail(self, error: MezzengerError) -> None:
        """Tell those who ask for messages one by one why there will be none."""
        for lane in self._lanes.values():
            if lane.handler.stream is not None:
                lane.handler.stream.end(error)

    async def join(self) -> None:
        """Wait until the callbacks that run have returned; not to be called from a callback."""
        if tasks := self._tasks():
            await asyncio.wait(tasks)

    def cancel(self) -> None:
        """Cancel the callbacks that run."""
        for task in self._tasks():
            task.cancel()

    def is_in_callback(self) -> bool:
        """Whether a callback is asking, or a task that it has made."""
        lane = _lane.get()
        return lane is not None and lane.counts is self._counts

    def put(self, arrivals: Sequence[Delivery | Bundled]) -> None:
        """Take in what has arrived."""
        for arrival in arrivals:
            for delivery in arrival.deliveries() if isinstance(arrival, Bundled) else (arrival,):
                if delivery.served is not None:
                    self._put_request(delivery, delivery.served)
                else:
                    self._put(delivery)

    def _put_request(self, delivery: Delivery, served: Served) -> None:
        lane = self._handlers.responder(delivery.contents.header.name)
        if lane is None:
            self._responder.serve(delivery, served, None)
        else:
            lane.put(delivery)

    def _put(self, delivery: Delivery) -> None:
        header, counts = delivery.contents.header, self._counts
        lanes = self._handlers.of(header.name, delivery.group, delivery.wanted)
        if not lanes:
            self._ignored(delivery)
            return
        if not header.ack:
            if counts.waiting + header.messages > self._limit:
                counts.dropped += header.messages
                return
            counts.waiting += header.messages
            if header.messages == 1 and len(lanes) == 1:
                lanes[0].put(delivery)
                return
        indexes = range(header.messages) if delivery.indexes is None else delivery.indexes
        work = InWork(
            delivery, len(indexes), len(lanes), begun=self._begun, handled=self._handled, ignored=self._ignored
        )
        payloads, weight = self._payloads, 1
        for lane in lanes:
            channel = lane.handler.channel
            ahead = payloads.read_ahead(delivery, channel, indexes) if len(indexes) > 1 else ()
            lane.put(Share(work, payloads.reader(delivery, channel), ahead, indexes, weight))
            weight = 0

    def _begun(self, delivery: Delivery) -> None:
        header = delivery.contents.header
        if not header.ack:
            self._counts.waiting -= header.messages

    def _all(self) -> list[Lane]:
        return [*self._lanes.values(), *self._ending]

    def _tasks(self) -> set[asyncio.Task[None]]:
        return set().union(*(lane.tasks for lane in self._all()))

    def _forget_if_done(self, lane: Lane) -> None:
        if not lane.tasks:
            self._ending.discard(lane)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
