"""A clock that stands still until somebody moves it."""

import time

from mezzenger.testing import FakeClock


def test_it_stands_still() -> None:
    """It shows the time of now at first, or what it is told, and nothing else until it is moved; never back."""
    assert abs(FakeClock()() - time.time()) < 60
    clock = FakeClock(100.0)
    clock.move(130.0)
    clock.move(120.0)
    assert clock() == clock.now == 130.0


def test_alarms_ring_at_their_moments() -> None:
    """In order of their moments, those of one moment in the order in which they were set; new ones among them."""
    clock = FakeClock(100.0)
    rung: list[tuple[str, float]] = []

    def ring(name: str) -> None:
        rung.append((name, clock.now))
        if name == "second":
            clock.after(1.0, lambda: ring("set by the second"))

    for name, seconds in (("third", 5.0), ("first", 1.0), ("second", 1.0), ("late", 20.0)):
        clock.after(seconds, lambda name=name: ring(name))  # type: ignore[misc]  # mypy does not know the default
    assert clock.next_alarm() == 101.0
    clock.move(110.0)
    assert rung == [("first", 101.0), ("second", 101.0), ("set by the second", 102.0), ("third", 105.0)]
    assert (clock.now, clock.next_alarm()) == (110.0, 120.0)
