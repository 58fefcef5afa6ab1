"""Does with real sockets what a session asks for, and tells the session what arrives."""

from collections import deque
from collections.abc import Collection
from typing import Final

from mezzenger.protocol.events import Action, Connect, Disconnect, Ignore, Listen, Send
from mezzenger.protocol.session import ClientSession
from mezzenger.transport.sockets import ClientSocketOptions, ClientSockets, Sent, can_receive, can_send, receive, send

_SLICE: Final = 256
"""Messages taken from each socket before everything else has its turn."""


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
        self._is_dealer_in_doubt = False
        self._is_sub_in_doubt = False
        self._are_monitors_in_doubt = False
        self.generation = 0
        """Changes whenever ``descriptors`` does."""

    def descriptors(self) -> list[int]:
        """Return the file descriptors to wait on."""
        return [] if self._sockets is None else self._sockets.descriptors()

    def signalled(self, descriptors: Collection[int]) -> None:
        """Take note of the file descriptors that are readable."""
        if self._sockets is not None:
            self._is_dealer_in_doubt |= self._sockets.dealer_descriptor in descriptors
            self._is_sub_in_doubt |= self._sockets.sub_descriptor in descriptors
            self._are_monitors_in_doubt |= not self._sockets.monitor_descriptors.isdisjoint(descriptors)

    def doubt_all(self) -> None:
        """Ask all sockets the next time: nobody has waited on their descriptors for a while."""
        self._is_dealer_in_doubt = self._is_sub_in_doubt = self._are_monitors_in_doubt = True

    def has_more(self) -> bool:
        """Whether something has arrived that ``receive`` did not take in."""
        sockets = self._sockets
        if sockets is None:
            return False
        if self._is_dealer_in_doubt:
            # Room for what waits to be sent comes with the same signal.
            self._is_dealer_in_doubt = can_receive(sockets.dealer) or (bool(self._unsent) and can_send(sockets.dealer))
        if self._is_sub_in_doubt:
            self._is_sub_in_doubt = can_receive(sockets.sub)
        return self._is_dealer_in_doubt or self._is_sub_in_doubt or self._are_monitors_in_doubt

    def receive(self, now: float) -> bool:
        """Hand in what has arrived.

        Returns:
            Whether the session may have another deadline now; messages with ``ack=0`` do not change it.
        """
        sockets = self._sockets
        if sockets is None:
            return False
        breakage = None
        has_answers = False
        if self._are_monitors_in_doubt:
            # Asked first: what a broken connection had brought before it broke is then still taken below.
            breakage = sockets.breakage()
            self._are_monitors_in_doubt = False
        if self._is_dealer_in_doubt:
            for frames in receive(sockets.dealer, _SLICE):
                has_answers = True
                self._session.receive(frames, now)
        if self._is_sub_in_doubt:
            for frames in receive(sockets.sub, _SLICE):
                self._session.broadcast(frames[0], now)
        if breakage is not None:
            self._session.lost(breakage, now)
        return has_answers or breakage is not None

    def perform(self, now: float) -> None:
        """Do what the session asks for."""
        if self._unsent:
            self._send_unsent(now)
        while actions := self._session.take_actions():
            for action in actions:
                self._do(action)
            if self._unsent:
                self._send_unsent(now)

    def _do(self, action: Action) -> None:
        match action:
            case Send():
                self._send(action.frame)
            case Connect():
                self._sockets = ClientSockets(self._options, action.token)
                self.doubt_all()
                self.generation += 1
            case Disconnect():
                self._close()
            case Listen() if self._sockets is not None:
                self._is_sub_in_doubt = True
                self._sockets.sub.subscribe(action.prefix)
            case Ignore() if self._sockets is not None:
                self._is_sub_in_doubt = True
                self._sockets.sub.unsubscribe(action.prefix)

    def _send(self, frame: bytes) -> None:
        if self._sockets is None:
            return
        self._is_dealer_in_doubt = True
        if self._unsent or send(self._sockets.dealer, [frame]) is Sent.FULL:
            self._unsent.append(frame)
            self._session.blocked()

    def _send_unsent(self, now: float) -> None:
        if self._sockets is None:
            return
        self._is_dealer_in_doubt = True
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
