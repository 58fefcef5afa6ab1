"""Whether a client traces: only in a program that has set up OpenTelemetry before it makes the client.

This is decided once, so that all others have no work with it, for any message. OpenTelemetry is not even imported here:
who has set it up has done that.
"""

import sys
from typing import TYPE_CHECKING

from mezzenger.client.threads import PARTS, Parts, ThreadEngine
from mezzenger.settings import ClientSettings

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from mezzenger.client.async_engine import AsyncEngine, AsyncParts


def new_engine(settings: ClientSettings, parts: Parts = PARTS) -> ThreadEngine:
    """Make an engine, and one that traces if somebody collects what is traced."""
    tracer = _tracer()
    if tracer is None:
        return ThreadEngine(settings, parts)
    from mezzenger.client.traced import TracedThreadEngine

    return TracedThreadEngine(settings, tracer, parts)


def new_async_engine(settings: ClientSettings, parts: "AsyncParts | None" = None) -> "AsyncEngine":
    """Make an engine for an asyncio loop, likewise."""
    from mezzenger.client.async_engine import ASYNC_PARTS, AsyncEngine

    tracer, parts = _tracer(), parts or ASYNC_PARTS
    if tracer is None:
        return AsyncEngine(settings, parts)
    from mezzenger.client.traced import TracedAsyncEngine

    return TracedAsyncEngine(settings, tracer, parts)


def _tracer() -> "Tracer | None":
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None  # nobody has set it up
    return provider.get_tracer("mezzenger")
