"""Messages that come so fast one after the other that they travel together, a batch for each name.

A message that comes alone leaves at once. Within a burst messages wait for each other, until a batch is full or its
first message has waited for a millisecond. The order of each name is kept.
"""

from collections.abc import Sequence
from typing import Final

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


class Gathering:
    """What waits to be sent."""

    def __init__(self) -> None:
        self._batches: dict[str, list[Item]] = {}
        self._large: list[tuple[str, list[Item]]] = []
        self._messages = 0
        self._size = 0
        self._last = -GAP
        self.deadline: float | None = None
        """When what waits must leave; None if nothing does."""

    def take(self, name: str, item: Item, now: float) -> float:
        """Take in a message; return the deadline, which is over if all that waits must leave now."""
        size = len(item[1])
        is_burst = now - self._last < GAP
        self._last = now
        if size > MAX_PAYLOAD:
            self._large = [(name, [item])]
            self.deadline = now
            return now
        batch = self._batches.get(name)
        if batch is None:
            self._batches[name] = [item]
        else:
            batch.append(item)
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

    def take_all(self) -> Sequence[tuple[str, list[Item]]]:
        """Return, and forget, all that waits, in order of each name; what is large travels by itself."""
        batches = [*self._batches.items(), *self._large]
        self._batches, self._large = {}, []
        self._messages = self._size = 0
        self.deadline = None
        return batches
