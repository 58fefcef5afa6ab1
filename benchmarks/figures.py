"""Medians, ranges, ratios and goals: what is worked out of the rounds, without measuring anything."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from benchmarks.session import Round


class Figure(NamedTuple):
    """One value over all rounds."""

    median: float
    low: float
    high: float


@dataclass
class Measured:
    """All rounds of one peer at one workload."""

    rounds: list[Round] = field(default_factory=list)
    failure: str | None = None

    @property
    def lost(self) -> int:
        """How many messages were lost in all rounds."""
        return sum(one.lost for one in self.rounds)

    def figure(self, metric: str) -> Figure | None:
        """Return the median and the range of one value, or None if no round has it."""
        return figure([one.values[metric] for one in self.rounds if metric in one.values])


@dataclass
class Results:
    """What one run has measured: by workload, then by peer."""

    machine: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Peers that are not installed, with the command that installs them."""
    workloads: dict[str, dict[str, Measured]] = field(default_factory=dict)

    def median(self, workload: str, peer: str, metric: str) -> float | None:
        """Return one median, or None if it was not measured."""
        measured = self.workloads.get(workload, {}).get(peer)
        found = measured.figure(metric) if measured else None
        return found.median if found else None

    def problems(self) -> list[str]:
        """Return why this run has failed: Mezzenger lost a message, or something of it did not work."""
        return [
            f"{workload}: {peer}: {measured.failure or f'{measured.lost:,} messages lost'}"
            for workload, peers in self.workloads.items()
            for peer, measured in peers.items()
            if peer.startswith("mezzenger") and (measured.failure or measured.lost)
        ]


def figure(values: Sequence[float]) -> Figure | None:
    """Return the median and the range."""
    return Figure(statistics.median(values), min(values), max(values)) if values else None


class Goal(NamedTuple):
    """A ratio of two medians that Mezzenger is to reach: ours over theirs, or ours alone."""

    text: str
    workload: str
    metric: str
    peer: str | None
    target: float
    at_least: bool = True
    ours: str = "mezzenger"

    def reached(self, results: Results) -> float | None:
        """Return the ratio, or the value alone; None if it was not measured."""
        ours = results.median(self.workload, self.ours, self.metric)
        if ours is None or self.peer is None:
            return ours
        theirs = results.median(self.workload, self.peer, self.metric)
        return ratio(ours, theirs)

    def verdict(self, results: Results) -> str:
        """Return how far it is reached."""
        value = self.reached(results)
        if value is None:
            return "not measured"
        if value >= self.target if self.at_least else value <= self.target:
            return "met"
        missed = (self.target - value if self.at_least else value - self.target) / self.target
        return f"missed by {missed:.0%}"


def ratio(ours: float, theirs: float | None) -> float | None:
    """Return ours over theirs, or None if there is nothing to divide by."""
    return ours / theirs if theirs else None


_ASYNCIO: Final = "mezzenger-asyncio"

GOALS: Final = (
    Goal("1 to 1, 150 B: messages/s over nats-py", "throughput-150", "per_second", "nats", 3.0),
    Goal("1 to 1, 150 B: messages/s over redis-py", "throughput-150", "per_second", "redis", 6.0),
    Goal("1 to 1, 150 B: messages/s over raw pyzmq", "throughput-150", "per_second", "raw", 0.6),
    Goal("1 to 1, 1 MiB: messages/s over raw pyzmq", "throughput-1m", "per_second", "raw", 0.9),
    Goal("1 to 100: deliveries/s over nats-py", "fan-out-100", "per_second", "nats", 2.0),
    Goal("10,000 names: messages/s over nats-py", "names-10000", "per_second", "nats", 1.5),
    Goal("echo, idle: p50 over raw pyzmq", "echo-idle", "p50", "raw", 1.15, at_least=False),
    Goal("echo, idle: p99 over raw pyzmq", "echo-idle", "p99", "raw", 1.15, at_least=False),
    Goal("echo, idle: p50 over nats-py", "echo-idle", "p50", "nats", 1.0, at_least=False),
    Goal("echo, idle: p99 over nats-py", "echo-idle", "p99", "nats", 1.0, at_least=False),
    Goal("asyncio, 150 B: messages/s over nats-py", "throughput-150", "per_second", "nats", 2.5, ours=_ASYNCIO),
    Goal("asyncio, echo, idle: p50 over nats-py", "echo-idle", "p50", "nats", 1.0, at_least=False, ours=_ASYNCIO),
    Goal("durable, window: messages/s over Redis Streams", "durable-window", "per_second", "redis-streams", 5.0),
    Goal("durable, window: messages/s over JetStream", "durable-window", "per_second", "jetstream", 100.0),
    Goal("durable, one at a time: messages/s over Redis Streams", "durable-single", "per_second", "redis-streams", 1.0),
    Goal("server's CPU for a message over zmq.proxy", "throughput-150", "server_cpu", "raw", 1.5, at_least=False),
    Goal("idle server: percent of a core", "idle", "idle_cpu", None, 0.5, at_least=False),
    Goal("idle server: resident megabytes", "idle", "rss", None, 60.0, at_least=False),
)


def as_json(results: Results) -> dict[str, Any]:
    """Return all of it for a script: rounds, medians, ranges, ratios and goals."""
    return {
        "machine": results.machine,
        "skipped": results.skipped,
        "workloads": {
            workload: {peer: _measured_as_json(results, workload, measured) for peer, measured in peers.items()}
            for workload, peers in results.workloads.items()
        },
        "goals": [
            {"goal": goal.text, "target": goal.target, "reached": goal.reached(results), "is": goal.verdict(results)}
            for goal in GOALS
        ],
    }


def _measured_as_json(results: Results, workload: str, measured: Measured) -> dict[str, Any]:
    metrics = dict.fromkeys(metric for one in measured.rounds for metric in one.values)
    figures = {metric: measured.figure(metric) for metric in metrics}
    return {
        "failure": measured.failure,
        "lost": measured.lost,
        "figures": {
            metric: {
                "median": found.median,
                "low": found.low,
                "high": found.high,
                "mezzenger_ratio": ratio(results.median(workload, "mezzenger", metric) or 0.0, found.median),
            }
            for metric, found in figures.items()
            if found
        },
        "rounds": [
            {
                "messages": one.messages,
                "lost": one.lost,
                "duplicates": one.duplicates,
                "problem": one.problem,
                "values": one.values,
            }
            for one in measured.rounds
        ],
    }


def from_json(data: Mapping[str, Any]) -> Results:
    """Return the results that ``as_json`` has written."""
    results = Results(data["machine"], data["skipped"])
    for workload, peers in data["workloads"].items():
        results.workloads[workload] = {
            peer: Measured([Round(**one) for one in measured["rounds"]], measured["failure"])
            for peer, measured in peers.items()
        }
    return results
