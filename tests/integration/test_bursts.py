"""Messages with ack=0 that come fast one after the other travel together, and nobody notices but the clock."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from mezzenger import Message, Mezzenger, MezzengerServer, ServerUnreachable, State
from mezzenger.client.outlets import PayloadOutlet
from mezzenger.codecs import PICKLE
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.wire import read_contents
from tests.integration.conftest import Connect, both_clients, only_threads
from tests.integration.processes import free_ports, patient, server_process, wait_for

pytestmark = [both_clients, only_threads]  # the way through another thread takes longer than a burst


@contextmanager
def frames_of(server: MezzengerServer, name: str) -> Iterator[zmq.Socket[bytes]]:
    """Subscribe without a client, to see the frames."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvtimeo = 5000
        socket.connect(f"tcp://127.0.0.1:{server.pub_port}")
        socket.subscribe(f"{name}|".encode())
        yield socket


def collect(client: Mezzenger, name: str = "burst") -> list[int]:
    """Subscribe, and return the list to which payloads are added."""
    arrived: list[int] = []

    def callback(payload: int, _message: Message[int]) -> None:
        arrived.append(payload)

    client.subscribe(name, callback)
    return arrived


def test_a_burst_travels_in_batches(server: MezzengerServer, connect: Connect) -> None:
    """All of it arrives in order, without any further call, in far fewer frames than messages."""
    subscriber, publisher = connect(), connect()
    arrived = collect(subscriber)
    with frames_of(server, "burst") as socket:

        def is_subscribed() -> int:
            publisher.send_message("burst", -1)
            return socket.poll(50)

        wait_for(is_subscribed)
        while socket.poll(200):
            socket.recv()
        for number in range(2000):
            publisher.send_message("burst", number)
        messages = frames = 0
        while messages < 2000:
            messages += len(read_contents(socket.recv()).items)
            frames += 1
    assert frames < 500
    wait_for(lambda: arrived[-1:] == [1999])
    assert arrived[-2000:] == list(range(2000))


def test_a_burst_of_many_names(server: MezzengerServer, connect: Connect) -> None:
    """It arrives in order, across names, with the headers that each message has, in far fewer frames than messages."""
    everything, one_name, publisher = connect(), connect(), connect()
    arrived: list[tuple[str, int, str | None]] = []
    few = collect(one_name, "many.7")

    def callback(payload: int, message: Message[int]) -> None:
        arrived.append((message.name, payload, message.headers.get("number")))

    everything.subscribe("many.*", callback)
    sent: list[tuple[str, int, str | None]] = []
    for number in range(2000):
        header = str(number) if number % 500 > 300 else None
        publisher.send_message(f"many.{number % 50}", number, headers={"number": header} if header else None)
        sent.append((f"many.{number % 50}", number, header))
    publisher.flush()
    assert server.stats().published == 2000
    wait_for(lambda: len(arrived) == 2000 and len(few) == 40)
    assert arrived == sent
    assert few == list(range(7, 2000, 50))


def test_each_thread_keeps_its_order(connect: Connect) -> None:
    """Whatever batches the messages of several threads travel in."""
    subscriber, publisher = connect(), connect()
    arrived = collect(subscriber)

    def send(thread: int) -> None:
        for number in range(1000):
            publisher.send_message("burst", thread * 1000 + number)
            if number % 100 == 50:
                time.sleep(0.0003)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: len(arrived) == 4000)
    for number in range(4):
        assert [one for one in arrived if one // 1000 == number] == list(range(number * 1000, number * 1000 + 1000))


def test_what_travels_alone_does_not_overtake(connect: Connect) -> None:
    """Messages with headers, large ones, and those of send_messages go behind what waits."""
    subscriber, publisher = connect(), connect()
    sizes: list[int] = []

    def callback(payload: bytes, _message: Message[bytes]) -> None:
        sizes.append(len(payload))

    subscriber.subscribe("mixed", callback)
    sent: list[int] = []
    for number in range(300):
        size = number % 50
        publisher.send_message("mixed", bytes(size))
        publisher.send_message("mixed", bytes(size), headers={"a": "b"})
        publisher.send_message("mixed", bytes(20_000 + size))
        publisher.send_message("mixed", bytes(size))
        publisher.send_messages("mixed", [b"", b""])
        sent += [size, size, 20_000 + size, size, 0, 0]
    wait_for(lambda: len(sizes) == len(sent))
    assert sizes == sent


def test_flush_proves_the_arrival_of_what_waits(server: MezzengerServer, connect: Connect) -> None:
    """When flush returns, the server has counted all of a burst."""
    subscriber, publisher = connect(), connect()
    collect(subscriber)
    for number in range(1, 1001):
        publisher.send_message("burst", number)
        if number % 37 == 0:
            publisher.flush()
            assert server.stats().published == number
    publisher.flush()
    assert server.stats().published == 1000


def test_stop_sends_what_waits(connect: Connect) -> None:
    """A program that sends a burst and stops at once has sent all of it."""
    subscriber = connect()
    arrived = collect(subscriber)
    stopped: list[Mezzenger] = []
    for _ in range(20):
        publisher = connect()
        for number in range(10):
            publisher.send_message("burst", number)
        publisher.stop()
        stopped.append(publisher)
        wait_for(lambda: len(arrived) == 10 * len(stopped))
    assert arrived == [*range(10)] * 20


def test_no_thread_no_waiting(connect: Connect) -> None:
    """With auto_start=False nobody would send later what waits: each message leaves at once."""
    subscriber, publisher = connect(), connect(auto_start=False)
    arrived = collect(subscriber)
    for number in range(100):
        publisher.send_message("burst", number)
    wait_for(lambda: len(arrived) == 100)


def test_a_burst_into_silence_is_told(tmp_path: Path) -> None:
    """What was gathered and found no server is not lost in silence: the next call waits for it, and raises."""
    ports = free_ports()
    quick = {"send_timeout": 0.5, "connection_retries": 0, "heartbeat_interval": 0.2, "heartbeat_timeout": 0.6}

    def send_bursts() -> None:
        for number in range(1, 10**7):
            mc.send_message("burst", number)
            if number % 50 == 0:
                time.sleep(0.01)

    with server_process(ports, tmp_path / "log", heartbeat_timeout=60) as server, patient(ports, **quick) as mc:
        mc.send_message("burst", 0)
        server.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(ServerUnreachable):
                send_bursts()
        finally:
            server.send_signal(signal.SIGCONT)


def test_what_waits_without_a_server_is_counted(
    server: MezzengerServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits for frames knows of how many messages they are, and a client that stops logs what it could not send."""
    mc = connect(send_timeout=0.5, connection_retries=0)
    server.stop()
    wait_for(lambda: mc.state is not State.OPEN)
    engine = mc._engine
    item = (time.time(), b"N.")
    (waiter,) = engine._pump.publish([Draft("burst", [item] * 3, 0, PICKLE.number)], 60)
    assert waiter.messages == 3
    engine._gatherer._held = [waiter]
    engine._gatherer._gathering.put((PayloadOutlet("burst", PICKLE), item))
    mc.stop()
    assert "stopped before 4 messages with ack=0 were sent" in caplog.text
