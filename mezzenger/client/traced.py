"""Spans around what is sent and what callbacks do, and their context in the headers between the two.

Names and attributes are those of OpenTelemetry's semantic conventions for messaging.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any, Final, NamedTuple

import msgspec
from opentelemetry import context, propagate
from opentelemetry.trace import Span, SpanKind, Tracer

from mezzenger.client.async_engine import ASYNC_PARTS, AsyncEngine, AsyncParts
from mezzenger.client.batches import Item
from mezzenger.client.engine import Engine, Gather
from mezzenger.client.handlers import Callback, Handler
from mezzenger.client.threads import PARTS, Parts, ThreadEngine
from mezzenger.errors import InvalidMessage
from mezzenger.message import Message, check_headers
from mezzenger.protocol.subscriptions import Membership
from mezzenger.protocol.wire import Contents, Extra
from mezzenger.settings import ClientSettings


class _Operation(NamedTuple):
    """What a span is of."""

    name: str
    type: str
    """One of those that the conventions know."""
    kind: SpanKind


_SEND: Final = _Operation("send", "send", SpanKind.PRODUCER)
_REQUEST: Final = _Operation("request", "send", SpanKind.CLIENT)
_PROCESS: Final = _Operation("process", "process", SpanKind.CONSUMER)


class TracedEngine(Engine):
    """An engine that begins a span for each send and each call of a callback."""

    _tracer: Tracer
    """Makes the spans; set by who inherits."""

    async def send(self, name: str, item: Item, codec: int, ack: int, extra: Extra) -> None:
        """Send one message with its span's context."""
        with self._span(_SEND, name):
            await super().send(name, item, codec, ack, _with_context(extra))

    def _gathering(self) -> Gather:
        """Have each message gathered with a context of its own."""
        return self._send_at_once

    async def send_batches(self, name: str, payloads: Iterable[bytes], codec: int, ack: int, extra: Extra) -> int:
        """Send encoded payloads in batches, all with the context of one span."""
        with self._span(_SEND, name) as span:
            count = await super().send_batches(name, payloads, codec, ack, _with_context(extra))
            span.set_attribute("messaging.batch.message_count", count)
            return count

    async def request(self, name: str, item: Item, codec: int, extra: Extra, timeout: float | None) -> Contents:
        """Ask one subscriber, whose callback runs within the context of the question."""
        with self._span(_REQUEST, name):
            return await super().request(name, item, codec, _with_context(extra), timeout)

    async def subscribe(self, name: str, handler: Handler, membership: Membership | None = None) -> None:
        """Subscribe with a callback that runs within the context of who has sent its message."""
        await super().subscribe(name, handler._replace(callback=self._traced(handler.callback)), membership)

    def _traced(self, callback: Callback) -> Callback:
        def call(payload: object, message: Message[Any]) -> object:
            with self._processing(message):
                return callback(payload, message)

        return call

    @contextmanager
    def _processing(self, message: Message[Any]) -> Iterator[None]:
        attributes: dict[str, str | int] = {
            "messaging.message.id": message.id,
            "messaging.mezzenger.message.attempt": message.attempt,
        }
        # The whole context, for there may be more in it than the span that the new one is a child of.
        token = context.attach(propagate.extract(message.headers))
        try:
            with self._span(_PROCESS, message.name, attributes):
                yield
        finally:
            context.detach(token)

    @contextmanager
    def _span(self, operation: _Operation, name: str, more: Mapping[str, str | int] | None = None) -> Iterator[Span]:
        attributes: dict[str, str | int] = {
            "messaging.system": "mezzenger",
            "messaging.destination.name": name,
            "messaging.operation.name": operation.name,
            "messaging.operation.type": operation.type,
            "server.address": self.settings.server_address,
            "server.port": self.settings.send_port,
            **(more or {}),
        }
        with self._tracer.start_as_current_span(
            f"{operation.name} {name}", kind=operation.kind, attributes=attributes
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise


class TracedThreadEngine(TracedEngine, ThreadEngine):
    """The one with threads."""

    def __init__(self, settings: ClientSettings, tracer: Tracer, parts: Parts = PARTS) -> None:
        super().__init__(settings, parts)
        self._tracer = tracer


class TracedAsyncEngine(TracedEngine, AsyncEngine):
    """The one in a loop."""

    def __init__(self, settings: ClientSettings, tracer: Tracer, parts: AsyncParts = ASYNC_PARTS) -> None:
        super().__init__(settings, parts)
        self._tracer = tracer

    def _traced(self, callback: Callback) -> Callback:
        async def call(payload: object, message: Message[Any]) -> object:
            with self._processing(message):
                result = callback(payload, message)
                return await result if isawaitable(result) else result

        return call


def _with_context(extra: Extra) -> Extra:
    """Return the extra fields with the context of the current span among the headers, if there is room for it."""
    injected: dict[str, str] = {}
    propagate.inject(injected)
    if not injected:
        return extra
    headers = {**extra.headers, **injected}
    try:
        check_headers(headers)
    except InvalidMessage:
        return extra  # rather a trace with a gap than a message less
    return msgspec.structs.replace(extra, headers=headers)
