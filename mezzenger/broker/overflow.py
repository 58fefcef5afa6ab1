"""What happens to a publish for which there is no room, as the policy of its name has it."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from mezzenger.broker.deliveries import Deliveries
from mezzenger.broker.leaving import Leaving
from mezzenger.broker.room import Copy, Lack, Room
from mezzenger.protocol import wire

MAX_HELD_SIZE: Final = 64 * 2**20
"""Bytes of all frames that wait for room."""


class Publication(NamedTuple):
    """A frame that is to be stored."""

    header: wire.Header
    frame: bytes
    due: float | None
    expires: float | None


class Overflow:
    """Lets in what there is room for; makes room for the rest, or has it wait, or refuses it.

    Args:
        room: Knows what there is room for.
        deliveries: Give up what is to make room.
        copies: Returns what is to be stored of a publication.
        store: Called with what is to be stored.
        refuse: Called with what is not, and why.
    """

    def __init__(
        self,
        room: Room,
        deliveries: Deliveries,
        copies: Callable[[Publication], list[Copy]],
        store: Callable[[Publication, Sequence[Copy]], None],
        refuse: Callable[[Publication, str], None],
    ) -> None:
        self._room = room
        self._deliveries = deliveries
        self._copies = copies
        self._store = store
        self._refuse = refuse
        self._held: dict[str, deque[Publication]] = {}
        self._held_size = 0
        self._sequences: set[tuple[int, int]] = set()
        """Client and sequence of each."""

    def holds(self, client: int, sequence: int) -> bool:
        """Whether a frame of a client waits for room."""
        return (client, sequence) in self._sequences

    def admit(self, publication: Publication, now: float) -> bool:
        """Take in a frame; return False if it is held until there is room."""
        name = publication.header.name
        if name not in self._held and self._is_done(publication, now):
            return True
        if self._held_size + len(publication.frame) > MAX_HELD_SIZE:
            self._refuse(publication, f"{self._held_size} bytes of messages wait for room already")
            return True
        self._held.setdefault(name, deque()).append(publication)
        self._held_size += len(publication.frame)
        self._sequences.add(_key(publication))
        return False

    def retry(self, now: float) -> None:
        """Let in what was held and there is room for by now."""
        for name, held in list(self._held.items()):
            while held and self._is_done(held[0], now):
                self._let_go(held.popleft())
            self._forget_if_empty(name)

    def left(self, client: int) -> None:
        """Forget what a client waits for that is gone: it will send it again."""
        for name, held in list(self._held.items()):
            for publication in held:
                if publication.header.client == client:
                    self._let_go(publication)
            self._held[name] = deque(one for one in held if one.header.client != client)
            self._forget_if_empty(name)

    def _let_go(self, publication: Publication) -> None:
        self._held_size -= len(publication.frame)
        self._sequences.remove(_key(publication))

    def _forget_if_empty(self, name: str) -> None:
        if not self._held[name]:
            del self._held[name]
            # What was read to find the oldest is needed no more.
            self._deliveries.evict_of(name)

    def _is_done(self, publication: Publication, now: float) -> bool:
        """Store a frame or refuse it; return False if it must wait."""
        copies = self._copies(publication)
        lacks = self._lacks(publication, copies)
        if not lacks:
            self._store(publication, copies)
            return True
        overflow = self._room.policies.of(publication.header.name).overflow
        hopeless = next((lack for lack in lacks if overflow not in lack.cures), None)
        if hopeless is not None:
            self._refuse(publication, hopeless.text)
            return True
        return overflow != "block" and self._make_room(publication, copies, now, is_buried=overflow == "dead_letter")

    def _make_room(self, publication: Publication, copies: list[Copy], now: float, *, is_buried: bool) -> bool:
        """Have the oldest frames of full queues leave; return False if they must be stored or read first.

        They leave when it is known that there is room without them, so that a publish that is refused costs nothing.
        """
        leaving = Leaving(self._deliveries.pending)
        most = self._deliveries.fates.room_for_dead() if is_buried else None
        while lacks := self._lacks(publication, copies, leaving):
            lack = lacks[0]
            if most is not None and len(leaving.entries) >= most:
                self._refuse(publication, lack.text)
                return True
            if leaving.add_oldest(lack.queue, lack.text):
                continue
            frames = self._wanted(publication) + len(leaving.entries)
            if self._deliveries.read_oldest(lack.queue, frames) or self._room.is_filling(lack.queue):
                return False
            # More must go than is in memory at a time; these are the oldest.
            self._give_up(leaving, now, is_buried=is_buried)
            return False
        self._give_up(leaving, now, is_buried=is_buried)
        self._store(publication, copies)
        return True

    def _wanted(self, publication: Publication) -> int:
        """Return how many frames are to leave, if not more: one for each message of a name that waits for that."""
        held = self._held.get(publication.header.name, [publication])
        return sum(one.header.messages for one in held)

    def _give_up(self, leaving: Leaving, now: float, *, is_buried: bool) -> None:
        for entry, why in leaving.entries:
            self._deliveries.give_up(entry, now, why if is_buried else None)

    def _lacks(self, publication: Publication, copies: Sequence[Copy], leaving: Leaving | None = None) -> list[Lack]:
        return self._room.lacks(publication.header.name, publication.header.messages, copies, leaving)


def _key(publication: Publication) -> tuple[int, int]:
    return publication.header.client, publication.header.sequence
