"""The processes of a workload: each holds one role of one peer, and does what the parent asks over a pipe."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, MutableSequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from benchmarks.load import Counters, Load, Payloads, Plan, Stuck, Tally
from benchmarks.peers.base import Peer
from benchmarks.peers.registry import PEERS


class Place(NamedTuple):
    """Which role of which peer, and where in the shared counters."""

    peer: str
    role: str
    ports: tuple[int, ...]
    plan: Plan
    first: int = 0
    """Of the publisher, or of the first connection of a subscribing process."""
    connections: int = 1


class Send(NamedTuple):
    """What a publisher is to send."""

    first: int
    messages: int
    rate: float | None = None


class Sent(NamedTuple):
    """When it did so."""

    began: float
    ended: float
    problem: str | None
    took: list[float]
    """Seconds of each send, if they were sent one at a time."""


class Received(NamedTuple):
    """What one connection of a subscriber has handled."""

    lost: int
    duplicates: int
    last: float


READY: Final = "ready"


def run(parent: Connection, place: Place, sent: MutableSequence[int], handled: MutableSequence[int]) -> None:
    """Hold a role until the parent goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    with suppress(EOFError, BrokenPipeError):
        _ROLES[place.role](parent, place, PEERS[place.peer], Counters(sent, handled))
    sys.stdout.flush()
    os._exit(0)  # threads of a peer must not hold up the end


def _publish(parent: Connection, place: Place, peer: Peer, counters: Counters) -> None:
    publisher = peer.publisher(place.ports, place.plan)
    payloads = Payloads(place.plan.size)
    parent.send(READY)
    while True:
        asked: Send = parent.recv()
        load = Load(
            place.plan,
            payloads,
            counters,
            publisher=place.first,
            first=asked.first,
            count=asked.messages,
            rate=asked.rate,
        )
        parent.send(READY)
        parent.recv()
        problem = None
        try:
            publisher.send(load)
        except Stuck as error:
            problem = str(error)
        parent.send(Sent(load.began, time.monotonic(), problem, load.took))


def _subscribe(parent: Connection, place: Place, peer: Peer, counters: Counters) -> None:
    subscriber = peer.subscriber(place.ports, place.plan, place.connections)
    parent.send(READY)
    while True:
        expected: int = parent.recv()
        tallies = [Tally(place.plan, expected, counters, place.first + offset) for offset in range(place.connections)]
        subscriber.expect(tallies)
        parent.send(READY)
        subscriber.receive()
        parent.send([Received(tally.lost, tally.duplicates, tally.last) for tally in tallies])


def _call(parent: Connection, place: Place, peer: Peer, _counters: Counters) -> None:
    caller = peer.caller(place.ports)
    parent.send(READY)
    while True:
        seconds: float = parent.recv()
        parent.send(caller.call(seconds))


def _echo(parent: Connection, place: Place, peer: Peer, _counters: Counters) -> None:
    echo = peer.echo(place.ports)
    parent.send(READY)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    echo.serve()


def _end_with(parent: Connection) -> None:
    """End the process when the parent is gone; serving, nothing else would notice."""
    with suppress(EOFError, OSError):
        parent.recv()
    os._exit(0)


_ROLES: Final[dict[str, Callable[[Connection, Place, Peer, Counters], None]]] = {
    "publisher": _publish,
    "subscriber": _subscribe,
    "caller": _call,
    "echo": _echo,
}
