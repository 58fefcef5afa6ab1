"""A message that is kept as the last of its name, as its keeper shows it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RetainedMessage:
    """The last message of a name, which the server keeps for subscribers to come."""

    name: str
    id: str
    ack: Literal[0, 1]
    """As it was sent."""
    timestamp: float
    """When it was created, in Unix seconds by the publisher's clock."""
    size: int
    """In bytes, as it is stored."""
    expires: float | None
    """When it is forgotten, in Unix seconds by the server's clock; None if that is never."""
