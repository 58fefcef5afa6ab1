"""What a ``ClientSession`` is made with, and the states it goes through."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a client stands; ``mc.state`` shows it."""

    NEW = "new"
    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    """Waiting before the next attempt to connect."""
    CLOSED = "closed"


TRANSITIONS: Final[Mapping[tuple[State, str], State]] = {
    (State.NEW, "start"): State.CONNECTING,
    (State.CONNECTING, "linked"): State.OPEN,
    (State.CONNECTING, "lost"): State.RECONNECTING,
    (State.OPEN, "lost"): State.RECONNECTING,
    (State.RECONNECTING, "retry"): State.CONNECTING,
    (State.NEW, "close"): State.CLOSED,
    (State.CONNECTING, "close"): State.CLOSED,
    (State.OPEN, "close"): State.CLOSED,
    (State.RECONNECTING, "close"): State.CLOSED,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is; random, chosen once by its shell."""

    client: int
    """64 bits; part of every message id."""
    key: bytes
    """16 bytes, secret."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session needs to know of the settings; durations in seconds."""

    server: str
    """Address and ports, for error texts."""
    attempt_timeout: float
    heartbeat_interval: float
    heartbeat_timeout: float
    reconnect_min: float
    reconnect_max: float
    window: int
    """``ack=1`` frames sent and not yet confirmed."""
