"""Answers requests: runs the callback, and sends back what it returned."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CoroutineType

from mezzenger import codecs
from mezzenger.channel import encode_answer
from mezzenger.client.failures import raised
from mezzenger.client.handlers import Handler, refuse_coroutine
from mezzenger.client.log import log
from mezzenger.client.payloads import Payloads
from mezzenger.errors import MessageTooLarge, NotSubscribed, PayloadNotEncodable
from mezzenger.message import Message
from mezzenger.protocol.commands import Raised
from mezzenger.protocol.events import Delivery, Served
from mezzenger.protocol.outgoing import Draft


class Call:
    """A callback that is to answer a request."""

    def __init__(self, handler: Handler, message: Message[object]) -> None:
        self.handler = handler
        self.message = message
        self.result: object = None
        """What it has returned."""
        self.error: BaseException | None = None
        """What it has raised."""


class Responder:
    """Has callbacks answer requests; not thread-safe.

    Args:
        payloads: Decodes.
        begins: Tells whether somebody still waits for what a callback would return; asked before it runs.
        respond: Sends what came of it; raises MessageTooLarge if the server would not take it.
        clock: By which requests have a deadline.
    """

    def __init__(
        self,
        payloads: Payloads,
        begins: Callable[[Served], bool],
        respond: Callable[[Served, Draft | Raised], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._payloads = payloads
        self._begins = begins
        self._respond = respond
        self._clock = clock
        self.received = 0
        self.failed = 0

    def serve(self, delivery: Delivery, served: Served, handler: Handler | None) -> None:
        """Run a callback, if it still should, and send back what it returned or raised."""
        with self.answering(delivery, served, handler) as call:
            if call is not None:
                call.result = call.handler.callback(call.message.payload, call.message)
                if isinstance(call.result, CoroutineType):
                    refuse_coroutine(call.message.name, call.result)

    @contextmanager
    def answering(self, delivery: Delivery, served: Served, handler: Handler | None) -> Iterator["Call | None"]:
        """Yield the call that is to be made, if any; what it returns, or is raised meanwhile, is sent back.

        Nothing is raised from it, whatever the callback raises: who asked is told.
        """
        if not self._begins(served):
            yield None
            return
        header = delivery.contents.header
        if handler is None:
            gone = NotSubscribed(f"the responder has unsubscribed from {header.name!r}; nothing was run")
            self._respond(served, raised(gone, with_traceback=False))
            yield None
            return
        try:
            message = self._payloads.reader(delivery, handler.channel)(0)
        except Exception as error:  # noqa: BLE001  # a validator of the application may raise anything, too
            self._tell(served, header.name, error)
            yield None
            return
        message.expect_answer(time.time() + served.deadline - self._clock())
        self.received += 1
        call = Call(handler, message)
        try:
            yield call
        except BaseException as error:  # noqa: BLE001  # whatever a callback raises, who asked must be told
            call.error = error
            self._tell(served, header.name, error)
        else:
            self._return(served, header.name, header.codec, call.result)

    def _tell(self, served: Served, name: str, error: BaseException) -> None:
        self.failed += 1
        self._respond(served, raised(error))
        log(logging.ERROR, "request %r was not answered", name, error=error)

    def _return(self, served: Served, name: str, codec: int, result: object) -> None:
        try:
            payload = encode_answer(codecs.BY_NUMBER[codec], name, result)
            self._respond(served, Draft(name, [(time.time(), payload)], 0, codec))
        except (PayloadNotEncodable, MessageTooLarge) as error:
            self.failed += 1
            self._respond(served, raised(error, with_traceback=False))
            log(logging.ERROR, "request %r: its result cannot be sent: %s", name, error)
