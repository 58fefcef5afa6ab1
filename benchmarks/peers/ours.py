"""Mezzenger, as its README says: default settings, ``send_message`` in a loop or ``send_messages``, one callback."""

import queue
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load, Plan, Tally
from benchmarks.peers.base import Daemon, call_for, free_port
from mezzenger import Message, Mezzenger

PING: Final = "ping"
PONG: Final = "pong"


class OurPublisher:
    """One client."""

    def __init__(self, ports: tuple[int, ...], plan: Plan, *, at_once: bool) -> None:
        self._client = _connect(ports)
        self._ack = int(plan.durable)
        self._at_once = (at_once or plan.durable) and not plan.one_at_a_time and plan.names == 1

    def send(self, load: Load) -> None:
        """Send one by one or, what is durable in a window, at once; both return when the server has all."""
        if self._at_once:
            self._client.send_messages(load.name, load.each(), self._ack)
        else:
            send, ack = self._client.send_message, self._ack
            for chunk in load.chunks():
                load.wait()
                for payload, name in zip(chunk, load.names, strict=False):
                    send(name, payload, ack)
        if not self._ack:
            self._client.flush()


class OurSubscriber:
    """A client for each connection."""

    def __init__(self, ports: tuple[int, ...], plan: Plan, connections: int) -> None:
        self._tallies: list[Tally] = []
        self._is_durable = plan.durable
        self._clients = [_connect(ports) for _ in range(connections)]
        self._add: list[Any] = [lambda _payload: None] * connections
        for index, client in enumerate(self._clients):
            for name in plan.all_names():
                client.subscribe(name, self._callback(index))

    def _callback(self, index: int) -> Any:  # noqa: ANN401  # a callback, whose payload may be anything
        adds = self._add

        def callback(payload: Any, _message: Message[Any]) -> None:  # noqa: ANN401  # a record, or bytes
            adds[index](payload)

        return callback

    def expect(self, tallies: Sequence[Tally]) -> None:
        """Have the callbacks count there."""
        self._tallies = list(tallies)
        self._add[:] = [tally.add for tally in tallies]

    def receive(self) -> None:
        """Wait for the callbacks."""
        for tally, client in zip(self._tallies, self._clients, strict=True):
            tally.wait()
            if self._is_durable:
                client.flush()
                tally.acked()


class OurCaller:
    """One client that sends pings and gets pongs."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._client = _connect(ports)
        self._arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._client.subscribe(PONG, self._on_pong)

    def _on_pong(self, payload: int, _message: Message[int]) -> None:
        self._arrived.put(payload)

    def call(self, seconds: float) -> list[float]:
        """Send one when the last one has come back."""
        client, arrived = self._client, self._arrived

        def once() -> None:
            client.send_message(PING, 1)
            arrived.get(timeout=10)

        return call_for(seconds, once)


class OurEcho:
    """One client that answers from its callback."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        client = _connect(ports)
        client.subscribe(PING, lambda payload, _message: client.send_message(PONG, payload))

    def serve(self) -> None:
        """The callback thread does it."""
        threading.Event().wait()


class Ours:
    """Mezzenger."""

    def __init__(self, name: str, title: str, *, at_once: bool) -> None:
        self.name = name
        self.title = title
        self._at_once = at_once

    def install_command(self) -> str | None:
        """It is here."""
        return None

    def daemon(self, folder: Path, *, durable: bool) -> Daemon:
        """``mezzenger-server``, with a persist file if it must be durable."""
        ports = (free_port(), free_port())
        command = [sys.executable, "-m", "mezzenger.cli.server", f"--recv-port={ports[0]}", f"--pub-port={ports[1]}"]
        return Daemon([*command, f"--persist-file={folder / 'messages.db'}"] if durable else command, ports)

    def publisher(self, ports: tuple[int, ...], plan: Plan) -> OurPublisher:
        """Connect."""
        return OurPublisher(ports, plan, at_once=self._at_once)

    def subscriber(self, ports: tuple[int, ...], plan: Plan, connections: int) -> OurSubscriber:
        """Connect and subscribe."""
        return OurSubscriber(ports, plan, connections)

    def caller(self, ports: tuple[int, ...]) -> OurCaller:
        """Connect and subscribe."""
        return OurCaller(ports)

    def echo(self, ports: tuple[int, ...]) -> OurEcho:
        """Connect and subscribe."""
        return OurEcho(ports)


def _connect(ports: tuple[int, ...]) -> Mezzenger:
    return Mezzenger(send_port=ports[0], sub_port=ports[1])
