"""What the client does for a program, against a real server."""

import copy
import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mezzenger import (
    AsyncMezzenger,
    ClientSettings,
    ClientStopped,
    Message,
    Mezzenger,
    MezzengerError,
    MezzengerServer,
    NotSubscribed,
    PayloadNotEncodable,
    ResendSettings,
    ServerSettings,
    ServerUnreachable,
    State,
)
from mezzenger.client import lifetime
from tests.integration.conftest import Connect, NewClient, both_clients, only_threads
from tests.integration.processes import free_ports, open_files, patient, read_line, running, server_process, wait_for

pytestmark = both_clients


@dataclass(frozen=True)
class Job:
    """A payload that only pickle can carry."""

    number: int
    words: tuple[str, ...]


def test_any_picklable_object_travels(connect: Connect) -> None:
    """The payload and every field of the message arrive as they were sent."""
    client = connect()
    arrived: list[Message[Job]] = []

    def callback(payload: Job, msg_obj: Message[Job]) -> None:
        assert payload is msg_obj.payload
        arrived.append(msg_obj)

    client.subscribe("jobs", callback)
    before = time.time()
    for ack in (0, 1):
        client.send_message("jobs", Job(ack, ("a", "b")), ack=ack, headers={"trace": "5"})
    wait_for(lambda: len(arrived) == 2)
    for ack, message in enumerate(sorted(arrived, key=lambda message: message.ack)):
        assert message.payload == Job(ack, ("a", "b"))
        assert (message.name, message.ack, message.attempt, message.headers) == ("jobs", ack, 1, {"trace": "5"})
        assert before <= message.timestamp <= time.time()
        assert message["checksum"] == message.checksum
    assert len({message.id for message in arrived}) == 2


@pytest.mark.parametrize("headers", [None, {"trace": "5"}])
@pytest.mark.parametrize("ack", [0, 1])
def test_no_callback_changes_headers(connect: Connect, ack: int, headers: dict[str, str] | None) -> None:
    """Another callback of a message, or of a later one, sees the headers as they were sent."""
    client = connect()
    seen: list[Mapping[str, str]] = []
    refused: list[Exception] = []

    def look(_payload: int, msg_obj: Message[int]) -> None:
        seen.append(dict(msg_obj.headers))
        try:
            msg_obj.headers["evil"] = "1"  # type: ignore[index]  # that is the point
        except TypeError as error:
            refused.append(error)

    client.subscribe("a.b", look)
    client.subscribe("a.*", look)
    for number in range(2):
        client.send_message("a.b", number, ack=ack, headers=headers)
        wait_for(lambda least=2 * number + 2: len(refused) == least)  # type: ignore[misc]  # mypy infers no default
    assert seen == [headers or {}] * 4


@pytest.mark.parametrize(
    ("codec", "payload"),
    [("msgpack", {"a": [1, None]}), ("json", {"a": [1, None]}), ("raw", b"\0bytes"), ("pickle", {1, 2})],
)
def test_every_codec_travels(connect: Connect, codec: str, payload: object) -> None:
    """The receiver reads what another codec than its own has written."""
    arrived: list[object] = []
    connect().subscribe("codec", lambda got, _msg: arrived.append(got))
    connect(codec=codec).send_message("codec", payload)
    wait_for(lambda: arrived == [payload])


def test_a_pickle_from_an_untrusted_server_is_not_read(
    server: MezzengerServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """P9: with allow_pickle=never no payload is un-pickled; the message stays unacknowledged, and the log says why."""
    arrived: list[object] = []
    wary = connect(allow_pickle="never")
    wary.subscribe("pickled", lambda payload, _msg: arrived.append(payload))
    connect().send_message("pickled", Job(1, ()), ack=1)
    wait_for(lambda: wary.stats.failed >= 1)
    assert arrived == []
    assert server.stats().pending == 1
    wait_for(lambda: "client.allow_pickle" in caplog.text)


def test_a_message_waits_for_its_subscriber(server: MezzengerServer, connect: Connect) -> None:
    """P2: ack=1 messages that nobody has subscribed to are delivered at once, in order, when somebody does."""
    publisher, subscriber = connect(), connect()
    publisher.send_messages("later", range(1000), ack=1)
    assert server.stats().pending > 0
    arrived: list[object] = []
    subscriber.subscribe("later", lambda payload, _msg: arrived.append(payload))
    wait_for(lambda: arrived == list(range(1000)))
    wait_for(lambda: server.stats().pending == 0)


def test_an_unacknowledged_message_goes_to_another_subscriber(new_client: NewClient) -> None:
    """P2, P7: a subscriber that is killed with a message in hand has not acknowledged it; another gets it, marked."""
    program = """
import sys, time
from mezzenger import Mezzenger
mc = Mezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2]))
def callback(payload, msg_obj):
    print("in hand", flush=True)
    time.sleep(60)
mc.subscribe("job", callback)
print("subscribed", flush=True)
"""
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0, resend=ResendSettings(initial=30))) as server:
        ports = (server.recv_port, server.pub_port)
        settings = ClientSettings(send_port=ports[0], sub_port=ports[1])
        with running(program, *ports) as process, new_client(settings) as client:
            assert read_line(process) == "subscribed"
            client.send_message("job", "dig", ack=1)
            assert read_line(process) == "in hand"
            attempts: list[int] = []
            process.send_signal(signal.SIGKILL)
            wait_for(lambda: server.stats().peers == 1, 10)
            client.subscribe("job", lambda _payload, msg: attempts.append(msg.attempt))
            wait_for(lambda: attempts == [2], 10)
            wait_for(lambda: server.stats().pending == 0)


def test_the_ack_goes_out_after_the_callback_has_returned(server: MezzengerServer, connect: Connect) -> None:
    """P3: while the callback runs the message is pending, afterwards it is not."""
    client = connect()
    entered, leave = threading.Event(), threading.Event()

    def callback(_payload: object, _msg: Message[object]) -> None:
        entered.set()
        leave.wait(20)

    client.subscribe("slow", callback)
    client.send_message("slow", 1, ack=1)
    assert entered.wait(10)
    wait_for(lambda: server.stats().redelivered >= 1)
    assert server.stats().pending == 1
    leave.set()
    wait_for(lambda: server.stats().pending == 0)
    assert client.stats.received == 1


def test_a_callback_that_raises_gets_the_message_again(
    server: MezzengerServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """P3: it is logged with its traceback, counted, nacked and redelivered with a higher attempt; later ones arrive."""
    client = connect()
    attempts: list[int] = []
    arrived: list[object] = []

    def fails_twice(_payload: object, msg: Message[object]) -> None:
        attempts.append(msg.attempt)
        if len(attempts) < 3:
            raise ValueError("not today")

    client.subscribe("hard", fails_twice)
    client.subscribe("easy", lambda payload, _msg: arrived.append(payload))
    client.send_message("hard", 1, ack=1)
    client.send_message("easy", 2)
    wait_for(lambda: arrived == [2])
    wait_for(lambda: len(attempts) == 3)
    assert attempts == [1, 2, 3]
    wait_for(lambda: server.stats().pending == 0)
    assert server.stats().nacked == 2
    assert client.stats.failed == 2
    wait_for(lambda: "ValueError: not today" in caplog.text)
    assert "Traceback" in caplog.text


@only_threads
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_nothing_that_a_callback_raises_ends_receiving(connect: Connect, error: type[BaseException]) -> None:
    """Even what would end a program ends only the call, as it does in any thread; a loop it would end."""
    client = connect()
    arrived: list[object] = []

    def callback(payload: object, _msg: Message[object]) -> None:
        arrived.append(payload)
        raise error

    client.subscribe("name", callback)
    client.send_message("name", 1)
    client.send_message("name", 2)
    wait_for(lambda: arrived == [1, 2])


def test_of_a_batch_only_what_failed_comes_again(server: MezzengerServer, connect: Connect) -> None:
    """A partial nack: of 100 messages in one frame two fail, and only these two are redelivered."""
    client = connect()
    arrived: list[tuple[int, int]] = []

    def callback(payload: int, msg: Message[int]) -> None:
        arrived.append((payload, msg.attempt))
        if payload in {30, 60} and msg.attempt == 1:
            raise ValueError(payload)

    client.subscribe("batch", callback)
    assert client.send_messages("batch", range(100), ack=1) == 100
    wait_for(lambda: server.stats().pending == 0)
    assert arrived == [(number, 1) for number in range(100)] + [(30, 2), (60, 2)]


@pytest.mark.parametrize("ack", [0, 1])
def test_every_method_may_be_called_from_a_callback(server: MezzengerServer, connect: Connect, ack: int) -> None:
    """An ack=1 send, send_messages, flush, subscribe and unsubscribe inside a callback do not deadlock."""
    client = connect()
    arrived: list[object] = []

    def callback(_payload: object, _msg: Message[object]) -> None:
        client.subscribe("inner", lambda payload, _msg: arrived.append(payload))
        client.send_message("inner", 1, ack=1)
        client.send_messages("inner", [2, 3], ack=1)
        client.flush()
        client.unsubscribe("outer")
        client.start()
        arrived.append("done")

    client.subscribe("outer", callback)
    client.send_message("outer", 0, ack=ack)
    wait_for(lambda: len(arrived) == 4)
    assert [payload for payload in arrived if payload != "done"] == [1, 2, 3]
    wait_for(lambda: server.stats().pending == 0)


def test_stop_may_be_called_from_a_callback(server: MezzengerServer, connect: Connect) -> None:
    """The message whose callback calls stop() is acknowledged, then the client ends; later uses raise."""
    client = connect()
    outcome: list[str] = []

    def callback(_payload: object, _msg: Message[object]) -> None:
        client.stop()
        with pytest.raises(ClientStopped):
            client.send_message("name", 2)
        outcome.append("returned")

    client.subscribe("name", callback)
    client.send_message("name", 1, ack=1)
    wait_for(lambda: client.state is State.CLOSED)
    client.stop()
    assert outcome == ["returned"]
    wait_for(lambda: server.stats().pending == 0)


def test_a_stop_waits_for_the_running_callback_and_its_ack(server: MezzengerServer, connect: Connect) -> None:
    """stop() from another thread returns after the callback has, and the ack is out by then."""
    client = connect()
    entered = threading.Event()
    ended: list[bool] = []

    def callback(_payload: object, _msg: Message[object]) -> None:
        entered.set()
        time.sleep(0.3)
        ended.append(True)

    client.subscribe("name", callback)
    client.send_message("name", 1, ack=1)
    assert entered.wait(10)
    client.stop()
    assert ended == [True]
    assert server.stats().pending == 0


def test_without_auto_start_receiving_begins_with_start(connect: Connect) -> None:
    """auto_start=False starts no thread; what is sent after subscribe() reaches the callback after start()."""
    before = threading.active_count()
    client = connect(auto_start=False)
    arrived: list[object] = []
    client.subscribe("name", lambda payload, _msg: arrived.append(payload))
    client.send_message("name", 1, ack=1)
    client.send_message("name", 2)
    client.flush()
    assert threading.active_count() == before
    assert arrived == []
    client.start()
    wait_for(lambda: set(map(str, arrived)) == {"1", "2"})


def test_without_auto_start_a_pause_between_sends_does_no_harm(new_client: NewClient) -> None:
    """A client that nobody pumps for longer than heartbeat_timeout sends on, as the quick start's publisher does."""
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0)) as server:
        ports = {"send_port": server.recv_port, "sub_port": server.pub_port}
        quick = {"heartbeat_interval": 0.05, "heartbeat_timeout": 0.15}
        with (
            new_client(ClientSettings.model_validate(ports)) as subscriber,
            new_client(ClientSettings.model_validate(ports | quick | {"auto_start": False})) as publisher,
        ):
            arrived: list[object] = []
            subscriber.subscribe("name", lambda payload, _msg: arrived.append(payload))
            for number in range(5):
                publisher.send_message("name", number)
                time.sleep(0.5)
            wait_for(lambda: arrived == list(range(5)))


@pytest.mark.parametrize("auto_start", [True, False])
def test_many_threads_may_share_a_client(server: MezzengerServer, connect: Connect, auto_start: bool) -> None:
    """16 threads send, subscribe and unsubscribe at once; every message is stored once and arrives."""
    shared, subscriber = connect(auto_start=auto_start), connect()
    arrived: list[object] = []
    subscriber.subscribe("all", lambda payload, _msg: arrived.append(payload))

    def work(thread: int) -> None:
        for number in range(50):
            shared.send_message("all", (thread, number), ack=number % 2)
            if number % 10 == 0:
                shared.subscribe(f"own.{thread}", print)
                shared.unsubscribe(f"own.{thread}")

    threads = [threading.Thread(target=work, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    wait_for(lambda: len(arrived) == 800)
    assert len(set(arrived)) == 800
    assert server.stats().stored == 400


def test_flush_proves_arrival(server: MezzengerServer, connect: Connect) -> None:
    """After flush() the server has taken every ack=0 message."""
    client = connect()
    client.subscribe("name", lambda _payload, _msg: None)
    client.send_messages("name", range(20_000))
    client.flush()
    assert server.stats().published == 20_000


def test_flush_tells_what_may_be_lost(tmp_path: Path) -> None:
    """P4: ack=0 messages that were under way when the server was killed are reported by the next flush, once."""
    ports, log = free_ports(), tmp_path / "log"
    with server_process(ports, log) as first, patient(ports) as client:
        client.send_message("name", 0)
        client.flush()
        first.send_signal(signal.SIGSTOP)
        for number in range(100):
            client.send_message("name", number)
        first.kill()
        wait_for(lambda: client.state is not State.OPEN)
        assert client.stats.uncertain == 100
        with server_process(ports, log):
            with pytest.raises(ServerUnreachable, match="while 100 messages with ack=0 were under way"):
                client.flush()
            client.flush()
            assert client.stats.uncertain == 0


def test_a_timeout_holds_whatever_waits_before(
    server: MezzengerServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush or request waits no longer than it is told; what was sent before it goes on waiting, and arrives."""
    monkeypatch.setattr("mezzenger.protocol.gathering.GAP", 3600.0)  # every message but the first waits for company
    client = connect(reconnect_max=0.2)
    client.send_message("name", 0)
    ports = {"pub_port": server.pub_port, "recv_port": server.recv_port}
    server.stop()
    wait_for(lambda: client.state is not State.OPEN)
    client.send_message("name", 1)
    with pytest.raises(ServerUnreachable):
        client.request("name", 2, timeout=0.1)
    client.send_message("name", 3)
    with pytest.raises(ServerUnreachable):
        client.flush(0.1)
    with MezzengerServer(ServerSettings.model_validate(ports)) as other:
        with suppress(ServerUnreachable):  # the first one may be lost
            client.flush()
        client.flush()
        assert other.stats().dropped == {"no_subscriber": 2}


def test_swapped_ports(server: MezzengerServer, new_client: NewClient) -> None:
    """Who has them the wrong way round is asked whether that is so."""
    where = {"send_port": server.pub_port, "sub_port": server.recv_port}
    with pytest.raises(ServerUnreachable, match="before the server had answered; are send_port and sub_port swapped"):
        new_client(ClientSettings(**where, send_timeout=1.0, connection_retries=0))


def test_a_host_that_nobody_knows(new_client: NewClient) -> None:
    """The error says that its name cannot be resolved."""
    with pytest.raises(ServerUnreachable, match=r"the name 'nosuch\.invalid' cannot be resolved: "):
        new_client(ClientSettings(server_address="nosuch.invalid", send_timeout=0.1, connection_retries=0))


@only_threads
def test_it_stays_in_its_process(connect: Connect) -> None:
    """A client that is to be handed to a spawned process, or copied, says that this cannot be, and goes on."""
    client = connect()
    process = multiprocessing.get_context("spawn").Process(target=print, args=(client,))
    other = AsyncMezzenger(settings=client.settings)
    for misuse in process.start, lambda: copy.copy(other), lambda: client.send_message("name", other):
        with pytest.raises(MezzengerError, match="neither pickled nor copied; make a new one in the other process"):
            misuse()
    client.send_message("name", 1)


def test_flush_tells_what_could_not_be_sent(
    server: MezzengerServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: what was gathered and found no server in time is told by the next flush, which does arrive, once."""
    monkeypatch.setattr("mezzenger.protocol.gathering.GAP", 3600.0)
    client = connect(reconnect_max=0.2, send_timeout=0.2, connection_retries=0)
    client.send_message("name", 0)
    client.flush(20.0)
    ports = {"pub_port": server.pub_port, "recv_port": server.recv_port}
    server.stop()
    wait_for(lambda: client.state is not State.OPEN)
    client.send_message("name", 1)
    with pytest.raises(ServerUnreachable):
        client.flush(0.5)
    with MezzengerServer(ServerSettings.model_validate(ports)) as other:
        with pytest.raises(ServerUnreachable):
            client.flush(20.0)
        client.flush(20.0)
        assert other.stats().dropped == {}


def test_a_client_resumes_by_itself(connect: Connect, server: MezzengerServer) -> None:
    """P6: after a restart of the server state goes back to open, and subscriptions receive without user code."""
    client = connect(reconnect_max=0.2)
    arrived: list[object] = []
    client.subscribe("name", lambda payload, _msg: arrived.append(payload))
    ports = {"pub_port": server.pub_port, "recv_port": server.recv_port}
    assert client.state is State.OPEN
    server.stop()
    wait_for(lambda: client.state is not State.OPEN)
    with MezzengerServer(ServerSettings.model_validate(ports)):
        wait_for(lambda: client.state is State.OPEN)
        client.send_message("name", 1, ack=1)
        wait_for(lambda: arrived == [1])
        client.stop()


def test_a_frozen_server_is_noticed(tmp_path: Path, new_client: NewClient) -> None:
    """P4, P6: a client leaves a server that is stopped with SIGSTOP, holds sends back, and finishes them on SIGCONT."""
    ports = free_ports()
    quick = {"heartbeat_interval": 0.1, "heartbeat_timeout": 0.3, "reconnect_max": 0.2}
    with (
        server_process(ports, tmp_path / "log") as server,
        new_client(ClientSettings.model_validate(ports._asdict() | quick)) as client,
    ):
        server.send_signal(signal.SIGSTOP)
        wait_for(lambda: client.state is not State.OPEN)
        sending = threading.Thread(target=client.send_message, args=("name", 1, 1))
        sending.start()
        sending.join(0.5)
        assert sending.is_alive()
        server.send_signal(signal.SIGCONT)
        sending.join(10)
        assert not sending.is_alive()
        assert client.state is State.OPEN


@only_threads
@pytest.mark.parametrize("auto_start", [True, False])
def test_ctrl_c_ends_a_wait(tmp_path: Path, auto_start: bool) -> None:
    """KeyboardInterrupt leaves a send that waits for a frozen server, and the client can be stopped after it."""
    program = """
import signal, sys, threading
from mezzenger import Mezzenger
mc = Mezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2]), send_timeout=30, auto_start=sys.argv[3] == "True")
print("connected", flush=True)
sys.stdin.readline()
try:
    print("sending", flush=True)
    mc.send_message("name", 1, ack=1)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    ports = free_ports()
    with (
        server_process(ports, tmp_path / "log") as server,
        running(program, *ports, auto_start, log=tmp_path / "client") as client,
    ):
        assert read_line(client) == "connected"
        server.send_signal(signal.SIGSTOP)
        assert client.stdin is not None
        client.stdin.write("\n")
        client.stdin.flush()
        assert read_line(client) == "sending"
        time.sleep(0.3)
        client.send_signal(signal.SIGINT)
        assert read_line(client) == "interrupted"
        server.send_signal(signal.SIGCONT)
        assert client.wait(10) == 0
        assert "Traceback" not in (tmp_path / "client").read_text()


@only_threads
def test_nothing_is_left_behind(server: MezzengerServer) -> None:
    """A stopped client leaves no thread and no open file, whether it connected or not."""

    def use(auto_start: bool) -> None:
        with Mezzenger(send_port=server.recv_port, sub_port=server.pub_port, auto_start=auto_start) as client:
            client.subscribe("name", lambda _payload, _msg: None)
            client.send_message("name", 1, ack=1)
        with pytest.raises(ServerUnreachable):
            Mezzenger("127.0.0.1", *free_ports(), send_timeout=0.1, connection_retries=0, auto_start=auto_start)

    use(auto_start=True)
    use(auto_start=False)
    threads, files = threading.active_count(), open_files()
    for number in range(20):
        use(auto_start=number % 2 == 0)
    assert threading.active_count() == threads
    wait_for(lambda: open_files() <= files + 2)


def test_a_subscription_during_a_break_becomes_active(connect: Connect, server: MezzengerServer) -> None:
    """subscribe() called while the server is away returns when it is back, and misses nothing after that."""
    client = connect(reconnect_max=0.2)
    ports = {"pub_port": server.pub_port, "recv_port": server.recv_port}
    server.stop()
    wait_for(lambda: client.state is not State.OPEN)
    arrived: list[object] = []

    def subscribe() -> None:
        client.subscribe("name", lambda payload, _msg: arrived.append(payload))

    subscribing = threading.Thread(target=subscribe)
    subscribing.start()
    with MezzengerServer(ServerSettings.model_validate(ports)):
        subscribing.join(10)
        client.send_message("name", 1)
        wait_for(lambda: arrived == [1])
        client.stop()


@only_threads
def test_no_thread_can_be_started(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is raised where one is needed, and undone: the client can be used without, and stopped."""
    start, refused, running = threading.Thread.start, {"mezzenger-io"}, set(lifetime._running)

    def start_some(thread: threading.Thread) -> None:
        if thread.name in refused:
            raise RuntimeError("can't start new thread")
        start(thread)

    def refuses(use: Callable[[], object]) -> None:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            use()

    def subscribe() -> None:
        client.subscribe("name", lambda payload, _msg: arrived.append(payload))

    monkeypatch.setattr(threading.Thread, "start", start_some)
    arrived: list[object] = []
    refuses(connect)
    assert set(lifetime._running) <= running
    client = connect(auto_start=False)
    refuses(client.start)
    client.send_message("name", 1, ack=1)
    refused.clear()
    refused.add("mezzenger-callbacks")
    refuses(client.start)
    refuses(subscribe)
    client.send_message("name", 2, ack=1)
    refused.clear()
    client.start()
    subscribe()
    wait_for(lambda: arrived == [1, 2])


@only_threads
def test_a_subscription_in_place_of_another(connect: Connect) -> None:
    """Who unsubscribes what another thread subscribes, and subscribes anew, has the new callback from then on."""
    client = connect()

    def subscribe(name: str) -> None:
        with suppress(NotSubscribed):
            client.subscribe(name, lambda _payload, _msg: None)

    def unsubscribe(name: str) -> None:
        while True:
            try:
                return client.unsubscribe(name)
            except NotSubscribed:
                continue

    for number in range(20):
        name, arrived = f"name.{number}", threading.Event()
        first = threading.Thread(target=subscribe, args=(name,))
        first.start()
        unsubscribe(name)
        client.subscribe(name, lambda _payload, _msg, arrived=arrived: arrived.set())  # type: ignore[misc]  # a default
        first.join()
        client.send_message(name, 1)
        assert arrived.wait(5)


def test_unsubscribe_ends_the_calls(server: MezzengerServer, connect: Connect) -> None:
    """After unsubscribe() no message reaches the callback; ack=1 messages wait for the next subscriber."""
    client = connect()
    arrived: list[object] = []
    client.subscribe("name", lambda payload, _msg: arrived.append(payload))
    client.unsubscribe("name")
    client.send_message("name", 1)
    client.send_message("name", 2, ack=1)
    client.flush()
    assert server.stats().pending == 1
    assert arrived == []
    client.subscribe("name", lambda payload, _msg: arrived.append(payload))
    wait_for(lambda: arrived == [2])


def test_a_full_receive_queue_drops_and_counts(connect: Connect) -> None:
    """P1, P8: a slow callback of ack=0 messages loses what does not fit, and the client counts it."""
    client, publisher = connect(receive_queue=100), connect()
    leave = threading.Event()
    client.subscribe("name", lambda _payload, _msg: leave.wait(20))
    for number in range(1000):
        publisher.send_message("name", number)
        if number % 50 == 0:
            time.sleep(0.01)
    wait_for(lambda: client.stats.dropped > 0)
    leave.set()
    wait_for(lambda: client.stats.received + client.stats.dropped >= 1000)


def test_send_messages_notes_how_far_it_came(connect: Connect) -> None:
    """If the payloads' iterator fails midway, the error tells how many messages were sent before."""

    def payloads() -> Iterator[int]:
        yield from range(600)
        raise RuntimeError("no more")

    client = connect()
    with pytest.raises(RuntimeError) as caught:
        client.send_messages("name", payloads(), ack=1)
    assert caught.value.__notes__[0].endswith("messages were sent before")


def test_send_messages_counts_what_has_left(connect: Connect) -> None:
    """Without acks each batch is done when it is handed to the transport, and counts in what the error tells."""
    arrived: list[int] = []
    client = connect()
    client.subscribe("name", lambda payload, _msg: arrived.append(payload))
    with pytest.raises(PayloadNotEncodable) as caught:
        client.send_messages("name", [*range(5000), lambda: None])
    sent = int(caught.value.__notes__[-1].removesuffix(" messages were sent before"))
    client.send_message("name", -1)
    wait_for(lambda: -1 in arrived)
    assert arrived == [*range(sent), -1]


def test_a_message_is_logged_when_verbose(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """verbose=True logs at level DEBUG what is sent and what is received."""
    with caplog.at_level(logging.DEBUG, "mezzenger"):
        client, handled = connect(verbose=True), threading.Event()
        client.subscribe("noted", lambda _payload, _message: handled.set(), group="desk")
        client.send_message("noted", 1, ack=1)
        assert handled.wait(10)
        wait_for(lambda: "received 1 of 'noted' with ack=1, for group 'desk'" in caplog.text)
    assert "sending 1 of 'noted' with ack=1" in caplog.text


def test_a_server_that_is_back_is_found_at_once(server: MezzengerServer, connect: Connect) -> None:
    """P6: while connections are refused the client tries again after reconnect_max, not after send_timeout."""
    client = connect(reconnect_max=0.1, send_timeout=30.0)
    ports = {"pub_port": server.pub_port, "recv_port": server.recv_port}
    server.stop()
    wait_for(lambda: client.state is not State.OPEN)
    time.sleep(1.0)
    with MezzengerServer(ServerSettings.model_validate(ports)):
        wait_for(lambda: client.state is State.OPEN, 5)
        client.stop()


@only_threads
def test_ctrl_c_that_the_main_thread_does_not_feel_ends_a_program(tmp_path: Path) -> None:
    """A program that has subscribed ends although the signal has not ended the main thread's wait."""
    program = """
import signal, sys, threading
from mezzenger import Mezzenger
signal.signal(signal.SIGINT, signal.default_int_handler)
mc = Mezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2]))
mc.subscribe("name", lambda payload, msg: None)
threading.Timer(0.5, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
"""
    ports = free_ports()
    with (
        server_process(ports, tmp_path / "log"),
        running(program, *ports, log=tmp_path / "client") as client,
    ):
        assert client.wait(20) == 0
        assert (tmp_path / "client").read_text() == ""


@only_threads
def test_ctrl_c_while_it_subscribes_ends_a_program(tmp_path: Path) -> None:
    """One is enough: a program whose main thread Ctrl-C has ended does not go on calling back."""
    program = """
import signal, sys
from mezzenger import Mezzenger
signal.signal(signal.SIGINT, signal.default_int_handler)
mc = Mezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2]))
mc.subscribe("name", print)
signal.raise_signal(signal.SIGINT)
"""
    ports = free_ports()
    with (
        server_process(ports, tmp_path / "log"),
        running(program, *ports, log=tmp_path / "client") as client,
    ):
        client.wait(20)
