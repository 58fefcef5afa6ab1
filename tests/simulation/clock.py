"""Time that passes only when nothing is left to do, and chance that a seed decides."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Final

from mezzenger.testing import FakeClock

START: Final = 1000.0
SOON: Final = 0.0001
"""Seconds that pass at least until an alarm rings."""
LOOK: Final = 0.02
"""Seconds from one look to the next at whether something is so."""
EPOCH: Final = 1_700_000_000.0
"""What the wall clock shows when a history begins, in Unix seconds."""


class Clock(FakeClock):
    """What happens when: the same seed gives the same history. What it shows is steady, as a monotonic clock is.

    Args:
        seed: Of all that happens by chance.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(START)
        self.wall = EPOCH - START
        """What the wall clock shows, less ``now``; it changes only when the wall clock is set."""
        self.random = random.Random(seed)
        self.counted: Counter[str] = Counter()
        self.is_calm = False
        """Whether nothing breaks any more."""
        self._told: list[tuple[float, str, tuple[object, ...]]] = []

    @property
    def story(self) -> list[str]:
        """What happened, in lines."""
        return [f"{now - START:9.4f}  {what:28}  {' '.join(map(str, details))}" for now, what, details in self._told]

    def soon(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something done within so many seconds."""
        self.after(self.random.random() * seconds, act)

    def run_to(self, is_done: Callable[[], bool], *, until: float) -> None:
        """Let time pass until something is so, or for so long; one looks now and then whether it is."""
        while self.now < until and not is_done():
            self.move(min(self.now + LOOK, until))

    def jump(self) -> None:
        """Set the wall clock an hour forward, or back, or right again."""
        wall = EPOCH - START + self.random.choice((-3600.0, 0.0, 3600.0))
        if wall != self.wall:
            self.tell("clock jumps forward" if wall > self.wall else "clock jumps back", f"by {wall - self.wall:g} s")
            self.wall = wall

    def breaks(self, probability: float, what: str, *details: object) -> bool:
        """Whether something breaks that does so with this probability."""
        if self.random.random() >= probability or self.is_calm:
            return False
        self.tell(what, *details)
        return True

    def tell(self, what: str, *details: object) -> None:
        """Count something, and write it into the story."""
        self.counted[what] += 1
        self._told.append((self.now, what, details))


class Alarm:
    """Has something done at the earliest of the moments that it was set to since it last rang.

    Args:
        clock: Of the simulation.
        act: What is to be done.
    """

    def __init__(self, clock: Clock, act: Callable[[], None]) -> None:
        self._clock = clock
        self._act = act
        self._moment: float | None = None

    def set(self, moment: float | None) -> None:
        """Ring at some moment of the steady clock, or before."""
        if moment is not None and (self._moment is None or moment < self._moment):
            self._moment = moment
            self._clock.after(max(moment - self._clock.now, SOON), lambda: self._ring(moment))

    def stop(self) -> None:
        """Ring no more until it is set again."""
        self._moment = None

    def _ring(self, moment: float) -> None:
        # What it was set to before it was set to an earlier moment, or stopped, is void.
        if self._moment == moment:
            self._moment = None
            self._act()
