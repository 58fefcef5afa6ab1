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
    is_offered: bool = False
    """Whether it is to be delivered as soon as it is stored."""


@dataclass(frozen=True, slots=True)
class Settle:
    """The stored frame with this number is acknowledged: forget it."""

    number: int
    name: str
    size: int
    """Of the frame, in bytes."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The stored frame with this number is being delivered again."""

    number: int
    attempts: int
    indexes: tuple[int, ...] | None
    """Which of its messages are still to be handled; None means all."""


@dataclass(frozen=True, slots=True)
class Offered:
    """Of this name, no stored frame above this number was delivered."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Know:
    """Frames of this client will be stored: remember up to which sequence that was done, and its key."""

    client: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """The client's frame with this sequence was refused, though later ones may be stored."""

    client: int
    sequence: int
    is_lifted: bool = False
    """Whether it was sent again and is being stored after all."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Forget the client's refusals below this sequence; without a sequence, forget the client."""

    client: int
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Read the next stored frames of a name, and tell the broker: ``loaded``."""

    name: str
    after: int
    """The number after which to read."""
    frames: int
    """How many to read at most."""
    size: int
    """How many bytes to read at most, but one frame at least."""


Change = Store | Settle | Attempt | Offered | Know | Refusal | Forget
"""What goes to the store."""
Effect = Send | Publish | Change | Load
