"""What the broker asks of the server's loop.

Where a frame is stored, ``name`` is the name of its queue: that of the message for plain subscribers, ``PATTERN|GROUP``
for a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mezzenger.codecs import Buffer
from mezzenger.protocol.commands import DeadQuestion


@dataclass(frozen=True, slots=True)
class Send:
    """Send these frames to one peer over the ROUTER socket."""

    peer: bytes
    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this data frame to all subscribers of its name over the XPUB socket."""

    frame: Buffer


@dataclass(frozen=True, slots=True)
class Mark:
    """Send this sync token over the XPUB socket, behind all that was published: its subscriber knows where it is."""

    token: bytes


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
    due: float | None = None
    """Keep it apart until then, if at all; then it waits for ``Requeue``."""
    expires: float | None = None
    """When it is of no use any more, if ever."""


@dataclass(frozen=True, slots=True)
class Settle:
    """The stored frame with this number is acknowledged, or expired: forget it."""

    number: int
    name: str
    messages: int
    size: int
    """Of the frame, in bytes."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The stored frame with this number is being delivered again, or a subscriber could not handle it."""

    number: int
    attempts: int
    indexes: tuple[int, ...] | None
    """Which of its messages are still to be handled; None means all."""
    due: float | None = None
    """When it is to be sent again, if it is in nobody's hands."""
    error: str = ""
    """Why the last attempt failed, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Bury:
    """The stored frame with this number is not delivered any more: keep it as a dead letter."""

    number: int
    name: str
    messages: int
    size: int
    attempts: int
    indexes: tuple[int, ...] | None
    buried: float
    """When."""
    reason: str
    error: str


class Origin(StrEnum):
    """Where a frame was that is put back among those to be delivered."""

    DELAYED = "delayed"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Requeue:
    """Put a frame that was kept apart among those to be delivered, then tell the broker: ``committed``."""

    origin: Origin
    former: int
    """Its number so far."""
    number: int
    """Its number from now on, as if it were stored now."""
    name: str
    """Of the queue that it was kept apart for."""
    messages: int
    size: int
    heir: str | None = None
    """The queue of a group that gets it instead, if one inherits it."""

    @property
    def queue(self) -> str:
        """The queue that it goes into."""
        return self.name if self.heir is None else self.heir


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget the dead letter with this number."""

    number: int
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Retain:
    """Keep the last message of this data frame as that of its name, instead of one with a lower number."""

    number: int
    name: str
    frame: bytes
    expires: float | None = None
    is_pending: bool = False
    """Whether a stored frame with this number is to be acknowledged by the subscribers of the name."""


@dataclass(frozen=True, slots=True)
class Unretain:
    """Keep no message as the last of this name any more, unless it has a higher number."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Once the changes before this one are made, tell the broker: it will answer a peer's question."""

    peer: bytes
    request: int
    count: int


@dataclass(frozen=True, slots=True)
class Offered:
    """Of this name, no stored frame above this number was delivered."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class AddGroup:
    """Remember that there is a group, then tell the broker: ``committed``."""

    name: str
    """Of its queue."""
    since: int = 0
    """The highest number that was given before."""


@dataclass(frozen=True, slots=True)
class DropGroup:
    """Forget a group, and all that waits in its queue but dead letters, then tell the broker: ``committed``."""

    name: str
    """Of its queue."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Put all that waits in a queue, but what is not due yet and dead letters, into another one.

    Then tell the broker: ``committed``.
    """

    name: str
    """Of the queue."""
    heir: str
    """The name of the other one."""


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


@dataclass(frozen=True, slots=True)
class Sweep:
    """Look for what has expired, and what was delayed until now, and tell the broker: ``swept``."""

    now: float
    frames: int
    """How many of each to return at most, and what else has become of the publish of the last one that is due."""


@dataclass(frozen=True, slots=True)
class Find:
    """Read dead letters for a peer that has a question, and tell the broker: ``found``."""

    peer: bytes
    question: DeadQuestion


Change = (
    Store
    | Settle
    | Attempt
    | Bury
    | Requeue
    | Discard
    | Offered
    | AddGroup
    | DropGroup
    | Adopt
    | Know
    | Refusal
    | Forget
    | Retain
    | Unretain
    | Reply
)
"""What goes to the store, in this order."""
Query = Load | Sweep | Find
"""What is read from the store, after all changes before it."""
Effect = Send | Publish | Mark | Change | Query


def in_need_of_room(changes: Sequence[Change]) -> tuple[list[Change], list[Change]]:
    """Part the changes for which a full disk has no room, which are refused, from those that must be made later.

    The last message of a name that comes with a delayed frame has its number, and is made later with that.
    """
    due = {change.number for change in changes if isinstance(change, Requeue)}
    refused: list[Change] = []
    later: list[Change] = []
    for change in changes:
        is_refused = isinstance(change, Store) or (isinstance(change, Retain) and change.number not in due)
        (refused if is_refused else later).append(change)
    return refused, later
