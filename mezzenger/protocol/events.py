"""What a ``ClientSession`` asks of its shell (actions) and tells it (events)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mezzenger.errors import MezzengerError
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


class Delivery(NamedTuple):
    """A data frame for the callback of its name, checked to the last byte.

    When the callback has run, ``ClientSession.handled`` is to be called if the delivery has ``ack=1``.
    """

    contents: Contents
    attempt: int
    indexes: Sequence[int] | None
    """Which messages of a batch; all of them where None."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was asked for with this ticket is done, or failed."""

    ticket: int
    error: MezzengerError | None
    answer: Answer | None = None
    """What the server said, if it was asked something."""


Event = Delivery | Done
