"""Runs callbacks, one after the other, on a thread of their own."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import CoroutineType

from mezzenger.client.failures import describe
from mezzenger.client.handlers import Handler, Handlers, refuse_coroutine
from mezzenger.client.log import log_unhandled
from mezzenger.client.payloads import Payloads
from mezzenger.client.responder import Responder
from mezzenger.protocol.bundle import Bundle
from mezzenger.protocol.commands import Failure
from mezzenger.protocol.events import Bundled, Delivery


class Dispatcher:
    """A queue of deliveries and the thread that brings them to their callbacks.

    Args:
        payloads: Decodes.
        responder: Is given requests, and the callback that is to answer them.
        limit: How many messages with ``ack=0`` may wait; further ones are dropped and counted. Those with ``ack=1``,
            and requests, are limited by the server.
        handled: Is told of each delivery whose callback has returned, and of the messages of it that failed.
        ignored: Is told of each delivery for which there is no callback any more.
        ended: Is called at the end of the thread.
        rest: Waits until what it is given returns True; called by the thread when there is nothing to do.
        rouse: Has ``rest`` ask what it was given; called by others.
    """

    def __init__(
        self,
        payloads: Payloads,
        responder: Responder,
        limit: int,
        *,
        handled: Callable[[Delivery, list[Failure]], None],
        ignored: Callable[[Delivery], None],
        ended: Callable[[], None],
        rest: Callable[[Callable[[], int]], None],
        rouse: Callable[[], None],
    ) -> None:
        self._payloads = payloads
        self._responder = responder
        self._limit = limit
        self._handled = handled
        self._ignored = ignored
        self._ended = ended
        self._rest = rest
        self._rouse = rouse
        self.handlers: Handlers[Handler] = Handlers()
        self._queue: deque[tuple[Delivery | Bundled | None, int]] = deque()
        """What has arrived, and how many messages of it count in the limit; with None it ends."""
        self._has_arrived: Callable[[], int] = self._queue.__len__
        """Whether there is something to do; a function without Python, since it is asked with each message."""
        # Of messages with ack=0; each is changed by one thread at a time.
        self._queued = 0
        self._begun = 0
        self._lifecycle = threading.Lock()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self.received = 0
        self.dropped = 0
        self.failed = 0

    def start(self) -> None:
        """Begin to call back; does nothing if it has begun."""
        with self._lifecycle:
            if self._thread is None and not self._is_stopping:
                # Not a daemon: a program whose main thread has subscribed and ended goes on.
                thread = threading.Thread(target=self._run, name="mezzenger-callbacks", daemon=False)
                thread.start()
                self._thread = thread  # not one that could not be started

    def stop(self) -> None:
        """Begin no further callback."""
        with self._lifecycle:
            self._is_stopping = True
        self._queue.append((None, 0))
        self._rouse()

    def join(self, seconds: float) -> bool:
        """Wait so long at most for the end of the thread, and return whether it has ended, or never began.

        Not to be called from a callback.
        """
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def is_current_thread(self) -> bool:
        """Whether a callback is asking."""
        return threading.current_thread() is self._thread

    def add(self, queue: str, handler: Handler) -> None:
        """Take in the handler of a subscription."""
        self.handlers.add(queue, handler)

    def remove(self, queue: str, handler: Handler | None = None) -> bool:
        """Take out the handler of a subscription, as ``Handlers.remove`` does."""
        return self.handlers.remove(queue, handler)

    def is_kept_from_answering(self, _name: str) -> bool:
        """Whether a callback is asking: while that waits, no other one runs."""
        return self.is_current_thread()

    @property
    def has_started(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def put(self, arrivals: Sequence[Delivery | Bundled]) -> None:
        """Take in what has arrived; never waits. One thread at a time may call this; ``rest`` is told by them."""
        for arrival in arrivals:
            counted = _counted(arrival)
            if counted and self._queued - self._begun + counted > self._limit:
                self.dropped += counted
                continue
            self._queued += counted
            self._queue.append((arrival, counted))

    def _run(self) -> None:
        self._thread = threading.current_thread()  # a callback may run, and ask, before who has started it goes on
        try:
            while (arrival := self._next()) is not None:
                self._dispatch(arrival)
        finally:
            self._ended()

    def _next(self) -> Delivery | Bundled | None:
        while not self._queue:
            self._rest(self._has_arrived)
        return self._take()

    def _take(self) -> Delivery | Bundled | None:
        """Take out what has arrived first; None if no further callback is to begin."""
        arrival, counted = self._queue.popleft()
        self._begun += counted
        return None if self._is_stopping else arrival

    def _dispatch_bundle(self, bundle: Bundle) -> None:
        handlers_of, read = self.handlers.of, self._payloads.bundle_reader(bundle)
        for index, name in enumerate(bundle.names):
            handlers = handlers_of(name, None)
            if not handlers:
                continue
            self.received += 1
            is_handled = True
            for handler in handlers:
                try:
                    message = read(index, handler.channel)
                    result = handler.callback(message.payload, message)
                    if result.__class__ is CoroutineType:
                        refuse_coroutine(name, result)
                except BaseException as error:  # noqa: BLE001  # as below
                    is_handled = False
                    log_unhandled(name, error)
            self.failed += not is_handled

    def _dispatch(self, delivery: Delivery | Bundled) -> None:
        if isinstance(delivery, Bundled):
            self._dispatch_bundle(delivery.bundle)
            return
        header = delivery.contents.header
        if delivery.served is not None:
            self._responder.serve(delivery, delivery.served, self.handlers.responder(header.name))
            return
        handlers = self.handlers.of(header.name, delivery.group, delivery.wanted)
        if not handlers:
            self._ignored(delivery)
            return
        if header.messages == 1 and not header.ack:
            self._call_for_one(delivery, handlers)
            return
        indexes = range(header.messages) if delivery.indexes is None else delivery.indexes
        failures: list[Failure] = []
        done = self._call_ahead(delivery, indexes, failures) if len(indexes) > 1 else 0
        self._call(delivery, indexes[done:], failures)
        if header.ack:
            self._handled(delivery, failures)

    def _call_for_one(self, delivery: Delivery, handlers: Sequence[Handler]) -> None:
        """Run all callbacks for a single message of which nobody waits to hear."""
        self.received += 1
        is_handled = True
        for callback, channel, _, _ in handlers:
            try:
                message = self._payloads.read(delivery, channel)
                result = callback(message.payload, message)
                if result.__class__ is CoroutineType:
                    refuse_coroutine(message.name, result)
            except BaseException as error:  # noqa: BLE001  # as below
                is_handled = False
                log_unhandled(delivery.contents.header.name, error)
        self.failed += not is_handled

    def _call_ahead(self, delivery: Delivery, indexes: Sequence[int], failures: list[Failure]) -> int:
        """Run the only callback for messages that are read together; return how many were handled, or failed.

        Those behind them are for ``_call``, if there are more callbacks, or others than before, or one cannot be read.
        """
        name, handlers = delivery.contents.header.name, self.handlers
        version = handlers.version
        found = handlers.of(name, delivery.group, delivery.wanted)
        if len(found) != 1:
            return 0
        callback, done = found[0].callback, 0
        with suppress(BaseException):  # what cannot be read is tried again where it is known which message it is
            for messages in self._payloads.read_ahead(delivery, found[0].channel, indexes):
                for message in messages:
                    self.received += 1
                    try:
                        result = callback(message.payload, message)
                        if result.__class__ is CoroutineType:
                            refuse_coroutine(name, result)
                    except BaseException as error:  # noqa: BLE001  # whatever it raises, the next one must be called
                        self._failed(name, indexes[done], error, failures)
                    done += 1
                    if version != handlers.version:
                        return done
        return done

    def _call(self, delivery: Delivery, indexes: Sequence[int], failures: list[Failure]) -> None:
        """Run all callbacks for each message, one after the other."""
        name, handlers = delivery.contents.header.name, self.handlers
        version = -1
        for index in indexes:
            # Asked each time: a callback may unsubscribe, and subscribe again with another type.
            if version != handlers.version:
                version = handlers.version
                calls = [
                    (handler.callback, self._payloads.reader(delivery, handler.channel))
                    for handler in handlers.of(name, delivery.group, delivery.wanted)
                ]
            if not calls:
                failures.append(Failure(index, "unsubscribed while the batch was handled"))
                continue
            self.received += 1
            for callback, read in calls:
                try:
                    message = read(index)
                    result = callback(message.payload, message)
                    if result.__class__ is CoroutineType:
                        refuse_coroutine(name, result)
                except BaseException as error:  # noqa: BLE001  # likewise
                    self._failed(name, index, error, failures)

    def _failed(self, name: str, index: int, error: BaseException, failures: list[Failure]) -> None:
        """Take note that a message was not handled, and why, unless that is known."""
        if not failures or failures[-1].index != index:
            self.failed += 1
            failures.append(Failure(index, describe(error)))
        log_unhandled(name, error)


def _counted(arrival: Delivery | Bundled) -> int:
    """Return how many messages count in the limit."""
    if isinstance(arrival, Bundled):
        return len(arrival.bundle.names)
    header = arrival.contents.header
    return 0 if header.ack or arrival.served else header.messages
