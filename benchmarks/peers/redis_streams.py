"""Redis Streams with ``appendfsync always``: XADD in pipelines, a consumer group that acks each batch it has read.

One at a time, each XADD waits for its answer.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from benchmarks.load import Load, Plan, Tally
from benchmarks.peers.base import Daemon, needs
from benchmarks.peers.redis_pubsub import MODULES, PACKAGE, PROGRAM, connect, redis_daemon

_GROUP: Final = "bench"
_CONSUMER: Final = "one"
_READ: Final = 1000


class StreamsPublisher:
    """One connection."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._client = connect(ports)

    def send(self, load: Load) -> None:
        """Send a pipeline for each chunk, or one by one; each answer comes after the sync."""
        for chunk in load.chunks():
            load.wait()
            target = self._client if load.one_at_a_time else self._client.pipeline(transaction=False)
            for payload in chunk:
                target.xadd(load.name, {"p": pickle.dumps(payload, 5)})
            if not load.one_at_a_time:
                target.execute()


class StreamsSubscriber:
    """One consumer."""

    def __init__(self, ports: tuple[int, ...], plan: Plan) -> None:
        self._client = connect(ports)
        (self._name,) = plan.all_names()
        self._client.xgroup_create(self._name, _GROUP, id="0", mkstream=True)
        self._tally: Tally | None = None

    def expect(self, tallies: Sequence[Tally]) -> None:
        """Count there."""
        (self._tally,) = tallies

    def receive(self) -> None:
        """Read, handle, ack."""
        tally = self._tally
        while tally is not None and not tally.is_over():
            answer: Any = self._client.xreadgroup(_GROUP, _CONSUMER, {self._name: ">"}, count=_READ, block=500)
            for _, entries in answer.items() if isinstance(answer, dict) else answer or ():
                # In a dict, the entries of a stream are in a list of their own.
                flat = entries[0] if isinstance(answer, dict) else entries
                for _, fields in flat:
                    tally.add(pickle.loads(fields[b"p"]))
                self._client.xack(self._name, _GROUP, *(number for number, _ in flat))
                tally.acked()


class RedisStreams:
    """Redis that keeps what it is sent."""

    name = "redis-streams"
    title = "Redis Streams, fsync always"

    def install_command(self) -> str | None:
        """The extra has the client, the system the server."""
        return needs(MODULES, [PROGRAM], PACKAGE)

    def daemon(self, folder: Path, *, durable: bool) -> Daemon:
        """``redis-server`` with an append-only file."""
        return redis_daemon(folder, durable=durable)

    def publisher(self, ports: tuple[int, ...], plan: Plan) -> StreamsPublisher:
        """Connect."""
        del plan
        return StreamsPublisher(ports)

    def subscriber(self, ports: tuple[int, ...], plan: Plan, connections: int) -> StreamsSubscriber:
        """Connect and make the group."""
        del connections
        return StreamsSubscriber(ports, plan)

    def caller(self, ports: tuple[int, ...]) -> NoReturn:
        """No workload asks for it."""
        raise NotImplementedError

    def echo(self, ports: tuple[int, ...]) -> NoReturn:
        """No workload asks for it."""
        raise NotImplementedError
