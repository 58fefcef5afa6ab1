"""What the tests of the commands share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mezzenger import MezzengerServer, ServerSettings
from tests.cli.processes import Commands


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Runs commands in a folder of their own, with SIGINT as people know it."""
    # A shell starts what it puts into the background with SIGINT ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Commands(tmp_path)
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server on free ports, in a thread."""
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0, drain_timeout=0.5)) as server:
        yield server
