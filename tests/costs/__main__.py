"""Counts the steps that each thread takes for a message: ``python -m tests.costs``; with ``--update`` it keeps them.

A step is one instruction of Python's virtual machine, or one call of a function that is not written in Python. They are
counted, not timed: on any machine, busy or not, they are the same for the same code and the same version of Python.
"""

import argparse
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

from mezzenger import Message, Mezzenger, MezzengerServer, ServerSettings
from mezzenger.client import gatherer
from mezzenger.protocol.gathering import LONGEST
from tests.costs.figures import PATH, VERSION, read

ROUNDS: Final = 10
SECONDS: Final = 30.0
PAYLOAD: Final = bytes(150)
NAME: Final = "costs.one"
MESSAGES: Final = 200
"""Of one burst: all leave together."""
NAMES: Final = [f"costs.{number:03}" for number in range(MESSAGES)]
_PUBLISHER, _SERVER, _SUBSCRIBER = "publisher", "server", "subscriber"
_THREADS: Final = {
    _PUBLISHER: threading.main_thread().name,
    _SERVER: "mezzenger-server",
    _SUBSCRIBER: "mezzenger-callbacks",
}

steps: Counter[int] = Counter()
"""By the ident of the thread: its object is not to be had at the thread's end."""


def trace(frame: FrameType, event: str, _argument: object) -> Callable[[FrameType, str, object], Any] | None:
    """Count the instructions of a thread; what ``sys.settrace`` takes."""
    if event == "call":
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
    elif event == "opcode":
        steps[threading.get_ident()] += 1
    return trace


def profile(_frame: FrameType, event: str, _argument: object) -> None:
    """Count the calls that leave Python; what ``sys.setprofile`` takes."""
    if event == "c_call":
        steps[threading.get_ident()] += 1


class Clock:
    """Stands for the clock by which messages are gathered: else the counting itself would end every burst."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Subject:
    """A client that sends to itself, over a server, with all their threads counted."""

    def __init__(self, client: Mezzenger, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._missing = 0
        self._is_complete = threading.Event()
        client.subscribe(NAME, self._on_message)
        for name in NAMES:
            client.subscribe(name, self._on_message)

    def _on_message(self, _payload: bytes, _message: Message[bytes]) -> None:
        self._missing -= 1
        if not self._missing:
            self._is_complete.set()

    def lone(self) -> int:
        """Send one message that comes alone."""
        self._clock.now += 1.0
        self._client.send_message(NAME, PAYLOAD)
        return 1

    def burst(self) -> int:
        """Send as many of one name, one after the other."""
        return self._send([NAME] * MESSAGES)

    def names(self) -> int:
        """Send as many, each with another name than the one before."""
        return self._send(NAMES)

    def _send(self, names: Sequence[str]) -> int:
        for name in names[:-1]:
            self._client.send_message(name, PAYLOAD)
        self._clock.now += LONGEST
        self._client.send_message(names[-1], PAYLOAD)
        return len(names)

    def stored(self) -> int:
        """Send a batch that is stored."""
        return self._client.send_messages(NAME, [PAYLOAD] * MESSAGES, ack=1)

    def count(self, work: Callable[[], int], messages: int) -> dict[str, float]:
        """Return the fewest steps that each thread needs for a message."""
        fewest: dict[str, float] = {}
        for _ in range(ROUNDS):
            self._missing = messages
            self._is_complete.clear()
            before = Counter(steps)
            sys.setprofile(profile)
            sys.settrace(trace)
            try:
                work()
            finally:
                sys.settrace(None)
                sys.setprofile(None)
            if not self._is_complete.wait(SECONDS):
                raise TimeoutError(f"{self._missing} of {messages} messages have not come")
            self._client.flush()
            idents = {thread.name: thread.ident or 0 for thread in threading.enumerate()}
            for role, name in _THREADS.items():
                taken = (steps[idents[name]] - before[idents[name]]) / messages
                fewest[role] = min(taken, fewest.get(role, taken))
        return fewest


def measure() -> dict[str, float]:
    """Return the steps for a message, by kind of message and role."""
    threading.settrace(trace)
    threading.setprofile(profile)
    clock = Clock()
    # A name that the module has imported; a burst is told by it, and by the clock of the client.
    vars(gatherer)["time"] = clock
    figures: dict[str, float] = {}
    with (
        MezzengerServer(ServerSettings(pub_port=0, recv_port=0)) as server,
        Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as client,
    ):
        client._engine._gatherer._clock = clock
        subject = Subject(client, clock)
        subject.count(subject.lone, 1)
        for work, messages, roles in (
            # How often the others wake up for few frames, or for many of many names, is the system's affair.
            (subject.lone, 1, (_PUBLISHER,)),
            (subject.burst, MESSAGES, (_PUBLISHER, _SUBSCRIBER)),
            (subject.names, MESSAGES, (_PUBLISHER, _SERVER, _SUBSCRIBER)),
            (subject.stored, MESSAGES, (_PUBLISHER, _SUBSCRIBER)),
        ):
            fewest = subject.count(work, messages)
            figures |= {f"{work.__name__}, {role}": round(fewest[role], 1) for role in roles}
    return figures


def main() -> int:
    """Count, then print or keep."""
    parser = argparse.ArgumentParser(prog="python -m tests.costs", description=__doc__)
    parser.add_argument("--update", action="store_true", help="keep the figures as those to compare with")
    figures = measure()
    if parser.parse_args().update:
        PATH.write_text(json.dumps(read() | {VERSION: figures}, indent=1) + "\n", "utf-8")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
