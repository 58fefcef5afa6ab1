"""Kills members of a group, over and over, while it works through its messages; nothing may be lost.

By hand: python -m tests.integration.group_kills --messages 20000
And without killing, to see how evenly they share: python -m tests.integration.group_kills --messages 20000 --no-kills
"""

import argparse
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mezzenger import ClientSettings, Message, Mezzenger
from tests.integration.processes import Ports, free_ports, patient, server_process, wait_for

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

MEMBERS: Final = 4
GROUP: Final = "workers"
KILL_SECONDS: Final = 0.2
START_SECONDS: Final = 60.0
END_SECONDS: Final = 300.0

ATTEMPTS: Final = 1_000_000
"""Each kill uses up an attempt of all that the member has in hand; none may become a dead letter for that."""

# Members are copies of a process that has imported all they need: else they would spend their short lives on that.
_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["mezzenger.client.sync", __name__])


@dataclass
class Report:
    """What came of it."""

    messages: int
    kills: int = 0
    seconds: float = 0.0
    again: int = 0
    """Messages that were handled more than once."""
    shares: list[int] = field(default_factory=list)
    """How many each of the members handled, if none was killed."""
    problems: list[str] = field(default_factory=list)


def work(log: Path, settings: dict[str, object]) -> None:
    """Be a member: write down number and attempt of each message that is handled, until killed."""
    with log.open("ab", buffering=0) as lines:

        def handle(number: int, message: Message[int]) -> None:
            # One write, so that a kill leaves whole lines.
            lines.write(f"{number} {message.attempt}\n".encode())

        client = Mezzenger(settings=ClientSettings.model_validate(settings))
        client.subscribe("jobs", handle, group=GROUP)
        _ready_file(log).write_text(str(os.getpid()))
        threading.Event().wait()


def _ready_file(log: Path) -> Path:
    return log.with_suffix(".ready")


@contextmanager
def members(ports: Ports, folder: Path) -> Iterator[list["Member"]]:
    """Run the members until the end of the block; all have joined when this is entered."""
    those = [Member(ports, folder / f"member-{number}") for number in range(MEMBERS)]
    try:
        for member in those:
            member.start()
        wait_for(lambda: all(member.is_ready() for member in those), START_SECONDS)
        yield those
    finally:
        for member in those:
            member.kill()


class Member:
    """A process that handles messages and writes down what it has handled."""

    def __init__(self, ports: Ports, log: Path) -> None:
        self._settings = ports._asdict() | {"reconnect_max": 0.5, "connection_retries": 20}
        self.log = log
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        self._process = _FORKS.Process(target=work, args=(self.log, self._settings))
        self._process.start()

    def is_ready(self) -> bool:
        """Whether it has joined the group since it was started last."""
        file = _ready_file(self.log)
        return self._process is not None and file.exists() and file.read_text() == str(self._process.pid)

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def handled(self) -> list[tuple[int, int]]:
        """Return number and attempt of each message that it wrote down."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(int(number), int(attempt)) for number, attempt in map(str.split, lines)]


def run(folder: Path, messages: int, *, kills: bool, seed: int = 1) -> Report:
    """Send messages to a group whose members are killed, and look at what they have handled."""
    report = Report(messages)
    ports = free_ports()
    chance = random.Random(seed)
    began = time.monotonic()
    with (
        server_process(ports, folder / "log", persist_file=str(folder / "store.db"), resend={"max_attempts": ATTEMPTS}),
        members(ports, folder) as those,
        patient(ports) as mc,
    ):
        sending = threading.Thread(target=lambda: mc.send_messages("jobs", range(messages), ack=1))
        sending.start()
        deadline = time.monotonic() + END_SECONDS
        while sending.is_alive() or next(mc.groups.list()).pending:
            assert time.monotonic() < deadline, f"not done within {END_SECONDS} s"
            time.sleep(KILL_SECONDS)
            ready = [one for one in those if one.is_ready()]
            # On a busy machine a member may take longer to join than the others are let live.
            if kills and ready:
                victim = chance.choice(ready)
                victim.kill()
                victim.start()
                report.kills += 1
        sending.join()
        report.seconds = time.monotonic() - began
        handled = [one.handled() for one in those]
    _judge(report, handled, kills=kills)
    return report


def _judge(report: Report, handled: list[list[tuple[int, int]]], *, kills: bool) -> None:
    attempts: dict[int, list[int]] = {}
    for number, attempt in (one for those in handled for one in those):
        attempts.setdefault(number, []).append(attempt)
    lost = set(range(report.messages)) - attempts.keys()
    if lost:
        report.problems.append(f"{len(lost)} messages are lost, such as {sorted(lost)[:5]}")
    report.again = sum(len(those) > 1 for those in attempts.values())
    unmarked = [number for number, those in attempts.items() if Counter(those)[1] > 1]
    if unmarked:
        report.problems.append(f"{len(unmarked)} were handled twice and not marked, such as {unmarked[:5]}")
    if not kills:
        report.shares = [len(those) for those in handled]
        fair = report.messages / MEMBERS
        if report.again or max(abs(share - fair) for share in report.shares) > fair / 10:
            report.problems.append(f"shares {report.shares}, {report.again} handled again")


def main() -> None:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), options.messages, kills=not options.no_kills, seed=options.seed)
    print(report)
    if report.problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
