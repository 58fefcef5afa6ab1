"""Follow a message from the program that sends it into the callback that handles it, with OpenTelemetry.

It needs ``pip install '.[otel]' opentelemetry-sdk``. A real program exports spans to a collector; this one
prints them.
"""

import queue

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mezzenger import Message, Mezzenger

# Set up before the client is made: that is when it looks whether anybody traces.
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("examples.tracing")

done: queue.SimpleQueue[str] = queue.SimpleQueue()


def handle(payload: int, msg_obj: Message[int]) -> None:
    with tracer.start_as_current_span("bake"):
        done.put(f"{payload} loaves")


with Mezzenger(server_address="127.0.0.1") as mc:
    mc.subscribe("orders", handle)
    with tracer.start_as_current_span("open the shop"):
        mc.send_message("orders", 3, ack=1)
    print(done.get(timeout=10))

spans = {span.context.span_id: span for span in exporter.get_finished_spans() if span.context is not None}
for span in sorted(spans.values(), key=lambda span: span.start_time or 0):
    parent = spans[span.parent.span_id].name if span.parent else "nothing"
    print(f"{span.name!r} is a part of {parent!r}")
print("traces:", len({span.context.trace_id for span in spans.values() if span.context is not None}))
