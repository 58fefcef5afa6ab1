"""The demonstration: a server, a publisher and two subscribers, each a process of its own, and a count of what is lost.

The publisher sends this machine's load, memory and network counters ten times a second with ``ack=0``, and every line
of a file with ``ack=1``. At the end the counts of all processes are compared: the exit status is 0 if nothing was lost.
"""

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

EXAMPLES: Final = Path(__file__).resolve().parent
CONFIG: Final = EXAMPLES.parent / "mezzenger.example.yaml"
TELEMETRY: Final = ("machine.load", "machine.memory", "machine.network")
STORED: Final = ("lines", "lines.total")
ROW_HEADINGS: Final = ("ack", "sent", "received", "acknowledged", "lost")
PATIENCE: Final = 10.0
"""Seconds for what takes one second as long as nothing is broken."""


class DemoError(Exception):
    """The demonstration could not go on."""


# What was counted.


@dataclass(frozen=True)
class Report:
    """What a publisher or a subscriber tells about itself."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Messages by name: those that were sent, or those that were received, each counted once."""
    latest: Mapping[str, str] = field(default_factory=dict)
    """By name, the payload that came last."""
    final: bool = False
    """The client is stopped: the server has all that was sent, acknowledgements too."""


@dataclass(frozen=True)
class Row:
    """All that is known about the messages of one name."""

    name: str
    ack: int
    sent: int
    received: int
    acknowledged: int
    """0 until the subscriber has stopped."""
    latest: str = ""

    @property
    def lost(self) -> int:
        """How many were sent and did not arrive, or with ``ack=1`` were not acknowledged."""
        return self.sent - (self.acknowledged if self.ack else self.received)


def compare(publisher: Report, subscribers: Sequence[Report]) -> list[Row]:
    """Put together what the publisher and the subscribers tell."""
    rows = []
    for name in (*TELEMETRY, *STORED):
        ack = int(name in STORED)
        received = sum(report.counts.get(name, 0) for report in subscribers)
        acknowledged = sum(report.counts.get(name, 0) for report in subscribers if report.final) if ack else 0
        latest = " ".join(report.latest.get(name, "") for report in subscribers).strip()
        rows.append(Row(name, ack, publisher.counts.get(name, 0), received, acknowledged, latest))
    return rows


def problems(rows: Sequence[Row], pending: int) -> list[str]:
    """Say what went wrong, one line each; nothing was lost if there is none."""
    found = [f"{row.name}: nothing was sent" for row in rows if not row.sent and row.name != "lines"]
    found += [f"{row.name}: {row.lost} of {row.sent} were lost" for row in rows if row.lost > 0]
    found += [f"{row.name}: {-row.lost} more than were sent have arrived" for row in rows if row.lost < 0]
    by_name = {row.name: row for row in rows}
    lines, total = by_name["lines"], by_name["lines.total"]
    if total.received and total.latest != str(lines.received):
        found.append(f"lines: the publisher's last message tells of {total.latest}, but {lines.received} have arrived")
    if pending:
        found.append(f"the server still had {pending} frames that nobody has acknowledged")
    return found


def table(rows: Sequence[Row], *, is_final: bool) -> Table:
    """Draw the counts; as long as messages are under way nobody knows what is lost."""
    drawn = Table("name", *(Column(heading, justify="right") for heading in ROW_HEADINGS))
    for row in rows:
        acknowledged = f"{row.acknowledged:,}" if row.ack else "-"
        lost = f"{row.lost:,}" if is_final else ""
        style = "red" if is_final and row.lost else ""
        drawn.add_row(row.name, f"{row.ack}", f"{row.sent:,}", f"{row.received:,}", acknowledged, lost, style=style)
    return drawn


class Display:
    """Shows what arrives: in a table that changes on a terminal, otherwise in some fifty lines."""

    def __init__(self, stack: ExitStack, console: Console, duration: float) -> None:
        live = Live(console=console, auto_refresh=False, transient=True)
        self._live = stack.enter_context(live) if console.is_terminal else None
        self._pause = max(1.0, duration / 10)
        self._begin = self._printed = time.monotonic()

    def show(self, rows: Sequence[Row]) -> None:
        """Show what has arrived by now."""
        seconds = (now := time.monotonic()) - self._begin
        lines = [f"{seconds:5.1f} s  {row.name:<15}  {row.received:>7,}  {row.latest}" for row in rows if row.received]
        if self._live is not None:
            texts = [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]
            self._live.update(Group(table(rows, is_final=False), *texts), refresh=True)
        elif now >= self._printed + self._pause:
            self._printed = now
            print(*lines, sep="\n", flush=True)


# The processes.


@contextmanager
def running(*command: object, log: IO[bytes] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a process in a session of its own, which Ctrl-C does not reach; at the end it is gone."""
    words, pipe = [str(word) for word in command], subprocess.PIPE
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MEZZENGER_")}
    with subprocess.Popen(
        words, stdin=pipe, stdout=log or pipe, stderr=log, env=environ, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()


class Server:
    """The process of ``mezzenger-server``; its log says what nothing else tells from outside."""

    def __init__(self, stack: ExitStack, log: Path) -> None:
        self._log = log
        program = Path(sys.executable).with_name("mezzenger-server")
        command = (program, "--config", CONFIG, "--pub-port", 0, "--recv-port", 0)
        self._process = stack.enter_context(running(*command, log=stack.enter_context(log.open("wb"))))

    def ports(self) -> tuple[str, str]:
        """Return the ports that clients send to and subscribe at, as soon as the server listens."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.check()
            if found := re.search(r"listening on .*pub_port (\d+), recv_port (\d+)\n", self._log.read_text()):
                return found[2], found[1]
            time.sleep(0.02)
        raise DemoError("the server does not listen")

    def check(self) -> None:
        """Raise an error if it has ended already."""
        if (status := self._process.poll()) is not None:
            raise DemoError(f"the server has ended too early, with status {status}")

    def stop(self) -> int:
        """Have it end; return how many frames with ``ack=1`` it still had."""
        self._process.terminate()
        if status := self._process.wait(PATIENCE):
            raise DemoError(f"the server has ended with status {status}")
        found = re.search(r"(\d+) unacknowledged frames", self._log.read_text())
        return int(found[1]) if found else 0


class Client:
    """The process of a publisher or a subscriber, and what it has reported last."""

    def __init__(self, stack: ExitStack, program: str, *arguments: object) -> None:
        self._program = program
        self._process = stack.enter_context(running(sys.executable, EXAMPLES / program, *arguments))
        self.report: Report | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.report = Report(**json.loads(line))

    def has_finished(self) -> bool:
        """Whether it has ended as it should."""
        if self._reader.is_alive():
            return False
        if self.report is None or not self.report.final:
            raise DemoError(f"{self._program} has ended too early, with status {self._process.wait(PATIENCE)}")
        return True

    def end(self) -> None:
        """Have a subscriber stop: it does so at the end of its input."""
        if self._process.stdin is not None:
            self._process.stdin.close()


class Demo:
    """Everything that runs; its steps are to be taken in their order."""

    def __init__(self, stack: ExitStack, server: Server, display: Display) -> None:
        self._stack = stack
        self._display = display
        self._server = server
        self._ports = server.ports()
        self._subscribers = [Client(stack, "demo_subscriber.py", *self._ports, *names) for names in (TELEMETRY, STORED)]
        self._publisher: Client | None = None
        if not self._wait(lambda: all(client.report for client in self._subscribers), PATIENCE):
            raise DemoError("the subscribers do not subscribe")

    def rows(self) -> list[Row]:
        """Return what all of them have reported."""
        publisher = self._publisher and self._publisher.report
        return compare(publisher or Report(), [client.report or Report() for client in self._subscribers])

    def publish(self, file: Path, duration: float) -> None:
        """Have the publisher send all, and wait as long as anything still arrives in time."""
        publisher = self._publisher = Client(self._stack, "demo_publisher.py", *self._ports, file, duration)
        if not self._wait(publisher.has_finished, duration + PATIENCE):
            raise DemoError("the publisher does not come to an end")
        self._wait(lambda: all(row.received == row.sent for row in self.rows()), PATIENCE / 2)

    def stop(self) -> int:
        """Stop subscribers and server; return how many frames nobody had acknowledged."""
        for client in self._subscribers:
            client.end()
        if not self._wait(lambda: all(map(Client.has_finished, self._subscribers)), PATIENCE):
            raise DemoError("the subscribers do not stop")
        return self._server.stop()

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._server.check()
            for client in self._subscribers:
                client.has_finished()
            self._display.show(self.rows())
            time.sleep(0.05)
        return True


def run(stack: ExitStack, file: Path, duration: float) -> int:
    """Give the demonstration; return its exit status."""
    console = Console()
    log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "server.log"
    try:
        demo = Demo(stack, Server(stack, log), Display(stack, console, duration))
        demo.publish(file, duration)
        pending = demo.stop()
    except (DemoError, OSError) as error:
        print(error, "The server's log:", log.read_text() if log.exists() else "none", sep="\n\n", file=sys.stderr)
        return 1
    console.print(table(demo.rows(), is_final=True))
    found = problems(demo.rows(), pending)
    print(*(found or ["Nothing was lost."]), sep="\n")
    return int(bool(found))


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=10.0, help="of publishing, in seconds (default: 10)")
    parser.add_argument("--file", type=Path, required=True, help="the one whose lines are sent")
    arguments = parser.parse_args()
    if not arguments.file.is_file():
        parser.error(f"{arguments.file} is not a file")
    # What is on the stack ends its processes, if only this one does not end without a word.
    for ending in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        signal.signal(ending, lambda number, _frame: sys.exit(128 + number))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not know all characters of the file
    try:
        with ExitStack() as stack:
            return run(stack, arguments.file, arguments.duration)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
