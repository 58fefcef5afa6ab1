"""One stored frame that is in somebody's hands, or next to be."""

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Entry:
    """A frame in the broker's memory."""

    number: int
    name: str
    messages: int
    frame: bytes
    attempts: int = 0
    indexes: tuple[int, ...] | None = None
    """Which messages of a batch are still to be handled; None means all."""
    due: float | None = None
    """When it is sent again at the latest; None while it waits for a subscriber, or for one with credit."""
    expires: float | None = None
    error: str = ""
    """Why the last attempt failed, as far as that is known."""
    holders: set[bytes] = field(default_factory=set)
    """The peers that have it in hand."""
    late: set[bytes] = field(default_factory=set)
    """The peers that had it in hand when they unsubscribed, and may still acknowledge it."""

    @property
    def left(self) -> int:
        """How many of its messages are still to be handled."""
        return self.messages if self.indexes is None else len(self.indexes)
