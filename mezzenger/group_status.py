"""How a group fares, as its keeper shows it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A group that the server keeps."""

    name: str
    """Or the pattern: what the group is for."""
    group: str
    members: int
    """How many are connected."""
    pending: int
    """Messages with ``ack=1`` that wait to be acknowledged, those in hand among them."""
    pending_size: int
    """Their bytes, as they are stored."""
    in_hand: int
    """Deliveries that members have and have not acknowledged yet."""
    delayed: int
    """Messages that are not due yet."""
