"""Does with real sockets what a session asks for, and tells the session what arrives."""

from collections import deque
from typing import Final

from mezzenger.protocol.events import Action, Connect, Disconnect, Ignore, Listen, Send
from mezzenger.protocol.session import ClientSession
from mezzenger.transport.sockets import ClientSocketOptions, ClientSockets, Sent, can_receive, receive, send

_SLICE: Final = 256
"""Messages taken from each socket before everything else has its turn."""


class Connection:
    """The sockets of one session.

    Not thread-safe. Nothing here waits. ZeroMQ's file descriptors tell only once that something arrived, and any use of
    a socket may take that signal: so whoever used the sockets asks ``has_more`` afterwards.
    """

    def __init__(self, session: ClientSession, options: ClientSocketOptions) -> None:
        self._session = session
        self._options = options
        self._sockets: ClientSockets | None = None
        self._unsent: deque[bytes] = deque()
        self.generation = 0
        """Changes whenever ``descriptors`` does."""

    def descriptors(self) -> list[int]:
        """Return the file descriptors to wait on."""
        return [] if self._sockets is None else [socket.fileno() for socket in self._sockets.all()]

    def has_more(self) -> bool:
        """Whether something has arrived that ``receive`` did not take in."""
        sockets = self._sockets
        return sockets is not None and (can_receive(sockets.dealer) or can_receive(sockets.sub))

    def is_awake(self) -> bool:
        """Whether waiting on the file descriptors would be wrong now; to be asked before that, for it arms them."""
        # All of them, not only until the first that has something: a descriptor tells nothing before it was asked.
        awake = [] if self._sockets is None else [can_receive(socket) for socket in self._sockets.all()]
        return any(awake)

    def receive(self, now: float) -> None:
        """Hand in what has arrived, and what is due."""
        sockets = self._sockets
        if sockets is not None:
            # Asked first: what a broken connection had brought before it broke is then still taken below.
            breakage = sockets.breakage()
            self._receive(sockets, now)
            if breakage is not None:
                self._session.lost(breakage, now)
        self._session.tick(now)

    def perform(self, now: float) -> None:
        """Do what the session asks for."""
        self._send_unsent(now)
        while actions := self._session.take_actions():
            for action in actions:
                self._do(action)
            self._send_unsent(now)

    def _receive(self, sockets: ClientSockets, now: float) -> None:
        for frames in receive(sockets.dealer, _SLICE):
            self._session.receive(frames, now)
        for frames in receive(sockets.sub, _SLICE):
            self._session.broadcast(frames[0], now)

    def _do(self, action: Action) -> None:
        match action:
            case Connect():
                self._sockets = ClientSockets(self._options, action.token)
                self.generation += 1
            case Disconnect():
                self._close()
            case Send():
                self._send(action.frame)
            case Listen() if self._sockets is not None:
                self._sockets.sub.subscribe(action.prefix)
            case Ignore() if self._sockets is not None:
                self._sockets.sub.unsubscribe(action.prefix)

    def _send(self, frame: bytes) -> None:
        if self._sockets is None:
            return
        if self._unsent or send(self._sockets.dealer, [frame]) is Sent.FULL:
            self._unsent.append(frame)
            self._session.blocked()

    def _send_unsent(self, now: float) -> None:
        if not self._unsent or self._sockets is None:
            return
        while self._unsent:
            if send(self._sockets.dealer, [self._unsent[0]]) is Sent.FULL:
                return
            self._unsent.popleft()
        self._session.unblocked(now)

    def _close(self) -> None:
        self._unsent.clear()
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None
            self.generation += 1
