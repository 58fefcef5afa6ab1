"""One peer at one workload: its server and the processes around it, and the rounds that they do."""

import statistics
import tempfile
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.load import PATIENCE, Plan
from benchmarks.peers.base import Peer
from benchmarks.processes import (
    START,
    Child,
    Failed,
    Server,
    cpu_seconds,
    cpu_seconds_of_living_threads,
    resident_megabytes,
)
from benchmarks.roles import Place, Received, Send, Sent

_CONNECTIONS_EACH: Final = 25
"""Connections of one subscribing process: a hundred processes would measure the scheduler and fill the memory."""

_GIVE_UP: Final = 120.0


@dataclass
class Round:
    """What one round has measured: values by what they are of, and what went wrong."""

    values: dict[str, float] = field(default_factory=dict)
    messages: int = 0
    lost: int = 0
    duplicates: int = 0
    problem: str | None = None


class Session:
    """All processes of one peer for one workload, from ``with`` to its end."""

    def __init__(self, peer: Peer, plan: Plan, *, echo: bool = False, stream: bool = True) -> None:
        self.peer = peer
        self.plan = plan
        self._folder = tempfile.TemporaryDirectory(prefix="mezzenger-bench-", ignore_cleanup_errors=True)
        self._sent: Any = RawArray("q", plan.publishers)
        self._handled: Any = RawArray("q", plan.subscribers)
        self._children: list[Child] = []
        self._subscribers: list[Child] = []
        self._publishers: list[Child] = []
        self._echo: Child | None = None
        self._caller: Child | None = None
        folder = Path(self._folder.name)
        daemon = peer.daemon(folder, durable=plan.durable)
        self._ports = daemon.ports
        self._server = Server(daemon, folder / "server.log")
        try:
            self._start(echo=echo, stream=stream)
        except BaseException:
            self.close()
            raise

    def _start(self, *, echo: bool, stream: bool) -> None:
        if stream:
            for index in range(0, self.plan.subscribers, _CONNECTIONS_EACH):
                connections = min(_CONNECTIONS_EACH, self.plan.subscribers - index)
                self._subscribers.append(self._child("subscriber", index, connections))
            for child in self._subscribers:
                child.answer()
            self._publishers = [self._child("publisher", index) for index in range(self.plan.publishers)]
            for child in self._publishers:
                child.answer()
        if echo:
            self._echo = self._child("echo")
            self._echo.answer()
            self._caller = self._child("caller")
            self._caller.answer()

    def _child(self, role: str, index: int = 0, connections: int = 1) -> Child:
        place = Place(self.peer.name, role, self._ports, self.plan, index, connections)
        child = Child(place, self._sent, self._handled)
        self._children.append(child)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, and remove their files."""
        for child in self._children:
            child.end()
        self._server.end()
        self._folder.cleanup()

    # Rounds.

    def stream(self, count: int, rate: float | None = None) -> Round:
        """Have messages sent and handled; the rate is that of deliveries, and counts all that is done at the end."""
        self.begin_stream(count, rate)
        return self.end_stream()

    def begin_stream(self, count: int, rate: float | None = None) -> None:
        """Have the publishers begin."""
        plan = self.plan
        each = max(1, count // plan.publishers)
        self._expected = each * plan.publishers
        self._sent[:] = [0] * plan.publishers
        self._handled[:] = [0] * plan.subscribers
        for child in self._subscribers:
            child.ask(self._expected)
        for index, child in enumerate(self._publishers):
            child.ask(Send(index * each, each, rate))
        for child in (*self._subscribers, *self._publishers):
            child.answer()
        self._before = self._cpu()
        for child in self._publishers:
            child.ask("go")

    def end_stream(self) -> Round:
        """Wait until all is sent and handled.

        Raises:
            Failed: A process ended.
        """
        sent: list[Sent] = [child.answer(_GIVE_UP) for child in self._publishers]
        received: list[Received] = [one for child in self._subscribers for one in child.answer(_GIVE_UP + 2 * PATIENCE)]
        used = {role: after - self._before[role] for role, after in self._cpu().items()}
        done = max(one.last for one in received)
        if self.plan.durable:
            done = max(done, *(one.ended for one in sent))
        result = Round(messages=self._expected)
        result.lost = sum(one.lost for one in received)
        result.duplicates = sum(one.duplicates for one in received)
        problems = [one.problem for one in sent if one.problem]
        result.problem = problems[0] if problems else None
        seconds = done - min(one.began for one in sent)
        deliveries = self._expected * self.plan.subscribers - result.lost
        if seconds > 0:
            result.values["per_second"] = deliveries / seconds
        took = [seconds for one in sent for seconds in one.took]
        if took:
            result.values |= latencies(took)
        for role, cpu in used.items():
            result.values[f"{role}_cpu"] = cpu / self._expected * 1e6
        return result

    def echo(self, seconds: float) -> Round:
        """Have the caller call for so long.

        Raises:
            Failed: It does not come back.
        """
        if self._caller is None:
            raise Failed("there is no caller")
        self._caller.ask(seconds)
        took: list[float] = self._caller.answer(seconds + START)
        return Round(latencies(took), messages=len(took))

    def server_cpu(self) -> float:
        """Return the CPU seconds that the server has used."""
        return cpu_seconds_of_living_threads(self._server.pid)

    def server_megabytes(self) -> float:
        """Return the resident memory of the server."""
        return resident_megabytes(self._server.pid)

    def _cpu(self) -> dict[str, float]:
        return {
            "server": self.server_cpu(),
            "publisher": sum(cpu_seconds(child.pid) for child in self._publishers),
            "subscriber": sum(cpu_seconds(child.pid) for child in self._subscribers),
        }


def latencies(seconds: list[float]) -> dict[str, float]:
    """Return the 50th, 99th and 99.9th percentile, in microseconds."""
    if len(seconds) < 2:
        raise Failed("too few answers came back")
    cuts = statistics.quantiles(seconds, n=1000, method="inclusive")
    return {"p50": cuts[499] * 1e6, "p99": cuts[989] * 1e6, "p999": cuts[998] * 1e6}
