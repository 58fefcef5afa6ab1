"""Promises P2 and P7 with a persist_file: what is confirmed is on the disk, whatever becomes of the server."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from mezzenger import Mezzenger, MezzengerServer, Rejected, ServerSettings, State
from mezzenger.errors import StorageError
from mezzenger.message import Message
from tests.integration.conftest import both_clients, only_threads
from tests.integration.crash_load import CrashLoad, contents_of_copy
from tests.integration.processes import (
    Ports,
    count_lines,
    free_ports,
    patient,
    server_process,
    wait_for,
)

pytestmark = both_clients

Arrivals = list[tuple[int, int]]
"""Payload and attempt of each message that arrived."""


@pytest.fixture
def ports() -> Ports:
    """Where the servers of one test listen, one after the other."""
    return free_ports()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The persist_file of one test."""
    return tmp_path / "store.db"


@contextmanager
def server(ports: Ports, file: Path, **settings: object) -> Iterator[Popen[str]]:
    """Run a server with a persist_file; its log is beside it."""
    with server_process(ports, log_of(file), persist_file=str(file), **settings) as process:
        yield process


def log_of(file: Path) -> Path:
    """Return where the servers log."""
    return file.with_name("log")


def kill(process: Popen[str]) -> None:
    """End a server by SIGKILL."""
    process.kill()
    process.wait(10)


def collect(client: Mezzenger, name: str) -> Arrivals:
    """Subscribe, and return the list that fills with what arrives."""
    arrivals: Arrivals = []

    def take(payload: int, message: Message[int]) -> None:
        arrivals.append((payload, message.attempt))

    client.subscribe(name, take)
    return arrivals


def pending(file: Path) -> dict[str, int]:
    """Return how many frames of each name wait in the file of a server that has ended, which must be sound."""
    frames, problems = contents_of_copy(file)
    assert problems == []
    return {name: len(keys) for name, keys in frames.items() if keys}


@contextmanager
def patient_after(ports: Ports, file: Path) -> Iterator[Mezzenger]:
    """Make a client of a server that is killed afterwards."""
    with server(ports, file) as process:
        client = patient(ports)
        kill(process)
    with client:
        yield client


@contextmanager
def strace(process: Popen[str], inject: str) -> Iterator[None]:
    """Inject faults into the system calls of a server that runs, until the end of the block."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    calls = inject.partition(":")[0]
    command = [program, "-f", "-p", str(process.pid), "-e", f"trace={calls}", "-e", f"inject={inject}"]
    with Popen(command, stderr=PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        if "attached" not in first:
            pytest.skip(f"strace cannot attach: {first}")
        reader = threading.Thread(target=tracer.stderr.read)
        reader.start()
        # The first line is of the first thread; the others follow at once.
        time.sleep(0.2)
        try:
            yield
        finally:
            tracer.terminate()
            reader.join(10)


class TestRestart:
    def test_what_is_confirmed_survives_sigkill(self, ports: Ports, file: Path) -> None:
        """P2: 1,000 messages confirmed before any subscriber came arrive after a crash, in order, as first attempts."""
        with server(ports, file) as first, patient(ports) as publisher:
            for number in range(900):
                publisher.send_message("numbers", number, ack=1)
            publisher.send_messages("numbers", range(900, 1000), ack=1)
            kill(first)
            with server(ports, file), patient(ports) as subscriber:
                arrived = collect(subscriber, "numbers")
                wait_for(lambda: len(arrived) >= 1000)
                assert arrived == [(number, 1) for number in range(1000)]

    def test_what_was_acknowledged_does_not_come_back(self, ports: Ports, file: Path) -> None:
        """P7: after a crash only what nobody had acknowledged is delivered."""
        with server(ports, file) as first, patient(ports) as publisher:
            with patient(ports) as subscriber:
                arrived = collect(subscriber, "numbers")
                publisher.send_messages("numbers", range(100), ack=1)
                wait_for(lambda: len(arrived) == 100)
            publisher.send_message("numbers", 100, ack=1)
            kill(first)
            assert pending(file) == {"numbers": 1}
            with server(ports, file), patient(ports) as subscriber:
                arrived = collect(subscriber, "numbers")
                wait_for(lambda: arrived)
                # It may have been sent to the subscriber that was just leaving.
                assert [payload for payload, _ in arrived] == [100]

    @pytest.mark.parametrize("published", ["before", "after"])
    def test_a_redelivery_after_a_crash_is_marked(self, ports: Ports, file: Path, published: str) -> None:
        """P7: who has a message in hand during a crash is not called again; anybody else sees attempt 2 or more."""
        release, calls = threading.Event(), list[int]()

        def hold(payload: int, _message: Message[int]) -> None:
            calls.append(payload)
            release.wait(30)

        with ExitStack() as stack:
            first = stack.enter_context(server(ports, file))
            holder = stack.enter_context(patient(ports))
            publisher = stack.enter_context(patient(ports))
            stack.callback(release.set)
            if published == "before":
                publisher.send_message("job", 1, ack=1)
            holder.subscribe("job", hold)
            if published == "after":
                publisher.send_message("job", 1, ack=1)
            wait_for(lambda: calls == [1])
            kill(first)
            second = stack.enter_context(server(ports, file, resend={"initial": 0.2}))
            wait_for(lambda: holder.stats.duplicates >= 1)
            other = stack.enter_context(patient(ports))
            arrived = collect(other, "job")
            wait_for(lambda: arrived)
            assert arrived[0][0] == 1
            assert arrived[0][1] >= 2
            release.set()
            second.terminate()
            assert second.wait(10) == 0
            assert calls == [1]
            assert pending(file) == {}

    def test_what_is_left_of_a_batch_survives(self, ports: Ports, file: Path) -> None:
        """P7: of a batch that was handled in part, only the rest comes after a restart, marked."""

        def fail_odd(payload: int, _message: Message[int]) -> None:
            if payload % 2:
                raise ValueError(payload)

        with server(ports, file, resend={"initial": 3}) as first, patient(ports) as publisher:
            with patient(ports) as subscriber:
                subscriber.subscribe("numbers", fail_odd)
                publisher.send_messages("numbers", range(10), ack=1)
                wait_for(lambda: subscriber.stats.failed == 5)
                first.terminate()
                assert first.wait(10) == 0
            with server(ports, file), patient(ports) as subscriber:
                arrived = collect(subscriber, "numbers")
                wait_for(lambda: len(arrived) >= 5)
                assert [payload for payload, _ in arrived] == [1, 3, 5, 7, 9]
                assert all(attempt >= 2 for _, attempt in arrived)

    def test_sigterm_keeps_what_is_pending(self, ports: Ports, file: Path) -> None:
        """P2: a server that is stopped leaves all that waits to the next one, and warns of no loss."""
        with server(ports, file) as first, patient(ports) as publisher:
            publisher.send_messages("numbers", range(1000), ack=1)
            publisher.send_message("other", 1, ack=1)
            first.terminate()
            assert first.wait(10) == 0
            assert count_lines(log_of(file), "are lost") == 0
            assert pending(file).keys() == {"numbers", "other"}
            with server(ports, file), patient(ports) as subscriber:
                arrived = collect(subscriber, "numbers")
                wait_for(lambda: len(arrived) >= 1000)
                assert arrived == [(number, 1) for number in range(1000)]

    def test_a_second_server_is_refused(self, ports: Ports, file: Path) -> None:
        """Two servers on one persist_file would deliver twice: the second learns the first one's process id."""
        with server(ports, file) as first:
            second = MezzengerServer(ServerSettings(pub_port=0, recv_port=0, persist_file=file))
            with pytest.raises(StorageError, match=f"store.db: is in use by .* process id {first.pid}"):
                second.start()
            with patient(ports) as publisher:
                publisher.send_message("name", 1, ack=1)


def test_what_was_stored_and_not_confirmed_is_stored_once(ports: Ports, file: Path) -> None:
    """P7: killed between write and confirm, the next server knows what its publisher sends again."""
    with patient_after(ports, file) as publisher:
        sending: list[threading.Thread] = []
        confirmed: list[int] = []

        def send(number: int) -> None:
            publisher.send_message("numbers", number, ack=1)
            confirmed.append(number)

        for number in range(1, 4):
            with server(ports, file) as killed:
                wait_for(lambda: publisher.state is State.OPEN)
                for thread in sending:
                    thread.join(10)
                assert len(confirmed) == number - 1
                # The server notes each client that it knows from before, when that connects, and the first write to a
                # new log syncs more than once. Once this is confirmed all that is over: the next sync is of the next.
                publisher.send_message("before", number, ack=1)
                with strace(killed, "fsync,fdatasync:signal=KILL:when=1"):
                    sending.append(threading.Thread(target=send, args=(number,)))
                    sending[-1].start()
                    killed.wait(10)
            frames, problems = contents_of_copy(file)
            assert (len(frames["numbers"]), problems) == (number, [])
            assert len(confirmed) == number - 1
        with server(ports, file):
            sending[-1].join(10)
            assert confirmed == [1, 2, 3]
            with patient(ports) as subscriber:
                arrived = collect(subscriber, "numbers")
                wait_for(lambda: len(arrived) >= 3)
                subscriber.flush()
                assert arrived == [(1, 1), (2, 1), (3, 1)]


@only_threads
def test_kills_under_load(tmp_path: Path) -> None:
    """P2, P7: 5 SIGKILLs amid 4 publishers: all confirmed arrives, nothing is stored twice, redeliveries are marked."""
    report = CrashLoad(tmp_path, seed=int.from_bytes(os.urandom(4))).run(5)
    assert report.problems == []
    assert report.kills == 5
    assert report.confirmed > 50


@only_threads
class TestDiskFails:
    @pytest.mark.parametrize(("when", "end"), [(1, signal.SIGTERM), (2, signal.SIGKILL), (5, signal.SIGKILL)])
    def test_nothing_is_confirmed_after_a_failed_sync(
        self, ports: Ports, file: Path, when: int, end: signal.Signals
    ) -> None:
        """P2: from the first sync that fails on every publish is refused; ack=0 and heartbeats go on."""
        confirmed: list[int] = []
        refused: list[int] = []
        reasons: set[str] = set()
        with ExitStack() as stack:
            first = stack.enter_context(server(ports, file, heartbeat_interval=0.2, heartbeat_timeout=0.6))
            publisher = stack.enter_context(patient(ports, heartbeat_interval=0.2, heartbeat_timeout=0.6))

            def publish(numbers: range) -> None:
                for number in numbers:
                    try:
                        publisher.send_message("numbers", number, ack=1)
                    except Rejected as error:
                        reasons.add(error.reason)
                        refused.append(number)
                    else:
                        confirmed.append(number)

            publish(range(5))
            assert confirmed == list(range(5))
            with strace(first, f"fsync,fdatasync:error=EIO:when={when}+"):
                publish(range(5, 15))
                assert (confirmed[5:], refused) == (list(range(5, 4 + when)), list(range(4 + when, 15)))
                arrived = collect(publisher, "live")
                deadline = time.monotonic() + 1.0
                while time.monotonic() < deadline:
                    publisher.send_message("live", 1)
                    assert publisher.state is State.OPEN
                    time.sleep(0.05)
                wait_for(lambda: len(arrived) >= 15)
            publish(range(15, 18))
            assert refused[-3:] == [15, 16, 17]
            assert reasons == {"storage"}
            first.send_signal(end)
            first.wait(10)
            stack.enter_context(server(ports, file))
            arrived = collect(publisher, "numbers")
            publish(range(18, 20))
            wait_for(lambda: (19, 1) in arrived)
            # Nobody knows what a disk has of what it could not sync: that one may be there.
            assert [pair for pair in arrived if pair[0] != refused[0]] == [(number, 1) for number in confirmed]

    def test_a_full_disk_is_survived(self, ports: Ports, file: Path) -> None:
        """P2: while there is no space publishes are refused; afterwards they are stored, and all is delivered."""
        with (
            server(ports, file) as first,
            patient(ports) as publisher,
            patient(ports) as subscriber,
        ):
            publisher.send_message("numbers", 1, ack=1)
            # A number of writes: were strace to let go of the server amid one, that would fail with another error.
            with strace(first, "pwrite64:error=ENOSPC:when=1..6"):
                for number in (2, 3):
                    with pytest.raises(Rejected, match="there is no space left on the disk") as caught:
                        publisher.send_message("numbers", number, ack=1)
                    assert caught.value.reason == "storage"
                arrived = collect(subscriber, "numbers")
                # What is read counts as offered, which must be written before it is delivered.
                time.sleep(0.5)
                assert arrived == []
                wait_for(lambda: arrived == [(1, 1)])
            publisher.send_message("numbers", 4, ack=1)
            wait_for(lambda: arrived == [(1, 1), (4, 1)])
            kill(first)
            assert pending(file).get("numbers", 0) <= 1

    def test_a_slow_disk_slows_only_what_it_keeps(self, ports: Ports, file: Path) -> None:
        """P1: while a sync takes 300 ms, confirms wait for it and ack=0 messages do not."""
        delays: list[float] = []
        with ExitStack() as stack:
            first = stack.enter_context(server(ports, file))
            subscriber, publisher, keeper = (stack.enter_context(patient(ports)) for _ in range(3))

            def take(sent: float, _message: Message[float]) -> None:
                delays.append(time.monotonic() - sent)

            subscriber.subscribe("live", take)
            stack.enter_context(strace(first, "fsync,fdatasync:delay_enter=300000"))
            confirms: list[float] = []

            def keep() -> None:
                for number in range(5):
                    start = time.monotonic()
                    keeper.send_message("kept", number, ack=1)
                    confirms.append(time.monotonic() - start)

            keeping = threading.Thread(target=keep)
            keeping.start()
            while keeping.is_alive():
                publisher.send_message("live", time.monotonic())
                time.sleep(0.01)
            publisher.flush()
            assert min(confirms) >= 0.3
            wait_for(lambda: len(delays) > 50)
            # One sync follows the other; a machine that is busy may be late for a while all the same.
            assert sorted(delays)[len(delays) // 2] < 0.1

    def test_a_stop_amid_slow_syncs_counts_right(self, ports: Ports, file: Path) -> None:
        """What is stored and settled while the server drains is stored and settled once."""
        with ExitStack() as stack:
            first = stack.enter_context(server(ports, file, drain_timeout=0.2))
            subscriber, publisher = (stack.enter_context(patient(ports)) for _ in range(2))
            release = threading.Event()
            stack.callback(release.set)
            for number in range(1000):
                publisher.send_message("numbers", number, ack=1)
            stack.enter_context(strace(first, "fsync,fdatasync:delay_enter=200000"))
            subscriber.subscribe("numbers", lambda _payload, _message: release.wait(0.002))
            time.sleep(0.5)
            first.terminate()
            assert first.wait(20) == 0
            assert not re.search(r"Traceback|ERROR|CRITICAL", log_of(file).read_text())
            pending(file)
