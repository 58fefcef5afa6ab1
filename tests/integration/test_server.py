"""The server as a process and embedded: starting, draining, stopping."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from mezzenger import (
    BindError,
    ClientSettings,
    ConfigurationError,
    Mezzenger,
    MezzengerError,
    MezzengerServer,
    ResendSettings,
    ServerSettings,
    ServerUnreachable,
    State,
)
from mezzenger.server import server as server_module
from mezzenger.transport.sockets import bind_server
from tests.integration.conftest import Connect
from tests.integration.processes import (
    Ports,
    count_lines,
    free_ports,
    patient,
    read_line,
    running,
    server_process,
    wait_for,
)

SLEEPY_SUBSCRIBER = """
import sys, time
from mezzenger import Mezzenger
mc = Mezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2]))
def callback(payload, msg_obj):
    print("in hand", flush=True)
    time.sleep(float(sys.argv[3]))
mc.subscribe("job", callback)
print("subscribed", flush=True)
"""


@contextmanager
def job_in_hand(
    ports: Ports, log: Path, seconds: float, **settings: object
) -> Iterator[tuple[subprocess.Popen[str], Mezzenger]]:
    """Run a server whose one subscriber has a message in hand for some seconds; give also the publisher."""
    with (
        server_process(ports, log, **settings) as server,
        running(SLEEPY_SUBSCRIBER, *ports, seconds) as subscriber,
        patient(ports) as publisher,
    ):
        assert read_line(subscriber) == "subscribed"
        publisher.send_message("job", 1, ack=1)
        assert read_line(subscriber) == "in hand"
        yield server, publisher


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    """The server waits for the ack of what a subscriber has in hand, then ends with status 0."""
    log = tmp_path / "log"
    with job_in_hand(free_ports(), log, 1) as (server, _):
        server.send_signal(number)
        assert server.wait(10) == 0
        assert count_lines(log, "are lost") == 0
        assert count_lines(log, "Traceback") == 0


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """It ends at once, with status 0, and says what is lost with the memory of the process."""
    log = tmp_path / "log"
    with job_in_hand(free_ports(), log, 100, drain_timeout=60) as (server, _):
        server.terminate()
        time.sleep(0.3)
        assert server.poll() is None
        server.terminate()
        assert server.wait(10) == 0
        assert count_lines(log, "1 unacknowledged frames are lost") == 1


def test_a_drain_ends_in_time(tmp_path: Path) -> None:
    """A subscriber that never acknowledges holds a stop up for drain_timeout and no longer."""
    log = tmp_path / "log"
    with job_in_hand(free_ports(), log, 100, drain_timeout=0.5) as (server, _):
        server.terminate()
        assert server.wait(5) == 0


def test_a_publish_during_the_drain_is_stored_by_the_next_server(tmp_path: Path) -> None:
    """What is sent with ack=1 while a server stops is neither lost nor confirmed by the one that stops."""
    ports, log = free_ports(), tmp_path / "log"
    with ExitStack() as stack:
        first, publisher = stack.enter_context(job_in_hand(ports, log, 100, drain_timeout=1.0))
        first.terminate()
        time.sleep(0.3)
        sending = threading.Thread(target=publisher.send_message, args=("other", 2, 1))
        sending.start()
        first.wait(10)
        assert sending.is_alive()
        stack.enter_context(server_process(ports, log))
        sending.join(20)
        assert not sending.is_alive()
        arrived: list[object] = []
        publisher.subscribe("other", lambda payload, _msg: arrived.append(payload))
        wait_for(lambda: arrived == [2])


def test_clients_hear_that_the_server_stops(server: MezzengerServer, connect: Connect) -> None:
    """A client leaves the state open as soon as the server stops, without waiting for a heartbeat."""
    client = connect(heartbeat_interval=30, heartbeat_timeout=60)
    server.stop()
    wait_for(lambda: client.state is not State.OPEN, 2)


def test_a_dead_client_is_noticed(server: MezzengerServer) -> None:
    """A client process that is killed is gone from the server at once, one that is frozen after the heartbeat."""
    program = SLEEPY_SUBSCRIBER
    ports = (server.recv_port, server.pub_port)
    with running(program, *ports, 1) as killed:
        assert read_line(killed) == "subscribed"
        assert server.stats().peers == 1
        killed.kill()
        wait_for(lambda: server.stats().peers == 0, 2)
    with running(program, *ports, 1) as frozen:
        assert read_line(frozen) == "subscribed"
        frozen.send_signal(signal.SIGSTOP)
        wait_for(lambda: server.stats().peers == 0, 10)


def test_a_server_can_be_started_again_on_its_ports(server: MezzengerServer) -> None:
    """stop() lets go of the ports, and may be called twice; a server object starts once."""
    ports = {"pub_port": server.pub_port, "recv_port": server.recv_port}
    with pytest.raises(BindError):
        MezzengerServer(ServerSettings.model_validate(ports)).start()
    server.stop()
    server.stop()
    with MezzengerServer(ServerSettings.model_validate(ports)) as second:
        assert (second.pub_port, second.recv_port) == (ports["pub_port"], ports["recv_port"])
    with pytest.raises(MezzengerError, match="make a new one"):
        server.start()
    with pytest.raises(MezzengerError, match="does not run"):
        server.stats()


def test_statistics_of_a_server_that_stops(server: MezzengerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has asked too late for an answer is told, and does not wait for ever."""
    asked, told = threading.Event(), threading.Event()
    loop = server._asyncio_loop

    def never(_act: object) -> None:
        asked.set()

    def ask() -> None:
        with pytest.raises(MezzengerError, match="does not run"):
            server.stats()
        told.set()

    monkeypatch.setattr(server, "_asyncio_loop", SimpleNamespace(call_soon_threadsafe=never))
    threading.Thread(target=ask, daemon=True).start()
    assert asked.wait(5)
    server._asyncio_loop = loop
    server.stop()
    assert told.wait(5)


def test_who_stops_a_server_that_is_stopping(server: MezzengerServer) -> None:
    """It waits for the acks that are under way, however many threads ask it to stop."""
    begun, may_end = threading.Event(), threading.Event()

    def callback(_payload: object, _message: object) -> None:
        begun.set()
        may_end.wait(10)

    with Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as client:
        client.subscribe("slow", callback)
        client.send_message("slow", 1, ack=1)
        assert begun.wait(10)
        stopping = [threading.Thread(target=server.stop) for _ in range(2)]
        for thread in stopping:
            thread.start()
        time.sleep(0.2)
        assert all(thread.is_alive() for thread in stopping)
        may_end.set()
        for thread in stopping:
            thread.join()


def test_a_server_is_stopped_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops it waits until it has started, and no longer."""
    may_bind = threading.Event()
    monkeypatch.setattr(server_module, "bind_server", lambda options: may_bind.wait(10) and bind_server(options))
    server = MezzengerServer(ServerSettings(pub_port=0, recv_port=0))
    threads = [threading.Thread(target=act, daemon=True) for act in (server.start, server.stop)]
    threads[0].start()
    wait_for(lambda: server._thread is not None)
    threads[1].start()
    time.sleep(0.05)
    may_bind.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_server_never_started_can_be_stopped() -> None:
    """stop() without start() does nothing."""
    MezzengerServer().stop()


def test_from_config_takes_file_and_overrides(tmp_path: Path) -> None:
    """Both ends read one file, and the overrides win."""
    ports, file = free_ports(), tmp_path / "mezzenger.yaml"
    file.write_text(
        f"server: {{pub_port: {ports.sub_port}, recv_port: 1}}\n"
        f"client: {{sub_port: {ports.sub_port}, send_port: {ports.send_port}}}\n"
    )
    with MezzengerServer.from_config(file, recv_port=ports.send_port), Mezzenger.from_config(file) as client:
        client.send_message("name", 1, ack=1)
    with pytest.raises(ConfigurationError, match="recv_prot"):
        MezzengerServer.from_config(file, recv_prot=5)


def test_verbose_logs_each_effect(caplog: pytest.LogCaptureFixture) -> None:
    """With verbose the server's log tells what was stored, sent and settled."""
    with (
        caplog.at_level("DEBUG", "mezzenger.server"),
        MezzengerServer(ServerSettings(pub_port=0, recv_port=0, verbose=True)) as server,
        Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as client,
    ):
        arrived: list[object] = []
        client.subscribe("noted", lambda payload, _msg: arrived.append(payload))
        client.send_message("noted", 1, ack=1)
        client.send_message("noted", 1)
        wait_for(lambda: len(arrived) == 2 and server.stats().pending == 0)
    for words in ("store 'noted' as 1", "settle 1", "publish", "send"):
        assert words in caplog.text


@pytest.mark.parametrize("wrong", ["swapped", "send_port", "sub_port"])
def test_wrong_ports_are_told(server: MezzengerServer, wrong: str) -> None:
    """Ports that are swapped, or of which one leads nowhere, end in ServerUnreachable with both in the text."""
    ports = {"send_port": server.recv_port, "sub_port": server.pub_port}
    if wrong == "swapped":
        ports = {"send_port": server.pub_port, "sub_port": server.recv_port}
    else:
        ports[wrong] = free_ports().send_port
    settings = ClientSettings.model_validate(ports | {"send_timeout": 0.5, "connection_retries": 1})
    with pytest.raises(ServerUnreachable, match=f"send_port {ports['send_port']}, sub_port {ports['sub_port']}"):
        Mezzenger(settings=settings)


def test_ipv6_works() -> None:
    """Server and client meet on ::1."""
    with (
        MezzengerServer(ServerSettings(bind="::1", pub_port=0, recv_port=0)) as server,
        Mezzenger("::1", server.recv_port, server.pub_port) as client,
    ):
        arrived: list[object] = []
        client.subscribe("name", lambda payload, _msg: arrived.append(payload))
        client.send_message("name", 1)
        wait_for(lambda: arrived == [1])


def test_the_largest_settings_work() -> None:
    """What the settings take at most, the sockets of both ends take as well."""
    longest = {"heartbeat_interval": "19d", "heartbeat_timeout": "20d"}
    served = {"pub_port": 0, "recv_port": 0, "send_queue": 2**31 - 1, "credit": 10**9}
    waits = {"send_timeout": "20d", "connection_retries": 10**9, "receive_queue": 2**31 - 1}
    with MezzengerServer(ServerSettings.model_validate(served | longest)) as server:
        ports = {"send_port": server.recv_port, "sub_port": server.pub_port}
        with Mezzenger(settings=ClientSettings.model_validate(ports | waits | longest)) as client:
            client.send_message("name", 1, ack=1)
            client.flush()


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    """The error says so in plain words."""
    with pytest.raises(BindError, match=r"192\.0\.2\.1, pub_port 0: this machine does not have that address"):
        MezzengerServer(ServerSettings(bind="192.0.2.1", pub_port=0, recv_port=0)).start()


def test_a_name_cannot_be_bound() -> None:
    """ZeroMQ looks up no names for that; the error says what can stand there."""
    with pytest.raises(BindError, match=r"on example\.org, pub_port 0: .* an address of this machine"):
        MezzengerServer(ServerSettings(bind="example.org", pub_port=0, recv_port=0)).start()


def test_a_large_message_travels(connect: Connect) -> None:
    """60 MiB arrive whole, with ack=0 and ack=1."""
    client = connect()
    arrived: list[bool] = []
    data = bytes(range(256)) * 4096 * 60

    def callback(payload: bytes, _msg: object) -> None:
        arrived.append(payload == data)

    client.subscribe("large", callback)
    client.send_message("large", data)
    client.send_message("large", data, ack=1)
    wait_for(lambda: arrived == [True, True])


def test_redeliveries_that_are_overdue_do_no_harm() -> None:
    """A server that is always behind with redelivering goes on storing."""
    hasty = ResendSettings(initial=1e-6, max=1e-6)
    with (
        MezzengerServer(ServerSettings(pub_port=0, recv_port=0, resend=hasty)) as server,
        Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as client,
    ):
        client.subscribe("slow", lambda _payload, _msg: time.sleep(0.2))
        for number in range(3):
            client.send_message("slow", number, ack=1)
        wait_for(lambda: server.stats().pending == 0)
        assert server.stats().redelivered > 0
        client.send_message("slow", 3, ack=1)
