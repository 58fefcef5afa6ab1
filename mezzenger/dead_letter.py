"""A message that no subscriber could handle, as its keeper shows it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message, or what was not handled of a batch, that the server delivers no more and keeps."""

    number: int
    """By which it is shown, resent or dropped."""
    name: str
    id: str
    """Of the message; of a batch, of its first."""
    messages: int
    """How many are in it: 1, or more if they were sent together."""
    size: int
    """In bytes, as it is stored."""
    attempts: int
    """How often it was delivered, at most."""
    timestamp: float
    """When it was created, in Unix seconds by the publisher's clock."""
    buried: float
    """When it became a dead letter, in Unix seconds by the server's clock."""
    reason: str
    """Why: ``max_attempts`` or ``overflow``."""
    error: str
    """What the last subscriber that could not handle it said."""
    group: str | None = None
    """The group whose members could not handle it; None if it was for subscribers."""
    pattern: str | None = None
    """The name or pattern that this group is for."""
    payloads: tuple[bytes, ...] = ()
    """The payload bytes of each message, if they were asked for."""
