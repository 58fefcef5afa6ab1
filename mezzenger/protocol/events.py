"""What a ``ClientSession`` asks of its shell (actions) and tells it (events)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from mezzenger.errors import MezzengerError
from mezzenger.protocol.bundle import Bundle, contents_of
from mezzenger.protocol.commands import Answer
from mezzenger.protocol.wire import Contents


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a DEALER and a SUB socket; subscribe the SUB socket to ``token``."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close both sockets and forget what waits in them."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send one frame over the DEALER socket."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Listen:
    """Subscribe the SUB socket to a prefix."""

    prefix: bytes


@dataclass(frozen=True, slots=True)
class Ignore:
    """Unsubscribe the SUB socket from a prefix."""

    prefix: bytes


Action = Connect | Disconnect | Send | Listen | Ignore


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A request that a callback is to answer.

    It is known by itself: on the next connection its number may be another one's.
    """

    number: int
    deadline: float
    """When nobody waits for the answer any more, by the shell's clock."""


class Delivery(NamedTuple):
    """A data frame for the callback of its name, checked to the last byte.

    When the callback has run, call ``ClientSession.handled`` if it has ``ack=1``. If it is a request, ask
    ``ClientSession.requests`` before whether it still begins, and afterwards have it respond.
    """

    contents: Contents
    attempt: int
    indexes: Sequence[int] | None
    """Which messages of a batch; all of them where None."""
    group: str | None = None
    """The queue of the group as whose member the client has it; None if as a subscriber."""
    served: Served | None = None
    """The request that it is, whose sender waits for what the callback returns; None if it is none."""
    wanted: Sequence[str] | None = None
    """The subscriptions, by name or pattern, whose callbacks it is for; None means all that match its name."""
    is_retained: bool = False
    """Whether the server had kept it as the last message of its name."""


class Bundled(NamedTuple):
    """Messages with ``ack=0`` of several names, each for the callbacks of its name, if there are any."""

    bundle: Bundle

    def deliveries(self) -> list[Delivery]:
        """Return each message as a delivery, which is simpler to handle, and slower."""
        return [Delivery(contents, 1, None) for contents in contents_of(self.bundle)]


@dataclass(frozen=True, slots=True)
class Ended:
    """A subscription that was active is so no more: the group does not take the client back."""

    queue: str
    error: MezzengerError


@dataclass(frozen=True, slots=True)
class Done:
    """What was asked for with this ticket is done, or failed."""

    ticket: int
    error: MezzengerError | None
    answer: Answer | Contents | None = None
    """What the server said, if it was asked something; what a responder returned, if that was."""


class Fate(Enum):
    """What is known of something that nobody wants to wait for any more."""

    UNSENT = auto()
    """It was not sent, and will not be."""
    UNDER_WAY = auto()
    """It was sent, and will be until the server has stored it; its ticket will tell."""
    UNKNOWN = auto()
    """It may have been done, or may still be."""


Event = Delivery | Bundled | Ended | Done
