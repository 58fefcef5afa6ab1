"""Messages that come so fast one after the other that they travel together, a batch for each name and codec.

A message that comes alone leaves at once. Within a burst messages wait for each other, until a batch is full or its
first message has waited for a millisecond. The order of each name is kept.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_PAYLOAD: Final = 16_384
"""Bytes of a payload; what is larger gains nothing by company."""
ROOM: Final = 40_960
"""Bytes of all that waits but the last message, overheads counted: any server takes them in one frame."""
OVERHEAD: Final = 32
"""Bytes that a message counts beside its payload, so that a batch has no more than some 1,300 of them."""
GAP: Final = 50e-6
"""Seconds from the end of one call to the next one of the same burst, at most; an answer to an answer takes longer."""
LONGEST: Final = 1e-3
"""Seconds that a message waits at most."""

Item = tuple[float, bytes]


class Batch(NamedTuple):
    """What waits of one name."""

    name: str
    items: list[Item]
    codec: int
    """With which all of them are written."""


_NONE: Final = Batch("", [], -1)


class Gathering:
    """What waits to be sent."""

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}
        self._last_one: list[Batch] = []
        """A message that does not go into a batch, and leaves with all that waits, behind it."""
        self._room = ROOM
        self._last = -GAP
        self._latest = _NONE
        """The batch into which the last message went; the next one is likely to go there, too."""
        self.deadline: float | None = None
        """When what waits must leave; None if nothing does."""

    def take(self, name: str, item: Item, codec: int, now: float) -> float:
        """Take in a message; return the deadline, which is over if all that waits must leave now."""
        is_burst = now - self._last < GAP
        self._last = now
        size = len(item[1])
        batch = self._latest
        if name is not batch[0] or codec != batch[2] or size > MAX_PAYLOAD:
            if size > MAX_PAYLOAD or not self._finds(name, codec):
                self._last_one = [Batch(name, [item], codec)]
                self.deadline = now
                return now
            batch = self._latest
        batch[1].append(item)
        self._room -= size + OVERHEAD
        deadline = self.deadline
        if not is_burst or self._room <= 0:
            self.deadline = deadline = now
        elif deadline is None:
            self.deadline = deadline = now + LONGEST
        return deadline

    def _finds(self, name: str, codec: int) -> bool:
        """Find the batch of a name, and return whether what is written with that codec may go into it."""
        batch = self._batches.get(name)
        if batch is None:
            batch = self._batches[name] = Batch(name, [], codec)
        self._latest = batch
        return batch.codec == codec

    def sent(self, now: float) -> None:
        """Take note that the call which had to send has done so; it may have taken longer than a gap."""
        self._last = now

    def take_all(self) -> Sequence[Batch]:
        """Return, and forget, all that waits, in order of each name."""
        batches = [*self._batches.values(), *self._last_one]
        self._batches, self._last_one = {}, []
        self._latest = _NONE
        self._room = ROOM
        self.deadline = None
        return batches
