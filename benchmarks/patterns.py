"""Whether many patterns slow a publish: two brokers, one of them with many patterns, take the same frames in turn.

By hand: python -m benchmarks.patterns --patterns 100000
It drives the pure broker in this process: no socket and no thread hides what a pattern costs.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from mezzenger.broker.core import Broker
from mezzenger.protocol.commands import NAMES_PER_SUBSCRIBE, TOKEN_BYTES, Hello, Subscribe
from mezzenger.protocol.wire import encode_command, encode_data
from mezzenger.server.options import broker_options
from mezzenger.settings import ServerSettings

ROUNDS: Final = 41
FRAMES: Final = 2000
"""Of one round."""
NOW: Final = 1.0
PEER: Final = b"peer"
CLIENT: Final = 1


@dataclass(frozen=True)
class Figure:
    """Microseconds for each publish, in the middle of all rounds."""

    few: float
    """Patterns; and many."""
    many: float
    difference: float
    """In percent: the middle of what the rounds differ, each from the one beside it."""


def broker_with(patterns: Sequence[str]) -> Broker:
    """Return a broker with one client, which subscribes to these."""
    broker = Broker(broker_options(ServerSettings(max_names=10_000_000), {}), lambda: 0.5)
    link = _token(0)
    broker.surfaced(link, NOW)
    _tell(broker, Hello(1, CLIENT, bytes(16), link, 1))
    for start in range(0, len(patterns), NAMES_PER_SUBSCRIBE):
        token = _token(start + 1)
        broker.surfaced(token, NOW)
        _tell(broker, Subscribe(start + 1, list(patterns[start : start + NAMES_PER_SUBSCRIBE]), token))
    if broker.stats().names != len(patterns):
        raise ValueError("these are not subscribed to")
    return broker


def many_patterns(count: int) -> list[str]:
    """Return patterns of all kinds; those with a wildcard in front lie on the way of every name."""
    kinds = ("shop{}.orders.*", "shop{}.>", "*.orders{}.paid", "shop.*.item{}", "shop.orders.{}.*.>")
    return [kinds[number % len(kinds)].format(number) for number in range(count)]


def compare(names: Callable[[int], str], brokers: Sequence[Broker]) -> Figure:
    """Have two brokers take the same frames, in turn; ``names`` says how the frame with a number is called."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        frames = [
            encode_data(names(sequence), [(1.5, b"x" * 100)], ack=0, codec=0, client=CLIENT, sequence=sequence)
            for sequence in range(number * FRAMES + 1, (number + 1) * FRAMES + 1)
        ]
        # Who is first has the caches of the processor cold.
        for which in (0, 1) if number % 2 else (1, 0):
            times[which].append(_take(brokers[which], frames) / FRAMES * 1e6)
    differences = [(second / first - 1) * 100 for first, second in zip(*times, strict=True)]
    return Figure(median(times[0]), median(times[1]), median(differences))


def _take(broker: Broker, frames: Sequence[bytes]) -> float:
    began = time.thread_time()  # without what others on this machine take
    for frame in frames:
        broker.receive(PEER, [frame], NOW)
        broker.take_effects()
    return time.thread_time() - began


def _tell(broker: Broker, command: Hello | Subscribe) -> None:
    broker.receive(PEER, [encode_command(command)], NOW)
    broker.take_effects()


def _token(number: int) -> bytes:
    return number.to_bytes(TOKEN_BYTES)


def main() -> None:
    """Compare, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--patterns", type=int, default=100_000)
    options = parser.parse_args()
    # Both have these, so that both do the same with each frame.
    wanted = ["shop.orders.tea.paid", "shop.new.>", *(f"till{number}.orders.tea" for number in range(1000))]
    brokers = [broker_with(wanted), broker_with([*wanted, *many_patterns(options.patterns)])]
    cases: dict[str, Callable[[int], str]] = {
        "one name": lambda _: "shop.orders.tea.paid",
        "1,000 names": lambda number: f"till{number % 1000}.orders.tea",
        "names that were never there before": lambda number: f"shop.new.{number}.tea",
    }
    for title, names in cases.items():
        figure = compare(names, brokers)
        print(
            f"{title}: {figure.few:.2f} us with one pattern, {figure.many:.2f} us with {options.patterns}: "
            f"{figure.difference:+.1f} %"
        )


if __name__ == "__main__":
    main()
