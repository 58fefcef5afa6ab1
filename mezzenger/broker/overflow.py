"""What happens to a publish for which there is no room, as the policy of its name has it."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mezzenger.broker.awaited import ALL
from mezzenger.broker.deliveries import Deliveries
from mezzenger.broker.leaving import Leaving
from mezzenger.broker.room import Copy, Lack, Room
from mezzenger.protocol import wire
from mezzenger.protocol.splitting import split

MAX_HELD_SIZE: Final = 64 * 2**20
"""Bytes of all frames that wait for room."""


@dataclass(slots=True, eq=False)
class Publication:
    """A frame that is to be stored."""

    header: wire.Header
    frame: bytes
    due: float | None
    expires: float | None
    _parts: tuple[bytes, ...] | None = None
    _parts_size: int | None = None

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Each of its messages as a frame of its own."""
        if self._parts is None:
            self._parts = split(self.frame, self.header)
        return self._parts

    @property
    def parts_size(self) -> int:
        """Their size in bytes."""
        if self._parts_size is None:
            self._parts_size = sum(map(len, self.parts))
        return self._parts_size

    def rest(self) -> None:
        """Take up no more memory than the frame does, until it is tried again."""
        self._parts = None


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
        self._awaited = deliveries.pending.awaited
        self._needs: dict[str, tuple[int, int]] = {}
        """What must be free in the whole server, by the names that wait for that."""
        self._scanty: tuple[float, int] = (0, 0)
        """So many messages and bytes that were free were enough for none of these."""
        self._sequences: set[tuple[int, int]] = set()
        """Client and sequence of each."""

    def holds(self, client: int, sequence: int) -> bool:
        """Whether a frame of a client waits for room."""
        return (client, sequence) in self._sequences

    def admit(self, publication: Publication, now: float) -> bool:
        """Take in a frame; return False if it is held until there is room."""
        name = publication.header.name
        lack = None
        if name not in self._held and (lack := self._try(publication, now)) is None:
            return True
        if self._held_size + len(publication.frame) > MAX_HELD_SIZE:
            self._refuse(publication, f"{self._held_size} bytes of messages wait for room already")
            return True
        self._held.setdefault(name, deque()).append(publication)
        self._held_size += len(publication.frame)
        self._sequences.add(_key(publication))
        publication.rest()
        if lack is not None:
            self._wait(name, lack)
        return False

    def retry(self, now: float) -> None:
        """Let in what was held and there may be room for by now: only what waits for something that has changed."""
        if not self._held:
            return
        while names := self._awaited.take():
            for name in names:
                self._go_on(name, now)
        for name in self._awaited.waiting(ALL):
            if _fits(self._room.spare(), self._scanty):
                return
            if _fits(self._needs[name], self._room.spare()):
                self._go_on(name, now)
        self._scanty = self._room.spare()

    def _go_on(self, name: str, now: float) -> None:
        held = self._held[name]
        lack = None
        while held and (lack := self._try(held[0], now)) is None:
            self._let_go(held.popleft())
        if lack is not None:
            held[0].rest()
            self._wait(name, lack)
        self._forget_if_empty(name)

    def _wait(self, name: str, lack: Lack) -> None:
        """Have a name wait until its first frame may find room."""
        if lack.needs is None:
            self._needs.pop(name, None)
            self._awaited.wait(name, lack.queue)
        else:
            messages, size = self._room.spare()
            most_messages, most_size = self._scanty
            self._scanty = min(messages, most_messages), min(size, most_size)
            self._needs[name] = lack.needs
            self._awaited.wait(name, ALL)

    def left(self, client: int) -> None:
        """Forget what a client waits for that is gone: it will send it again."""
        for name, held in list(self._held.items()):
            for publication in held:
                if publication.header.client == client:
                    self._let_go(publication)
            self._held[name] = deque(one for one in held if one.header.client != client)
            self._forget_if_empty(name)
        # What is the first one now may need less.
        self._awaited.rerouted()

    def _let_go(self, publication: Publication) -> None:
        self._held_size -= len(publication.frame)
        self._sequences.remove(_key(publication))

    def _forget_if_empty(self, name: str) -> None:
        if not self._held[name]:
            del self._held[name]
            self._needs.pop(name, None)
            self._awaited.forget(name)
            # What was read to find the oldest is needed no more.
            self._deliveries.evict_of(name)

    def _try(self, publication: Publication, now: float) -> Lack | None:
        """Store a frame or refuse it; return why, if it must wait."""
        copies = self._copies(publication)
        lacks = self._lacks(publication, copies)
        if not lacks:
            self._store(publication, copies)
            return None
        overflow = self._room.policies.of(publication.header.name).overflow
        hopeless = next((lack for lack in lacks if overflow not in lack.cures), None)
        if hopeless is not None:
            self._refuse(publication, hopeless.text)
            return None
        if overflow == "block":
            return lacks[0]
        return self._make_room(publication, copies, now, is_buried=overflow == "dead_letter")

    def _make_room(self, publication: Publication, copies: list[Copy], now: float, *, is_buried: bool) -> Lack | None:
        """Have the oldest frames of full queues leave; return in which they must be stored or read first.

        They leave when it is known that there is room without them, so that a publish that is refused costs nothing.
        """
        leaving = Leaving(self._deliveries.pending)
        most = self._deliveries.fates.room_for_dead() if is_buried else None
        while lacks := self._lacks(publication, copies, leaving):
            lack = lacks[0]
            if most is not None and len(leaving.entries) >= most:
                self._refuse(publication, lack.text)
                return None
            if leaving.add_oldest(lack.queue, lack.text):
                continue
            frames = self._wanted(publication) + len(leaving.entries)
            if not (self._deliveries.read_oldest(lack.queue, frames) or self._room.is_filling(lack.queue)):
                # More must go than is in memory at a time; these are the oldest.
                self._give_up(leaving, now, is_buried=is_buried)
            return lack._replace(needs=None)
        self._give_up(leaving, now, is_buried=is_buried)
        self._store(publication, copies)
        return None

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


def _fits(what: tuple[float, int], space: tuple[float, int]) -> bool:
    return what[0] <= space[0] and what[1] <= space[1]
