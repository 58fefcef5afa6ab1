"""Time that passes only when nothing is left to do, and chance that a seed decides."""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Final

START: Final = 1000.0


class Clock:
    """What happens when: the same seed gives the same history.

    Args:
        seed: Of all that happens by chance.
    """

    def __init__(self, seed: int) -> None:
        self.now = START
        self.random = random.Random(seed)
        self.story: list[str] = []
        self.counted: Counter[str] = Counter()
        self.is_calm = False
        """Whether nothing breaks any more."""
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something done some time from now."""
        heapq.heappush(self._due, (self.now + seconds, next(self._numbers), act))

    def soon(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something done within so many seconds."""
        self.after(self.random.random() * seconds, act)

    def run(self, until: float, is_done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        while self._due and self._due[0][0] <= until and not is_done():
            self.now, _, act = heapq.heappop(self._due)
            act()
        if not is_done():
            self.now = until

    def breaks(self, probability: float, what: str, details: str = "") -> bool:
        """Whether something breaks that does so with this probability."""
        if self.random.random() >= probability or self.is_calm:
            return False
        self.tell(what, details)
        return True

    def tell(self, what: str, details: str = "") -> None:
        """Count something, and write it into the story."""
        self.counted[what] += 1
        self.story.append(f"{self.now - START:9.4f}  {what}  {details}")
