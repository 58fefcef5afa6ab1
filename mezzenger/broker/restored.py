"""What the store hands back to the broker."""

from collections.abc import Sequence
from typing import NamedTuple


class Stored(NamedTuple):
    """A frame that waits in the store."""

    number: int
    name: str
    messages: int
    frame: bytes
    attempts: int
    """How often it has been delivered, at most; 0 only if it certainly was not."""
    indexes: tuple[int, ...] | None
    """Which of its messages are still to be handled; None means all."""


class Total(NamedTuple):
    """What waits of one name."""

    name: str
    frames: int
    size: int
    """In bytes."""


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
