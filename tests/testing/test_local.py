"""A real server for tests, and its clients."""

import asyncio
import threading

import pytest

from mezzenger import AsyncMezzenger, ServerUnreachable, State
from mezzenger.testing import LocalServer


async def subscribed(server: LocalServer) -> AsyncMezzenger:
    """Return a client that nobody stops."""
    client = await server.async_client()
    await client.subscribe("news", lambda _payload, _msg: None)
    return client


def test_a_client_of_a_loop_that_has_ended() -> None:
    """It ends with its server, as all do; one that was never connected, too."""
    with LocalServer() as server:
        left = [asyncio.run(subscribed(server)), server.async_client()]
    assert [client.state for client in left] == [State.CLOSED, State.CLOSED]
    assert all(client.stopped() for client in left)


def test_a_client_of_a_loop_that_runs() -> None:
    """It ends likewise, in its own loop, be that the one in which the server is stopped, or another thread's."""

    async def here() -> AsyncMezzenger:
        with LocalServer() as server:
            return await subscribed(server)

    assert asyncio.run(here()).state is State.CLOSED

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with LocalServer() as server:
            client = asyncio.run_coroutine_threadsafe(subscribed(server), loop).result(30)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(30)
        assert client.state is State.CLOSED
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def test_a_server_that_is_not_started() -> None:
    """It has no clients yet, and no address by which others could find it."""
    server = LocalServer()
    for ask in (server.client, server.async_client, server.environ):
        with pytest.raises(ServerUnreachable, match="not started"):
            ask()
