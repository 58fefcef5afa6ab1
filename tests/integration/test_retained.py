"""The last message of a name, from a publisher's call to the callback of who subscribes later, with real servers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from mezzenger import ChannelSettings, Mezzenger, MezzengerServer, ServerSettings
from mezzenger.errors import InvalidName
from mezzenger.message import Message
from tests.integration.conftest import both_clients, only_threads
from tests.integration.processes import Ports, count_lines, free_ports, patient, running, wait_for

pytestmark = both_clients

CHANNELS = {
    "state.>": ChannelSettings(retain="last"),
    "brief.*": ChannelSettings(retain="last", ttl=0.5),
}
SERVER = """
import logging, sys
from mezzenger import ChannelSettings, MezzengerServer, ServerSettings
logging.basicConfig(level=logging.INFO)
channels = {"state.>": ChannelSettings(retain="last")}
MezzengerServer(ServerSettings(**eval(sys.argv[1])), channels).run()
"""


class Seen:
    """A callback that remembers what it was given."""

    def __init__(self) -> None:
        self.messages: list[Message[Any]] = []

    def __call__(self, payload: object, msg: Message[Any]) -> None:
        assert payload == msg.payload
        self.messages.append(msg)

    @property
    def payloads(self) -> list[object]:
        return [msg.payload for msg in self.messages]

    @property
    def retained(self) -> list[bool]:
        return [msg.retained for msg in self.messages]


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server that keeps last messages in memory."""
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0, drain_timeout=1.0), CHANNELS) as server:
        yield server


Connect = Callable[[], Mezzenger]


@pytest.fixture
def connect(server: MezzengerServer) -> Iterator[Connect]:
    """Makes clients of the server; they are stopped at the end."""
    clients: list[Mezzenger] = []

    def make() -> Mezzenger:
        clients.append(patient(Ports(server.recv_port, server.pub_port)))
        return clients[-1]

    yield make
    for client in clients:
        client.stop()


@contextmanager
def running_server(ports: Ports, folder: Path) -> Iterator[Popen[str]]:
    """Run a server with a file that outlives it."""
    log = folder / "log"
    settings = {"recv_port": ports.send_port, "pub_port": ports.sub_port, "persist_file": str(folder / "store.db")}
    before = count_lines(log, "listening")
    with running(SERVER, settings, log=log) as process:
        wait_for(lambda: count_lines(log, "listening") > before)
        yield process


@pytest.mark.parametrize("ack", [0, 1])
def test_a_new_subscriber_is_given_the_last_message(connect: Connect, ack: int) -> None:
    """Whoever subscribes later gets the last one at once, marked; then what is sent from then on, unmarked."""
    sender, receiver = connect(), connect()
    for payload in ("old", "older", "last"):
        sender.send_message("state.door", payload, ack=ack, headers={"floor": "2"})
    sender.flush()
    # With ack=1 all of them wait for a subscriber; a first one takes them.
    first = Seen()
    sender.subscribe("state.door", first)
    wait_for(lambda: "last" in first.payloads)
    sender.flush()
    sender.unsubscribe("state.door")
    sender.flush()
    seen = Seen()
    receiver.subscribe("state.door", seen)
    wait_for(lambda: seen.payloads == ["last"])
    sender.send_message("state.door", "new", ack=ack)
    wait_for(lambda: seen.payloads == ["last", "new"])
    assert seen.retained == [True, False]
    last = seen.messages[0]
    assert (last.ack, last.attempt, last.headers, last.name) == (ack, 1, {"floor": "2"}, "state.door")
    assert last.id == first.messages[-1].id
    assert last.checksum == first.messages[-1].checksum


def test_of_a_batch_the_last_one(connect: Connect) -> None:
    """A hundred sent together: the last is kept, with its own id."""
    sender, receiver = connect(), connect()
    watching, seen = Seen(), Seen()
    sender.subscribe("state.count", watching)
    sender.send_messages("state.count", range(100))
    wait_for(lambda: len(watching.messages) == 100)
    receiver.subscribe("state.count", seen)
    wait_for(lambda: seen.payloads == [99])
    assert seen.messages[0].id == watching.messages[-1].id
    assert seen.messages[0].timestamp == pytest.approx(watching.messages[-1].timestamp, abs=1e-4)


def test_what_waits_comes_once(connect: Connect) -> None:
    """With ack=1, what nobody has acknowledged is delivered, in order; its last one is not given a second time."""
    sender, receiver = connect(), connect()
    sender.send_messages("state.jobs", range(10), ack=1)
    for payload in range(10, 13):
        sender.send_message("state.jobs", payload, ack=1)
    seen = Seen()
    receiver.subscribe("state.jobs", seen)
    sender.send_message("state.jobs", 13, ack=1)
    wait_for(lambda: seen.payloads[-1:] == [13])
    assert seen.payloads == list(range(14))
    assert not any(seen.retained)


def test_other_names_keep_nothing(connect: Connect) -> None:
    """A name without the setting is as it was."""
    sender, receiver = connect(), connect()
    sender.send_message("other", "lost")
    sender.flush()
    seen = Seen()
    receiver.subscribe("other", seen)
    sender.send_message("other", "seen")
    wait_for(lambda: seen.payloads == ["seen"])
    assert seen.retained == [False]


def test_patterns(connect: Connect) -> None:
    """A subscriber of a pattern is given one for each name that matches; so is a second one of the same client."""
    sender, receiver = connect(), connect()
    for name in ("state.a", "state.b", "state.c.d"):
        sender.send_message(name, name)
    sender.flush()
    one, rest = Seen(), Seen()
    receiver.subscribe("state.a", one)
    wait_for(lambda: one.payloads == ["state.a"])
    receiver.subscribe("state.>", rest)
    wait_for(lambda: sorted(map(str, rest.payloads)) == ["state.a", "state.b", "state.c.d"])
    assert rest.retained == [True, True, True]
    sender.send_message("state.a", "new")
    wait_for(lambda: one.payloads == ["state.a", "new"] and rest.payloads[-1] == "new")


def test_a_second_subscription_is_a_new_one(connect: Connect) -> None:
    """Who unsubscribes, and subscribes again, is given the last message again."""
    client = connect()
    client.send_message("state.door", "open", ack=1)
    for _ in range(3):
        seen = Seen()
        client.subscribe("state.door", seen)
        wait_for(lambda seen=seen: seen.payloads == ["open"])  # type: ignore[misc]  # mypy cannot infer its default
        client.flush()
        client.unsubscribe("state.door")


def test_amid_a_stream(server: MezzengerServer, connect: Connect) -> None:
    """While a publisher sends all the time, what each new subscriber sees goes forward only, with no gap after that."""
    sender = connect()
    is_over = threading.Event()
    sent = [0]

    def send() -> None:
        while not is_over.is_set():
            sender.send_message("state.clock", sent[0])
            sent[0] += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        wait_for(lambda: sent[0] > 10)
        for _ in range(20):
            with patient(Ports(server.recv_port, server.pub_port)) as receiver:
                seen = Seen()
                receiver.subscribe("state.clock", seen)
                wait_for(lambda seen=seen: len(seen.messages) > 50)  # type: ignore[misc]  # likewise
                numbers = [int(str(payload)) for payload in seen.payloads]
                assert seen.retained.count(True) <= 1  # none if the road of the stream was faster
                start = seen.retained.index(True) if any(seen.retained) else 0
                assert numbers == sorted(set(numbers))
                assert numbers[start:] == list(range(numbers[start], numbers[start] + len(numbers) - start))
    finally:
        is_over.set()
        thread.join()


def test_what_has_expired(server: MezzengerServer, connect: Connect) -> None:
    """After its ttl a message is forgotten, whatever its ack."""
    sender, receiver = connect(), connect()
    sender.send_message("brief.a", 1)
    sender.send_message("brief.b", 2, ack=1)
    sender.send_message("state.c", 3, ack=1, ttl=0.2)
    sender.send_message("state.d", 4)
    sender.flush()
    assert server.stats().retained == 4
    wait_for(lambda: server.stats().retained == 1)
    seen = Seen()
    for name in ("brief.a", "brief.b", "state.c", "state.d"):
        receiver.subscribe(name, seen)
    wait_for(lambda: seen.payloads == [4])


def test_what_is_delayed(server: MezzengerServer, connect: Connect) -> None:
    """It is the last message when it is due, not before; until then what was sent before it is."""
    sender = connect()
    sender.send_message("state.alarm", "late", ack=1, delay=0.5)
    sender.send_message("state.alarm", "early")
    sender.flush()
    (listed,) = sender.retained.list()
    assert listed.ack == 0
    wait_for(lambda: [one.ack for one in sender.retained.list()] == [1])
    taken, seen = Seen(), Seen()
    sender.subscribe("state.alarm", taken)
    wait_for(lambda: taken.payloads == ["late"])
    wait_for(lambda: server.stats().pending == 0)
    receiver = connect()
    receiver.subscribe("state.alarm", seen)
    wait_for(lambda: seen.payloads == ["late"])
    assert seen.retained == [True]


def test_listed_and_dropped(connect: Connect) -> None:
    """All names are told in order; what is dropped is not given any more, until the next message."""
    client = connect()
    assert list(client.retained.list()) == []
    names = [f"state.{number:03}" for number in range(250)]
    for name in reversed(names):
        client.send_message(name, name)
    client.flush()
    listed = list(client.retained.list())
    assert [one.name for one in listed] == names
    assert all((one.ack, one.expires) == (0, None) and one.size > 0 and one.timestamp > 0 for one in listed)
    assert client.retained.drop(*names[:245], names[0], "state.none") == 245
    assert [one.name for one in client.retained.list()] == names[245:]
    seen = Seen()
    client.subscribe(names[0], seen)
    client.send_message(names[0], "anew")
    wait_for(lambda: seen.payloads == ["anew"])
    assert [one.name for one in client.retained.list()] == [names[0], *names[245:]]
    assert client.retained.drop() == 0
    with pytest.raises(InvalidName):
        client.retained.drop("a|b")


@only_threads
def test_a_server_that_is_killed(tmp_path: Path) -> None:
    """Confirmed ones are there at once after a kill; others if a second had passed; what was dropped stays so."""
    ports = free_ports()
    with running_server(ports, tmp_path) as process, patient(ports) as client:
        for number in range(50):
            client.send_message("state.sure", number, ack=1)
        client.send_message("state.quick", "kept")
        client.send_message("state.gone", "dropped", ack=1)
        assert client.retained.drop("state.gone") == 1
        wait_for(lambda: written(tmp_path / "store.db", "state.quick"))
        client.send_message("state.sure", "last", ack=1)
        process.kill()
        process.wait(10)
        with running_server(ports, tmp_path) as second:
            wait_for(lambda: client.state == "open")
            assert [one.name for one in client.retained.list()] == ["state.quick", "state.sure"]
            seen = Seen()
            client.subscribe("state.quick", seen)
            wait_for(lambda: seen.payloads == ["kept"])
            assert seen.retained == [True]
            client.send_message("state.quick", "newer")
            wait_for(lambda: seen.payloads == ["kept", "newer"])
            second.terminate()
            second.wait(10)
        with running_server(ports, tmp_path), patient(ports) as receiver:
            taken, other = Seen(), Seen()
            receiver.subscribe("state.sure", taken)
            wait_for(lambda: taken.payloads[-1:] == ["last"])
            receiver.subscribe("state.quick", other)
            wait_for(lambda: other.payloads == ["newer"])
            wait_for(lambda: client.state == "open")
            client.send_message("state.quick", "newest")
            wait_for(lambda: seen.payloads[-1] == "newest")
            assert seen.payloads == ["kept", "newer", "newest"], "what was seen came again with the reconnect"


def written(file: Path, name: str) -> bool:
    """Whether a server that runs has written the last message of a name: its frame begins with that."""
    log = file.with_name(file.name + "-wal")
    return f"{name}|".encode() in log.read_bytes() + file.read_bytes()


def test_a_reconnect(tmp_path: Path) -> None:
    """What was missed during a break is given after it, marked; what was seen is not given again."""
    ports = free_ports()
    with running_server(ports, tmp_path) as process, patient(ports) as receiver:
        seen = Seen()
        receiver.subscribe("state.door", seen)
        with patient(ports) as sender:
            sender.send_message("state.door", 1, ack=1)
            wait_for(lambda: seen.payloads == [1])
            receiver.flush()
            process.kill()
            process.wait(10)
            with running_server(ports, tmp_path):
                wait_for(lambda: receiver.state == "open")
                sender.send_message("state.door", 2, ack=1)
                wait_for(lambda: seen.payloads == [1, 2])
    assert seen.retained == [False, False]
