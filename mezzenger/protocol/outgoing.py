"""Publishes on their way: held back, sent and not yet confirmed, and the flushes that wait for them."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Parcel:
    """A data frame that somebody waits for."""

    ticket: int
    frame: bytes
    sequence: int
    ack: int


@dataclass(slots=True)
class Flush:
    """Waits until all before ``mark`` is confirmed and a ping behind it is answered."""

    ticket: int
    mark: int
    ping: int | None = None


class Outgoing:
    """The publisher's half of a session.

    Its whole state: ``held`` in order of sending, ``unconfirmed`` in order of sequence, ``flushes`` in order of mark.
    A frame is in ``held`` while it may not be sent (no connection, or the window is full), and, with ``ack=1``, in
    ``unconfirmed`` from then on until the server has answered.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self.held: deque[Parcel] = deque()
        self.unconfirmed: dict[int, Parcel] = {}
        self.flushes: deque[Flush] = deque()

    def sendable(self) -> Iterator[Parcel]:
        """Yield what may be sent now; what is yielded is no longer held."""
        while self.held:
            parcel = self.held[0]
            if parcel.ack:
                if len(self.unconfirmed) >= self._window:
                    return
                self.unconfirmed[parcel.sequence] = parcel
            self.held.popleft()
            yield parcel

    def settle(self, sequence: int) -> Parcel | None:
        """Take out the frame that the server confirmed or refused; None if it was not waited for."""
        return self.unconfirmed.pop(sequence, None)

    def withdraw(self, ticket: int) -> None:
        """Stop sending what has this ticket."""
        self.held = deque(parcel for parcel in self.held if parcel.ticket != ticket)
        self.flushes = deque(flush for flush in self.flushes if flush.ticket != ticket)
        for parcel in self.unconfirmed.values():
            if parcel.ticket == ticket:
                del self.unconfirmed[parcel.sequence]
                return

    def oldest(self, following: int) -> int:
        """The lowest sequence that may still be sent (again); ``following`` if there is none."""
        return min([following, *self.unconfirmed, *(parcel.sequence for parcel in self.held)])

    def ready_flushes(self) -> Iterator[Flush]:
        """Yield the flushes before which everything is confirmed and whose ping is not yet sent."""
        if not self.flushes:
            return
        oldest = self.oldest(self.flushes[-1].mark)
        for flush in self.flushes:
            if flush.mark <= oldest and flush.ping is None:
                yield flush
