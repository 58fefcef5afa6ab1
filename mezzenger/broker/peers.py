"""What the broker knows of one connected client."""

from collections import OrderedDict
from dataclasses import dataclass, field

from mezzenger.broker.entry import Entry


@dataclass(slots=True, eq=False)
class Peer:
    """One connection of a client, from its Hello until it is gone."""

    id: bytes
    """The routing id that the ROUTER socket gave the connection."""
    client: int
    token: bytes
    """The link token; while it is subscribed on the XPUB socket, the client lives."""
    names: set[str] = field(default_factory=set)
    """The names and patterns to which it has subscribed, but for groups."""
    members: "dict[str, Member]" = field(default_factory=dict)
    """What it is in each group, by the group's queue."""
    lent: "dict[int, Member]" = field(default_factory=dict)
    """The entries of groups that it has in hand, by number, and as which member it does."""
    sync_tokens: set[bytes] = field(default_factory=set)
    """Of its Subscribe commands that are not answered yet."""
    in_flight: dict[int, Entry] = field(default_factory=dict)
    """The entries that it has in hand, by number: sent and not yet answered; at most ``credit``.

    The entry itself, for it may be settled by another subscriber's ack and is in this one's hands all the same.
    """
    waiting: OrderedDict[int, Entry] = field(default_factory=OrderedDict)
    """Entries to be sent as soon as there is credit, in order; at most ``send_queue``. Likewise."""
    late: set[int] = field(default_factory=set)
    """Numbers of pending entries that it had in hand when it unsubscribed from their name."""
    asking: "dict[int, OpenRequest]" = field(default_factory=dict)
    """What it has asked and was not answered, by its own number; at most ``max_requests``."""
    serving: "dict[int, OpenRequest]" = field(default_factory=dict)
    """What it was given to answer and did not, by the server's number; likewise."""
    last_served: int = 0
    """The number of the last of these."""


@dataclass(slots=True, eq=False)
class OpenRequest:
    """A request that is not answered."""

    number: int
    """What its responder knows it by."""
    asker: Peer
    request: int
    """What who asked knows it by."""
    responder: Peer
    deadline: float


@dataclass(slots=True, eq=False)
class Member:
    """One peer in one group."""

    peer: Peer
    queue: str
    """Of the group."""
    prefetch: int
    """How many entries it may have in hand."""
    max_runtime: float | None
    """Seconds after which what it has in hand goes to another member; None for never, as long as it lives."""
    in_hand: set[int] = field(default_factory=set)
    given: int = 0
    """Messages that it was given so far, those included that it would have been given had it always been there."""
    stalled: list[int] = field(default_factory=list)
    """Numbers of what only this member may have, and has no credit for; a heap. Some may be settled."""

    @property
    def credit(self) -> int:
        """How many more entries it may be given."""
        return self.prefetch - len(self.in_hand)
