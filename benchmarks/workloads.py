"""What is measured, and which peers take part in it."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from benchmarks.load import Plan


class Kind(Enum):
    """How a workload is measured."""

    STREAM = "stream"
    ECHO = "echo"
    ECHO_AT_HALF_LOAD = "echo at half load"
    IDLE = "idle"


@dataclass(frozen=True)
class Workload:
    """One line of work."""

    name: str
    title: str
    kind: Kind
    plan: Plan
    peers: tuple[str, ...]


_ASYNCIO: Final = "mezzenger-asyncio"
_PLAIN: Final = ("mezzenger", "raw", "nats", "redis", "mqtt")
_STREAMS: Final = ("mezzenger", "mezzenger-batch", "raw", "nats", "redis", "mqtt")
_DURABLE: Final = ("mezzenger", "jetstream", "redis-streams")

_ALL: Final = (
    Workload("throughput-16", "1 to 1, 16 B", Kind.STREAM, Plan(16), _STREAMS),
    Workload("throughput-150", "1 to 1, 150 B", Kind.STREAM, Plan(), ("raw-frames", _ASYNCIO, *_STREAMS)),
    Workload("throughput-4k", "1 to 1, 4 KiB", Kind.STREAM, Plan(4096), _STREAMS),
    Workload("throughput-1m", "1 to 1, 1 MiB", Kind.STREAM, Plan(2**20), _STREAMS),
    Workload("send-single", "single sends, ack=0", Kind.STREAM, Plan(one_at_a_time=True), ("mezzenger", "raw")),
    Workload("fan-out-10", "1 to 10 subscribers, 150 B", Kind.STREAM, Plan(subscribers=10), _PLAIN),
    Workload("fan-out-100", "1 to 100 subscribers, 150 B", Kind.STREAM, Plan(subscribers=100), _PLAIN),
    Workload("fan-in-10", "10 publishers to 1, 150 B", Kind.STREAM, Plan(publishers=10), _PLAIN),
    Workload("names-10000", "10,000 names, 150 B", Kind.STREAM, Plan(names=10_000), _PLAIN),
    Workload("echo-idle", "echo, idle", Kind.ECHO, Plan(), (_ASYNCIO, *_PLAIN)),
    Workload("echo-half", "echo, at half load", Kind.ECHO_AT_HALF_LOAD, Plan(), _PLAIN),
    Workload("durable-window", "durable, window, 150 B", Kind.STREAM, Plan(durable=True), _DURABLE),
    Workload("durable-single", "durable, one at a time", Kind.STREAM, Plan(durable=True, one_at_a_time=True), _DURABLE),
    Workload("idle", "server with two idle clients", Kind.IDLE, Plan(), _PLAIN),
)

WORKLOADS: Final[dict[str, Workload]] = {workload.name: workload for workload in _ALL}
