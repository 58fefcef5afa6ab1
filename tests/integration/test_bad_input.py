"""What applications and strangers do wrong: refused with words that help, counted, and without effect on others."""

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
import zmq

from mezzenger import (
    AlreadySubscribed,
    ClientStopped,
    ConfigurationError,
    InvalidCallback,
    InvalidMessage,
    InvalidName,
    Message,
    MessageTooLarge,
    Mezzenger,
    MezzengerError,
    MezzengerServer,
    NotSubscribed,
    PayloadNotEncodable,
    ProtocolError,
    RemoteError,
    ServerSettings,
    ServerUnreachable,
    Settings,
    UsedAfterFork,
)
from mezzenger.broker.connections import Connections
from mezzenger.broker.intake import Intake
from mezzenger.patterns import is_wild
from mezzenger.protocol import wire
from mezzenger.protocol.commands import Hello, Ping, Request, Respond, Returned, Serve, Subscribe
from tests.integration.conftest import Connect, only_threads
from tests.integration.processes import free_ports, wait_for


@pytest.mark.parametrize("name", ["a|b", "", "x" * 256, "a\nb", "a.*", "a.>"])
def test_a_bad_name_is_refused(connect: Connect, name: str) -> None:
    """A name that cannot be used is refused by send and subscribe alike, and the client goes on."""
    client = connect()
    uses: list[Callable[[], object]] = [lambda: client.send_message(name, 1), lambda: client.send_messages(name, [1])]
    if not is_wild(name):  # one may subscribe to a pattern
        uses.append(lambda: client.subscribe(name, print))
    for use in uses:
        with pytest.raises(InvalidName):
            use()
    client.send_message("good", 1, ack=1)


@pytest.mark.parametrize("ack", [2, -1, "1", None, 0.5])
def test_a_bad_ack_is_refused(connect: Connect, ack: int) -> None:
    """An ack other than 0 and 1 is refused with its value in the text."""
    with pytest.raises(InvalidMessage, match=f"not {ack!r}"):
        connect().send_message("name", 1, ack=ack)


def test_bad_headers_are_refused(connect: Connect) -> None:
    """Headers that are no text are refused."""
    with pytest.raises(InvalidMessage, match="headers"):
        connect().send_message("name", 1, headers={"a": 1})  # type: ignore[dict-item]  # the point of the test


def test_a_payload_that_cannot_be_pickled_is_refused(connect: Connect) -> None:
    """The error names the message and the type, before anything is sent."""
    with pytest.raises(PayloadNotEncodable, match=r"'jobs'.*function"):
        connect().send_message("jobs", lambda: None)


def test_a_message_above_the_servers_limit_is_refused_locally() -> None:
    """Both sizes are in the text, the connection stands, and a message below the limit passes."""
    with (
        MezzengerServer(ServerSettings(pub_port=0, recv_port=0, max_message_size=65536)) as server,
        Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as client,
    ):
        with pytest.raises(MessageTooLarge, match=r"is 70\d\d\d bytes on the wire; .* at most 65536"):
            client.send_message("large", b"x" * 70_000, ack=1)
        client.send_message("small", b"x" * 65_000, ack=1)
        assert client.send_messages("many", [b"x" * 30_000] * 10, ack=1) == 10
        assert server.stats().stored == 11


def not_a_callback(client: Mezzenger, callback: object) -> None:
    client.subscribe("name", callback)  # type: ignore[call-overload]  # the point of the tests


async def coroutine(payload: object, msg: object) -> None: ...


class Worker:
    """A callback with a state."""

    async def __call__(self, payload: object, msg: object) -> None: ...


@only_threads
@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (5, "must be callable, not a int"),
        (lambda: None, "must take two arguments"),
        (lambda payload: None, "must take two arguments"),
        (lambda a, b, c: None, "must take two arguments"),
        (coroutine, "coroutine function"),
        (Worker(), "coroutine function"),
    ],
)
def test_a_bad_callback_is_refused_at_subscribe(connect: Connect, callback: object, words: str) -> None:
    """What cannot be called with payload and message is refused, and the name stays free."""
    client = connect()
    with pytest.raises(InvalidCallback, match=words):
        not_a_callback(client, callback)
    client.subscribe("name", print)


@only_threads
def test_a_callback_that_returns_a_coroutine(server: MezzengerServer, connect: Connect) -> None:
    """What it was given counts as not handled, and comes again: nobody would ever run the coroutine."""
    client = connect()
    attempts: list[tuple[object, int]] = []

    def callback(payload: object, message: Message[object]) -> object:
        attempts.append((payload, message.attempt))
        return coroutine(payload, message) if message.attempt == 1 else None

    client.subscribe("name", callback)
    client.send_message("name", 0)
    client.send_message("name", 1, ack=1)
    client.send_messages("name", [2, 3], ack=1)
    wait_for(lambda: {(1, 2), (2, 2), (3, 2)} <= {*attempts})
    with pytest.raises(RemoteError, match="use AsyncMezzenger"):
        connect().request("name", 4)
    wait_for(lambda: server.stats().pending == 0)
    assert client.stats.failed == 5


def test_subscriptions_are_checked(connect: Connect) -> None:
    """A second subscribe of a name, and an unsubscribe of one that was not subscribed, are errors."""
    client = connect()
    client.subscribe("name", lambda _payload, _msg: None)
    with pytest.raises(AlreadySubscribed, match="'name'"):
        client.subscribe("name", print)
    client.unsubscribe("name")
    with pytest.raises(NotSubscribed, match="'name'"):
        client.unsubscribe("name")
    client.subscribe("name", print)


@pytest.mark.parametrize("auto_start", [True, False])
def test_any_use_after_stop_raises(connect: Connect, auto_start: bool) -> None:
    """After stop() every method says that the client was stopped; stop() itself may be called again."""
    client = connect(auto_start=auto_start)
    client.stop()
    client.stop()
    assert client.stopped()
    assert client.state == "closed"
    for use in (
        lambda: client.send_message("name", 1),
        lambda: client.send_messages("name", [1]),
        client.flush,
        lambda: client.subscribe("name", print),
        lambda: client.unsubscribe("name"),
        client.start,
    ):
        with pytest.raises(ClientStopped, match="make a new one"):
            use()


@only_threads
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_use_after_fork_raises(connect: Connect) -> None:
    """In a forked child the parent's client refuses every use; the parent's goes on."""
    client = connect()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = b"no error"
        try:
            client.send_message("name", 1)
        except UsedAfterFork as error:
            text = str(error).encode()
        finally:
            os.write(writer, text)
            os._exit(0)
    os.waitpid(pid, 0)
    assert b"make a new one in the child" in os.read(reader, 1000)
    os.close(reader)
    os.close(writer)
    client.send_message("name", 1, ack=1)


def test_a_fork_may_make_its_own_client(server: MezzengerServer, connect: Connect) -> None:
    """A child process that makes a client of its own can send."""
    connect()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as child:
                child.send_message("from.child", 1, ack=1)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert server.stats().stored == 1


@pytest.mark.parametrize("auto_start", [True, False])
def test_without_a_server_the_constructor_raises_in_time(auto_start: bool) -> None:
    """ServerUnreachable comes after send_timeout x (1 + connection_retries), and names address and ports."""
    ports = free_ports()
    began = time.monotonic()
    with pytest.raises(ServerUnreachable, match=f"127.0.0.1 .send_port {ports.send_port}, sub_port {ports.sub_port}"):
        Mezzenger("127.0.0.1", *ports, send_timeout=0.3, connection_retries=1, auto_start=auto_start)
    assert 0.5 < time.monotonic() - began < 5


@pytest.mark.parametrize("auto_start", [True, False])
def test_without_a_server_sending_raises_in_time(auto_start: bool) -> None:
    """A send to a server that has gone raises ServerUnreachable in time, with ack=0 and with ack=1."""
    server = MezzengerServer(ServerSettings(pub_port=0, recv_port=0))
    server.start()
    with Mezzenger(
        send_port=server.recv_port,
        sub_port=server.pub_port,
        send_timeout=0.2,
        connection_retries=1,
        auto_start=auto_start,
    ) as client:
        server.stop()
        for ack in (0, 1):
            began = time.monotonic()
            with pytest.raises(ServerUnreachable, match=str(server.recv_port)):
                send_often(client, ack)
            assert time.monotonic() - began < 5


def send_often(client: Mezzenger, ack: int) -> None:
    for _ in range(100):
        client.send_message("name", 1, ack=ack)
        time.sleep(0.01)


# Strangers.


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """A context for sockets that are not the library's."""
    with zmq.Context[zmq.Socket[bytes]]() as context:
        yield context


@pytest.fixture
def others(connect: Connect) -> Iterator[None]:
    """Two clients that talk to each other before and after; what happens in between must not bother them."""
    subscriber, publisher = connect(), connect()
    arrived: list[object] = []
    subscriber.subscribe("calm", lambda payload, _msg: arrived.append(payload))
    publisher.send_messages("calm", range(100), ack=1)
    yield
    publisher.send_messages("calm", range(100, 200), ack=1)
    publisher.send_messages("calm", range(200, 300))
    wait_for(lambda: len(arrived) == 300)
    assert set(arrived) == set(range(300))
    assert subscriber.stats.malformed == {}


def hello(**changes: object) -> bytes:
    """Return a Hello of a made-up client."""
    fields = {"version": 1, "client": 7, "key": b"k" * 16, "token": b"\0" + b"t" * 16, "oldest": 0} | changes
    return wire.encode_command(Hello(**fields))  # type: ignore[arg-type]  # each test gives what the field takes


def garbage() -> list[bytes]:
    """Return frames that are not as the protocol has them."""
    data = wire.encode_data("calm", [(1.0, b"x" * 50)], ack=1, codec=0, client=7, sequence=1)
    rng = random.Random(5)
    return [
        b"",
        b"|",
        b"\0",
        b"calm|",
        b"|" + b"\x95" * 40,
        b"|\x93\xa7unknown\x01\x02",
        *(rng.randbytes(rng.randrange(200)) for _ in range(300)),
        *(data[:size] for size in range(0, len(data), 7)),
        data[:5] + bytes([99]) + data[6:],
        data[:-1] + bytes([data[-1] ^ 1]),
    ]


@pytest.mark.usefixtures("others")
def test_garbage_on_recv_port_is_counted(server: MezzengerServer, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Random, truncated and damaged frames, unknown versions and commands are counted; the server goes on."""
    with context.socket(zmq.DEALER) as socket:
        socket.connect(f"tcp://127.0.0.1:{server.recv_port}")
        frames = garbage()
        for frame in frames:
            socket.send(frame)
        for frame in frames:
            # Who sends what cannot be read is sent away, and may come back.
            socket.send(hello())
            socket.send(frame)
            socket.send_multipart([frame, frame])
        wait_for(lambda: sum(server.stats().malformed.values()) >= 3 * len(frames))
        assert {
            "hello",
            "command",
            "frames",
            "name",
            "truncated",
            "version",
            "digest",
        } <= server.stats().malformed.keys()
        socket.linger = 0


@pytest.mark.usefixtures("others")
def test_a_damaged_publish_is_refused_to_its_publisher(
    server: MezzengerServer, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    """A frame whose digest does not match is counted, refused with the reason, and never delivered."""
    data = bytearray(wire.encode_data("calm", [(1.0, b"x" * 50)], ack=1, codec=0, client=7, sequence=3))
    data[-20] ^= 1
    with context.socket(zmq.DEALER) as socket:
        socket.connect(f"tcp://127.0.0.1:{server.recv_port}")
        socket.send(hello())
        socket.send(bytes(data))
        answers = [wire.decode_server_command(socket.recv()) for _ in range(2)]
        assert [type(answer).__name__ for answer in answers] == ["Welcome", "Refuse"]
        assert "digest" in repr(answers[1])
    assert server.stats().malformed == {"digest": 1}


@pytest.mark.usefixtures("others")
def test_garbage_on_pub_port_is_counted(server: MezzengerServer, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Messages instead of subscriptions, and strange subscriptions, are counted or passed over."""
    with context.socket(zmq.XSUB) as socket:
        socket.connect(f"tcp://127.0.0.1:{server.pub_port}")
        for prefix in (b"", b"\0", b"\0" * 17, b"\0" * 18, b"calm|", b"\xff" * 255):
            socket.send(b"\1" + prefix)
            socket.send(b"\0" + prefix)
        for _ in range(10):
            socket.send(b"\2what is this")
        wait_for(lambda: server.stats().malformed.get("subscription") == 10)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("port", ["recv_port", "pub_port"])
def test_bytes_that_are_not_zeromq_are_survived(server: MezzengerServer, port: str) -> None:
    """Plain TCP connections with random bytes, with half a handshake, and with nothing at all, bother nobody."""
    rng = random.Random(7)
    greeting = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01NULL" + b"\0" * 48
    sockets = []
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"", greeting, greeting + b"\xff" * 100, rng.randbytes(10_000)):
        connection = socket.create_connection(("127.0.0.1", getattr(server, port)))
        connection.sendall(data)
        sockets.append(connection)
    time.sleep(0.2)
    for connection in sockets:
        connection.close()


@pytest.mark.usefixtures("others")
def test_an_oversized_frame_is_cut_off(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """A frame far above max_message_size ends its connection before it is read; one a little above is counted."""
    with (
        MezzengerServer(ServerSettings(pub_port=0, recv_port=0, max_message_size=65536)) as server,
        context.socket(zmq.DEALER) as socket,
    ):
        socket.linger = 0
        socket.connect(f"tcp://127.0.0.1:{server.recv_port}")
        socket.send(hello())
        socket.recv()
        socket.send(b"x|" + b"y" * 70_000)
        wait_for(lambda: server.stats().malformed == {"size": 1})
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        socket.send(b"x|" + b"y" * 1_000_000)
        assert monitor.poll(5000)
        monitor.recv_multipart()
        socket.disable_monitor()
        monitor.close()
        with Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as client:
            client.send_message("name", 1, ack=1)


@pytest.mark.usefixtures("others")
def test_what_the_server_fails_on(
    server: MezzengerServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the server itself costs who brings it on; it is counted each time, and logged once in a while."""
    culprit = connect(send_timeout=0.5, connection_retries=1, reconnect_min=0.01, reconnect_max=0.02)

    def fail(_intake: Intake, client: int, *_: object) -> NoReturn:
        raise RuntimeError(f"nobody has foreseen what {client} sends")

    with monkeypatch.context() as patched:
        patched.setattr(Intake, "publish", fail)
        with pytest.raises(ServerUnreachable):
            culprit.send_message("poison", 1, ack=1)
        assert server.stats().malformed.get("failed", 0) > 1
    culprit.send_message("good", 1, ack=1)
    assert caplog.text.count("RuntimeError: nobody has foreseen what") == 1


@pytest.mark.usefixtures("others")
def test_a_subscription_that_the_server_fails_on(
    server: MezzengerServer, context: zmq.Context[zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise on the other port."""

    def fail(*_: object) -> NoReturn:
        raise RuntimeError("nobody has foreseen this")

    with context.socket(zmq.XSUB) as socket, monkeypatch.context() as patched:
        patched.setattr(Connections, "surfaced", fail)
        socket.connect(f"tcp://127.0.0.1:{server.pub_port}")
        socket.send(b"\1\0" + b"t" * 16)
        wait_for(lambda: server.stats().malformed.get("failed") == 1)


def test_a_frame_that_claims_to_be_huge_allocates_nothing(server: MezzengerServer, connect: Connect) -> None:
    """A ZMTP frame header that announces 2 EiB ends the connection and nothing else."""
    greeting = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01NULL" + b"\0" * 48
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    with socket.create_connection(("127.0.0.1", server.recv_port)) as connection:
        connection.sendall(greeting + b"\x04" + bytes([len(ready)]) + ready + b"\x02" + struct.pack("!Q", 2**61))
        connection.settimeout(10)
        while connection.recv(1000):
            pass
    connect().send_message("name", 1, ack=1)


def test_a_ping_of_a_stranger_is_answered_with_goodbye(
    server: MezzengerServer, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    """Whoever does not say Hello first is told so."""
    with context.socket(zmq.DEALER) as socket:
        socket.connect(f"tcp://127.0.0.1:{server.recv_port}")
        socket.send(wire.encode_command(Ping(1)))
        assert "must be Hello" in repr(wire.decode_server_command(socket.recv()))


@pytest.mark.parametrize("taken", ["pub_port", "recv_port"])
def test_a_port_in_use_is_a_bind_error(server: MezzengerServer, taken: str) -> None:
    """The error names address, setting and port, and leaves nothing bound."""
    ports = {"pub_port": 0, "recv_port": 0} | {taken: getattr(server, taken)}
    second = MezzengerServer(ServerSettings.model_validate(ports))
    with pytest.raises(MezzengerError, match=f"127.0.0.1, {taken} {ports[taken]}: the port is in use"):
        second.start()


@pytest.mark.parametrize(
    ("construct", "key"),
    [
        (lambda: Mezzenger(send_port=0), "send_port"),
        (lambda: Mezzenger(send_port=70_000), "send_port"),
        (lambda: Mezzenger(send_port=7201), "sub_port"),
        (lambda: Mezzenger(send_timeout=0), "send_timeout"),
        (lambda: Mezzenger("tcp://10.0.0.5"), "server_address"),
    ],
)
def test_client_settings_are_checked_at_construction(construct: Callable[[], Mezzenger], key: str) -> None:
    """Ports out of range or equal, and the like, are refused before anything is connected."""
    with pytest.raises(ConfigurationError, match=f"argument: client.{key}"):
        construct()


def test_settings_of_something_else() -> None:
    """Who has loaded all settings, and gives all, is told what to give."""
    everything: Any = Settings()
    with pytest.raises(ConfigurationError, match=r"must be ClientSettings, not Settings; .* give settings\.client"):
        Mezzenger(settings=everything)


def hear(socket: zmq.Socket[bytes]) -> str:
    """Return the server's next command, in words."""
    assert socket.poll(10_000), "the server says nothing"
    return repr(wire.decode_server_command(socket.recv()))


@pytest.mark.usefixtures("others")
def test_strangers_cannot_answer(
    server: MezzengerServer, connect: Connect, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    """Responses to what a peer was not given, and to numbers that are not there, are counted and harm nobody."""
    begun, go = threading.Event(), threading.Event()

    def answer(_payload: object, _msg: object) -> str:
        begun.set()
        assert go.wait(20)
        return "right"

    connect().subscribe("question", answer)
    client = connect()
    stolen = Returned(wire.encode_data("question", [(1.0, b'"stolen"')], ack=0, codec=3, client=7, sequence=1))
    with ThreadPoolExecutor(1) as pool, context.socket(zmq.DEALER) as socket:
        asking = pool.submit(client.request, "question", 1)
        assert begun.wait(20)
        socket.linger = 0
        socket.connect(f"tcp://127.0.0.1:{server.recv_port}")
        socket.send(hello())
        assert "Welcome" in hear(socket)
        for number in (*range(100), 2**32, 2**64 - 1):
            socket.send(wire.encode_command(Respond(number, stolen)))
        wait_for(lambda: server.stats().unwanted == 102)
        go.set()
        assert asking.result() == "right"
    assert server.stats().malformed == {}


@pytest.mark.usefixtures("others")
def test_requests_that_are_none(
    server: MezzengerServer, connect: Connect, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    """Frames in requests that cannot be used are refused to who sent them, and never reach a responder."""
    given: list[object] = []
    connect().subscribe("question", lambda payload, _msg: given.append(payload))
    item = (1.0, b"null")
    frames = {
        "batch": wire.encode_data("question", [item, item], ack=0, codec=3, client=7, sequence=1),
        "stored": wire.encode_data("question", [item], ack=1, codec=3, client=7, sequence=1),
        "another": wire.encode_data("question", [item], ack=0, codec=3, client=8, sequence=1),
        "garbage": b"what is this",
        "empty": b"",
    }
    with context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(f"tcp://127.0.0.1:{server.recv_port}")
        socket.send(hello())
        assert "Welcome" in hear(socket)
        for number, frame in enumerate(frames.values()):
            socket.send(wire.encode_command(Request(number, 5.0, elsewhere=False, frame=frame)))
            answer = hear(socket)
            assert f"Response(request={number}, outcome=Unserved" in answer
        damaged = bytearray(wire.encode_data("question", [item], ack=0, codec=3, client=7, sequence=1))
        damaged[-1] ^= 1
        socket.send(wire.encode_command(Request(99, 5.0, elsewhere=False, frame=bytes(damaged))))
        assert "Raised(kind='ProtocolError'" in hear(socket)
        assert server.stats().malformed == {"request": 2, "client": 1, "name": 2}
    assert given == []
    wait_for(lambda: server.stats().peers == 3)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("answer", [b"", b"what is this", b"question|", b"damaged"])
def test_an_answer_that_is_none(
    server: MezzengerServer, connect: Connect, context: zmq.Context[zmq.Socket[bytes]], answer: bytes
) -> None:
    """A responder that answers with what cannot be read harms only who asked it, who is told at once."""
    if answer == b"damaged":
        whole = bytearray(wire.encode_data("question", [(1.0, b"null")], ack=0, codec=3, client=7, sequence=1))
        whole[-1] ^= 1
        answer = bytes(whole)
    client = connect()
    with ThreadPoolExecutor(1) as pool, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(f"tcp://127.0.0.1:{server.recv_port}")
        socket.send(hello())
        socket.send(wire.encode_command(Subscribe(1, ["question"], b"\0" + b"s" * 16)))
        assert "Welcome" in hear(socket)
        wait_for(lambda: server.stats().names == 2)
        asking = pool.submit(client.request, "question", 1, 600.0)
        assert socket.poll(10_000)
        serve = wire.decode_server_command(socket.recv())
        assert isinstance(serve, Serve)
        socket.send(wire.encode_command(Respond(serve.number, Returned(answer))))
        with pytest.raises(ProtocolError):
            asking.result()
    assert sum(client.stats.malformed.values()) == 1
    assert client.state == "open"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", True])
def test_a_timeout_that_is_none(connect: Connect, timeout: Any) -> None:
    """A flush may take a number of seconds above 0."""
    with pytest.raises(InvalidMessage, match="timeout must be more than 0"):
        connect().flush(timeout)
