"""Deliveries on the subscriber's side: which are being handled, which were, and what to answer."""

from collections import Counter, OrderedDict
from collections.abc import Container, Iterator, Sequence
from typing import Final

from mezzenger.codecs import Buffer
from mezzenger.errors import ProtocolError
from mezzenger.protocol import wire
from mezzenger.protocol.commands import (
    DELIVERIES_PER_ACK,
    MAX_ERROR_CHARACTERS,
    Ack,
    Deliver,
    Failure,
    Nack,
    ServerCommand,
    fit_text,
)
from mezzenger.protocol.events import Delivery

REMEMBERED: Final = 10_000
"""How many handled frames a subscriber recognises when they are delivered again."""
_FRAMES_OF_DELIVER: Final = 2
"""The command and the data frame."""
_NACK_CHARACTERS: Final = 8192
"""Of error text in one command; UTF-8 may need four bytes for each."""

Key = tuple[str | None, int, int]
"""A frame, and the queue of the group as whose member the client has it."""


class Inbox:
    """The subscriber's half of a session.

    Its whole state: the delivery number of each ``ack=1`` frame in hand (None once its connection is gone), the frames
    handled of late, and the acks to send. A frame is known by its group, client id and first
    sequence, which stay the same across connections and servers; the delivery number does not.
    """

    def __init__(self, names: Container[str]) -> None:
        self._names = names
        self._in_hand: dict[Key, int | None] = {}
        self._handled: OrderedDict[Key, None] = OrderedDict()
        self._acks: list[int] = []
        self.duplicates = 0
        self.malformed: Counter[str] = Counter()

    def read(self, frames: Sequence[bytes]) -> ServerCommand | None:
        """Read the command of a multipart message; None, and counted, if nobody can read it."""
        try:
            command = wire.decode_server_command(frames[0])
        except ProtocolError as error:
            self.malformed[error.reason] += 1
            return None
        expected = _FRAMES_OF_DELIVER if isinstance(command, Deliver) else 1
        if wire.is_control(frames[0]) and len(frames) == expected:
            return command
        self.malformed["command"] += 1
        return None

    def broadcast(self, frame: Buffer) -> Delivery | None:
        """Return the delivery that a frame with ``ack=0`` is, if there is a callback for it."""
        contents = self._read_contents(frame)
        return contents and Delivery(contents, 1, None)

    def deliver(self, command: Deliver, frame: bytes) -> Delivery | None:
        """Return the delivery if a callback should see it; if it was handled before, it is acknowledged again."""
        contents = self._read_contents(frame, command.group)
        if contents is None:
            return None
        if command.indexes and max(command.indexes) >= contents.header.messages:
            self.malformed["command"] += 1
            return None
        delivery = Delivery(contents, command.attempt, command.indexes, command.group)
        if not contents.header.ack:
            return delivery  # for one member of a group; nobody waits for an answer
        key = _key(delivery)
        if key in self._handled:
            self._acks.append(command.delivery)
        elif key not in self._in_hand:
            self._in_hand[key] = command.delivery
            return delivery
        else:
            self._in_hand[key] = command.delivery
        self.duplicates += 1
        return None

    def _read_contents(self, frame: Buffer, group: str | None = None) -> wire.Contents | None:
        try:
            contents = wire.read_contents(frame)
        except ProtocolError as error:
            self.malformed[error.reason] += 1
            return None
        return contents if (group or contents.header.name) in self._names else None

    def handled(self, delivery: Delivery, failures: list[Failure]) -> Nack | None:
        """Take note that the callback returned; acks are collected, a nack is returned to be sent."""
        key = _key(delivery)
        number = self._in_hand.pop(key, None)
        if failures:
            return None if number is None else Nack(number, _shortened(failures))
        self._remember(key)
        if number is not None:
            self._acks.append(number)
        return None

    def dropped(self, delivery: Delivery) -> None:
        """Take note that no callback will see this delivery; it is neither acknowledged nor remembered."""
        self._in_hand.pop(_key(delivery), None)

    @property
    def has_acks(self) -> bool:
        """Whether there are acks to send."""
        return bool(self._acks)

    def take_acks(self) -> Iterator[Ack]:
        """Yield the collected acks, as many at once as one command holds."""
        acks, self._acks = self._acks, []
        for start in range(0, len(acks), DELIVERIES_PER_ACK):
            yield Ack(acks[start : start + DELIVERIES_PER_ACK])

    def disconnected(self) -> None:
        """Forget the delivery numbers: they meant something only on the connection that is gone."""
        self._in_hand = dict.fromkeys(self._in_hand)
        self._acks.clear()

    def _remember(self, key: Key) -> None:
        self._handled[key] = None
        if len(self._handled) > REMEMBERED:
            self._handled.popitem(last=False)


def _key(delivery: Delivery) -> Key:
    header = delivery.contents.header
    return delivery.group, header.client, header.sequence


def _shortened(failures: list[Failure]) -> list[Failure]:
    """Cut the texts so that the command stays within what any server takes, and can be written as UTF-8."""
    characters = min(MAX_ERROR_CHARACTERS, _NACK_CHARACTERS // len(failures))
    return [Failure(failure.index, fit_text(failure.error, characters)) for failure in failures]
