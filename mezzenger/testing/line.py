"""A client's line to the server in memory: does what its session asks for, and hands in what arrives."""

from collections import deque
from collections.abc import Callable, Iterable

from mezzenger.protocol.events import Action, Connect, Disconnect, Ignore, Listen, Send
from mezzenger.protocol.session import ClientSession
from mezzenger.testing.clock import FakeClock
from mezzenger.testing.wires import Arrival, ServerEnd, Wires


class MemoryLine:
    """What ``mezzenger.client.line.Line`` says, without sockets.

    Args:
        session: Whose line it is.
        server: The other end.
        clock: By which time passes for both.
        carry: Has something done when all that was sent before has arrived.
    """

    def __init__(
        self, session: ClientSession, server: ServerEnd, clock: FakeClock, carry: Callable[[Callable[[], None]], None]
    ) -> None:
        self.session = session
        self.clock: Callable[[], float] = clock
        self._server = server
        self._carry = carry
        self._wires: Wires | None = None
        self._arrived: deque[Arrival] = deque()
        self._unplugged_until = 0.0
        self.generation = 0
        self.wake: Callable[[], None] = lambda: None
        self.before_close: Callable[[], None] = lambda: None

    # What the pump wants.

    def descriptors(self) -> list[int]:
        """Return nothing: ``wake`` tells of all that arrives."""
        return []

    def signalled(self, descriptors: Iterable[int]) -> None:
        """Do nothing."""

    def doubt_all(self) -> None:
        """Do nothing."""

    def has_more(self) -> bool:
        """Whether something has arrived that ``receive`` did not take in."""
        return bool(self._arrived)

    def receive(self, now: float) -> bool:
        """Hand in what has arrived."""
        has_arrived = bool(self._arrived)
        while self._arrived:
            self._arrived.popleft()(self.session, now)
        return has_arrived

    def perform(self, now: float) -> None:  # noqa: ARG002  # nothing here takes time
        """Do what the session asks for."""
        while actions := self.session.take_actions():
            for action in actions:
                self._do(action)

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        if self._wires is not None:
            self._wires.send(frame)

    def _do(self, action: Action) -> None:
        match action:
            case Connect():
                self._connect(action.token)
            case Disconnect():
                if self._wires is not None:
                    self._wires.leave()
                self._wires = None
                self._arrived.clear()
            case Send():
                self.send(action.frame)
            case Listen() if self._wires is not None:
                self._wires.listen(action.prefix)
            case Ignore() if self._wires is not None:
                self._wires.ignore(action.prefix)

    def _connect(self, token: bytes) -> None:
        self._wires = Wires(self._carry, self._arrive, self._server)
        self._wires.listen(token)
        if self.clock() < self._unplugged_until:
            self._wires.cut("the connection was refused")

    # What the link does.

    def cut(self, seconds: float) -> None:
        """Break the connection, and refuse another one for so many seconds."""
        self._unplugged_until = self.clock() + seconds
        if self._wires is not None:
            self._wires.cut()

    def _arrive(self, arrival: Arrival) -> None:
        self._arrived.append(arrival)
        self.wake()
