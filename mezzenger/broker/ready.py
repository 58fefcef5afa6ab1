"""The frames of a group that can be given out, and those that wait behind another one of the same key."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

SPARE: Final = 64
"""How many numbers that are of no use any more are kept in a heap, be there as few others as there may."""


@dataclass(slots=True)
class _Lane:
    """The frames of one key: one of them at a time is given out, and must be done before the next."""

    head: int
    behind: list[int] = field(default_factory=list)
    """A heap."""
    gone: int = 0
    """How many of these are done, at most."""


class Ready:
    """Numbers of frames, oldest first.

    A frame without a key stands for itself. Of those with the same key only the oldest can be given out; the next one
    follows when it is ``done``, however often it was put back in between.
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._present: set[int] = set()
        self._lanes: dict[str, _Lane] = {}
        self._keys: dict[int, str] = {}
        self.waiting: set[int] = set()
        """What cannot be given out now, and whose frame is in memory for all that is known here."""

    def __len__(self) -> int:
        return len(self._present)

    @property
    def with_keys(self) -> int:
        """How many frames with keys are not done."""
        return len(self._keys)

    def hold(self, number: int, key: str | None) -> bool:
        """Let a frame take its place among those of its key; return whether it is the one that can be given out."""
        if key is None:
            return True
        self._keys[number] = key
        lane = self._lanes.setdefault(key, _Lane(number))
        if lane.head == number:
            return True
        heapq.heappush(lane.behind, number)
        self.waiting.add(number)
        return False

    def wait(self, number: int) -> None:
        """Take note that a frame in memory cannot be given out now, unless it can."""
        if number not in self._present:
            self.waiting.add(number)

    def take_waiting(self) -> set[int]:
        """Return, and forget, the frames in memory that cannot be given out now."""
        waiting, self.waiting = self.waiting, set()
        return waiting

    def put(self, number: int, key: str | None) -> None:
        """Have a frame given out, when it is its turn."""
        if self.hold(number, key):
            self._push(number)

    def pop(self) -> int:
        """Return the oldest frame that can be given out."""
        while True:
            number = heapq.heappop(self._numbers)
            if number in self._present:
                self._present.remove(number)
                return number

    def key(self, number: int) -> str | None:
        """Return the key of a frame that was put and is not done."""
        return self._keys.get(number)

    def done(self, number: int) -> None:
        """Take note that a frame will not come again: the next one of its key can be given out."""
        self.waiting.discard(number)
        self._present.discard(number)
        key = self._keys.pop(number, None)
        if key is None:
            return
        lane = self._lanes[key]
        if lane.head != number:
            # What is done stays in the heap until it comes up; not more of it than is not done.
            lane.gone += 1
            if lane.gone > len(lane.behind) // 2 + SPARE:
                lane.behind, lane.gone = self.left(lane.behind), 0
            return
        while lane.behind:
            lane.head = heapq.heappop(lane.behind)
            if lane.head in self._keys:
                self._push(lane.head)
                return
        del self._lanes[key]

    def left(self, numbers: Iterable[int]) -> list[int]:
        """Return those of some frames with keys that are not done, as a heap."""
        return sorted(number for number in numbers if number in self._keys)

    def clear(self) -> None:
        """Forget all."""
        self._numbers.clear()
        self._present.clear()
        self._lanes.clear()
        self._keys.clear()
        self.waiting.clear()

    def _push(self, number: int) -> None:
        self.waiting.discard(number)
        if number not in self._present:
            self._present.add(number)
            heapq.heappush(self._numbers, number)
            if len(self._numbers) > 2 * len(self._present) + SPARE:
                self._numbers = sorted(self._present)
