"""Redis publish and subscribe: redis-py with hiredis, publishes in pipelines."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.load import PATIENCE, Load, Plan, Tally
from benchmarks.peers.base import HOST, Daemon, call_for, free_port, in_threads, needs, program

MODULES: Final = ("redis", "hiredis")
PROGRAM: Final = "redis-server"
PACKAGE: Final = "redis-server"

_NAMES_AT_ONCE: Final = 1000


def redis_daemon(folder: Path, *, durable: bool) -> Daemon:
    """Return the server; durable, it syncs before it answers."""
    port = free_port()
    durability = ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
    command = [program(PROGRAM) or PROGRAM, "--bind", HOST, "--port", str(port), "--dir", str(folder), "--save", ""]
    return Daemon([*command, *(durability if durable else ())], (port,))


def connect(ports: tuple[int, ...]) -> Any:  # noqa: ANN401  # redis-py need not be installed
    """Return a client."""
    import redis  # noqa: PLC0415  # need not be installed

    return redis.Redis(host=HOST, port=ports[0], socket_timeout=PATIENCE)


class RedisPublisher:
    """One connection."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._client = connect(ports)

    def send(self, load: Load) -> None:
        """Send a pipeline for each chunk."""
        for chunk in load.chunks():
            load.wait()
            pipeline = self._client.pipeline(transaction=False)
            for payload, name in zip(chunk, load.names, strict=False):
                pipeline.publish(name, pickle.dumps(payload, 5))
            pipeline.execute()


class RedisSubscriber:
    """Connections that are read in a thread each, if there are more than one."""

    def __init__(self, ports: tuple[int, ...], plan: Plan, connections: int) -> None:
        self._tallies: Sequence[Tally] = []
        self._connections = [_subscribed(ports, plan.all_names()) for _ in range(connections)]

    def expect(self, tallies: Sequence[Tally]) -> None:
        """Count there."""
        self._tallies = tallies

    def receive(self) -> None:
        """Read all of them."""
        in_threads(self._receive, len(self._tallies))

    def _receive(self, index: int) -> None:
        import redis  # noqa: PLC0415  # need not be installed

        tally = self._tallies[index]
        try:
            for message in self._connections[index].listen():
                if message["type"] == "message":
                    tally.add(pickle.loads(message["data"]))
                    if tally.is_complete:
                        return
        except redis.TimeoutError:
            return


class RedisCaller:
    """A publishing and a subscribing connection."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._client = connect(ports)
        self._pongs = _subscribed(ports, ["pong"]).listen()

    def call(self, seconds: float) -> list[float]:
        """Send one when the last one has come back."""
        client, pongs = self._client, self._pongs

        def once() -> None:
            client.publish("ping", pickle.dumps(1, 5))
            pickle.loads(next(pongs)["data"])

        return call_for(seconds, once)


class RedisEcho:
    """The same, the other way round."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._client = connect(ports)
        self._pings = _subscribed(ports, ["ping"])

    def serve(self) -> None:
        """Answer."""
        while True:
            message = self._pings.get_message(timeout=None)
            if message is not None and message["type"] == "message":
                self._client.publish("pong", pickle.dumps(pickle.loads(message["data"]), 5))


class Redis:
    """Redis without persistence."""

    name = "redis"
    title = "redis-py"

    def install_command(self) -> str | None:
        """The extra has the client, the system the server."""
        return needs(MODULES, [PROGRAM], PACKAGE)

    def daemon(self, folder: Path, *, durable: bool) -> Daemon:
        """``redis-server``."""
        return redis_daemon(folder, durable=durable)

    def publisher(self, ports: tuple[int, ...], plan: Plan) -> RedisPublisher:
        """Connect."""
        del plan
        return RedisPublisher(ports)

    def subscriber(self, ports: tuple[int, ...], plan: Plan, connections: int) -> RedisSubscriber:
        """Connect and subscribe."""
        return RedisSubscriber(ports, plan, connections)

    def caller(self, ports: tuple[int, ...]) -> RedisCaller:
        """Connect and subscribe."""
        return RedisCaller(ports)

    def echo(self, ports: tuple[int, ...]) -> RedisEcho:
        """Connect and subscribe."""
        return RedisEcho(ports)


def _subscribed(ports: tuple[int, ...], names: list[str]) -> Any:  # noqa: ANN401  # redis-py need not be installed
    """Return a connection whose subscriptions the server has confirmed."""
    subscriptions = connect(ports).pubsub()
    for begin in range(0, len(names), _NAMES_AT_ONCE):
        subscriptions.subscribe(*names[begin : begin + _NAMES_AT_ONCE])
    for _ in names:
        while subscriptions.get_message(timeout=PATIENCE) is None:
            pass
    return subscriptions
