"""A backlog that no subscriber wants yet: how much memory it takes, and how long a restart and its delivery.

``python -m tests.integration.backlog --messages 5000000`` runs it in full and prints the figures.
"""

import argparse
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from mezzenger import Message
from tests.integration.processes import Ports, free_ports, patient, server_process

SIZE: Final = 200
"""Bytes of each payload."""
_GLANCE: Final = 0.1
_PATIENCE: Final = 60.0
"""Seconds without a new message after which the rest counts as lost."""
_MEGABYTE: Final = 2**20


@dataclass(frozen=True)
class Figures:
    """What a run has measured."""

    messages: int
    stored_per_second: float
    ready_after: float
    """Seconds from the start of the second server until it listens."""
    delivered_per_second: float
    lost: int
    left: int
    """Frames that are still in the file when all was acknowledged."""
    largest: float
    """Resident megabytes of either server, at most."""


class Memory:
    """Watches how much memory a process has."""

    def __init__(self) -> None:
        self.largest = 0.0

    @contextmanager
    def of(self, pid: int) -> Iterator[None]:
        """Watch a process during the block."""
        process, is_over = psutil.Process(pid), threading.Event()

        def watch() -> None:
            while not is_over.wait(_GLANCE):
                self.largest = max(self.largest, process.memory_info().rss / _MEGABYTE)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def run(messages: int, folder: Path) -> Figures:
    """Store messages, restart the server, take all of them."""
    ports, memory = free_ports(), Memory()
    file, log = str(folder / "store.db"), folder / "log"
    with server_process(ports, log, persist_file=file) as first, memory.of(first.pid):
        begin = time.monotonic()
        with patient(ports, codec="raw") as publisher:
            payloads = (number.to_bytes(8) + bytes(SIZE - 8) for number in range(messages))
            publisher.send_messages("backlog", payloads, ack=1)
        stored = time.monotonic() - begin
        first.terminate()
        first.wait(60)
    begin = time.monotonic()
    with server_process(ports, log, persist_file=file) as second, memory.of(second.pid):
        ready = time.monotonic() - begin
        begin = time.monotonic()
        arrived = take(ports, messages)
        delivered = time.monotonic() - begin
        second.terminate()
        second.wait(60)
    return Figures(
        messages, messages / stored, ready, messages / delivered, messages - arrived, frames_in(file), memory.largest
    )


def take(ports: Ports, messages: int) -> int:
    """Subscribe, and return how many different messages have come."""
    seen = bytearray(messages)
    count = 0
    last = time.monotonic()

    def callback(payload: bytes, _message: Message[bytes]) -> None:
        nonlocal count, last
        number = int.from_bytes(payload[:8])
        count += not seen[number]
        seen[number] = 1
        last = time.monotonic()

    with patient(ports) as subscriber:
        subscriber.subscribe("backlog", callback)
        while count < messages and time.monotonic() - last < _PATIENCE:
            time.sleep(_GLANCE)
    return count


def frames_in(file: str) -> int:
    """Return how many frames a file has, that no server uses."""
    with closing(sqlite3.connect(file)) as database:
        (frames,) = database.execute("SELECT COUNT(*) FROM message").fetchone()
    return int(frames)


def main() -> None:
    """Run with the number of messages of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(arguments.messages, Path(folder))
    for name, value in asdict(figures).items():
        print(f"{name.replace('_', ' ')}: {value:,.1f}")
    if figures.lost or figures.left:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
