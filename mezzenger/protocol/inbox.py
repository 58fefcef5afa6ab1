"""Deliveries on the subscriber's side: which are being handled, which were, and what to answer."""

from collections import Counter
from typing import Final

from mezzenger.errors import ProtocolError
from mezzenger.protocol import wire
from mezzenger.protocol.commands import Ack, Failure, Nack
from mezzenger.protocol.events import Delivery

REMEMBERED: Final = 10_000
"""How many handled frames a subscriber recognises when they are delivered again."""


class Inbox:
    """The subscriber's half of a session.

    Its whole state: the delivery number of each ``ack=1`` frame in hand (None once its connection is gone), the frames
    handled of late, and the acks to send. A frame is known by its client id and first sequence, which stay the same
    across connections and servers; the delivery number does not.
    """

    def __init__(self) -> None:
        self._in_hand: dict[tuple[int, int], int | None] = {}
        self._handled: dict[tuple[int, int], None] = {}
        self._acks: list[int] = []
        self.duplicates = 0
        self.malformed: Counter[str] = Counter()

    def verify(self, frame: bytes) -> wire.Header:
        """Read and check a data frame, so that nothing later on can fail but the payload.

        Raises:
            ProtocolError: It is malformed or damaged.
        """
        header = wire.read_header(frame)
        wire.verify_digest(frame)
        return header

    def count_malformed(self, error: ProtocolError) -> None:
        """Count what the server sent and nobody can read."""
        self.malformed[error.reason] += 1

    def is_new(self, delivery: Delivery, number: int) -> bool:
        """Whether a callback should see this delivery; if it was handled before, it is acknowledged again."""
        key = _key(delivery)
        if key in self._handled:
            self._acks.append(number)
        elif key not in self._in_hand:
            self._in_hand[key] = number
            return True
        else:
            self._in_hand[key] = number
        self.duplicates += 1
        return False

    def handled(self, delivery: Delivery, failures: list[Failure]) -> Nack | None:
        """Take note that the callback returned; acks are collected, a nack is returned to be sent."""
        key = _key(delivery)
        number = self._in_hand.pop(key, None)
        if failures:
            return None if number is None else Nack(number, failures)
        self._remember(key)
        if number is not None:
            self._acks.append(number)
        return None

    def dropped(self, delivery: Delivery) -> None:
        """Take note that no callback will see this delivery; it is neither acknowledged nor remembered."""
        self._in_hand.pop(_key(delivery), None)

    def take_acks(self) -> Ack | None:
        """Return the collected acks as one command, if there are any."""
        if not self._acks:
            return None
        acks, self._acks = self._acks, []
        return Ack(acks)

    def disconnected(self) -> None:
        """Forget the delivery numbers: they meant something only on the connection that is gone."""
        self._in_hand = dict.fromkeys(self._in_hand)
        self._acks.clear()

    def _remember(self, key: tuple[int, int]) -> None:
        self._handled[key] = None
        if len(self._handled) > REMEMBERED:
            del self._handled[next(iter(self._handled))]


def _key(delivery: Delivery) -> tuple[int, int]:
    return delivery.header.client, delivery.header.sequence
