"""What the broker asks of the server's loop."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Send:
    """Send these frames to one peer over the ROUTER socket."""

    peer: bytes
    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this data frame to all subscribers of its name over the XPUB socket."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Store:
    """Keep this ``ack=1`` frame, then tell the broker: ``committed`` or ``commit_failed``."""

    number: int
    """Rises with every frame that is stored."""
    client: int
    sequence: int
    name: str
    messages: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    """The stored frame with this number is acknowledged: forget it."""

    number: int


Change = Store | Settle
"""What goes to the store."""
Effect = Send | Publish | Store | Settle
