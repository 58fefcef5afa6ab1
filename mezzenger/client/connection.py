"""Does with real sockets what a session asks for, and tells the session what arrives."""

import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

from mezzenger.protocol.events import Action, Connect, Disconnect, Ignore, Listen, Send
from mezzenger.protocol.session import ClientSession
from mezzenger.transport.sockets import ClientSocketOptions, ClientSockets, Readable, can_send, receive_one, send_one

_SLICE: Final = 256
"""Messages taken from the sockets before everything else has its turn."""


class Connection:
    """The sockets of one session.

    Not thread-safe. Nothing here waits. The file descriptor of a ZeroMQ socket tells that something happened, until the
    socket is used the next time in whatever way; what it was, the socket must be asked then. So the sockets that were
    used, and those whose descriptors told something, are in doubt, and only they are asked. When ``has_more`` says no,
    none is in doubt, and the descriptors will tell of all that comes.
    """

    def __init__(self, session: ClientSession, options: ClientSocketOptions) -> None:
        self._session = session
        self._options = options
        self._sockets: ClientSockets | None = None
        self._unsent: deque[bytes] = deque()
        self._readable = Readable()
        self._is_in_doubt = False
        self._are_monitors_in_doubt = False
        self.clock: Callable[[], float] = time.monotonic
        self.generation = 0
        """Changes whenever ``descriptors`` does."""
        self.wake: Callable[[], None] = lambda: None
        """Not needed here: the descriptors tell of everything."""
        self.before_close: Callable[[], None] = lambda: None
        """Called before the descriptors become invalid."""

    def descriptors(self) -> list[int]:
        """Return the file descriptors to wait on."""
        return [] if self._sockets is None else self._sockets.descriptors()

    def signalled(self, descriptors: Collection[int]) -> None:
        """Take note of the file descriptors that are readable."""
        if descriptors and self._sockets is not None:
            self._is_in_doubt = True
            self._are_monitors_in_doubt |= not self._sockets.monitor_descriptors.isdisjoint(descriptors)

    def doubt_all(self) -> None:
        """Ask all sockets the next time: nobody has waited on their descriptors for a while."""
        self._is_in_doubt = self._are_monitors_in_doubt = True

    def has_more(self) -> bool:
        """Whether something has arrived that ``receive`` did not take in."""
        if self._sockets is None:
            return False
        if self._is_in_doubt:
            # Room for what waits to be sent comes with the same signal.
            has_room = bool(self._unsent) and can_send(self._sockets.dealer)
            self._is_in_doubt = has_room or bool(self._readable.now())
        return self._is_in_doubt or self._are_monitors_in_doubt

    def receive(self, now: float) -> bool:
        """Hand in what has arrived.

        Returns:
            Whether the session may have another deadline now; messages with ``ack=0`` do not change it.
        """
        sockets = self._sockets
        if sockets is None:
            return False
        # Asked first: what a broken connection had brought before it broke is then still taken below.
        breakage = sockets.breakage() if self._are_monitors_in_doubt else None
        self._are_monitors_in_doubt = False
        has_answers = breakage is not None
        session, readable = self._session, self._readable
        for _ in range(_SLICE if self._is_in_doubt else 0):
            ready = readable.now()
            if not ready:
                self._is_in_doubt = False
                break
            for socket in ready:
                if socket is sockets.sub:
                    session.broadcast(receive_one(socket), now)
                else:
                    session.receive(socket.recv_multipart(), now)
                    has_answers = True
        if breakage is not None:
            session.lost(breakage, now)
        return has_answers

    def perform(self, now: float) -> None:
        """Do what the session asks for."""
        if self._unsent:
            self._send_unsent(now)
        while actions := self._session.take_actions():
            for action in actions:
                if isinstance(action, Send):
                    self._send(action.frame)
                else:
                    self._do(action)
            if self._unsent:
                self._send_unsent(now)

    def _do(self, action: Action) -> None:
        match action:
            case Connect():
                self._sockets = ClientSockets(self._options, action.token)
                self._readable = Readable(self._sockets.dealer, self._sockets.sub)
                self.doubt_all()
                self.generation += 1
            case Disconnect():
                self._close()
            case Listen() if self._sockets is not None:
                self._is_in_doubt = True
                self._sockets.sub.subscribe(action.prefix)
            case Ignore() if self._sockets is not None:
                self._is_in_doubt = True
                self._sockets.sub.unsubscribe(action.prefix)

    def _send(self, frame: bytes) -> None:
        if self._sockets is None:
            return
        self._is_in_doubt = True
        if self._unsent or not send_one(self._sockets.dealer, frame):
            self._unsent.append(frame)
            self._session.blocked()

    def _send_unsent(self, now: float) -> None:
        if self._sockets is None:
            return
        self._is_in_doubt = True
        while self._unsent:
            if not send_one(self._sockets.dealer, self._unsent[0]):
                return
            self._unsent.popleft()
        self._session.unblocked(now)

    def _close(self) -> None:
        self._unsent.clear()
        if self._sockets is not None:
            self.before_close()
            self._sockets.close()
            self._sockets = None
            self.generation += 1
