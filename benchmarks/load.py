"""What is sent and what has arrived: the payloads of a round, the credit of its publishers, the tallies of subscribers.

All peers share this, so that they are given the same payloads, paused by the same rule, and counted in the same way.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator, MutableSequence
from dataclasses import dataclass
from typing import Any, Final

PATIENCE: Final = 10.0
"""Seconds without any progress after which a round is given up, and what has not arrived counts as lost."""

_PAUSE: Final = 0.0003
_PACE: Final = 0.002
"""Seconds between the chunks of a load with a rate."""
_MOST_IN_FLIGHT: Final = 20_000
_MOST_COPIES_IN_FLIGHT: Final = 100_000
_MOST_BYTES_IN_FLIGHT: Final = 16 * 2**20
_CACHED_SIZE: Final = 65_536


class Stuck(RuntimeError):
    """Nothing arrives any more."""


@dataclass(frozen=True)
class Plan:
    """What the processes of one workload do in each round."""

    size: int | None = None
    """Bytes of each payload; None is a record, a dict of about 150 bytes when pickled."""
    names: int = 1
    publishers: int = 1
    subscribers: int = 1
    durable: bool = False
    one_at_a_time: bool = False

    @property
    def bytes_each(self) -> int:
        """About how large a pickled payload is."""
        return 150 if self.size is None else self.size

    @property
    def in_flight(self) -> int:
        """How many messages may be sent and not yet handled; durable ones wait in the server without a limit."""
        if self.durable:
            return 2**62
        bound = min(_MOST_IN_FLIGHT, _MOST_COPIES_IN_FLIGHT // self.subscribers)
        return max(8, min(bound, _MOST_BYTES_IN_FLIGHT // self.bytes_each))

    @property
    def chunk(self) -> int:
        """How many messages are sent between two looks at the credit."""
        return 1 if self.one_at_a_time else max(1, min(512, self.in_flight // 8))

    def all_names(self) -> list[str]:
        """Return the names that the messages have in turn."""
        return [f"bench.{number}" for number in range(self.names)]


def record(number: int) -> dict[str, Any]:
    """Return the payload of 150 bytes."""
    return {
        "number": number,
        "sensor": "boiler.temperature",
        "value": 71.5 + number % 16,
        "unit": "C",
        "ok": True,
        "where": "hall 3, second row, on the left side",
    }


def payload_maker(size: int | None) -> Callable[[int], Any]:
    """Return the function that makes the payload with a number."""
    if size is None:
        return record
    rest = bytes(size - 8)
    return lambda number: number.to_bytes(8) + rest


class Payloads:
    """The payloads of one publisher; small ones are made before the time runs, large ones on the way."""

    def __init__(self, size: int | None) -> None:
        self._make = payload_maker(size)
        self._is_cached = size is None or size <= _CACHED_SIZE
        self._first = 0
        self._made: list[Any] = []

    def prepare(self, first: int, count: int) -> None:
        """Make the payloads from a number on."""
        if self._is_cached and (self._first != first or len(self._made) < count):
            self._first, self._made = first, [self._make(number) for number in range(first, first + count)]

    def chunk(self, begin: int, end: int) -> list[Any]:
        """Return the payloads with these numbers."""
        if self._is_cached:
            return self._made[begin - self._first : end - self._first]
        return [self._make(number) for number in range(begin, end)]


@dataclass
class Counters:
    """What publishers have sent and subscribers have handled, in memory that all processes of a workload share."""

    sent: MutableSequence[int]
    handled: MutableSequence[int]

    def in_flight(self) -> int:
        """Return how many messages the slowest subscriber has not handled yet."""
        return sum(self.sent) - min(self.handled)


class Load:
    """The messages of one publisher in one round, in chunks; it waits between them until the credit allows more."""

    def __init__(
        self,
        plan: Plan,
        payloads: Payloads,
        counters: Counters,
        *,
        publisher: int = 0,
        first: int = 0,
        count: int = 1,
        rate: float | None = None,
    ) -> None:
        self.one_at_a_time = plan.one_at_a_time
        self.names: Iterator[str] = itertools.cycle(plan.all_names())
        self.name = plan.all_names()[0]
        self.began = 0.0
        self.took: list[float] = []
        """Seconds of each message, if they are sent one at a time."""
        self._payloads = payloads
        self._counters = counters
        self._publisher = publisher
        self._first = first
        self._count = count
        self._rate = rate
        self._limit = plan.in_flight
        self._chunk = plan.chunk if rate is None else max(1, min(plan.chunk, int(rate * _PACE)))
        self._last_progress = (0.0, -1)
        payloads.prepare(first, count)

    def chunks(self) -> Iterator[list[Any]]:
        """Yield the payloads; call ``wait`` or ``credit`` before each chunk is sent."""
        self.began = time.monotonic()
        end = self._first + self._count
        for begin in range(self._first, end, self._chunk):
            chunk = self._payloads.chunk(begin, min(end, begin + self._chunk))
            before = time.perf_counter()
            yield chunk
            if self.one_at_a_time:
                self.took.append(time.perf_counter() - before)
            self._counters.sent[self._publisher] += len(chunk)

    def each(self) -> Iterator[Any]:
        """Yield payload after payload, waiting for credit on the way."""
        for chunk in self.chunks():
            self.wait()
            yield from chunk

    def wait(self) -> None:
        """Wait until a chunk may be sent.

        Raises:
            Stuck: Nothing was handled for ``PATIENCE`` seconds.
        """
        while not self._may_send():
            time.sleep(_PAUSE)

    async def credit(self) -> None:
        """Do the same in an asyncio loop, which gets a turn in any case.

        Raises:
            Stuck: Nothing was handled for ``PATIENCE`` seconds.
        """
        await asyncio.sleep(0)
        while not self._may_send():  # noqa: ASYNC110  # another process changes the counters
            await asyncio.sleep(_PAUSE)

    def _may_send(self) -> bool:
        now = time.monotonic()
        if self._rate is not None and self._counters.sent[self._publisher] > (now - self.began) * self._rate:
            return False
        if self._counters.in_flight() + self._chunk <= self._limit:
            self._last_progress = (0.0, -1)
            return True
        handled = min(self._counters.handled)
        if handled != self._last_progress[1]:
            self._last_progress = (now, handled)
        elif now > self._last_progress[0] + PATIENCE:
            raise Stuck("no credit: messages were lost, or the subscriber is stuck")
        return False


class Tally:
    """Counts what one subscriber handles in one round, and knows which numbers have not come."""

    def __init__(self, plan: Plan, expected: int, counters: Counters, index: int) -> None:
        self.add: Callable[[Any], None] = self._add_record if plan.size is None else self._add_bytes
        """Called with each payload."""
        self.count = 0
        self.is_complete = False
        self.last = 0.0
        self._expected = expected
        self._seen = bytearray(expected)
        self._counters = counters
        self._index = index
        self._step = max(1, plan.chunk // 4)
        self._next_note = min(self._step, expected)
        self._done = threading.Event()
        self._progress = (time.monotonic(), 0)

    @property
    def lost(self) -> int:
        """How many numbers have not come."""
        return self._seen.count(0)

    @property
    def duplicates(self) -> int:
        """How many came that had come before."""
        return self.count - (self._expected - self.lost)

    def is_over(self) -> bool:
        """Whether all have come, or nothing has for too long; to be asked once in a while."""
        now = time.monotonic()
        if self.count != self._progress[1]:
            self._progress = (now, self.count)
        return self.is_complete or now > self._progress[0] + PATIENCE

    def wait(self) -> None:
        """Wait until it is over."""
        while not self._done.wait(0.25):
            if self.is_over():
                return

    def acked(self) -> None:
        """Count the time until now: the acks have left, too."""
        self.last = time.monotonic()

    def _add_record(self, payload: dict[str, Any]) -> None:
        self._seen[payload["number"]] = 1
        self.count += 1
        if self.count >= self._next_note:
            self._note()

    def _add_bytes(self, payload: bytes) -> None:
        self._seen[int.from_bytes(payload[:8])] = 1
        self.count += 1
        if self.count >= self._next_note:
            self._note()

    def _note(self) -> None:
        self._counters.handled[self._index] = self.count
        if self.count >= self._expected and not self.lost:
            self.last = time.monotonic()
            self.is_complete = True
            self._done.set()
        self._next_note = max(self.count + 1, min(self.count + self._step, self._expected))
