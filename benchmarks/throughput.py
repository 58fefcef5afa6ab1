"""How many messages a second get from one publisher to one subscriber through one server, each a process of its own.

Time runs from the first send until the last callback. The ways to send take turns, round after round, so that whatever
else the machine does meets all of them; the medians are shown, and all rounds with ``--json``. The latency is that of
one ``send_message`` call: with ``ack=1`` the server has stored the message when it returns.
"""

import argparse
import json
import multiprocessing
import platform
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from mezzenger import Message, Mezzenger, MezzengerServer, ServerSettings

NAME: Final = "benchmark"
TIMEOUT: Final = 30.0


class Ports(NamedTuple):
    """Where the server listens."""

    send_port: int
    sub_port: int


class Way(NamedTuple):
    """One way to send, and the part of ``--messages`` that is sent so."""

    title: str
    ack: int
    at_once: bool
    share: float


WAYS: Final = (
    Way("send_messages, ack=0", ack=0, at_once=True, share=1.0),
    Way("send_message, ack=0", ack=0, at_once=False, share=0.5),
    Way("send_messages, ack=1", ack=1, at_once=True, share=1.0),
    Way("send_message, ack=1", ack=1, at_once=False, share=0.1),
)


@dataclass(frozen=True)
class Round:
    """What one round has measured."""

    per_second: float
    lost: int
    p50: float | None
    p99: float | None


# The processes: each answers what the parent asks, until the parent has no more questions.


def serve(parent: Connection) -> None:
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0)) as server:
        parent.send(Ports(server.recv_port, server.pub_port))
        parent.recv()


def subscribe(parent: Connection, ports: Ports) -> None:
    """Answer a number with "ready", and then with how many of them have arrived and when the last one did."""
    received = expected = 0
    last = 0.0
    complete = threading.Event()

    def callback(_payload: bytes, _message: Message[bytes]) -> None:
        nonlocal received, last
        received, last = received + 1, time.monotonic()
        if received == expected:
            complete.set()

    with Mezzenger(**ports._asdict()) as mc:
        mc.subscribe(NAME, callback)
        while True:
            parent.send("ready")
            received, expected = 0, parent.recv()
            complete.clear()
            parent.send("ready")
            complete.wait(TIMEOUT)
            parent.send((received, last))


def publish(parent: Connection, ports: Ports) -> None:
    """Answer (way, messages, size) with when the first was sent, and the 50th and 99th percentile of latency."""
    with Mezzenger(**ports._asdict()) as mc:
        parent.send("ready")
        while True:
            way, messages, size = parent.recv()
            payloads = [number.to_bytes(8) + bytes(size - 8) for number in range(messages)]
            begin, latencies = time.monotonic(), []
            if way.at_once:
                mc.send_messages(NAME, payloads, ack=way.ack)
            else:
                for payload in payloads:
                    before = time.perf_counter()
                    mc.send_message(NAME, payload, ack=way.ack)
                    latencies.append(time.perf_counter() - before)
            percentiles = statistics.quantiles(latencies, n=100) if latencies else None
            parent.send((begin, percentiles and percentiles[49], percentiles and percentiles[98]))


def run_child(target: Callable[..., None], *arguments: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    with suppress(EOFError):
        target(*arguments)


def start(target: Callable[..., None], *arguments: object) -> Connection:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=run_child, args=(target, theirs, *arguments), daemon=True).start()  # ends when we do
    theirs.close()
    return ours


def answer(child: Connection) -> Any:  # noqa: ANN401  # whatever that child sends
    with suppress(EOFError):
        if child.poll(4 * TIMEOUT):
            return child.recv()
    sys.exit("a process of the benchmark does not answer")


def measure(subscriber: Connection, publisher: Connection, way: Way, messages: int, size: int) -> Round:
    subscriber.send(messages)
    answer(subscriber)
    publisher.send((way, messages, size))
    begin, p50, p99 = answer(publisher)
    received, last = answer(subscriber)
    answer(subscriber)
    return Round(received / (last - begin), messages - received, p50, p99)


def run(rounds: int, messages: int, size: int, console: Console) -> dict[Way, list[Round]]:
    server = start(serve)
    ports = answer(server)
    subscriber, publisher = start(subscribe, ports), start(publish, ports)
    answer(subscriber)
    answer(publisher)
    results: dict[Way, list[Round]] = {way: [] for way in WAYS}
    for _ in track(range(rounds), "Measuring...", console=console, transient=True):
        for way in WAYS:
            results[way].append(measure(subscriber, publisher, way, max(2, round(messages * way.share)), size))
    for process in multiprocessing.active_children():
        process.kill()  # all is measured: nobody needs to say goodbye
    return results


def table(results: dict[Way, list[Round]], title: str) -> Table:
    columns = [Column(heading, justify="right") for heading in ("messages/s", "p50", "p99", "lost")]
    drawn = Table("", *columns, title=title, title_justify="left")
    for way, rounds in results.items():
        rate = statistics.median(one.per_second for one in rounds)
        latencies = [[one.p50 or 0.0 for one in rounds], [one.p99 or 0.0 for one in rounds]]
        shown = ["" if way.at_once else f"{statistics.median(values) * 1e6:,.0f} µs" for values in latencies]
        drawn.add_row(way.title, f"{rate:,.0f}", *shown, f"{sum(one.lost for one in rounds):,}")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--messages", type=int, default=50_000, help="a round, or a part of them; too many and ack=0 loses some"
    )
    parser.add_argument("--size", type=int, default=100, help="bytes of each payload, 8 at least")
    parser.add_argument("--json", action="store_true", help="print all rounds for a script")
    options = parser.parse_args()
    if options.rounds < 1 or options.messages < 1 or options.size < 8:
        parser.error("too small")
    results = run(options.rounds, options.messages, options.size, Console(stderr=True))
    if options.json:
        print(json.dumps({way.title: [asdict(one) for one in rounds] for way, rounds in results.items()}, indent=2))
    else:
        title = (
            f"{options.rounds} rounds, {options.size} bytes, Python {platform.python_version()}, {platform.machine()}"
        )
        Console().print(table(results, title))


if __name__ == "__main__":
    main()
