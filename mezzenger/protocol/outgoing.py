"""Publishes on their way: held back, sent and not yet confirmed, and the flushes that wait for them."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mezzenger.errors import MessageTooLarge, MezzengerError, ServerUnreachable
from mezzenger.protocol import wire
from mezzenger.protocol.bundle import encode_bundle
from mezzenger.protocol.events import Fate


class Draft(NamedTuple):
    """One message, or several of one name as a batch, to be published."""

    name: str
    items: Sequence[tuple[float, bytes]]
    """Timestamp and payload bytes of each."""
    ack: int
    codec: int
    extra: wire.Extra = wire.NO_EXTRA

    def encode(self, client: int, sequence: int) -> bytes:
        """Write it as a frame."""
        name, items, ack, codec, extra = self
        return wire.encode_data(name, items, ack=ack, codec=codec, client=client, sequence=sequence, extra=extra)


class MixedDraft(NamedTuple):
    """Messages with ``ack=0`` of several names, or with extra fields of their own, to be published as a bundle."""

    names: Sequence[str]
    items: Sequence[tuple[float, bytes]]
    """Timestamp and payload bytes of each."""
    extras: Sequence[wire.Extra]
    codec: int

    @property
    def name(self) -> str:
        """That of the first."""
        return self.names[0]

    @property
    def ack(self) -> int:
        """None of a bundle is stored."""
        return 0

    def encode(self, client: int, sequence: int) -> bytes:
        """Write it as a frame."""
        names, items, extras, codec = self
        return encode_bundle(names, items, extras, codec=codec, client=client, sequence=sequence)


@dataclass(slots=True)
class Parcel:
    """A frame that somebody waits for."""

    name: str
    frame: bytes
    sequence: int
    messages: int
    ack: int
    ticket: int = 0


@dataclass(slots=True)
class Flush:
    """Waits until all before ``mark`` is confirmed and a ping behind it is answered."""

    ticket: int
    mark: int
    ping: int | None = None


class Outgoing:
    """The publisher's half of a session.

    Its whole state: ``held`` in order of sending, ``unconfirmed`` in order of sequence, ``flushes`` in order of mark,
    and how many ``ack=0`` messages were sent and how many of them are known to have arrived.

    A frame is in ``held`` while it may not be sent (no connection, or the window is full), and, with ``ack=1``, in
    ``unconfirmed`` from then on until the server has answered.

    Args:
        client: The client's id.
        window: How many frames with ``ack=1`` may be sent and not confirmed.
        done: Is given the ticket of each publish and flush that the server has answered, with its error.
    """

    def __init__(self, client: int, window: int, done: Callable[[int, MezzengerError | None], None]) -> None:
        self._client = client
        self._window = window
        self._done = done
        self.max_message_size: int | None = None
        """What the server takes at most; None before the first Welcome."""
        self._sequence = 1
        self.held: deque[Parcel] = deque()
        self.unconfirmed: dict[int, Parcel] = {}
        self.flushes: deque[Flush] = deque()
        self._last_ping = 0
        self._pings: deque[tuple[int, int]] = deque()
        self._sent = 0
        self._arrived = 0
        self.uncertain = 0
        """``ack=0`` messages that were under way when a connection broke, and that no flush has reported yet."""

    def pack(self, draft: Draft | MixedDraft) -> Parcel:
        """Write a frame that somebody waits for, with the next sequence.

        Raises:
            MessageTooLarge: It is above the server's limit.
        """
        sequence = self._sequence
        return Parcel(draft.name, self.write(draft), sequence, len(draft.items), draft.ack)

    def express(self, draft: Draft | MixedDraft) -> bytes | None:
        """Write a frame of messages with ``ack=0`` that is handed to the transport now; None if others must go before.

        Raises:
            MessageTooLarge: It is above the server's limit.
        """
        if self.held:
            return None
        frame = self.write(draft)
        self._sent += len(draft.items)
        return frame

    def hold(self, draft: Draft | MixedDraft) -> Parcel:
        """Write a frame that goes behind all that is held.

        Raises:
            MessageTooLarge: It is above the server's limit.
        """
        parcel = self.pack(draft)
        self.held.append(parcel)
        return parcel

    def write(self, draft: Draft | MixedDraft) -> bytes:
        """Write a frame with the next sequence.

        Raises:
            MessageTooLarge: It is above the server's limit.
        """
        frame = draft.encode(self._client, self._sequence)
        if self.max_message_size is not None and len(frame) > self.max_message_size:
            raise _too_large(draft.name, len(frame), self.max_message_size, may_be_stored=False)
        self._sequence += len(draft.items)
        return frame

    def limit(self, size: int) -> None:
        """Set what the server takes at most; stop sending what it would refuse."""
        self.max_message_size = size
        for parcel in [*self.unconfirmed.values(), *self.held]:
            if len(parcel.frame) > size:
                may_be_stored = self.withdraw(parcel.ticket)
                error = _too_large(parcel.name, len(parcel.frame), size, may_be_stored=may_be_stored)
                self._done(parcel.ticket, error)

    def sendable(self) -> Iterator[Parcel]:
        """Yield what may be sent now; what is yielded is no longer held."""
        while self.held:
            parcel = self.held[0]
            if parcel.ack:
                if len(self.unconfirmed) >= self._window:
                    return
                self.unconfirmed[parcel.sequence] = parcel
            else:
                self._sent += parcel.messages
            self.held.popleft()
            yield parcel

    def settle(self, sequence: int, error: MezzengerError | None = None) -> None:
        """Take note that the server has confirmed a frame, or refused it; nobody may be waiting for that any more."""
        parcel = self.unconfirmed.pop(sequence, None)
        if parcel is not None:
            self._done(parcel.ticket, error)

    def withdraw(self, ticket: int) -> bool:
        """Stop sending what has this ticket.

        Returns:
            Whether the server may have stored it.
        """
        self.held = deque(parcel for parcel in self.held if parcel.ticket != ticket)
        self.flushes = deque(flush for flush in self.flushes if flush.ticket != ticket)
        for parcel in self.unconfirmed.values():
            if parcel.ticket == ticket:
                del self.unconfirmed[parcel.sequence]
                return True
        return False

    def fate(self, ticket: int) -> Fate | None:
        """Return what is known of the publish with this ticket; None if there is none that is not done."""
        if any(parcel.ticket == ticket for parcel in self.unconfirmed.values()):
            return Fate.UNDER_WAY
        return Fate.UNSENT if any(parcel.ticket == ticket for parcel in self.held) else None

    def oldest(self) -> int:
        """The lowest sequence that may still be sent, or sent again."""
        for sequence in self.unconfirmed:
            return sequence
        return self.next_held()

    def next_held(self) -> int:
        """The sequence of the frame that is held first; if none is, of the next one."""
        return self.held[0].sequence if self.held else self._sequence

    def last_held_unstored(self) -> int:
        """The sequence of the frame with ``ack=0`` that is held last; 0 if there is none."""
        return next((parcel.sequence for parcel in reversed(self.held) if not parcel.ack), 0)

    def flush(self, ticket: int) -> None:
        """Begin to wait until all that was packed so far has arrived."""
        self.flushes.append(Flush(ticket, self._sequence))

    def ready_flushes(self) -> Iterator[Flush]:
        """Yield the flushes before which everything is confirmed and whose ping is not yet sent."""
        if not self.flushes:
            return
        oldest = self.oldest()
        for flush in self.flushes:
            if flush.mark <= oldest and flush.ping is None:
                yield flush

    def next_ping(self) -> int:
        """Return the number of a ping that is sent now: its answer shows that all that was sent so far has arrived."""
        self._last_ping += 1
        self._pings.append((self._last_ping, self._sent))
        return self._last_ping

    def ponged(self, number: int) -> None:
        """Take note of a ping's answer, which may complete flushes."""
        while self._pings and self._pings[0][0] <= number:
            self._arrived = self._pings.popleft()[1]
        while self.flushes and self.flushes[0].ping is not None and self.flushes[0].ping <= number:
            count = self.take_uncertain()
            text = f"the connection broke while {count} messages with ack=0 were under way; they may be lost"
            self._done(self.flushes.popleft().ticket, ServerUnreachable(text) if count else None)

    def take_uncertain(self) -> int:
        """Return how many ``ack=0`` messages may have been lost since this was asked last."""
        count, self.uncertain = self.uncertain, 0
        return count

    def disconnected(self) -> None:
        """Take note that nothing more will be heard on this connection."""
        self.uncertain += self._sent - self._arrived
        self._arrived = self._sent
        self._pings.clear()
        for flush in self.flushes:
            flush.ping = None


def _too_large(name: str, size: int, limit: int, *, may_be_stored: bool) -> MessageTooLarge:
    # What was sent on an earlier connection may have met a higher limit.
    end = "it may have been stored before" if may_be_stored else "nothing was stored"
    return MessageTooLarge(
        f"message {name!r} is {size} bytes on the wire; the server takes at most {limit} "
        f"(its setting server.max_message_size); {end}"
    )
