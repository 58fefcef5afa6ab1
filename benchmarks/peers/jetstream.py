"""JetStream with ``sync_interval: always``: asynchronous publishes in a window, a pull consumer that acks each message.

One at a time, each publish waits for its confirmation.
"""

import asyncio
import pickle
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from benchmarks.load import Load, Plan, Tally
from benchmarks.peers.base import Daemon, needs
from benchmarks.peers.nats_core import MODULES, PROGRAM, connect, nats_daemon, new_runner

_STREAM: Final = "BENCH"
_CONSUMER: Final = "bench"
_FETCH: Final = 512


class JetStreamPublisher:
    """One connection."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._runner = new_runner()
        connection = self._runner.run(connect(ports))
        self._stream = connection.jetstream()

    def send(self, load: Load) -> None:
        """Publish; return when all is confirmed."""
        self._runner.run(self._send_single(load) if load.one_at_a_time else self._send_window(load))

    async def _send_single(self, load: Load) -> None:
        for chunk in load.chunks():
            for payload in chunk:
                await self._stream.publish(load.name, pickle.dumps(payload, 5))

    async def _send_window(self, load: Load) -> None:
        confirms = []
        for chunk in load.chunks():
            await load.credit()
            for payload in chunk:
                # It waits by itself while too many are not confirmed: 4,000, its default.
                confirms.append(  # noqa: PERF401  # nothing is gained by a comprehension that awaits
                    await self._stream.publish_async(load.name, pickle.dumps(payload, 5), wait_stall=30)
                )
        await asyncio.gather(*confirms)


class JetStreamSubscriber:
    """One durable pull consumer."""

    def __init__(self, ports: tuple[int, ...], plan: Plan) -> None:
        self._runner = new_runner()
        self._tally: Tally | None = None
        self._connection, self._consumer = self._runner.run(self._connect(ports, plan))

    @staticmethod
    async def _connect(ports: tuple[int, ...], plan: Plan) -> tuple[Any, Any]:
        connection = await connect(ports)
        stream = connection.jetstream()
        await stream.add_stream(name=_STREAM, subjects=plan.all_names())
        consumer = await stream.pull_subscribe(plan.all_names()[0], durable=_CONSUMER, stream=_STREAM)
        return connection, consumer

    def expect(self, tallies: Sequence[Tally]) -> None:
        """Count there."""
        (self._tally,) = tallies

    def receive(self) -> None:
        """Fetch, handle, ack."""
        self._runner.run(self._receive())

    async def _receive(self) -> None:
        import nats.errors  # noqa: PLC0415  # need not be installed

        tally = self._tally
        if tally is None:
            return
        while not tally.is_over():
            with suppress(nats.errors.TimeoutError):
                for message in await self._consumer.fetch(_FETCH, timeout=0.5):
                    tally.add(pickle.loads(message.data))
                    await message.ack()
        await self._connection.flush(30)
        tally.acked()


class JetStream:
    """NATS that keeps what it is sent."""

    name = "jetstream"
    title = "JetStream, sync always"

    def install_command(self) -> str | None:
        """The extra has it all."""
        return needs(MODULES, [PROGRAM])

    def daemon(self, folder: Path, *, durable: bool) -> Daemon:
        """``nats-server`` with a file store."""
        return nats_daemon(folder, durable=durable)

    def publisher(self, ports: tuple[int, ...], plan: Plan) -> JetStreamPublisher:
        """Connect."""
        del plan
        return JetStreamPublisher(ports)

    def subscriber(self, ports: tuple[int, ...], plan: Plan, connections: int) -> JetStreamSubscriber:
        """Connect, and make the stream and its consumer."""
        del connections
        return JetStreamSubscriber(ports, plan)

    def caller(self, ports: tuple[int, ...]) -> NoReturn:
        """No workload asks for it."""
        raise NotImplementedError

    def echo(self, ports: tuple[int, ...]) -> NoReturn:
        """No workload asks for it."""
        raise NotImplementedError
