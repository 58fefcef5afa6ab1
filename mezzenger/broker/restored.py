"""What the store hands back to the broker."""

from collections.abc import Sequence
from typing import NamedTuple


class Stored(NamedTuple):
    """A frame that waits in the store."""

    number: int
    name: str
    messages: int
    frame: bytes
    attempts: int = 0
    """How often it has been delivered, at most; 0 only if it certainly was not."""
    indexes: tuple[int, ...] | None = None
    """Which of its messages are still to be handled; None means all."""
    due: float | None = None
    """When it is to be sent again, if a subscriber could not handle it."""
    expires: float | None = None
    error: str = ""


class Waiting(NamedTuple):
    """What has expired, or was delayed and is due."""

    number: int
    name: str
    messages: int
    """Of its frame."""
    left: int
    """How many of these are not handled yet."""
    size: int
    """Of its frame, in bytes."""
    frame: bytes = b""
    """Of what is due; not of what has expired."""
    expires: float | None = None
    """Likewise."""


class Swept(NamedTuple):
    """What the time has brought."""

    expired: Sequence[Waiting]
    due: Sequence[Waiting]
    next: float | None
    """When there will be more; a time that has passed if that is so now."""


class Dead(NamedTuple):
    """A dead letter."""

    number: int
    name: str
    messages: int
    """Of its frame; 0 if that is damaged."""
    size: int
    """Of its frame, in bytes."""
    attempts: int
    indexes: tuple[int, ...] | None
    buried: float
    reason: str
    error: str
    frame: bytes = b""
    """Empty in answer to an order, which needs none."""

    @property
    def left(self) -> int:
        """How many of its messages are not handled; of one that is damaged, nobody knows."""
        return self.messages if self.indexes is None else len(self.indexes)


class Kept(NamedTuple):
    """A data frame of one message that is kept as the last of its name."""

    number: int
    """Rises with what is published; of two of a name the one with the higher number is the last."""
    frame: bytes
    expires: float | None = None
    is_pending: bool = False
    """Whether that frame, or the batch it was in, is still to be acknowledged."""


class Total(NamedTuple):
    """What waits in one queue."""

    name: str
    is_group: bool
    """Whether the queue is that of a group; one that was dropped is none, though it may have dead letters."""
    frames: int
    messages: int
    size: int
    """In bytes."""
    delayed: int = 0
    """Frames that are not due yet; they count in none of the above."""
    delayed_size: int = 0
    dead: int = 0
    """Frames; likewise."""
    dead_size: int = 0
    since: int = 0
    """Of a group, the highest number that was given before it was made."""


class KnownPublisher(NamedTuple):
    """A client for which frames were stored."""

    client: int
    key: bytes
    stored: int
    """The highest sequence that was stored."""
    refused: frozenset[int]


class Restored(NamedTuple):
    """What a broker must know of the last run."""

    last_number: int = 0
    totals: Sequence[Total] = ()
    publishers: Sequence[KnownPublisher] = ()
    """Those seen longest ago first."""
    next_moment: float | None = None
    """When the first of what waits expires or is due."""
    retained: Sequence[tuple[str, Kept]] = ()
    """Names, and their last messages."""
