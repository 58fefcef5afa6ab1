"""Traces with OpenTelemetry's own SDK, from a sender's span to a callback's; and nothing at all without it."""

import asyncio
import queue
import subprocess
import sys

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

from mezzenger import AsyncMezzenger, Channel, Message, MessageTooLarge, Mezzenger, MezzengerServer, ServerSettings
from mezzenger.client.now import run_now
from mezzenger.client.traced import TracedEngine, TracedThreadEngine, _with_context
from mezzenger.codecs import RAW
from mezzenger.message import MAX_HEADER_BYTES
from mezzenger.protocol.wire import NO_EXTRA
from tests.integration.conftest import Connect
from tests.integration.processes import wait_for

SECONDS = 10.0
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What collects all spans, of a provider that is set up for the clients that the test makes from now on."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # A real provider can be set once for a process, and would be there for all other tests.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


def spans_of(exporter: InMemorySpanExporter, count: int) -> dict[str, ReadableSpan]:
    """Wait for so many spans; return them by name."""
    wait_for(lambda: len(exporter.get_finished_spans()) == count)
    return {span.name: span for span in exporter.get_finished_spans()}


def subscribed(client: Mezzenger, name: str) -> "queue.SimpleQueue[Message[object]]":
    arrived: queue.SimpleQueue[Message[object]] = queue.SimpleQueue()
    client.subscribe(name, lambda _payload, msg_obj: arrived.put(msg_obj))
    return arrived


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


@pytest.mark.parametrize("ack", [0, 1])
def test_a_trace_goes_on_in_the_callback(exporter: InMemorySpanExporter, connect: Connect, ack: int) -> None:
    """The callback's span is a child of the sender's, and what the callback begins is a child of that."""
    client = connect()
    tracer = trace.get_tracer_provider().get_tracer("test")
    seen: queue.SimpleQueue[Message[int]] = queue.SimpleQueue()

    def handle(_payload: int, message: Message[int]) -> None:
        with tracer.start_as_current_span("inner"):
            seen.put(message)

    client.subscribe("orders", handle)
    with tracer.start_as_current_span("outer"):
        client.send_message("orders", 7, ack, headers={"a": "b"})
    spans = spans_of(exporter, 4)
    chain = [spans[name] for name in ("outer", "send orders", "process orders", "inner")]
    assert len({ids(span)[0] for span in chain}) == 1
    parents = [span.parent.span_id for span in chain[1:] if span.parent is not None]
    assert parents == [ids(span)[1] for span in chain[:-1]]
    assert [span.kind for span in chain[1:3]] == [SpanKind.PRODUCER, SpanKind.CONSUMER]
    message = seen.get(timeout=SECONDS)
    trace_id, span_id = ids(spans["send orders"])
    assert dict(message.headers).keys() == {"a", "traceparent"}
    assert message.headers["traceparent"].startswith(f"00-{trace_id:032x}-{span_id:016x}-")
    common = {
        "messaging.system": "mezzenger",
        "messaging.destination.name": "orders",
        "server.address": "127.0.0.1",
        "server.port": client.settings.send_port,
    }
    operations = [{"messaging.operation.name": word, "messaging.operation.type": word} for word in ("send", "process")]
    of_message = {"messaging.message.id": message.id, "messaging.mezzenger.message.attempt": 1}
    assert dict(spans["send orders"].attributes or {}) == common | operations[0]
    assert dict(spans["process orders"].attributes or {}) == common | operations[1] | of_message


def test_a_trace_of_somebody_else(exporter: InMemorySpanExporter, connect: Connect) -> None:
    """The trace that is current is continued, baggage and all; what was forwarded of another one is not sent on."""
    client = connect()
    found: queue.SimpleQueue[object] = queue.SimpleQueue()
    client.subscribe("orders", lambda _payload, _msg: found.put(baggage.get_baggage("shop")))
    token = context.attach(propagate.extract({"traceparent": TRACEPARENT, "baggage": "shop=corner"}))
    try:
        client.send_message("orders", 1, headers={"traceparent": TRACEPARENT.replace("0af7", "ffff")})
    finally:
        context.detach(token)
    assert found.get(timeout=SECONDS) == "corner"
    spans = spans_of(exporter, 2)
    assert {f"{ids(span)[0]:032x}" for span in spans.values()} == {TRACEPARENT.split("-")[1]}


def test_many_at_once(exporter: InMemorySpanExporter, connect: Connect) -> None:
    """They have one span when they are sent, which tells how many they were, and one each when they are handled."""
    client = connect()
    arrived = subscribed(client, "orders")
    assert client.send_messages(Channel("orders", int), range(600), ack=1) == 600
    messages = [arrived.get(timeout=SECONDS) for _ in range(600)]
    assert len({message.headers["traceparent"] for message in messages}) == 1
    spans = spans_of(exporter, 601)
    assert spans["send orders"].attributes is not None
    assert spans["send orders"].attributes["messaging.batch.message_count"] == 600
    assert len({ids(span)[0] for span in exporter.get_finished_spans()}) == 1


def test_one_that_sends_on_and_on(exporter: InMemorySpanExporter, server: MezzengerServer) -> None:
    """A task that only sends lets the others of its loop have their turn, with spans as without."""
    turns = 0

    async def breathe() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def work() -> None:
        async with AsyncMezzenger(send_port=server.recv_port, sub_port=server.pub_port) as mc:
            breathing = asyncio.create_task(breathe())
            for number in range(1000):
                await mc.send_message("numbers", number)
            breathing.cancel()

    asyncio.run(work())
    assert turns > 10
    assert len(exporter.get_finished_spans()) == 1000


def test_a_request(exporter: InMemorySpanExporter, connect: Connect) -> None:
    """Who answers runs within the question's span."""
    client, asking = connect(), connect()
    client.subscribe("double", lambda payload, _msg: payload * 2)
    assert asking.request("double", 4) == 8
    spans = spans_of(exporter, 2)
    process, request = spans["process double"], spans["request double"]
    assert process.parent is not None
    assert (process.context and process.context.trace_id, process.parent.span_id) == ids(request)
    assert (request.kind, process.kind) == (SpanKind.CLIENT, SpanKind.CONSUMER)
    assert request.attributes is not None
    assert request.attributes["messaging.operation.type"] == "send"


def test_what_fails(exporter: InMemorySpanExporter, server: MezzengerServer, connect: Connect) -> None:
    """Spans tell what was raised; the error that the server is told has no line of the tracing in it."""
    client = connect()

    def fail(payload: object, message: Message[object]) -> None:
        if message.attempt == 1:
            raise ValueError(f"no {payload}")

    client.subscribe("orders", fail)
    client.send_message("orders", "tea", ack=1)
    with pytest.raises(MessageTooLarge):
        client.send_message("large", bytes(2**26))
    spans_of(exporter, 4)
    outcomes = [
        (span.name, span.status.status_code, (span.attributes or {}).get("error.type"))
        for span in exporter.get_finished_spans()
    ]
    assert sorted(outcomes, key=str) == sorted(
        [
            ("send orders", StatusCode.UNSET, None),
            ("process orders", StatusCode.ERROR, "ValueError"),
            ("process orders", StatusCode.UNSET, None),
            ("send large", StatusCode.ERROR, "MessageTooLarge"),
        ],
        key=str,
    )


def test_the_error_that_is_told(exporter: InMemorySpanExporter) -> None:
    """A dead letter's error begins with the callback's lines; those of Mezzenger and OpenTelemetry are left out."""

    def fail(_payload: object, _message: Message[object]) -> None:
        raise ValueError("no tea")

    values = {"pub_port": 0, "recv_port": 0, "drain_timeout": 0.5, "resend": {"initial": 0.01, "max_attempts": 2}}
    with (
        MezzengerServer(ServerSettings.model_validate(values)) as server,
        Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as client,
    ):
        client.subscribe("orders", fail)
        client.send_message("orders", 1, ack=1)
        wait_for(lambda: server.stats().dead == 1)
        (letter,) = client.dead.list()
    text, first, *others = letter.error.splitlines()
    assert text == "ValueError: no tea"
    assert f'File "{__file__}"' in first
    assert not any("File" in line for line in others)


def test_no_room(exporter: InMemorySpanExporter, connect: Connect) -> None:
    """Headers that are as long as they may be are sent as they are."""
    client = connect()
    arrived = subscribed(client, "orders")
    headers = {"a": "x" * (MAX_HEADER_BYTES - 1)}
    client.send_message("orders", 1, headers=headers)
    assert arrived.get(timeout=SECONDS).headers == headers


def test_without_a_context(connect: Connect) -> None:
    """What is sent has no context if there is none, and may travel with others."""
    assert _with_context(NO_EXTRA) is NO_EXTRA
    engine = TracedThreadEngine(connect().settings, NoOpTracerProvider().get_tracer("test"))
    engine.connect()
    arrived = subscribed(connect(), "orders")
    run_now(engine.send("orders", (1.5, b"x"), RAW.number, 0, NO_EXTRA))
    engine.stop()
    assert arrived.get(timeout=SECONDS).headers == {}


@pytest.mark.parametrize("provider", [None, NoOpTracerProvider()])
def test_without_a_provider(provider: TracerProvider | None, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has set up a provider, clients are as they are without OpenTelemetry, and send no header."""
    if provider is not None:
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    client = connect()
    assert not isinstance(client._engine, TracedEngine)
    arrived = subscribed(client, "orders")
    client.send_message("orders", 1, ack=1)
    assert arrived.get(timeout=SECONDS).headers == {}


def test_without_opentelemetry(server: MezzengerServer) -> None:
    """A client does not even import it."""
    ports = f"send_port={server.recv_port}, sub_port={server.pub_port}"
    program = (
        f"import mezzenger, sys; mc = mezzenger.Mezzenger({ports}); mc.send_message('a', 1); mc.stop(); "
        "print(*(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "\n"
