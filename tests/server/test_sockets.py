"""What the options of the sockets are for."""

import zmq

from mezzenger.transport.sockets import (
    ClientSocketOptions,
    ClientSockets,
    Sent,
    ServerSocketOptions,
    bind_server,
    send,
)


def test_a_send_to_nobody_is_told() -> None:
    """A frame for a peer that is gone does not vanish: the broker must know."""
    sockets = bind_server(ServerSocketOptions("127.0.0.1", 0, 0, 1000, 10, 10, 1.0, 1.0))
    try:
        assert send(sockets.router, [b"nobody", b"frame"]) is Sent.UNREACHABLE
    finally:
        sockets.close()


def test_a_client_s_sockets_connect_once() -> None:
    """They would hand what was meant for one server to the next one, before its Hello."""
    sockets = ClientSockets(ClientSocketOptions("127.0.0.1", 9, 9, 10, 1.0, 1.0, 1.0), b"\0" * 17)
    try:
        assert [socket.get(zmq.RECONNECT_IVL) for socket in (sockets.dealer, sockets.sub)] == [-1, -1]
    finally:
        sockets.close()
