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
    pause: float = 0.0
    """Seconds between the last attempt and the next."""
    due: float | None = None
    """When it is sent again; None while no subscriber has it in hand."""
    holders: set[bytes] = field(default_factory=set)
    """The peers that have it in hand."""
    late: set[bytes] = field(default_factory=set)
    """The peers that had it in hand when they unsubscribed, and may still acknowledge it."""
