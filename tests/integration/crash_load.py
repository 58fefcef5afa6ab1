"""Kills a server with a persist_file over and over under load, and checks what the promises P2 and P7 say.

By hand: python -m tests.integration.crash_load --kills 1000
"""

import argparse
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Final, NamedTuple

from mezzenger import Mezzenger, MezzengerError, ServerUnreachable
from mezzenger.message import Message
from mezzenger.protocol import wire
from tests.integration.processes import count_lines, free_ports, patient, running, wait_for

PUBLISHERS: Final = 4
STEADY: Final = ("steady 1", "steady 2")
"""Each has one subscriber, which stays the same client all the time."""
FICKLE: Final = ("fickle 1", "fickle 2")
"""Each has one subscriber, which is a new client after every few kills."""
KEPT: Final = "kept"
"""Has a subscriber only at the end; until then nothing of it may leave the file."""
PROGRESS_SECONDS: Final = 5.0
START_SECONDS: Final = 60.0
END_SECONDS: Final = 60.0

SERVER: Final = """
import logging, sys
from mezzenger import MezzengerServer, ServerSettings
logging.basicConfig(level=logging.WARNING)
logging.getLogger("mezzenger.server").setLevel(logging.INFO)
MezzengerServer(ServerSettings(**eval(sys.argv[1]))).run()
"""


class Sent(NamedTuple):
    """One message: who sent it as which."""

    publisher: int
    number: int


@dataclass
class Inbox:
    """What has arrived of one name."""

    name: str
    attempts: dict[Sent, int] = field(default_factory=dict)
    """Of each message's first arrival."""
    again: int = 0
    unmarked: list[Sent] = field(default_factory=list)
    """Arrived a second time, with ``attempt`` 1."""

    def take(self, payload: tuple[int, int], message: Message[tuple[int, int]]) -> None:
        sent = Sent(*payload)
        if sent not in self.attempts:
            self.attempts[sent] = message.attempt
        else:
            self.again += 1
            if message.attempt == 1:
                self.unmarked.append(sent)


@dataclass
class Report:
    """What came of it."""

    kills: int = 0
    confirmed: int = 0
    uncertain: int = 0
    """Sends that raised ServerUnreachable."""
    arrived_again: int = 0
    first_marked: int = 0
    """First arrivals with ``attempt`` above 1, which is allowed."""
    most_pending: int = 0
    problems: list[str] = field(default_factory=list)


def contents(file: Path) -> tuple[dict[str, Counter[tuple[int, int]]], list[str]]:
    """Look into a store that no server uses.

    Returns:
        For each name, how often each frame is stored; and what is wrong with the file.
    """
    problems: list[str] = []
    frames: dict[str, Counter[tuple[int, int]]] = {}
    with closing(sqlite3.connect(file)) as database:
        (sound,) = database.execute("PRAGMA integrity_check").fetchone()
        if sound != "ok":
            problems.append(f"integrity_check: {sound}")
        if not database.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]:
            return frames, problems
        for id_, name, count, size in database.execute("SELECT id, name, frames, size FROM name").fetchall():
            rows = [frame for (frame,) in database.execute("SELECT frame FROM message WHERE name = ?", (id_,))]
            if (len(rows), sum(map(len, rows))) != (count, size):
                problems.append(f"{name}: {len(rows)} frames, but {count} were counted, of {size} bytes")
            headers = [wire.read_contents(frame).header for frame in rows]
            frames[name] = Counter((header.client, header.sequence) for header in headers)
            problems += [f"{name}: {key} is stored {n} times" for key, n in frames[name].items() if n > 1]
    return frames, problems


def contents_of_copy(file: Path) -> tuple[dict[str, Counter[tuple[int, int]]], list[str]]:
    """Look into a copy of what a killed server has left: to look at it would change it."""
    folder = file.with_name("copy")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for suffix in ("", "-wal", "-journal"):
        part = Path(f"{file}{suffix}")
        if part.exists():
            shutil.copy(part, folder)
    return contents(folder / file.name)


class CrashLoad:
    """The load, the server that is killed, and the bookkeeping.

    Args:
        folder: For the store and the server's log; empty.
        seed: Of all that is random here; what the operating system does is random all the same.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.file = folder / "store.db"
        self._log = folder / "log"
        self._ports = free_ports()
        self._random = random.Random(seed)
        self._seed = seed
        self._stop = threading.Event()
        self._confirmed: list[set[tuple[str, Sent]]] = [set() for _ in range(PUBLISHERS)]
        self._inboxes = {name: Inbox(name) for name in (*STEADY, *FICKLE, KEPT)}
        self.report = Report()

    def run(self, kills: int) -> Report:
        """Kill the server so many times, then let it finish."""
        publishers = [threading.Thread(target=self._publish, args=(i,), daemon=True) for i in range(PUBLISHERS)]
        with self._server() as first, self._subscriber(STEADY[0]), self._subscriber(STEADY[1]):
            for publisher in publishers:
                publisher.start()
            fickle = {name: self._subscribed(name) for name in FICKLE}
            self._kill(first)
            while self.report.kills < kills:
                with self._server(must_listen=self._random.random() < 0.9) as server:
                    if self._random.random() < 0.3:
                        name = self._random.choice(FICKLE)
                        fickle[name].stop()
                        fickle[name] = self._subscribed(name)
                    self._kill(server)
            with self._server() as last, self._subscriber(KEPT):
                self._await_progress()
                self._stop.set()
                for publisher in publishers:
                    publisher.join(END_SECONDS)
                self._await_all()
                for client in fickle.values():
                    client.stop()
                last.terminate()
                last.wait(20)
        self._judge()
        return self.report

    def _kill(self, server: Popen[str]) -> None:
        """Kill a server in full load, or at any moment of its start."""
        if self._random.random() < 0.5:
            self._await_progress()
        time.sleep(self._random.expovariate(1 / 0.4) if self._random.random() < 0.8 else 0)
        server.kill()
        server.wait(10)
        self.report.kills += 1
        self._inspect()

    def _inspect(self) -> None:
        frames, problems = contents_of_copy(self.file)
        self.report.problems += [f"after kill {self.report.kills}: {problem}" for problem in problems]
        self.report.most_pending = max(self.report.most_pending, sum(len(keys) for keys in frames.values()))

    @contextmanager
    def _server(self, *, must_listen: bool = True) -> Iterator[Popen[str]]:
        settings = {"recv_port": self._ports.send_port, "pub_port": self._ports.sub_port}
        settings |= {"persist_file": str(self.file), "resend": {"initial": 0.5}}  # type: ignore[dict-item]
        before = count_lines(self._log, "listening")
        with running(SERVER, settings, log=self._log) as process:
            if must_listen:
                wait_for(
                    lambda: count_lines(self._log, "listening") > before or process.poll() is not None, START_SECONDS
                )
                if process.poll() is not None:
                    self.report.problems.append(f"a server did not start; see {self._log}")
            yield process

    def _client(self) -> Mezzenger:
        return patient(self._ports, reconnect_min=0.02, reconnect_max=0.1, connection_retries=30)

    def _subscribed(self, name: str) -> Mezzenger:
        client = self._client()
        client.subscribe(name, self._inboxes[name].take)
        return client

    @contextmanager
    def _subscriber(self, name: str) -> Iterator[None]:
        with self._subscribed(name):
            yield

    def _publish(self, index: int) -> None:
        dice = random.Random(self._seed + 1 + index)
        number = 0
        with self._client() as client:
            while not self._stop.is_set():
                name = dice.choices((*STEADY, *FICKLE, KEPT), (10, 10, 10, 10, 1))[0]
                count = dice.choice((1, 1, 1, 20))
                batch = [Sent(index, number + offset) for offset in range(count)]
                number += count
                try:
                    if count == 1:
                        client.send_message(name, tuple(batch[0]), ack=1)
                    else:
                        client.send_messages(name, map(tuple, batch), ack=1)
                except ServerUnreachable:
                    self.report.uncertain += 1
                except MezzengerError as error:
                    self.report.problems.append(f"publisher {index}: {error!r}")
                    return
                else:
                    self._confirmed[index].update((name, sent) for sent in batch)

    def _await_progress(self) -> None:
        """Wait until something more is confirmed, unless there is no server to do it."""
        before = sum(map(len, self._confirmed))
        deadline = time.monotonic() + PROGRESS_SECONDS
        while sum(map(len, self._confirmed)) == before and time.monotonic() < deadline:
            time.sleep(0.001)

    def _missing(self) -> list[tuple[str, Sent]]:
        confirmed = set().union(*self._confirmed)
        return [(name, sent) for name, sent in confirmed if sent not in self._inboxes[name].attempts]

    def _await_all(self) -> None:
        deadline = time.monotonic() + END_SECONDS
        while self._missing() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _judge(self) -> None:
        report, inboxes = self.report, self._inboxes.values()
        report.confirmed = sum(map(len, self._confirmed))
        report.arrived_again = sum(inbox.again for inbox in inboxes)
        report.first_marked = sum(attempt > 1 for inbox in inboxes for attempt in inbox.attempts.values())
        missing = self._missing()
        if missing:
            report.problems.append(f"{len(missing)} confirmed messages never arrived: {missing[:5]}")
        for inbox in inboxes:
            if inbox.unmarked:
                report.problems.append(f"{inbox.name}: arrived again unmarked: {inbox.unmarked[:5]}")
        if self._inboxes[KEPT].again:
            report.problems.append(f"{KEPT}: {self._inboxes[KEPT].again} messages arrived twice")
        frames, problems = contents_of_copy(self.file)
        report.problems += problems
        left = {name: len(keys) for name, keys in frames.items() if keys}
        if left:
            report.problems.append(f"left in the file: {left}")


def main() -> int:
    """Run it by hand; return 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="a new folder; it is kept")
    options = parser.parse_args()
    folder: Path = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    start = time.monotonic()
    report = CrashLoad(folder, options.seed).run(options.kills)
    print(f"{folder}, {time.monotonic() - start:.0f} s: {report}")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
