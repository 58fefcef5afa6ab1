"""A client's sockets: nothing that has arrived is forgotten, whatever its descriptors have told or not."""

import select
from collections.abc import Iterator
from contextlib import contextmanager

from mezzenger.client.connection import Connection
from mezzenger.codecs import Buffer
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import Identity, SessionOptions
from mezzenger.transport.sockets import ClientSocketOptions, ServerSocketOptions, ServerSockets, bind_server

HOST = "127.0.0.1"
SECONDS = 10
TOKEN = b"\0" + b"t" * 16
LARGE = bytes(100_000)


class Noting(ClientSession):
    """A session that notes what the SUB socket brings."""

    def __init__(self) -> None:
        options = SessionOptions("there", 5.0, 5.0, 15.0, 0.1, 1.0, window=10)
        super().__init__(Identity(1, b"k" * 16), options, random_token=lambda: TOKEN, jitter=lambda: 0.5)
        self.frames: list[bytes] = []

    def broadcast(self, frame: Buffer, now: float) -> None:
        """Note a frame."""
        self.frames.append(bytes(frame[len(TOKEN) :]))


@contextmanager
def connected() -> Iterator[tuple[Connection, Noting, ServerSockets]]:
    """Have a connection to sockets behind which there is no server, and nothing left to take in."""
    server = bind_server(ServerSocketOptions(HOST, 0, 0, 2**20, 1000, 100, 1.0, 3.0))
    session = Noting()
    options = ClientSocketOptions(HOST, server.recv_port, server.pub_port, 1000, 5.0, 1.0, 3.0)
    connection = Connection(session, options)
    try:
        session.start(0.0)
        connection.perform(0.0)
        assert server.xpub.recv() == b"\1" + TOKEN
        while connection.has_more():
            connection.receive(0.0)
        yield connection, session, server
    finally:
        session.close()
        connection.perform(0.0)
        server.close()


def wait(connection: Connection) -> None:
    """Wait until a descriptor tells something, as a leader does, and take in what it told of."""
    poll = select.poll()
    for descriptor in connection.descriptors():
        poll.register(descriptor, select.POLLIN)
    told = poll.poll(SECONDS * 1000)
    assert told, "nothing told of what has arrived"
    connection.signalled([descriptor for descriptor, _ in told])
    connection.receive(0.0)


def test_what_is_told_of_is_taken_at_once() -> None:
    """The first message goes on its way before the socket is asked; those that came with it are found after that."""
    with connected() as (connection, session, server):
        for number in b"12":
            server.xpub.send(TOKEN + bytes([number]))
        while not session.frames:
            wait(connection)
        assert session.frames == [b"1"]
        while len(session.frames) == 1:
            if connection.has_more():
                connection.receive(0.0)
            else:
                wait(connection)
        assert session.frames == [b"1", b"2"]
        assert not connection.has_more()


def test_no_signal_is_lost() -> None:
    """Who asks before it waits waits for nothing that is there, however the sockets were used before."""
    with connected() as (connection, session, server):
        sent: list[bytes] = []
        for number in range(500):
            for _ in range(number % 4):
                payload = (LARGE if number % 7 == 0 else b"") + str(len(sent)).encode()
                server.xpub.send(TOKEN + payload)
                sent.append(payload)
            if number % 3 == 0:
                connection.send(b"|x")
            while len(session.frames) < len(sent):
                if connection.has_more():
                    connection.receive(0.0)
                else:
                    wait(connection)
        assert session.frames == sent
