"""One stored frame that is in somebody's hands, or next to be."""

from dataclasses import dataclass

from mezzenger.protocol import wire
from mezzenger.queues import is_group


@dataclass(slots=True, eq=False)
class Entry:
    """A frame in the broker's memory."""

    number: int
    queue: str
    messages: int
    frame: bytes
    """Empty while it is away: in the store alone, until it is its turn."""
    attempts: int = 0
    indexes: tuple[int, ...] | None = None
    """Which messages of a batch are still to be handled; None means all."""
    due: float | None = None
    """When it is sent again at the latest; None while it waits for a subscriber, or for one with credit."""
    expires: float | None = None
    error: str = ""
    """Why the last attempt failed, as far as that is known."""
    holders: frozenset[bytes] = frozenset()
    """The peers that have it in hand; of a group's members, those that have not had it for too long."""
    late: frozenset[bytes] = frozenset()
    """The peers that had it in hand when they unsubscribed, and may still acknowledge it."""
    paused: float = 0.0
    """Until then, who could not handle it must not be sent it again, whoever else comes and goes."""
    failed: frozenset[int] | None = frozenset()
    """The clients that could not handle it; None if that was before the server started: it may be any."""
    was_given: bool = False
    """Whether a member of a group had it, or has."""
    size_away: int = 0
    """Bytes of the frame while it is away."""

    @property
    def size(self) -> int:
        """Bytes of the frame."""
        return self.size_away or len(self.frame)

    def put_away(self) -> None:
        """Let the frame be in the store alone."""
        self.size_away, self.frame = len(self.frame), b""

    def bring_back(self, frame: bytes) -> None:
        """Take in the frame that was away."""
        self.size_away, self.frame = 0, frame

    @property
    def name(self) -> str:
        """What its messages are called."""
        return wire.name_of(self.frame) if is_group(self.queue) else self.queue

    def is_paused(self, client: int, now: float) -> bool:
        """Whether a client must not be sent it yet."""
        return now < self.paused and (self.failed is None or client in self.failed)

    @property
    def left(self) -> int:
        """How many of its messages are still to be handled."""
        return self.messages if self.indexes is None else len(self.indexes)
