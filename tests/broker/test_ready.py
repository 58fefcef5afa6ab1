"""``Ready``: in which order frames are given out, with keys and without."""

import pytest

from mezzenger.broker.ready import Ready


def taken(ready: Ready) -> list[int]:
    """Take out all that can be given out now."""
    return [ready.pop() for _ in range(len(ready))]


def test_without_keys_the_oldest_goes_first() -> None:
    """Whatever the order in which they come, and each once."""
    ready = Ready()
    for number in (3, 1, 2, 1):
        ready.put(number, None)
    assert taken(ready) == [1, 2, 3]


def test_one_of_a_key_at_a_time() -> None:
    """The next of a key follows when the one before is done; other keys do not wait for it."""
    ready = Ready()
    for number, key in ((1, "a"), (2, "a"), (3, "b"), (4, None), (5, "a")):
        ready.put(number, key)
    assert taken(ready) == [1, 3, 4]
    assert ready.key(1) == "a"
    ready.done(1)
    assert ready.key(1) is None
    assert taken(ready) == [2]
    ready.done(2)
    assert taken(ready) == [5]
    ready.done(5)
    assert taken(ready) == []
    ready.put(6, "a")
    assert taken(ready) == [6]


def test_what_is_put_back_keeps_its_place() -> None:
    """A frame that could not be handled is given out again before the next of its key."""
    ready = Ready()
    ready.put(1, "a")
    ready.put(2, "a")
    assert taken(ready) == [1]
    ready.put(1, "a")
    assert taken(ready) == [1]


def test_what_is_held_lets_nobody_pass() -> None:
    """A frame that is to come later stands before the others of its key."""
    ready = Ready()
    assert ready.hold(1, "a")
    ready.put(2, "a")
    assert ready.hold(3, None)
    assert taken(ready) == []
    ready.put(1, "a")
    assert taken(ready) == [1]


def test_what_is_done_while_it_waits_is_passed_over() -> None:
    """A frame that expires behind another one of its key is not given out."""
    ready = Ready()
    for number in (1, 2, 3):
        ready.put(number, "a")
    ready.done(2)
    taken(ready)
    ready.done(1)
    assert taken(ready) == [3]
    ready.done(3)
    ready.done(3)
    assert taken(ready) == []


def test_all_of_a_key_is_done() -> None:
    """Where nothing of a key is left, the next frame with it is given out at once."""
    ready = Ready()
    for number in (1, 2):
        ready.put(number, "a")
    taken(ready)
    ready.done(2)
    ready.done(1)
    ready.put(3, "a")
    assert taken(ready) == [3]


@pytest.mark.parametrize("key", ["a", None])
def test_what_is_done_takes_no_room(key: str | None) -> None:
    """Though nothing is given out, as where what waits for a member that is stuck expires."""
    ready = Ready()
    ready.put(0, key)
    for number in range(1, 1000):
        ready.put(number, key)
        if number > 5:
            ready.done(number)
    assert len(ready) == (6 if key is None else 1)
    assert len(ready._numbers) < 200
    assert all(len(lane.behind) < 200 for lane in ready._lanes.values())
    numbers = []
    while ready:
        numbers.append(ready.pop())
        ready.done(numbers[-1])
    assert numbers == [0, 1, 2, 3, 4, 5]


def test_all_is_forgotten() -> None:
    """After ``clear`` it is as new."""
    ready = Ready()
    for number in (1, 2):
        ready.put(number, "a")
    ready.clear()
    ready.put(2, "a")
    assert taken(ready) == [2]


def test_what_waits_in_memory_is_known() -> None:
    """It does until it can be given out, or is done; it may be told once more, and is forgotten when it is taken."""
    ready = Ready()
    for number in (1, 2, 3, 4):
        ready.put(number, "a")
    assert ready.waiting == {2, 3, 4}
    ready.done(3)
    ready.done(1)
    ready.wait(2)
    assert ready.take_waiting() == {4}
    assert ready.waiting == set()
    ready.wait(4)
    assert ready.waiting == {4}
    ready.clear()
    assert ready.waiting == set()
