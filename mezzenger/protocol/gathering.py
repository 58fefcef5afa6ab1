"""Messages that come so fast one after the other that they travel together, a batch for each name and codec.

A message that comes alone leaves at once. Within a burst messages wait for each other, until a batch is full or its
first message has waited for a millisecond. The order of each name is kept.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_MESSAGES: Final = 256
"""Of all that waits."""
MAX_PAYLOAD: Final = 16_384
"""Bytes of a payload; what is larger gains nothing by company."""
MAX_GATHERED: Final = 32_768
"""Bytes of all that waits, but for the last message: any server takes them in one frame."""
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


class Gathering:
    """What waits to be sent."""

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}
        self._last_one: list[Batch] = []
        """A message that does not go into a batch, and leaves with all that waits, behind it."""
        self._messages = 0
        self._size = 0
        self._last = -GAP
        self.deadline: float | None = None
        """When what waits must leave; None if nothing does."""

    def take(self, name: str, item: Item, codec: int, now: float) -> float:
        """Take in a message; return the deadline, which is over if all that waits must leave now."""
        size = len(item[1])
        is_burst = now - self._last < GAP
        self._last = now
        batch = self._batches.get(name)
        if size > MAX_PAYLOAD or (batch is not None and batch.codec != codec):
            self._last_one = [Batch(name, [item], codec)]
            self.deadline = now
            return now
        if batch is None:
            self._batches[name] = Batch(name, [item], codec)
        else:
            batch.items.append(item)
        self._messages += 1
        self._size += size
        if not is_burst or self._messages >= MAX_MESSAGES or self._size >= MAX_GATHERED:
            self.deadline = now
        elif self.deadline is None:
            self.deadline = now + LONGEST
        return self.deadline

    def sent(self, now: float) -> None:
        """Take note that the call which had to send has done so; it may have taken longer than a gap."""
        self._last = now

    def take_all(self) -> Sequence[Batch]:
        """Return, and forget, all that waits, in order of each name."""
        batches = [*self._batches.values(), *self._last_one]
        self._batches, self._last_one = {}, []
        self._messages = self._size = 0
        self.deadline = None
        return batches
