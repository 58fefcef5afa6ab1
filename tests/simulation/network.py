"""Connections that delay, stall and break."""

from collections import deque
from collections.abc import Callable
from typing import Final

from tests.simulation.clock import Clock

DELAY: Final = 0.002
STALL: Final = 0.6
NOTICE: Final = 0.1
"""Seconds until an end notices that a connection broke, at most."""


class Channel:
    """One direction of a connection: what is sent arrives in order, after some time, or never.

    Args:
        clock: Decides how long it takes.
        arrived: Is given what arrives.
    """

    def __init__(self, clock: Clock, arrived: Callable[[list[bytes]], None]) -> None:
        self._clock = clock
        self._arrived = arrived
        self._under_way: deque[list[bytes]] = deque()
        self._unread: deque[list[bytes]] = deque()
        self._stopped = 0.0
        self._last = 0.0
        self.is_open = True

    @property
    def waiting(self) -> int:
        """How much is under way, or not read."""
        return len(self._under_way) + len(self._unread)

    def send(self, *frames: bytes) -> None:
        """Put something on its way."""
        delay = self._clock.random.expovariate(1 / DELAY)
        if self._clock.breaks(0.003, "stall"):
            delay += self._clock.random.random() * STALL
        self._last = max(self._last, self._clock.now + delay)
        self._under_way.append(list(frames))
        self._clock.after(self._last - self._clock.now, self._arrive)

    def stop(self, seconds: float) -> None:
        """Have nothing read for some time."""
        self._stopped = self._clock.now + seconds
        self._clock.after(seconds, self._read)

    def _arrive(self) -> None:
        frames = self._under_way.popleft()
        if self._clock.now < self._stopped:
            self._unread.append(frames)
        elif self.is_open:
            self._arrived(frames)

    def _read(self) -> None:
        while self._unread:
            frames = self._unread.popleft()
            if self.is_open:
                self._arrived(frames)


class Link:
    """A client's two connections: DEALER to ROUTER, and SUB to XPUB.

    Args:
        clock: Of the simulation.
        peer: What the server calls it.
        answered: Is given what the server sends to this client.
        broadcast: Is given what the server sends to all.
        broken: Is called when the client's end notices that the link is cut.
    """

    def __init__(
        self,
        clock: Clock,
        peer: bytes,
        *,
        answered: Callable[[list[bytes]], None],
        broadcast: Callable[[list[bytes]], None],
        broken: Callable[[], None],
    ) -> None:
        self._clock = clock
        self.peer = peer
        self.answers = Channel(clock, answered)
        self.broadcasts = Channel(clock, broadcast)
        self._broken = broken
        self.prefixes: set[bytes] = set()
        """What the SUB socket has subscribed to, as far as the server knows."""
        self.commands: Channel | None = None
        self.wishes: Channel | None = None
        self._noticed_by_server: Callable[[], None] = lambda: None

    def join(
        self, commands: Callable[[list[bytes]], None], wishes: Callable[[list[bytes]], None], cut: Callable[[], None]
    ) -> None:
        """Give the server's end its ears."""
        self.commands = Channel(self._clock, commands)
        self.wishes = Channel(self._clock, wishes)
        self._noticed_by_server = cut

    @property
    def is_open(self) -> bool:
        """Whether anything can still arrive at the client."""
        return self.answers.is_open

    def cut(self) -> None:
        """Lose all that is under way, in every direction; each end notices in its own time."""
        if self.is_open:
            for channel in (self.commands, self.wishes):
                if channel is not None:
                    channel.is_open = False
            self._end(NOTICE)

    def leave(self) -> None:
        """End it from the client's side: the server may still get what was sent, after what a new link brings it."""
        if self.is_open and self._clock.breaks(0.5, "late frames of a former link"):
            self._end(self._clock.random.random() * STALL)
        else:
            self.cut()

    def stop(self, seconds: float) -> None:
        """Have the client's end read nothing for some time."""
        for channel in (self.answers, self.broadcasts):
            channel.stop(seconds)

    def _end(self, notice: float) -> None:
        self.answers.is_open = self.broadcasts.is_open = False
        self._clock.soon(NOTICE, self._broken)
        self._clock.soon(notice, self._end_of_commands)

    def _end_of_commands(self) -> None:
        for channel in (self.commands, self.wishes):
            if channel is not None:
                channel.is_open = False
        self._noticed_by_server()
