"""Lets the n-th sync of a server fail, for each n from 1 on, and checks what promise P2 says; for Linux, with strace.

Each round starts a real server on a new persist_file. Its n-th fdatasync, which is what SQLite calls, returns EIO, and
so does its n-th fsync, if there are so many; all others succeed: a sync that succeeds after one that failed proves
nothing, and must not be trusted. If that is one of those at the start,
the server must not start. If it is one of a commit, nothing may be confirmed from then on, while all else goes on. Then
the server is killed, and the next one must deliver what was confirmed.

Of two kinds of syncs SQLite does not tell whether they fail. One is that of the folder, when files are made in it: the
server must sync it itself once the last file is made. The other is that of a checkpoint, which moves what is in the log
to the database: the server goes on, and the system calls must show that what was confirmed was synced to the log
before, and that the log is not begun anew before the database was synced.

By hand: ``python -m tests.integration.failing_sync --calls 100``.
"""

import argparse
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mezzenger import Mezzenger, Rejected, State
from mezzenger.message import Message
from tests.integration.processes import Ports, count_lines, free_ports, patient, wait_for

PUBLISHERS: Final = 2
PAYLOAD: Final = bytes(512 * 2**10)
"""So large that the log is moved to the database a few times within 100 syncs."""
AFTER: Final = 4
"""So many publishes of each publisher follow the failure."""
HEARTBEAT: Final = {"heartbeat_interval": 0.2, "heartbeat_timeout": 0.6}
LIVE_SECONDS: Final = 0.9
"""Longer than a client waits for a heartbeat."""

_CALL: Final = re.compile(r"(fsync|fdatasync|pwrite64)\(\d+<(.*?)>(?:, .*, (\d+), (\d+))?\)\s+= (-?\d+)")
_MADE: Final = re.compile(r"(openat)\(.*O_CREAT.*\)\s+= \d+<(.*?)>")


@dataclass
class Round:
    """What came of one failure."""

    call: int
    kind: str = ""
    """What became of the server."""
    confirmed: set[int] = field(default_factory=set)
    after: int = 0
    """Confirms after the failure; of a server that goes on, they are no problem."""
    refused: set[int] = field(default_factory=set)
    came_all_the_same: int = 0
    """Messages that were refused, and delivered by the next server."""
    lost: int = 0
    """Messages that were confirmed, and not delivered by the next server."""
    problems: list[str] = field(default_factory=list)


NO_START: Final = "refuses to start"
STORES_NO_MORE: Final = "stores no more"
FOLDER: Final = "goes on: a folder"
CHECKPOINT: Final = "goes on: a checkpoint"


def cannot_run(folder: Path) -> str | None:
    """Return why this cannot be run here, if it cannot."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    command = [*_strace(folder / "try", 1), sys.executable, "-c", "import os; os.fsync(1)"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return None if "Errno 5" in result.stderr else f"strace cannot let a sync fail: {result.stderr}"


def _strace(trace: Path, call: int) -> list[str]:
    # The tracer is a grandchild: what we start, and signal, is the server itself.
    command = ["strace", "-D", "-f", "-qq", "-y", "-s", "0", "-o", str(trace)]
    return [
        *command,
        "-e",
        "trace=fsync,fdatasync,pwrite64,openat",
        "-e",
        f"inject=fsync,fdatasync:error=EIO:when={call}",
    ]


class FailingSync:
    """One round.

    Args:
        folder: For the store, the server's log and the list of its system calls; empty.
        call: Which sync fails.
    """

    def __init__(self, folder: Path, call: int) -> None:
        self._file = folder / "store.db"
        self._log = folder / "log"
        self._trace = folder / "trace"
        self._ports = free_ports()
        self._lock = threading.Lock()
        self._next = 0
        self.round = Round(call)

    def run(self) -> Round:
        """Start a server, let the sync fail, kill the server, and see what the next one delivers."""
        with self._server(self.round.call) as server:
            wait_for(lambda: count_lines(self._log, "listening") or server.poll() is not None)
            if server.poll() is None:
                self._use(server)
            else:
                self._expect_an_error(server.returncode)
        with self._server(None) as again:
            wait_for(lambda: count_lines(self._log, "listening") or again.poll() is not None)
            if again.poll() is None:
                self._collect()
            else:
                self.round.problems.append(f"the next server does not start: {self._log.read_text()}")
        return self.round

    @contextmanager
    def _server(self, call: int | None) -> Iterator[subprocess.Popen[str]]:
        ports: Ports = self._ports
        command = [] if call is None else _strace(self._trace, call)
        command += [sys.executable, "-m", "mezzenger.cli.server", "--persist-file", str(self._file)]
        command += ["--recv-port", str(ports.send_port), "--pub-port", str(ports.sub_port)]
        with self._log.open("w") as log, subprocess.Popen(command, stderr=log, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def _expect_an_error(self, code: int) -> None:
        self.round.kind = NO_START
        lines = self._log.read_text().splitlines()
        words = ("disk I/O error", "Input/output error")
        is_clear = len(lines) == 1 and str(self._file) in lines[0] and any(word in lines[0] for word in words)
        if code != 4 or not is_clear:
            self.round.problems.append(f"ends with {code} and says {lines}")

    def _use(self, server: subprocess.Popen[str]) -> None:
        with patient(self._ports, codec="raw", **HEARTBEAT) as live:
            publishers = [threading.Thread(target=self._publish) for _ in range(PUBLISHERS)]
            for publisher in publishers:
                publisher.start()
            for publisher in publishers:
                publisher.join()
            if not self._has_failed():
                self.round.problems.append("no sync has failed")
            self._expect_life(live)
            if server.poll() is not None:
                self.round.problems.append(f"the server ended with {server.returncode}")
        self._judge()

    def _publish(self) -> None:
        """Publish one message after the other until some have followed the failure."""
        followed = 0
        with patient(self._ports, codec="raw", **HEARTBEAT) as client:
            while followed < AFTER and self._next < 3 * self.round.call + 20:
                with self._lock:
                    number = self._next
                    self._next += 1
                has_failed = self._has_failed()
                followed += has_failed
                try:
                    client.send_message("kept", number.to_bytes(8) + PAYLOAD, ack=1)
                except Rejected as error:
                    with self._lock:
                        self.round.refused.add(number)
                        if error.reason != "storage":
                            self.round.problems.append(f"refused for another reason: {error}")
                else:
                    with self._lock:
                        self.round.confirmed.add(number)
                        self.round.after += has_failed

    def _expect_life(self, client: Mezzenger) -> None:
        """See to it that ack=0 messages and heartbeats go on."""
        arrived: list[bytes] = []

        def take(payload: bytes, _message: Message[bytes]) -> None:
            arrived.append(payload)

        client.subscribe("live", take)
        deadline = time.monotonic() + LIVE_SECONDS
        sent = 0
        while time.monotonic() < deadline:
            client.send_message("live", b"x")
            sent += 1
            if client.state is not State.OPEN:
                self.round.problems.append("the connection broke")
                break
            time.sleep(0.05)
        client.flush()
        wait_for(lambda: len(arrived) >= sent)

    def _judge(self) -> None:
        result = self.round
        failed = next((call for call in self._calls() if call.status < 0), None)
        if failed is None:
            return
        if result.refused:
            result.kind = STORES_NO_MORE
            if result.after:
                result.problems.append(f"{result.after} publishes were confirmed after the failure")
            if not count_lines(self._log, "the disk has failed"):
                result.problems.append("the log does not tell that the disk has failed")
        elif Path(failed.file).is_dir():
            result.kind = FOLDER
            result.problems += _risks_of_folder(self._calls())
        else:
            result.kind = CHECKPOINT
            result.problems += _risks(self._calls(), self._file)

    def _collect(self) -> None:
        """Take what the next server delivers, and what it stores itself."""
        arrived: set[int] = set()
        last = 2**32

        def take(payload: bytes, _message: Message[bytes]) -> None:
            arrived.add(int.from_bytes(payload[:8]))

        with patient(self._ports, codec="raw") as client:
            client.subscribe("kept", take)
            client.send_message("kept", last.to_bytes(8), ack=1)
            deadline = time.monotonic() + 20
            while not self.round.confirmed | {last} <= arrived and time.monotonic() < deadline:
                time.sleep(0.01)
        self.round.lost = len(self.round.confirmed - arrived)
        self.round.came_all_the_same = len(self.round.refused & arrived)
        if self.round.lost or last not in arrived:
            self.round.problems.append(f"{self.round.lost} messages that were confirmed are lost")

    def _has_failed(self) -> bool:
        return self._trace.exists() and "(INJECTED)" in self._trace.read_text()

    def _calls(self) -> list["Call"]:
        calls = []
        for line in self._trace.read_text().splitlines():
            if found := _CALL.search(line):
                calls.append(Call(found[1], found[2], int(found[4] or 0), int(found[5])))
            elif found := _MADE.search(line):
                calls.append(Call(found[1], found[2], 0, 0))
        return calls


@dataclass(frozen=True)
class Call:
    """One system call of the server."""

    name: str
    file: str
    offset: int
    """Of a write."""
    status: int


def _risks_of_folder(calls: Sequence[Call]) -> list[str]:
    """Return what is wrong with going on after a sync of a folder that SQLite did, and told nobody about."""
    folder = next(call.file for call in calls if call.status < 0)
    made = [
        index for index, call in enumerate(calls) if call.name == "openat" and str(Path(call.file).parent) == folder
    ]
    is_synced = any(call.file == folder and call.name == "fsync" and call.status == 0 for call in calls[made[-1] :])
    return [] if is_synced else ["the folder was not synced by the server itself"]


def _risks(calls: Sequence[Call], file: Path) -> list[str]:
    """Return what is wrong with going on after a sync that failed, though nobody was told."""
    log, database = f"{file}-wal", str(file)
    index = next(index for index, call in enumerate(calls) if call.status < 0)
    failed = calls[index]
    if failed.file == log:
        before = next((call for call in reversed(calls[:index]) if call.file == log), None)
        if before is None or before.name == "pwrite64":
            return ["what was confirmed was written to the log, and its sync failed"]
        return []
    if failed.file != database:
        return [f"a sync of {failed.file} failed, and nobody was told"]
    for call in calls[index + 1 :]:
        if call.file == database and call.name != "pwrite64":
            return []
        if call.file == log and call.name == "pwrite64" and call.offset == 0:
            return ["the log was begun anew, though the database was not synced"]
    return []


def run(calls: Sequence[int]) -> Iterator[Round]:
    """Run a round for each of these calls."""
    for call in calls:
        with TemporaryDirectory() as folder:
            yield FailingSync(Path(folder), call).run()


def main() -> int:
    """Run it by hand; return 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100, help="let each of the first so many syncs fail")
    parser.add_argument("--first", type=int, default=1, help="begin with this one")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        reason = cannot_run(Path(folder))
    if reason is not None:
        print(reason)
        return 1
    rounds = []
    for result in run(range(options.first, options.calls + 1)):
        rounds.append(result)
        end = "".join(f"; PROBLEM: {problem}" for problem in result.problems)
        counts = f"{len(result.confirmed)} confirmed, {result.after} after it, {result.lost} lost"
        print(f"sync {result.call}: {result.kind}, {counts}{end}", flush=True)
    for kind, count in sorted(Counter(result.kind for result in rounds).items()):
        print(f"{count} times {kind}")
    after = sum(result.after for result in rounds if result.kind == STORES_NO_MORE)
    confirmed, lost = sum(len(result.confirmed) for result in rounds), sum(result.lost for result in rounds)
    came = sum(result.came_all_the_same for result in rounds)
    print(
        f"{after} confirms after the failure; {confirmed} confirmed, {lost} lost; {came} refused and kept all the same"
    )
    return int(any(result.problems for result in rounds))


if __name__ == "__main__":
    sys.exit(main())
