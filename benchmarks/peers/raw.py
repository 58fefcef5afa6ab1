"""Raw pyzmq through ``zmq.proxy``, a process that runs no Python per message: the limit of what is above it.

Small messages are one frame, name and payload, which is the fastest; large ones are two, so that nothing is copied.
``raw`` pickles and unpickles as all others do. ``raw-frames`` sends frames that were made before and decodes nothing.
"""

import pickle
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import zmq

from benchmarks.load import PATIENCE, Load, Plan, Tally
from benchmarks.peers.base import HOST, Daemon, call_for, free_port, in_threads

_TWO_FRAMES: Final = 65_536
_SETTLE: Final = 0.5
"""Seconds until the subscriptions of all connections have surely arrived; nothing in raw ZeroMQ tells."""

PING: Final = b"ping|"
PONG: Final = b"pong|"


def main() -> None:
    """Run the proxy."""
    context = zmq.Context(io_threads=1)
    frontend, backend = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    for each, port in zip((frontend, backend), sys.argv[1:], strict=True):
        each.set_hwm(0)
        each.bind(f"tcp://{HOST}:{port}")
    zmq.proxy(frontend, backend)


class RawPublisher:
    """One XPUB socket, which is a PUB that shows which subscriptions have come."""

    def __init__(self, ports: tuple[int, ...], plan: Plan, *, ready_made: bool) -> None:
        self._socket = _socket(zmq.XPUB, ports[0])
        self._two_frames = plan.bytes_each > _TWO_FRAMES
        self._ready_made = ready_made
        self._heads = [name.encode() + b"|" for name in plan.all_names()]
        for _ in self._heads:
            self._socket.recv()

    def send(self, load: Load) -> None:
        """Send as fast as the credit allows."""
        send, heads = self._socket.send, self._heads
        if self._ready_made:
            self._send_frames(load)
            return
        number, names = 0, len(heads)
        for chunk in load.chunks():
            load.wait()
            for payload in chunk:
                head = heads[number % names]
                number += 1
                if self._two_frames:
                    send(head, zmq.SNDMORE)
                    send(pickle.dumps(payload, 5), copy=False)
                else:
                    send(head + pickle.dumps(payload, 5))

    def _send_frames(self, load: Load) -> None:
        """Send frames of the size that the pickled payloads have; their numbers stand in front, in eight bytes."""
        send, head = self._socket.send, self._heads[0]
        first = next(iter(load.chunks()))[0]
        rest = bytes(max(0, len(pickle.dumps(first, 5)) - 8))
        number = 0
        for chunk in load.chunks():
            frames = [head + (number + offset).to_bytes(8) + rest for offset in range(len(chunk))]
            number += len(chunk)
            load.wait()
            for frame in frames:
                send(frame)


class RawSubscriber:
    """A SUB socket for each connection."""

    def __init__(self, ports: tuple[int, ...], plan: Plan, connections: int, *, ready_made: bool) -> None:
        self._two_frames = plan.bytes_each > _TWO_FRAMES
        self._ready_made = ready_made
        self._tallies: Sequence[Tally] = []
        self._sockets = []
        for _ in range(connections):
            one = _socket(zmq.SUB, ports[1])
            for name in plan.all_names():
                one.setsockopt(zmq.SUBSCRIBE, name.encode() + b"|")
            self._sockets.append(one)
        time.sleep(_SETTLE)

    def expect(self, tallies: Sequence[Tally]) -> None:
        """Count there."""
        self._tallies = tallies

    def receive(self) -> None:
        """Read all sockets, each in a thread if there are more than one."""
        in_threads(self._receive, len(self._tallies))

    def _receive(self, index: int) -> None:
        one, tally = self._sockets[index], self._tallies[index]
        one.setsockopt(zmq.RCVTIMEO, 500)
        recv = one.recv
        while not tally.is_complete:
            try:
                frame = recv()
                if self._two_frames:
                    body: Any = pickle.loads(recv(copy=False).buffer)
                elif self._ready_made:
                    head = frame.index(b"|") + 1
                    body = {"number": int.from_bytes(frame[head : head + 8])}
                else:
                    body = pickle.loads(frame[frame.index(b"|") + 1 :])
            except zmq.Again:
                if tally.is_over():
                    return
            else:
                tally.add(body)


class RawCaller:
    """A publishing and a subscribing socket."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._sub = _socket(zmq.SUB, ports[1])
        self._sub.setsockopt(zmq.SUBSCRIBE, PONG)
        self._pub = _socket(zmq.XPUB, ports[0])
        while self._pub.recv()[1:] != PING:
            pass
        time.sleep(_SETTLE)

    def call(self, seconds: float) -> list[float]:
        """Send one when the last one has come back."""
        pub, sub = self._pub, self._sub

        def once() -> None:
            pub.send(PING + pickle.dumps(1, 5))
            pickle.loads(sub.recv()[len(PONG) :])

        return call_for(seconds, once)


class RawEcho:
    """The same, the other way round."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._sub = _socket(zmq.SUB, ports[1])
        self._sub.setsockopt(zmq.SUBSCRIBE, PING)
        self._pub = _socket(zmq.PUB, ports[0])
        time.sleep(_SETTLE)

    def serve(self) -> None:
        """Answer."""
        self._sub.setsockopt(zmq.RCVTIMEO, -1)
        while True:
            payload = pickle.loads(self._sub.recv()[len(PING) :])
            self._pub.send(PONG + pickle.dumps(payload, 5))


class Raw:
    """ZeroMQ alone."""

    def __init__(self, name: str, title: str, *, ready_made: bool) -> None:
        self.name = name
        self.title = title
        self._ready_made = ready_made

    def install_command(self) -> str | None:
        """Mezzenger needs it, so it is here."""
        return None

    def daemon(self, folder: Path, *, durable: bool) -> Daemon:
        """``zmq.proxy``; there is nothing durable about it."""
        del folder, durable
        ports = (free_port(), free_port())
        return Daemon([sys.executable, "-m", "benchmarks.peers.raw", *map(str, ports)], ports)

    def publisher(self, ports: tuple[int, ...], plan: Plan) -> RawPublisher:
        """Connect."""
        return RawPublisher(ports, plan, ready_made=self._ready_made)

    def subscriber(self, ports: tuple[int, ...], plan: Plan, connections: int) -> RawSubscriber:
        """Connect and subscribe."""
        return RawSubscriber(ports, plan, connections, ready_made=self._ready_made)

    def caller(self, ports: tuple[int, ...]) -> RawCaller:
        """Connect and subscribe."""
        return RawCaller(ports)

    def echo(self, ports: tuple[int, ...]) -> RawEcho:
        """Connect and subscribe."""
        return RawEcho(ports)


def _socket(kind: int, port: int) -> "zmq.Socket[bytes]":
    one: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    one.set_hwm(0)
    one.setsockopt(zmq.LINGER, 0)
    one.setsockopt(zmq.RCVTIMEO, int(PATIENCE * 1000))
    one.connect(f"tcp://{HOST}:{port}")
    return one


if __name__ == "__main__":
    main()
