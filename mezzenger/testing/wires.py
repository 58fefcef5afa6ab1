"""What lies between a client and the broker in memory: what ZeroMQ is between them elsewhere."""

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Protocol

from mezzenger.protocol.session import ClientSession

Arrival = Callable[[ClientSession, float], None]
"""Hands in to a session what has arrived."""

_numbers = count(1)


class ServerEnd(Protocol):
    """Where all wires end."""

    def accept(self, wires: "Wires") -> bool:
        """Take new wires, if somebody listens."""

    def received(self, wires: "Wires", frame: bytes) -> None:
        """Take what a client has sent."""

    def wished(self, prefix: bytes, *, is_subscribed: bool) -> None:
        """Take note of what a client has subscribed to, or wants no more of."""

    def lost(self, wires: "Wires") -> None:
        """Take note that a client is gone."""


class Wires:
    """One connection of a client, both ways: DEALER to ROUTER, and SUB to XPUB.

    What is sent arrives in order, or, if they are cut before, never.

    Args:
        carry: Has something done when all that was sent before has arrived.
        arrive: Is given what arrives at the client's end.
        server: The other end.
    """

    def __init__(
        self,
        carry: Callable[[Callable[[], None]], None],
        arrive: Callable[[Arrival], None],
        server: ServerEnd,
    ) -> None:
        self.peer = next(_numbers).to_bytes(5)
        """What the server calls it."""
        self._carry = carry
        self._arrive = arrive
        self._server = server
        self._wanted: Counter[bytes] = Counter()
        """As ZeroMQ has it: a prefix is wanted as often as it was subscribed to."""
        self._is_open = True
        self._send(self._accept)

    @property
    def wanted(self) -> list[bytes]:
        """What the client is subscribed to, as far as the server knows."""
        return list(self._wanted)

    # What the client does.

    def send(self, frame: bytes) -> None:
        """Send a frame to the server."""
        self._send(lambda: self._server.received(self, frame))

    def listen(self, prefix: bytes) -> None:
        """Subscribe to a prefix."""
        self._send(lambda: self._wish(prefix, 1))

    def ignore(self, prefix: bytes) -> None:
        """Subscribe to a prefix no more."""
        self._send(lambda: self._wish(prefix, -1))

    # What the server does.

    def answer(self, frames: list[bytes]) -> None:
        """Send a multipart message to the client."""
        self._send(lambda: self._arrive(lambda session, now: session.receive(frames, now)))

    def broadcast(self, frame: bytes) -> None:
        """Send a frame to the client if it wants it."""
        if any(frame.startswith(prefix) for prefix in self._wanted):
            self._send(lambda: self._arrive(lambda session, now: session.broadcast(frame, now)))

    # What happens to them.

    def cut(self, reason: str = "the connection broke") -> None:
        """Lose all that is under way; both ends notice."""
        if self._is_open:
            self.leave()
            self._carry(lambda: self._arrive(lambda session, now: session.lost(reason, now)))

    def leave(self) -> None:
        """End them from the client's side, which loses what is under way; the server notices."""
        if self._is_open:
            self._is_open = False
            self._carry(lambda: self._server.lost(self))

    def _accept(self) -> None:
        if not self._server.accept(self):
            self.cut("the connection was refused")

    def _wish(self, prefix: bytes, change: int) -> None:
        was_wanted = prefix in self._wanted
        self._wanted[prefix] += change
        if self._wanted[prefix] <= 0:
            del self._wanted[prefix]
        is_wanted = prefix in self._wanted
        if was_wanted is not is_wanted:
            self._server.wished(prefix, is_subscribed=is_wanted)

    def _send(self, arrive: Callable[[], None]) -> None:
        self._carry(lambda: arrive() if self._is_open else None)
