"""nats-py on uvloop, with the newest ``nats-server`` that PyPI has."""

import asyncio
import json
import pickle
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load, Plan, Tally
from benchmarks.peers.base import HOST, Daemon, free_port, needs, program

MODULES: Final = ("nats", "uvloop")
PROGRAM: Final = "nats-server"

_POLL: Final = 0.02


def new_runner() -> asyncio.Runner:
    """Return a loop of uvloop."""
    import uvloop  # noqa: PLC0415  # does not exist on every system

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def connect(ports: tuple[int, ...]) -> Any:  # noqa: ANN401  # nats-py need not be installed
    """Return a connection."""
    import nats  # noqa: PLC0415  # need not be installed

    return await nats.connect(f"nats://{HOST}:{ports[0]}", allow_reconnect=False)


async def until_over(tallies: Sequence[Tally]) -> None:
    """Let the loop work until all tallies are over."""
    while not all(tally.is_over() for tally in tallies):  # noqa: ASYNC110  # callbacks of nats-py tell nobody
        await asyncio.sleep(_POLL)


def nats_daemon(folder: Path, *, durable: bool) -> Daemon:
    """Return the server; durable, JetStream syncs each message."""
    port = free_port()
    # A payload of 1 MiB is a little larger when it is pickled; the default is exactly that.
    settings: dict[str, Any] = {"host": HOST, "port": port, "max_payload": 8 * 2**20}
    if durable:
        settings["jetstream"] = {"store_dir": str(folder), "sync_interval": "always"}
    file = folder / "nats.conf"
    file.write_text(json.dumps(settings), "utf-8")
    return Daemon([program(PROGRAM) or PROGRAM, "--config", str(file)], (port,))


class NatsPublisher:
    """One connection."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._runner = new_runner()
        self._connection = self._runner.run(connect(ports))

    def send(self, load: Load) -> None:
        """Publish without waiting, and flush at the end."""
        self._runner.run(self._send(load))

    async def _send(self, load: Load) -> None:
        publish = self._connection.publish
        for chunk in load.chunks():
            await load.credit()
            for payload, name in zip(chunk, load.names, strict=False):
                await publish(name, pickle.dumps(payload, 5))
        await self._connection.flush(30)


class NatsSubscriber:
    """Connections that share one loop, each with one callback."""

    def __init__(self, ports: tuple[int, ...], plan: Plan, connections: int) -> None:
        self._runner = new_runner()
        self._tallies: Sequence[Tally] = []
        self._runner.run(self._connect(ports, plan, connections))

    async def _connect(self, ports: tuple[int, ...], plan: Plan, connections: int) -> None:
        for index in range(connections):
            connection = await connect(ports)
            callback = self._callback(index)
            for name in plan.all_names():
                await connection.subscribe(name, cb=callback)
            await connection.flush(30)

    def _callback(self, index: int) -> Any:  # noqa: ANN401  # a coroutine function
        async def callback(message: Any) -> None:  # noqa: ANN401  # nats-py need not be installed
            self._tallies[index].add(pickle.loads(message.data))

        return callback

    def expect(self, tallies: Sequence[Tally]) -> None:
        """Have the callbacks count there."""
        self._tallies = tallies

    def receive(self) -> None:
        """Run the loop."""
        self._runner.run(until_over(self._tallies))


class NatsCaller:
    """One connection that sends pings and gets pongs."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._runner = new_runner()
        self._arrived: asyncio.Future[Any] | None = None
        self._connection = self._runner.run(self._connect(ports))

    async def _connect(self, ports: tuple[int, ...]) -> Any:  # noqa: ANN401  # nats-py need not be installed
        connection = await connect(ports)
        await connection.subscribe("pong", cb=self._on_pong)
        await connection.flush(30)
        return connection

    async def _on_pong(self, message: Any) -> None:  # noqa: ANN401
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(pickle.loads(message.data))

    def call(self, seconds: float) -> list[float]:
        """Send one when the last one has come back."""
        return self._runner.run(self._call(seconds))

    async def _call(self, seconds: float) -> list[float]:
        loop, publish = asyncio.get_running_loop(), self._connection.publish
        took = []
        end = time.perf_counter() + seconds
        while (before := time.perf_counter()) < end:
            self._arrived = loop.create_future()
            await publish("ping", pickle.dumps(1, 5))
            await self._arrived
            took.append(time.perf_counter() - before)
        return took


class NatsEcho:
    """One connection that answers from its callback."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._runner = new_runner()
        self._runner.run(self._connect(ports))

    async def _connect(self, ports: tuple[int, ...]) -> None:
        connection = await connect(ports)

        async def callback(message: Any) -> None:  # noqa: ANN401
            await connection.publish("pong", pickle.dumps(pickle.loads(message.data), 5))

        await connection.subscribe("ping", cb=callback)
        await connection.flush(30)

    def serve(self) -> None:
        """Run the loop."""
        forever: Coroutine[Any, Any, bool] = asyncio.Event().wait()
        self._runner.run(forever)


class Nats:
    """NATS without JetStream."""

    name = "nats"
    title = "nats-py"

    def install_command(self) -> str | None:
        """The extra has it all."""
        return needs(MODULES, [PROGRAM])

    def daemon(self, folder: Path, *, durable: bool) -> Daemon:
        """``nats-server``."""
        return nats_daemon(folder, durable=durable)

    def publisher(self, ports: tuple[int, ...], plan: Plan) -> NatsPublisher:
        """Connect."""
        del plan
        return NatsPublisher(ports)

    def subscriber(self, ports: tuple[int, ...], plan: Plan, connections: int) -> NatsSubscriber:
        """Connect and subscribe."""
        return NatsSubscriber(ports, plan, connections)

    def caller(self, ports: tuple[int, ...]) -> NatsCaller:
        """Connect and subscribe."""
        return NatsCaller(ports)

    def echo(self, ports: tuple[int, ...]) -> NatsEcho:
        """Connect and subscribe."""
        return NatsEcho(ports)
