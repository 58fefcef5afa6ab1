"""Fixtures for tests of programs that use Mezzenger. pytest finds them by itself where Mezzenger is installed.

Each run of pytest loads this module, whether it needs Mezzenger or not; so all that costs time is imported by the
fixtures.
"""

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mezzenger import AsyncMezzenger, Mezzenger, Settings
    from mezzenger.client.lifetime import Client
    from mezzenger.testing import Link, LocalServer

_CLIENTS_BEFORE = pytest.StashKey["set[Client]"]()


def pytest_configure(config: pytest.Config) -> None:
    """Take note of the clients of a program that runs pytest itself."""
    config.stash[_CLIENTS_BEFORE] = _clients()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop all that the tested program has not stopped: for one that is subscribed, the process would go on."""
    before = config.stash[_CLIENTS_BEFORE]
    for client in _clients() - before:
        client.stop()


def _clients() -> "set[Client]":
    lifetime = sys.modules.get("mezzenger.client.lifetime")
    return set() if lifetime is None else lifetime.running()


@pytest.fixture
def mezzenger_settings() -> "Settings":
    """What the servers of the test, and clients of these, are told; to be overridden by who wants something else."""
    from mezzenger import Settings

    return Settings()


@pytest.fixture
def mezzenger_memory(mezzenger_settings: "Settings") -> "Iterator[Link]":
    """A server in memory, with a clock that the test moves; ``client()`` makes clients of it."""
    from mezzenger.testing import Link

    with Link(mezzenger_settings) as link:
        yield link


@pytest.fixture
def mezzenger_memory_client(mezzenger_memory: "Link") -> "Mezzenger":
    """A client of ``mezzenger_memory``."""
    return mezzenger_memory.client()


@pytest.fixture
def mezzenger_memory_async_client(mezzenger_memory: "Link") -> "AsyncMezzenger":
    """A client of ``mezzenger_memory`` for asyncio, not connected yet: for ``async with``."""
    return mezzenger_memory.async_client()


@pytest.fixture
def mezzenger_server(mezzenger_settings: "Settings", monkeypatch: pytest.MonkeyPatch) -> "Iterator[LocalServer]":
    """A real server on free ports; ``client()`` makes clients of it, and ``Mezzenger.from_config()`` finds it."""
    from mezzenger.testing import LocalServer

    with LocalServer(mezzenger_settings) as server:
        for name, value in server.environ().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def mezzenger_client(mezzenger_server: "LocalServer") -> "Mezzenger":
    """A client of ``mezzenger_server``."""
    return mezzenger_server.client()


@pytest.fixture
def mezzenger_async_client(mezzenger_server: "LocalServer") -> "AsyncMezzenger":
    """A client of ``mezzenger_server`` for asyncio, not connected yet: for ``async with``."""
    return mezzenger_server.async_client()
