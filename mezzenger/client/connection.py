"""Does with real sockets what a session asks for, and tells the session what arrives."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import zmq

from mezzenger.protocol.events import Action, Connect, Disconnect, Ignore, Listen, Send
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import State
from mezzenger.transport.sockets import (
    BROKE,
    LARGE,
    ClientSocketOptions,
    ClientSockets,
    Readable,
    Socket,
    can_send,
    receive_all,
    receive_one,
    send_one,
)

_SLICE: Final = 256
"""Messages taken from the sockets before everything else has its turn."""
_DEALER: Final = 1
_SUB: Final = 2
_BOTH: Final = _DEALER | _SUB


class Connection:
    """The sockets of one session.

    Not thread-safe. Nothing here waits. The file descriptor of a ZeroMQ socket tells that something happened, until the
    socket is used the next time in whatever way; what it was, the socket must be asked then. So the sockets that were
    used, and those whose descriptors told something, are in doubt, and only they are asked. When ``has_more`` says no,
    none is in doubt, and the descriptors will tell of all that comes.

    To ask costs more than to receive. So the first message of which a descriptor tells is taken unasked, and whether
    there are more is asked when it is on its way to its callback.
    """

    def __init__(self, session: ClientSession, options: ClientSocketOptions) -> None:
        self._session = session
        self._options = options
        self._sockets: ClientSockets | None = None
        self._unsent: deque[bytes] = deque()
        self._askable: Sequence[Readable] = ()
        """By which sockets are in doubt."""
        self._in_doubt = 0
        self._are_monitors_in_doubt = False
        self._ready: list[Socket] = []
        """Those in which there is something, as they, or their descriptors, have said."""
        self._is_told = False
        """Whether it were descriptors."""
        self._is_large = False
        """Whether the last frame of the SUB was large; the next will be much like it."""
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

    def signalled(self, descriptors: Iterable[int]) -> None:
        """Take note of the file descriptors that are readable; those of others may be among them."""
        sockets = self._sockets
        if sockets is None:
            return
        self._is_told = True
        for descriptor in descriptors:
            socket = sockets.by_descriptor.get(descriptor)
            if socket is not None:
                self._ready.append(socket)
            elif descriptor in sockets.monitor_descriptors:
                self._are_monitors_in_doubt = True

    def doubt_all(self) -> None:
        """Ask all sockets the next time: nobody has waited on their descriptors for a while."""
        self._in_doubt = _BOTH
        self._are_monitors_in_doubt = True
        self._ready = []

    def has_more(self) -> bool:
        """Whether something has arrived that ``receive`` did not take in."""
        if self._sockets is None:
            return False
        # Room for what waits to be sent comes with the same signal.
        if self._unsent and self._in_doubt & _DEALER and can_send(self._sockets.dealer):
            return True
        if not self._ready:
            self._ask()
        return bool(self._ready) or self._are_monitors_in_doubt

    def receive(self, now: float) -> bool:
        """Hand in what has arrived.

        Returns:
            Whether there may be something for ``perform`` that cannot wait, or the session have another deadline now;
            messages with ``ack=0`` change neither.
        """
        sockets = self._sockets
        if sockets is None:
            return False
        if self._are_monitors_in_doubt and self._breaks(sockets, now):
            return True
        if not self._ready:
            self._ask()
        has_answers = self._take(sockets, now) if self._is_told else self._take_all(sockets, now)
        return has_answers or bool(self._unsent)

    def _breaks(self, sockets: ClientSockets, now: float) -> bool:
        """Whether the connection is broken; if so, take all that it had brought before."""
        self._are_monitors_in_doubt = False
        reason = sockets.breakage()
        if reason is None:
            return False
        self._in_doubt = _BOTH
        self._ask()
        self._take_all(sockets, now)
        if reason is BROKE and self._session.state is State.CONNECTING:
            reason = f"{BROKE} before the server had answered; are send_port and sub_port swapped?"
        self._session.lost(reason, now)
        return True

    def _ask(self) -> None:
        """Find out in which of the sockets that are in doubt there is something."""
        self._is_told = False
        if self._in_doubt:
            self._ready = self._askable[self._in_doubt].now()
            if not self._ready:
                self._in_doubt = 0

    def _take_all(self, sockets: ClientSockets, now: float) -> bool:
        has_answers = False
        for _ in range(_SLICE):
            if not self._ready:
                break
            has_answers |= self._take(sockets, now)
            self._ask()
        return has_answers

    def _take(self, sockets: ClientSockets, now: float) -> bool:
        """Take one message of each socket that is ready; return whether there were some of the DEALER."""
        ready, self._ready = self._ready, []
        has_answers = False
        for socket in ready:
            if socket is sockets.sub:
                self._in_doubt |= _SUB
                frame = receive_one(socket, is_large=self._is_large)
                if frame is not None:
                    self._is_large = len(frame) >= LARGE
                    self._session.broadcast(frame, now)
            else:
                self._in_doubt |= _DEALER
                frames = receive_all(socket)
                if frames is not None:
                    self._session.receive(frames, now)
                    has_answers = True
        return has_answers

    def perform(self, now: float) -> None:
        """Do what the session asks for."""
        if self._unsent:
            self._send_unsent(now)
        while actions := self._session.take_actions():
            for action in actions:
                if isinstance(action, Send):
                    self.send(action.frame)
                else:
                    self._do(action, now)
            if self._unsent:
                self._send_unsent(now)

    def send(self, frame: bytes) -> None:
        """Send a frame, behind those that could not be sent yet."""
        if self._sockets is None:
            return
        self._in_doubt |= _DEALER
        if self._unsent or not send_one(self._sockets.dealer, frame):
            self._unsent.append(frame)
            self._session.blocked()

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Connect():
                self._open(action.token, now)
            case Disconnect():
                self._close()
            case Listen() if self._sockets is not None:
                self._in_doubt |= _SUB
                self._sockets.sub.subscribe(action.prefix)
            case Ignore() if self._sockets is not None:
                self._in_doubt |= _SUB
                self._sockets.sub.unsubscribe(action.prefix)

    def _send_unsent(self, now: float) -> None:
        if self._sockets is None:
            return
        self._in_doubt |= _DEALER
        while self._unsent:
            if not send_one(self._sockets.dealer, self._unsent[0]):
                return
            self._unsent.popleft()
        self._session.unblocked(now)

    def _open(self, token: bytes, now: float) -> None:
        try:
            self._sockets = ClientSockets(self._options, token)
        except zmq.ZMQError as error:
            # The system may have no descriptor to spare now; that passes.
            self._session.lost(f"no socket can be made: {error}", now)
            return
        dealer, sub = self._sockets.dealer, self._sockets.sub
        self._askable = (Readable(), Readable(dealer), Readable(sub), Readable(dealer, sub))
        self.doubt_all()
        self.generation += 1

    def _close(self) -> None:
        self._unsent.clear()
        self._ready = []
        if self._sockets is not None:
            self.before_close()
            self._sockets.close()
            self._sockets = None
            self.generation += 1
