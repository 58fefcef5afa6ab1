"""Which messages wait for each other, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mezzenger.protocol.gathering import GAP, LONGEST, MAX_GATHERED, MAX_MESSAGES, MAX_PAYLOAD, Batch, Gathering

SOON = GAP / 2
ONE, OTHER = 1, 2
"""Numbers of codecs."""


def item(number: int, size: int = 8) -> tuple[float, bytes]:
    """Return a message that can be told from others."""
    return (float(number), number.to_bytes(8) + bytes(size - 8))


def burst(messages: int, size: int = 8) -> tuple[Gathering, float]:
    """Return what has taken in so many messages of one name, after one that left alone, and the time of the last."""
    gathering = Gathering()
    assert not gathering.takes("a", item(0), ONE, 0.0)
    for number in range(1, messages + 1):
        assert gathering.takes("a", item(number, size), ONE, number * SOON / 1000)
    return gathering, messages * SOON / 1000


@pytest.mark.parametrize("pause", [2 * GAP, 1.0])
def test_a_lone_message_leaves_at_once(pause: float) -> None:
    """Neither the first of all waits, nor one that comes some time after the last."""
    gathering = Gathering()
    for number in range(5):
        assert not gathering.takes("a", item(number), ONE, 5.0 + number * pause)
    assert gathering.deadline is None
    assert gathering.take_all() == []


def test_a_burst_waits() -> None:
    """What follows closely waits, for a millisecond from the first that does, whatever its name."""
    gathering = Gathering()
    assert not gathering.takes("a", item(0), ONE, 1.0)
    assert gathering.takes("a", item(1), ONE, 1.0 + SOON)
    assert gathering.takes("b", item(2), ONE, 1.0 + 2 * SOON)
    assert gathering.takes("a", item(3), ONE, 1.0 + 3 * SOON)
    assert gathering.deadline == 1.0 + SOON + LONGEST
    assert gathering.take_all() == [Batch("a", [item(1), item(3)], ONE), Batch("b", [item(2)], ONE)]
    assert gathering.deadline is None
    assert gathering.take_all() == []


def test_the_end_of_a_burst() -> None:
    """A message that comes later leaves at once, and what waits is still there to leave before it."""
    gathering, now = burst(2)
    assert not gathering.takes("a", item(9), ONE, now + GAP)
    assert gathering.take_all() == [Batch("a", [item(1), item(2)], ONE)]


def test_a_full_batch_is_due() -> None:
    """When a name has as many as a batch holds, all must leave now."""
    gathering, now = burst(MAX_MESSAGES - 1)
    assert gathering.deadline is not None
    assert gathering.deadline > now
    gathering.takes("a", item(1), ONE, now)
    assert gathering.deadline == now
    assert len(gathering.take_all()[0][1]) == MAX_MESSAGES


def test_many_bytes_are_due() -> None:
    """So they must when they are many bytes, of whatever names; the next ones are counted anew."""
    count = MAX_GATHERED // MAX_PAYLOAD
    gathering, now = burst(count - 1, MAX_PAYLOAD)
    assert gathering.deadline is not None
    assert gathering.deadline > now
    assert gathering.takes("b", item(1, MAX_PAYLOAD), ONE, now)
    assert gathering.deadline == now
    gathering.take_all()
    assert gathering.takes("b", item(1, MAX_PAYLOAD), ONE, now)
    assert gathering.deadline == now + LONGEST


def test_a_large_message_travels_alone() -> None:
    """It would gain nothing by company."""
    gathering, now = burst(1)
    assert gathering.takes("a", item(1, MAX_PAYLOAD), ONE, now)
    assert not gathering.takes("a", item(1, MAX_PAYLOAD + 1), ONE, now)


def test_codecs_are_not_mixed() -> None:
    """A message that is written otherwise than what waits of its name leaves behind that; other names are not held."""
    gathering, now = burst(2)
    assert not gathering.takes("a", item(3), OTHER, now)
    assert gathering.takes("b", item(4), OTHER, now)
    assert gathering.take_all() == [Batch("a", [item(1), item(2)], ONE), Batch("b", [item(4)], OTHER)]
    assert gathering.takes("a", item(5), OTHER, now)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from([ONE, OTHER]), st.sampled_from([0.0, SOON, GAP, 1.0]), st.booleans()
        )
    )
)
def test_order_is_kept(steps: list[tuple[str, int, float, bool]]) -> None:
    """What leaves before a message that is not taken in, and what is taken, is in order of each name; none is lost."""
    gathering, now = Gathering(), 0.0
    left: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    def leave() -> None:
        for name, items, _ in gathering.take_all():
            left[name] += [int(created) for created, _ in items]

    for number, (name, codec, pause, is_taken) in enumerate(steps):
        now += pause
        if not gathering.takes(name, item(number), codec, now):
            leave()
            left[name].append(number)
        elif is_taken:
            leave()
    leave()
    for name, numbers in left.items():
        assert numbers == [number for number, step in enumerate(steps) if step[0] == name]
