"""Which messages wait for each other, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mezzenger.message import MAX_NAME_BYTES
from mezzenger.protocol.gathering import GAP, LONGEST, MAX_PAYLOAD, OVERHEAD, ROOM, Batch, Gathering
from mezzenger.protocol.wire import MAX_BATCH, encode_data

SOON = GAP / 2
MAX_MESSAGES = ROOM // (8 + OVERHEAD)
"""Of 8 bytes each."""
ONE, OTHER = 1, 2
"""Numbers of codecs."""


def item(number: int, size: int = 8) -> tuple[float, bytes]:
    """Return a message that can be told from others."""
    return (float(number), number.to_bytes(8) + bytes(size - 8))


def burst(messages: int, size: int = 8) -> tuple[Gathering, float]:
    """Return what has taken in so many messages of one name, after one that left alone, and the time of the last."""
    gathering = Gathering()
    gathering.take("a", item(0), ONE, 0.0)
    gathering.take_all()
    for number in range(1, messages + 1):
        assert gathering.take("a", item(number, size), ONE, number * SOON / 1000) == SOON / 1000 + LONGEST
    return gathering, messages * SOON / 1000


@pytest.mark.parametrize("pause", [2 * GAP, 1.0])
def test_a_lone_message_leaves_at_once(pause: float) -> None:
    """Neither the first of all waits, nor one that comes some time after the last."""
    gathering = Gathering()
    for number in range(5):
        now = 5.0 + number * pause
        assert gathering.take("a", item(number), ONE, now) == now
        assert gathering.take_all() == [Batch("a", [item(number)], ONE)]
    assert gathering.deadline is None
    assert gathering.take_all() == []


def test_a_burst_waits() -> None:
    """What follows closely waits, for a millisecond from the first that does, whatever its name."""
    gathering = Gathering()
    gathering.take("a", item(0), ONE, 1.0)
    gathering.take_all()
    deadline = 1.0 + SOON + LONGEST
    assert gathering.take("a", item(1), ONE, 1.0 + SOON) == deadline
    assert gathering.take("b", item(2), ONE, 1.0 + 2 * SOON) == deadline
    assert gathering.take("a", item(3), ONE, 1.0 + 3 * SOON) == deadline
    assert gathering.deadline == deadline
    assert gathering.take_all() == [Batch("a", [item(1), item(3)], ONE), Batch("b", [item(2)], ONE)]
    assert gathering.deadline is None
    assert gathering.take_all() == []


def test_a_call_that_sends_is_no_pause() -> None:
    """However long it took to send a full batch: the burst goes on after it."""
    gathering, now = burst(MAX_MESSAGES - 1)
    gathering.take("a", item(1), ONE, now)
    gathering.take_all()
    gathering.sent(now + 5.0)
    assert gathering.take("a", item(2), ONE, now + 5.0 + SOON) == now + 5.0 + SOON + LONGEST


def test_the_end_of_a_burst() -> None:
    """A message that comes later leaves at once, together with what waits."""
    gathering, now = burst(2)
    assert gathering.take("a", item(9), ONE, now + GAP) == now + GAP
    assert gathering.take_all() == [Batch("a", [item(1), item(2), item(9)], ONE)]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_full_batch_is_due(name: str) -> None:
    """When as many wait as a batch holds, of whatever names, all must leave now; the next are counted anew."""
    gathering, now = burst(MAX_MESSAGES - 1)
    assert gathering.take(name, item(1), ONE, now) == now
    assert sum(len(items) for _, items, _ in gathering.take_all()) == MAX_MESSAGES
    assert gathering.take(name, item(1), ONE, now) == now + LONGEST


def test_many_bytes_are_due() -> None:
    """So they must when they are many bytes, of whatever names; the next ones are counted anew."""
    count = ROOM // (MAX_PAYLOAD + OVERHEAD)
    gathering, now = burst(count, MAX_PAYLOAD)
    assert gathering.take("b", item(1, MAX_PAYLOAD), ONE, now) == now
    gathering.take_all()
    assert gathering.take("b", item(1, MAX_PAYLOAD), ONE, now) == now + LONGEST


@pytest.mark.parametrize("size", [8, 200, MAX_PAYLOAD])
def test_any_server_takes_a_batch(size: int) -> None:
    """The largest that can be gathered is below the smallest limit that a server may have."""
    gathering, now = burst((ROOM - 1) // (size + OVERHEAD), size)
    assert gathering.take("a", item(1, MAX_PAYLOAD), ONE, now) == now
    ((name, items, _),) = gathering.take_all()
    assert len(items) <= MAX_BATCH
    assert len(encode_data(name * MAX_NAME_BYTES, items, ack=0, codec=1, client=1, sequence=1)) < 64 * 2**10


def test_a_large_message_travels_alone() -> None:
    """It would gain nothing by company, and goes behind what waits."""
    gathering, now = burst(1)
    assert gathering.take("a", item(2, MAX_PAYLOAD), ONE, now) > now
    assert gathering.take("a", item(3, MAX_PAYLOAD + 1), ONE, now) == now
    assert [[int(created) for created, _ in items] for _, items, _ in gathering.take_all()] == [[1, 2], [3]]
    assert gathering.take_all() == []


def test_codecs_are_not_mixed() -> None:
    """A message that is written otherwise than what waits of its name leaves behind that; other names are not held."""
    gathering, now = burst(2)
    assert gathering.take("b", item(4), OTHER, now) > now
    assert gathering.take("a", item(3), OTHER, now) == now
    assert gathering.take_all() == [
        Batch("a", [item(1), item(2)], ONE),
        Batch("b", [item(4)], OTHER),
        Batch("a", [item(3)], OTHER),
    ]
    assert gathering.take("a", item(5), OTHER, now) > now


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from([ONE, OTHER]),
            st.sampled_from([0.0, SOON, GAP, 1.0]),
            st.booleans(),
            st.booleans(),
        )
    )
)
def test_order_is_kept(steps: list[tuple[str, int, float, bool, bool]]) -> None:
    """What leaves is in order of each name, and none is lost."""
    gathering, now = Gathering(), 0.0
    left: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    def leave() -> None:
        for name, items, _ in gathering.take_all():
            left[name] += [int(created) for created, _ in items]

    for number, (name, codec, pause, is_large, leaves) in enumerate(steps):
        now += pause
        deadline = gathering.take(name, item(number, MAX_PAYLOAD + 1 if is_large else 8), codec, now)
        if deadline <= now or leaves:
            leave()
    leave()
    for name, numbers in left.items():
        assert numbers == [number for number, step in enumerate(steps) if step[0] == name]
