"""Answers requests: runs the callback, and sends back what it returned."""

import logging
import time
from collections.abc import Callable

from mezzenger import codecs
from mezzenger.channel import encode_answer
from mezzenger.client.failures import raised
from mezzenger.client.handlers import Handler
from mezzenger.client.payloads import Payloads
from mezzenger.errors import MessageTooLarge, NotSubscribed, PayloadNotEncodable
from mezzenger.protocol.commands import Raised
from mezzenger.protocol.events import Delivery, Served
from mezzenger.protocol.outgoing import Draft

logger = logging.getLogger("mezzenger.client")


class Responder:
    """Runs callbacks for requests; used by the thread of the callbacks only.

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
        if not self._begins(served):
            return
        header = delivery.contents.header
        if handler is None:
            gone = NotSubscribed(f"the responder has unsubscribed from {header.name!r}; nothing was run")
            self._respond(served, raised(gone, with_traceback=False))
            return
        try:
            message = self._payloads.reader(delivery, handler.channel)(0)
            message.expect_answer(time.time() + served.deadline - self._clock())
            self.received += 1
            result = handler.callback(message.payload, message)
        except BaseException as error:  # whatever a callback raises, who asked must be told
            self.failed += 1
            logger.exception("request %r was not answered", header.name)
            self._respond(served, raised(error))
        else:
            self._return(served, header.name, header.codec, result)

    def _return(self, served: Served, name: str, codec: int, result: object) -> None:
        try:
            payload = encode_answer(codecs.BY_NUMBER[codec], name, result)
            self._respond(served, Draft(name, [(time.time(), payload)], 0, codec))
        except (PayloadNotEncodable, MessageTooLarge) as error:
            self.failed += 1
            logger.error("request %r: its result cannot be sent: %s", name, error)  # noqa: TRY400  # the text has all
            self._respond(served, raised(error, with_traceback=False))
