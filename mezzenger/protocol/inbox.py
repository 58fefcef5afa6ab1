"""Deliveries on the subscriber's side: which are being handled, which were, and what to answer."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from mezzenger.codecs import Buffer
from mezzenger.errors import ProtocolError
from mezzenger.protocol import wire
from mezzenger.protocol.bundle import contents_of, is_addressed, read_bundle
from mezzenger.protocol.commands import (
    DELIVERIES_PER_ACK,
    MAX_ERROR_CHARACTERS,
    TOKEN_BYTES,
    Ack,
    Deliver,
    Failure,
    Nack,
    Retained,
    ServerCommand,
    fit_text,
)
from mezzenger.protocol.events import Bundled, Delivery
from mezzenger.protocol.freshness import Freshness
from mezzenger.protocol.subscriptions import Subscriptions

REMEMBERED: Final = 10_000
"""How many handled frames a subscriber recognises when they are delivered again."""
_FRAMES_OF_DELIVER: Final = 2
"""The command and the data frame."""
_NACK_CHARACTERS: Final = 8192
"""Of error text in one command; UTF-8 may need four bytes for each."""

Key = tuple[str | None, int, int, bool]
"""The queue of the group as whose member the client has a frame, the frame's client id and first sequence, and whether
it is a batch: a group is given copies of the messages one by one, and may inherit the batch itself later."""


class _Hand(NamedTuple):
    """An ``ack=1`` frame that is being handled."""

    number: int | None
    """Of its delivery; None once its connection is gone, and as long as it was not delivered but retained."""
    begun: int
    """How many subscriptions had begun when it was given last: only these have it."""


class Inbox:
    """The subscriber's half of a session.

    Its whole state: the ``ack=1`` frames in hand, those handled of late, and the acks to send. A frame is known by a
    key that stays the same across connections and servers; the delivery number does not.
    """

    def __init__(self, subscriptions: Subscriptions, freshness: Freshness) -> None:
        self._subscriptions = subscriptions
        self._freshness = freshness
        self._in_hand: dict[Key, _Hand] = {}
        self._handled: OrderedDict[Key, int] = OrderedDict()
        """How many subscriptions had begun when each was handled."""
        self._failed: OrderedDict[Key, frozenset[int]] = OrderedDict()
        """Which messages of a frame could not be handled, if others of it were."""
        self._acks: list[int] = []
        self.address = b""
        """Under which this connection is sent bundles: its link token."""
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
        is_whole = len(frames) > 1 if isinstance(command, Retained) else len(frames) == expected
        if wire.is_control(frames[0]) and is_whole:
            return command
        self.malformed["command"] += 1
        return None

    def broadcast(self, frame: Buffer) -> Sequence[Delivery | Bundled]:
        """Return what a frame from the SUB socket brings: messages with ``ack=0``, or a mark, which brings none."""
        if is_addressed(frame):
            return self._unpack(frame)
        contents = self._read_contents(frame)
        if contents is None:
            return ()
        delivery = wire.new_tuple(Delivery, (contents, 1, None, None, None, None, False))
        return self._fresh((delivery,)) if self._freshness.is_on else (delivery,)

    def _unpack(self, frame: Buffer) -> Sequence[Delivery | Bundled]:
        address = bytes(frame[:TOKEN_BYTES])
        if len(frame) == TOKEN_BYTES:
            self._freshness.mark(address)
            return ()
        if address != self.address and len(frame) > TOKEN_BYTES:
            return ()  # a SUB socket that is subscribed to everything gets what is addressed to others, too
        try:
            bundle = read_bundle(frame)
            if not self._freshness.is_on and not any(bundle.extras):
                return (Bundled(bundle),)
            all_contents = contents_of(bundle)
        except ProtocolError as error:
            self.malformed[error.reason] += 1
            return ()
        wanted = [Delivery(one, 1, None) for one in all_contents if one.header.name in self._subscriptions]
        return self._fresh(wanted) if self._freshness.is_on else wanted

    def _fresh(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return what is to be given to callbacks, in view of what was kept."""
        return [fresh for one in deliveries if (fresh := self._freshness.published(one)) is not None]

    def kept(self, command: Retained, frames: Sequence[bytes]) -> Iterator[Delivery]:
        """Yield the deliveries of retained messages that a callback should see; none of them needs an ack."""
        for frame in frames:
            contents = self._read_contents(frame)
            if contents is None:
                continue
            wanted = self._freshness.kept(command.request, contents.header)
            delivery = Delivery(contents, 1, None, wanted=self._not_handled(contents, wanted), is_retained=True)
            if delivery.wanted:
                if contents.header.ack:
                    self._hold_kept(_key(delivery))
                yield delivery
            else:
                self.duplicates += 1

    def _hold_kept(self, key: Key) -> None:
        # It may be in hand for who was subscribed before; then whoever is done first with it answers.
        hand = self._in_hand.get(key)
        self._in_hand[key] = _Hand(None if hand is None else hand.number, self._subscriptions.begun)

    def _not_handled(self, contents: wire.Contents, patterns: Sequence[str]) -> Sequence[str]:
        """Return the subscriptions in which a retained message with ``ack=1`` was not given before."""
        header, extra = contents.header, contents.extra
        if not header.ack:
            return patterns
        handled = 0
        # It may have come with its batch.
        batch = header.sequence - (extra.index or 0)
        for key in ((None, header.client, header.sequence, False), (None, header.client, batch, True)):
            hand = self._in_hand.get(key)
            handled = max(handled, self._handled.get(key, 0), 0 if hand is None else hand.begun)
        return [pattern for pattern in patterns if self._subscriptions.begun_at(pattern) > handled]

    def arrived(self, command: Deliver | Retained, frames: Sequence[bytes]) -> Iterable[Delivery]:
        """Return the deliveries that callbacks should see."""
        if isinstance(command, Retained):
            return self.kept(command, frames)
        delivery = self.deliver(command, frames[0])
        return [] if delivery is None else [delivery]

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
        if key in self._failed:
            # The server may have sent all of it again before it knew what was handled.
            wanted = self._failed[key].intersection(command.indexes or range(contents.header.messages))
            delivery = delivery._replace(indexes=tuple(sorted(wanted)))
        if key in self._handled or delivery.indexes == ():
            self._acks.append(command.delivery)
        elif key not in self._in_hand:
            self._in_hand[key] = _Hand(command.delivery, self._subscriptions.begun)
            return delivery
        else:
            self._in_hand[key] = self._in_hand[key]._replace(number=command.delivery)
        self.duplicates += 1
        return None

    def _read_contents(self, frame: Buffer, group: str | None = None) -> wire.Contents | None:
        try:
            contents = wire.read_contents(frame)
        except ProtocolError as error:
            self.malformed[error.reason] += 1
            return None
        return contents if (group or contents.header.name) in self._subscriptions else None

    def handled(self, delivery: Delivery, failures: list[Failure]) -> Nack | None:
        """Take note that the callback returned; acks are collected, a nack is returned to be sent."""
        key = _key(delivery)
        hand = self._in_hand.pop(key, None)
        number = None if hand is None else hand.number
        if failures:
            self._remember_failed(delivery, failures)
            return None if number is None else Nack(number, _shortened(failures))
        self._failed.pop(key, None)
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
        self._in_hand = {key: hand._replace(number=None) for key, hand in self._in_hand.items()}
        self._acks.clear()

    def _remember_failed(self, delivery: Delivery, failures: list[Failure]) -> None:
        """Remember what failed of a batch that did in part, and its last one if that did not: it may be retained."""
        header = delivery.contents.header
        last = header.messages - 1
        failed = frozenset(failure.index for failure in failures)
        if len(failed) < header.messages:
            self._failed[_key(delivery)] = failed
            if len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)
        was_given = delivery.indexes is None or last in delivery.indexes
        if self._freshness.is_on and was_given and last not in failed:
            self._remember((delivery.group, header.client, header.sequence + last, False))

    def _remember(self, key: Key) -> None:
        self._handled[key] = self._subscriptions.begun
        if len(self._handled) > REMEMBERED:
            self._handled.popitem(last=False)


def _key(delivery: Delivery) -> Key:
    header = delivery.contents.header
    return delivery.group, header.client, header.sequence, header.messages > 1


def _shortened(failures: list[Failure]) -> list[Failure]:
    """Cut the texts so that the command stays within what any server takes, and can be written as UTF-8."""
    characters = min(MAX_ERROR_CHARACTERS, _NACK_CHARACTERS // len(failures))
    return [Failure(failure.index, fit_text(failure.error, characters)) for failure in failures]
