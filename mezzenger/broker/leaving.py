"""Which frames are to leave a full store, to make room for another one."""

from collections.abc import Iterator
from typing import Final

from mezzenger.broker.entry import Entry
from mezzenger.broker.pending import Pending

_NOTHING: Final = (0, 0)


class Leaving:
    """The oldest frames of some queues. Nothing becomes of them before it is known that they are enough.

    Args:
        pending: Where they are.
    """

    def __init__(self, pending: Pending) -> None:
        self._pending = pending
        self.entries: list[tuple[Entry, str]] = []
        """Each with the reason why it must go."""
        self.messages = 0
        self.size = 0
        """In bytes."""
        self._of: dict[str, tuple[int, int]] = {}
        self._oldest: dict[str, Iterator[Entry]] = {}

    def of(self, queue: str) -> tuple[int, int]:
        """Return how many messages of a queue are among them, and the bytes of their frames."""
        return self._of.get(queue, _NOTHING)

    def add_oldest(self, queue: str, why: str) -> bool:
        """Add the oldest frame of a queue that is not among them; return False if it is not in memory."""
        entry = next(self._oldest_of(queue), None)
        if entry is None:
            return False
        size = entry.size
        messages, bytes_before = self.of(queue)
        self._of[queue] = messages + entry.messages, bytes_before + size
        self.messages += entry.messages
        self.size += size
        self.entries.append((entry, why))
        return True

    def _oldest_of(self, queue: str) -> Iterator[Entry]:
        if queue not in self._oldest:
            self._oldest[queue] = self._pending.oldest_first(queue)
        return self._oldest[queue]
