"""What holds for all tests."""

import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_HERE: Final = Path(__file__).parent
_COVERED: Final = {_HERE, _HERE / "broker", _HERE / "protocol"}
"""Where the tests of the pure layers are; to measure what the others cover would take some of them thrice as long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that nobody waits for it at the end."""
    items.sort(key=lambda item: item.path.parent.name != "simulation")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure coverage where it must be full, and nowhere else; the marker no_cover does nothing with xdist."""
    trace, threads_trace = sys.gettrace(), threading.gettrace()
    if item.path.parent in _COVERED or type(trace).__module__ != "coverage":
        return (yield)
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(trace)
        if threads_trace is not None:
            threading.settrace(threads_trace)
