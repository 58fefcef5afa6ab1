"""Whether a client traces: only in a program that has set up OpenTelemetry before it makes the client."""

import sys

from mezzenger.client.threads import PARTS, Parts, ThreadEngine
from mezzenger.settings import ClientSettings


def new_engine(settings: ClientSettings, parts: Parts = PARTS) -> ThreadEngine:
    """Make an engine, and one that traces if somebody collects what is traced.

    This is decided once, so that all others have no work with it, for any message. OpenTelemetry is not even imported
    here: who has set it up has done that.
    """
    if "opentelemetry.trace" not in sys.modules:
        return ThreadEngine(settings, parts)
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return ThreadEngine(settings, parts)  # nobody has set it up
    from mezzenger.client.traced import TracedThreadEngine

    return TracedThreadEngine(settings, provider.get_tracer("mezzenger"), parts)
