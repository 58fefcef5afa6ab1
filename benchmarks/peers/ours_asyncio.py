"""``AsyncMezzenger`` on uvloop, as docs/asyncio.md says: ``send_message`` in a loop, one coroutine as callback."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load import Load, Plan, Tally
from benchmarks.peers.base import Daemon, needs
from benchmarks.peers.nats_core import new_runner, until_over
from benchmarks.peers.ours import PING, PONG, Ours
from mezzenger import AsyncMezzenger, Message


async def connect(ports: tuple[int, ...]) -> AsyncMezzenger:
    """Return a client."""
    return await AsyncMezzenger(send_port=ports[0], sub_port=ports[1])


class AsyncPublisher:
    """One client."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._runner = new_runner()
        self._client = self._runner.run(connect(ports))

    def send(self, load: Load) -> None:
        """Send one by one, and flush at the end."""
        self._runner.run(self._send(load))

    async def _send(self, load: Load) -> None:
        send = self._client.send_message
        for chunk in load.chunks():
            await load.credit()
            for payload, name in zip(chunk, load.names, strict=False):
                await send(name, payload)
        await self._client.flush()


class AsyncSubscriber:
    """Clients that share one loop, each with one callback."""

    def __init__(self, ports: tuple[int, ...], plan: Plan, connections: int) -> None:
        self._runner = new_runner()
        self._tallies: Sequence[Tally] = []
        self._runner.run(self._connect(ports, plan, connections))

    async def _connect(self, ports: tuple[int, ...], plan: Plan, connections: int) -> None:
        self._clients = [await connect(ports) for _ in range(connections)]
        for index, client in enumerate(self._clients):
            for name in plan.all_names():
                await client.subscribe(name, self._callback(index))

    def _callback(self, index: int) -> Any:  # noqa: ANN401  # a callback, whose payload may be anything
        async def callback(payload: Any, _message: Message[Any]) -> None:  # noqa: ANN401  # a record, or bytes
            self._tallies[index].add(payload)

        return callback

    def expect(self, tallies: Sequence[Tally]) -> None:
        """Have the callbacks count there."""
        self._tallies = tallies

    def receive(self) -> None:
        """Run the loop."""
        self._runner.run(until_over(self._tallies))


class AsyncCaller:
    """One client that sends pings and gets pongs."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._runner = new_runner()
        self._arrived: asyncio.Future[int] | None = None
        self._client = self._runner.run(self._connect(ports))

    async def _connect(self, ports: tuple[int, ...]) -> AsyncMezzenger:
        client = await connect(ports)
        await client.subscribe(PONG, self._on_pong)
        return client

    async def _on_pong(self, payload: int, _message: Message[int]) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(payload)

    def call(self, seconds: float) -> list[float]:
        """Send one when the last one has come back."""
        return self._runner.run(self._call(seconds))

    async def _call(self, seconds: float) -> list[float]:
        loop, send = asyncio.get_running_loop(), self._client.send_message
        took = []
        end = time.perf_counter() + seconds
        while (before := time.perf_counter()) < end:
            self._arrived = loop.create_future()
            await send(PING, 1)
            await self._arrived
            took.append(time.perf_counter() - before)
        return took


class AsyncEcho:
    """One client that answers from its callback."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._runner = new_runner()
        self._runner.run(self._connect(ports))

    async def _connect(self, ports: tuple[int, ...]) -> None:
        client = await connect(ports)

        async def callback(payload: int, _message: Message[int]) -> None:
            await client.send_message(PONG, payload)

        await client.subscribe(PING, callback)

    def serve(self) -> None:
        """Run the loop."""
        forever: Coroutine[Any, Any, bool] = asyncio.Event().wait()
        self._runner.run(forever)


class OursAsyncio:
    """Mezzenger in asyncio loops."""

    name = "mezzenger-asyncio"
    title = "Mezzenger, asyncio"

    def install_command(self) -> str | None:
        """The same loop as that of nats-py."""
        return needs(["uvloop"])

    def daemon(self, folder: Path, *, durable: bool) -> Daemon:
        """``mezzenger-server``."""
        return Ours("", "", at_once=False).daemon(folder, durable=durable)

    def publisher(self, ports: tuple[int, ...], plan: Plan) -> AsyncPublisher:
        """Connect."""
        del plan
        return AsyncPublisher(ports)

    def subscriber(self, ports: tuple[int, ...], plan: Plan, connections: int) -> AsyncSubscriber:
        """Connect and subscribe."""
        return AsyncSubscriber(ports, plan, connections)

    def caller(self, ports: tuple[int, ...]) -> AsyncCaller:
        """Connect and subscribe."""
        return AsyncCaller(ports)

    def echo(self, ports: tuple[int, ...]) -> AsyncEcho:
        """Connect and subscribe."""
        return AsyncEcho(ports)
