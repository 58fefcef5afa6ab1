"""Every socket option in one place, with its reason."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple, cast

import zmq

from mezzenger.codecs import Buffer
from mezzenger.errors import BindError

_MAX_SOCKETS: Final = 65_535
_BACKLOG: Final = 4096
"""The default of 100 makes 2,000 clients that connect at once wait for 16 seconds."""
_HANDSHAKE_SECONDS: Final = 5
"""After which a peer that connects and says nothing is hung up on."""
_SERVER_LINGER_SECONDS: Final = 0.5
"""For the last words of a server that stops."""
_DEALER_QUEUE: Final = 1000
"""Frames; beyond them the session holds publishes back, where they can still be given up."""
_FRAME_SLACK: Final = 64 * 2**10
"""A frame a little too large is read, so that it can be refused; for a larger one libzmq cuts the connection."""
_MAX_SUBSCRIPTION_SIZE: Final = 4096
"""A name and a separator."""

BROKE: Final = "the connection broke"
"""Why there is none, if it was made before."""

LARGE: Final = 64 * 2**10
"""Bytes from which on it pays not to copy a frame that was received."""
_LARGE_TO_SEND: Final = 320 * 2**10
"""Bytes from which on it pays to hand a frame over instead of copying it: another thread must tell when it is sent."""

# As plain numbers: an enum takes longer to be used as one than libzmq takes to answer.
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)
_DONTWAIT: Final = int(zmq.DONTWAIT)
_CLOSED: Final = int(zmq.EVENT_CLOSED)
_MORE_DONTWAIT: Final = int(zmq.SNDMORE | zmq.DONTWAIT)

Socket = zmq.Socket[bytes]

_Poll = Callable[[Sequence[tuple[Socket, int]], int], list[tuple[Socket, int]]]
_poll = cast("_Poll", zmq.zmq_poll)
"""What ``zmq.Poller`` calls, after half as much time as that takes."""

_contexts: dict[int, zmq.Context[Socket]] = {}


def shared_context() -> zmq.Context[Socket]:
    """Return this process's context; a child process after a fork has its own."""
    pid = os.getpid()
    if pid not in _contexts:
        context = zmq.Context[Socket]()
        context.set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
        _contexts[pid] = context
    return _contexts[pid]


def tcp_address(host: str, port: int | str) -> str:
    """Return a ZeroMQ address; a port of 0 or ``*`` means any free one."""
    return f"tcp://{f'[{host}]' if ':' in host else host}:{port or '*'}"


class Sent(Enum):
    """What came of a non-blocking send."""

    DONE = auto()
    FULL = auto()
    """The queue is full; try again later."""
    UNREACHABLE = auto()
    """The peer is gone."""


def send(socket: Socket, frames: list[bytes]) -> Sent:
    """Send a multipart message without ever waiting."""
    try:
        # What ``send_multipart`` does, without an operation of an enum for each part.
        for frame in frames[:-1]:
            socket.send(frame, _MORE_DONTWAIT)
        socket.send(frames[-1], _DONTWAIT)
    except zmq.Again:
        return Sent.FULL
    except zmq.ZMQError as error:
        if error.errno == zmq.EHOSTUNREACH:
            return Sent.UNREACHABLE
        raise
    return Sent.DONE


def can_receive(socket: Socket) -> bool:
    """Whether a message is there; to be asked after every use, for the file descriptor tells only once."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)


def can_send(socket: Socket) -> bool:
    """Whether there is room for a message."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLOUT)


def receive_from_peer(router: Socket) -> tuple[bytes, list[Buffer]] | None:
    """Return a message of a ROUTER socket and whose it is; None if none is there. What is large is not copied."""
    try:
        peer = router.recv(_DONTWAIT)
    except zmq.Again:
        return None
    # Half as long as asking for each part whether it is the last.
    part = router.recv(_DONTWAIT, copy=False)
    contents = _contents(part)
    return peer, [contents, *router.recv_multipart(_DONTWAIT)] if part.more else [contents]


def receive_one(socket: Socket, *, is_large: bool) -> Buffer | None:
    """Return the frame that is there, if one is.

    Args:
        socket: Receives.
        is_large: Whether it is expected to be large, so that it pays not to copy it.
    """
    try:
        return _contents(socket.recv(_DONTWAIT, copy=False)) if is_large else socket.recv(_DONTWAIT)
    except zmq.Again:
        return None


def receive_all(socket: Socket) -> list[bytes] | None:
    """Return the frames of the message that is there, if one is."""
    try:
        return socket.recv_multipart(_DONTWAIT)
    except zmq.Again:
        return None


def _contents(part: zmq.Frame) -> Buffer:
    return part.bytes if len(part) < LARGE else part.buffer


def send_one(socket: Socket, frame: bytes) -> bool:
    """Send one frame without ever waiting; return False if the queue is full."""
    try:
        socket.send(frame, _DONTWAIT, copy=len(frame) < _LARGE_TO_SEND)
    except zmq.Again:
        return False
    return True


def broadcast(xpub: Socket, frame: Buffer) -> None:
    """Send one frame to whom it concerns, without ever waiting; it is dropped for those whose queue is full."""
    if isinstance(frame, memoryview) and isinstance(frame.obj, zmq.Frame):
        # As it was received, ZeroMQ passes it on without any help of Python.
        xpub.send(frame.obj, _DONTWAIT, copy=False)
    else:
        xpub.send(frame, _DONTWAIT)


class Readable:
    """Tells which of some sockets have something; for two of them quicker than asking each.

    One alone is asked for its events: that keeps the GIL, which ``zmq_poll`` lets go of. Where many threads want it,
    who let go waits for all others.
    """

    def __init__(self, *sockets: Socket) -> None:
        self._sockets = [(socket, _POLLIN) for socket in sockets]
        self._only = sockets[0] if len(sockets) == 1 else None

    def now(self) -> list[Socket]:
        """Return those in which a message is; when none is returned, the file descriptors will tell of the next."""
        if self._only is not None:
            return [self._only] if can_receive(self._only) else []
        ready = _poll(self._sockets, 0)
        return [socket for socket, _ in ready] if ready else []


# The server's side.


@dataclass(frozen=True, slots=True)
class ServerSocketOptions:
    """What the server's sockets need to know of the settings; durations in seconds."""

    bind: str
    pub_port: int
    recv_port: int
    max_message_size: int
    send_queue: int
    credit: int
    heartbeat_interval: float
    heartbeat_timeout: float


class ServerSockets(NamedTuple):
    """Both sockets of the server, bound."""

    router: Socket
    xpub: Socket
    recv_port: int
    pub_port: int

    def close(self) -> None:
        """Close both; what is still to be sent has half a second."""
        self.router.close()
        self.xpub.close()


def bind_server(options: ServerSocketOptions) -> ServerSockets:
    """Make the server's sockets.

    Raises:
        BindError: It cannot listen on that address or one of the ports.
    """
    context = shared_context()
    router, xpub = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
    for socket in (router, xpub):
        socket.linger = round(_SERVER_LINGER_SECONDS * 1000)
        socket.set(zmq.BACKLOG, _BACKLOG)
        socket.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_SECONDS * 1000)
        socket.set(zmq.IPV6, ":" in options.bind)
        _set_heartbeat(socket, options.heartbeat_interval, options.heartbeat_timeout)
    # A send to a peer that is gone must fail, not vanish.
    router.set(zmq.ROUTER_MANDATORY, 1)
    router.set(zmq.MAXMSGSIZE, options.max_message_size + _FRAME_SLACK)
    router.set(zmq.SNDHWM, 2 * options.credit + _DEALER_QUEUE)
    xpub.set(zmq.MAXMSGSIZE, _MAX_SUBSCRIPTION_SIZE)
    xpub.set(zmq.SNDHWM, options.send_queue)
    try:
        pub_port = _bind(xpub, options.bind, options.pub_port, "pub_port")
        recv_port = _bind(router, options.bind, options.recv_port, "recv_port")
    except BindError:
        router.close()
        xpub.close()
        raise
    return ServerSockets(router, xpub, recv_port, pub_port)


_BIND_PROBLEMS: Final = {
    errno.EADDRINUSE: "the port is in use",
    errno.EACCES: "only a privileged process may use that port",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.ENODEV: "it is neither localhost, nor an address of this machine, nor one of its network interfaces",
}


def _bind(socket: Socket, host: str, port: int, setting: str) -> int:
    try:
        socket.bind(tcp_address(host, port))
    except zmq.ZMQError as error:
        text = _BIND_PROBLEMS.get(error.errno or 0, str(error))
        raise BindError(f"cannot listen on {host}, {setting} {port}: {text}") from None
    return int(socket.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2])


def _set_heartbeat(socket: Socket, interval: float, timeout: float) -> None:
    """Have libzmq's own thread find out whether the other end lives; it does so while Python is busy, too."""
    socket.set(zmq.HEARTBEAT_IVL, max(round(interval * 1000), 1))
    socket.set(zmq.HEARTBEAT_TIMEOUT, max(round(timeout * 1000), 1))


# The client's side.


@dataclass(frozen=True, slots=True)
class ClientSocketOptions:
    """What a client's sockets need to know of the settings; durations in seconds."""

    server_address: str
    send_port: int
    sub_port: int
    receive_queue: int
    connect_timeout: float
    heartbeat_interval: float
    heartbeat_timeout: float


class ClientSockets:
    """One connection to the server: a DEALER and a SUB socket, each with a monitor that tells when it broke.

    They never connect again by themselves: what was in their queues would travel to a server that did not ask for it.
    For the next connection a new pair is made.

    Raises:
        zmq.ZMQError: They cannot be made: no file descriptor is free, for example.
    """

    def __init__(self, options: ClientSocketOptions, token: bytes) -> None:
        self._sockets: list[Socket] = []
        self.monitors: list[Socket] = []
        try:
            self.dealer = self._new_socket(zmq.DEALER, options)
            self.sub = self._new_socket(zmq.SUB, options)
            self.dealer.set(zmq.SNDHWM, _DEALER_QUEUE)
            self.dealer.set(zmq.RCVHWM, 0)  # the server's credit bounds it
            self.sub.set(zmq.RCVHWM, options.receive_queue)
            self.sub.subscribe(token)
            self.dealer.connect(tcp_address(options.server_address, options.send_port))
            self.sub.connect(tcp_address(options.server_address, options.sub_port))
        except BaseException:
            self.close()
            raise
        self.by_descriptor = {socket.fileno(): socket for socket in self._sockets}
        self.monitor_descriptors = frozenset(monitor.fileno() for monitor in self.monitors)

    def _new_socket(self, kind: int, options: ClientSocketOptions) -> Socket:
        socket = shared_context().socket(kind)
        self._sockets.append(socket)
        socket.linger = 0
        socket.set(zmq.RECONNECT_IVL, -1)
        socket.set(zmq.CONNECT_TIMEOUT, max(round(options.connect_timeout * 1000), 1))
        socket.set(zmq.HANDSHAKE_IVL, max(round(options.connect_timeout * 1000), 1))
        socket.set(zmq.IPV6, ":" in options.server_address)
        _set_heartbeat(socket, options.heartbeat_interval, options.heartbeat_timeout)
        self.monitors.append(socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED))
        return socket

    def descriptors(self) -> list[int]:
        """Return the file descriptors of all that can become readable."""
        return [*self.by_descriptor, *self.monitor_descriptors]

    def breakage(self) -> str | None:
        """Return why the connection is broken, or None if it is not."""
        for monitor in self.monitors:
            if can_receive(monitor):
                return "the connection was refused" if _event(monitor) == _CLOSED else BROKE
        return None

    def close(self) -> None:
        """Close all; what was not sent is dropped."""
        for socket in self._sockets:
            socket.disable_monitor()
            socket.close()
        for monitor in self.monitors:
            monitor.close()


def _event(monitor: Socket) -> int:
    """Return what a monitor tells: as in ``zmq_socket_monitor``, its first frame begins with two bytes for that.

    ``zmq.utils.monitor`` reads them too, and loads asyncio for it.
    """
    return int.from_bytes(monitor.recv_multipart(_DONTWAIT)[0][:2], sys.byteorder)
