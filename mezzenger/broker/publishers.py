"""What was stored for whom, so that a publish which is sent again is stored once."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from mezzenger.broker.restored import KnownPublisher

MAX_PUBLISHERS: Final = 100_000
MAX_REFUSED: Final = 65_536


@dataclass(slots=True, eq=False)
class Publisher:
    """A client, over all its connections.

    A client sends its frames in order of their sequences, and again in that order after a reconnect. So whatever is not
    above ``stored`` has been stored before, but for what was refused.
    """

    key: bytes
    peer: bytes | None = None
    """Its present connection."""
    stored: int = 0
    """The highest sequence that was stored."""
    storing: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    is_known: bool = False
    """Whether the store knows the client."""

    def was_stored(self, sequence: int) -> bool:
        """Whether the frame with this sequence has been stored."""
        return sequence <= self.stored and sequence not in self.refused

    def keep(self, sequence: int) -> bool:
        """Take note that a frame is handed to the store; return whether it was refused before."""
        self.storing.add(sequence)
        if sequence not in self.refused:
            return False
        self.refused.remove(sequence)
        return True

    def kept(self, sequence: int) -> None:
        """Take note that the store has it."""
        self.storing.discard(sequence)
        self.stored = max(self.stored, sequence)

    def refuse(self, sequence: int) -> None:
        """Take note that a frame is not stored."""
        self.storing.discard(sequence)
        self.refused.add(sequence)

    def forget_before(self, sequence: int) -> bool:
        """Forget what the client will never send again; return whether there was anything to forget."""
        before = len(self.refused)
        self.refused = {refused for refused in self.refused if refused >= sequence}
        return len(self.refused) < before


class Publishers:
    """All clients seen of late; those that are connected are never forgotten."""

    def __init__(self) -> None:
        self._by_client: OrderedDict[int, Publisher] = OrderedDict()
        self._forgotten: list[int] = []

    def restore(self, known: KnownPublisher) -> None:
        """Take in what the last run knew."""
        self._by_client[known.client] = Publisher(
            known.key, stored=known.stored, refused=set(known.refused), is_known=True
        )

    def of(self, client: int) -> Publisher:
        """Return what is known of a client that is connected, or for which something is being stored."""
        return self._by_client[client]

    def greet(self, client: int, key: bytes) -> Publisher | None:
        """Return what is known of a client that says Hello; None if it is not who it says it is."""
        publisher = self._by_client.setdefault(client, Publisher(key))
        self._by_client.move_to_end(client)
        self._forget_oldest()
        return publisher if publisher.key == key else None

    def left(self, client: int) -> None:
        """Take note that a client is not connected any more; until now it has been seen."""
        self._by_client[client].peer = None
        self._by_client.move_to_end(client)

    def take_forgotten(self) -> list[int]:
        """Return the clients that the store knows and that were forgotten since this was asked last."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def _forget_oldest(self) -> None:
        for _ in range(len(self._by_client) - 1):  # not the one that was just greeted
            if len(self._by_client) <= MAX_PUBLISHERS:
                return
            client, publisher = next(iter(self._by_client.items()))
            if publisher.peer is None and not publisher.storing:
                del self._by_client[client]
                if publisher.is_known:
                    self._forgotten.append(client)
            else:
                self._by_client.move_to_end(client)
