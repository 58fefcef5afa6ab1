"""Messages that come so fast one after the other that they travel together, a batch for each name and codec.

A message that comes alone leaves at once. Within a burst messages wait for each other, until a batch is full or its
first message has waited for a millisecond. The order of each name is kept.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_MESSAGES: Final = 256
MAX_PAYLOAD: Final = 16_384
"""Bytes of a payload; what is larger gains nothing by company."""
MAX_GATHERED: Final = 2**18
"""Bytes of all that waits."""
GAP: Final = 100e-6
"""Seconds between two messages of one burst, at most: some times what it takes to send one alone."""
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
        self._size = 0
        self._last = -GAP
        self.deadline: float | None = None
        """When what waits must leave; None if nothing does."""

    def takes(self, name: str, item: Item, codec: int, now: float) -> bool:
        """Take in a message, unless it should leave at once and by itself.

        What waits of its name must leave before one that is not taken in.
        """
        is_burst = now - self._last < GAP
        self._last = now
        if not is_burst or len(item[1]) > MAX_PAYLOAD:
            return False
        batch = self._batches.get(name)
        if batch is None:
            self._batches[name] = batch = Batch(name, [], codec)
            if self.deadline is None:
                self.deadline = now + LONGEST
        elif batch.codec != codec:
            return False
        batch.items.append(item)
        self._size += len(item[1])
        if len(batch.items) == MAX_MESSAGES or self._size >= MAX_GATHERED:
            self.deadline = now
        return True

    def take_all(self) -> Sequence[Batch]:
        """Return, and forget, all that waits, in order of each name."""
        batches, self._batches = self._batches, {}
        self._size = 0
        self.deadline = None
        return list(batches.values())
