"""Which messages wait for each other, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mezzenger.message import MAX_NAME_BYTES
from mezzenger.protocol.gathering import GAP, LONGEST, MAX_PAYLOAD, OVERHEAD, ROOM, Gathering
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.wire import MAX_BATCH, NO_EXTRA, Extra

SOON = GAP / 2
MAX_MESSAGES = -(-ROOM // (8 + OVERHEAD + 1))
"""Of 8 bytes each, with a name of one."""
ONE, OTHER = 1, 2
"""Numbers of codecs."""
HEADERS = Extra(headers={"a": "b"})
LONG_NAME = "n" * MAX_NAME_BYTES


def item(number: int, size: int = 8) -> tuple[float, bytes]:
    """Return a message that can be told from others."""
    return (float(number), number.to_bytes(8) + bytes(size - 8))


def batch(name: str, *items: tuple[float, bytes], codec: int = ONE, extra: Extra = NO_EXTRA) -> Draft:
    """Return what leaves of one name."""
    return Draft(name, list(items), 0, codec, extra)


def mixed(*some: tuple[str, tuple[float, bytes], Extra]) -> MixedDraft:
    """Return what leaves as a bundle."""
    names, items, extras = zip(*some, strict=True)
    return MixedDraft(list(names), list(items), list(extras), ONE)


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
        assert gathering.take_all() == [batch("a", item(number))]
    assert gathering.deadline is None
    assert gathering.take_all() == []


def test_a_burst_waits() -> None:
    """What follows closely waits, for a millisecond from the first that does; of several names it is a bundle."""
    gathering = Gathering()
    gathering.take("a", item(0), ONE, 1.0)
    gathering.take_all()
    deadline = 1.0 + SOON + LONGEST
    assert gathering.take("a", item(1), ONE, 1.0 + SOON) == deadline
    assert gathering.take("b", item(2), ONE, 1.0 + 2 * SOON) == deadline
    assert gathering.take("a", item(3), ONE, 1.0 + 3 * SOON) == deadline
    assert gathering.deadline == deadline
    leaving = [("a", item(1), NO_EXTRA), ("b", item(2), NO_EXTRA), ("a", item(3), NO_EXTRA)]
    assert gathering.take_all() == [mixed(*leaving)]
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
    assert gathering.take_all() == [batch("a", item(1), item(2), item(9))]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_full_batch_is_due(name: str) -> None:
    """When as many wait as a batch holds, of whatever names, all must leave now; the next are counted anew."""
    gathering, now = burst(MAX_MESSAGES - 1)
    assert gathering.take(name, item(1), ONE, now) == now
    assert sum(len(draft.items) for draft in gathering.take_all()) == MAX_MESSAGES
    assert gathering.take(name, item(1), ONE, now) == now + LONGEST


def test_many_bytes_are_due() -> None:
    """So they must when they are many bytes, of whatever names; the next ones are counted anew."""
    count = ROOM // (MAX_PAYLOAD + OVERHEAD + 1)
    gathering, now = burst(count, MAX_PAYLOAD)
    assert gathering.take("b", item(1, MAX_PAYLOAD), ONE, now) == now
    gathering.take_all()
    assert gathering.take("b", item(1, MAX_PAYLOAD), ONE, now) == now + LONGEST


@pytest.mark.parametrize("size", [8, 200, MAX_PAYLOAD])
@pytest.mark.parametrize("names", [("a",), (LONG_NAME,), ("a", "b"), (LONG_NAME, "ä" * 127)])
@pytest.mark.parametrize("extra", [NO_EXTRA, HEADERS, Extra(headers={"a": "ä" * 4000})])
def test_any_server_takes_what_leaves(names: tuple[str, ...], size: int, extra: Extra) -> None:
    """The largest that can be gathered is below the smallest limit that a server may have."""
    gathering, now = burst(0)
    number = 1
    while gathering.take(names[number % len(names)], item(number, size), ONE, now, extra) > now:
        number += 1
    *fitting, last = gathering.take_all()
    for draft in (*fitting, last):
        assert len(draft.items) <= MAX_BATCH
        assert len(draft.encode(1, 1)) < 64 * 2**10


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_the_last_one_may_be_large(names: tuple[str, ...]) -> None:
    """Even if the last one that fits is as large as can be."""
    gathering, now = burst(MAX_MESSAGES - 1)
    assert gathering.take(names[-1], item(1, MAX_PAYLOAD), ONE, now) == now
    (draft,) = gathering.take_all()
    assert len(draft.items) == MAX_MESSAGES
    assert len(draft.encode(1, 1)) < 64 * 2**10


def test_headers_do_not_keep_messages_apart() -> None:
    """Messages with headers go into a bundle, each with its own; one alone is no bundle."""
    gathering, now = burst(0)
    assert gathering.take("a", item(1), ONE, now, HEADERS) > now
    assert gathering.take_all() == [batch("a", item(1), extra=HEADERS)]
    assert gathering.take("a", item(2), ONE, now, HEADERS) > now
    assert gathering.take("a", item(3), ONE, now) > now
    assert gathering.take_all() == [mixed(("a", item(2), HEADERS), ("a", item(3), NO_EXTRA))]
    assert gathering.take("a", item(4), ONE, now) > now
    assert gathering.take("a", item(5), ONE, now) > now
    assert gathering.take("a", item(6), ONE, now, HEADERS) > now
    leaving = [("a", item(4), NO_EXTRA), ("a", item(5), NO_EXTRA), ("a", item(6), HEADERS)]
    assert gathering.take_all() == [mixed(*leaving)]


def test_a_name_is_its_text() -> None:
    """Another object with the same text is the same name: no bundle is made for it."""
    gathering, now = burst(0)
    for number in range(3):
        gathering.take(str(b"name", "ascii"), item(number), ONE, now)
    assert gathering.take_all() == [batch("name", item(0), item(1), item(2))]


def test_many_headers_travel_alone() -> None:
    """What is beside a payload counts like payload."""
    gathering, now = burst(0)
    extra = Extra(headers={"a": "b" * 8000})
    assert gathering.take("a", item(1, MAX_PAYLOAD - 7000), ONE, now, extra) == now
    assert gathering.take_all() == [batch("a", item(1, MAX_PAYLOAD - 7000), extra=extra)]


def test_a_large_message_travels_alone() -> None:
    """It would gain nothing by company, and goes behind what waits."""
    gathering, now = burst(1)
    assert gathering.take("a", item(2, MAX_PAYLOAD), ONE, now) > now
    assert gathering.take("a", item(3, MAX_PAYLOAD + 1), ONE, now) == now
    assert [[int(created) for created, _ in draft.items] for draft in gathering.take_all()] == [[1, 2], [3]]
    assert gathering.take_all() == []


def test_codecs_are_not_mixed() -> None:
    """A message that is written otherwise than what waits leaves at once, behind that."""
    gathering, now = burst(2)
    assert gathering.take("a", item(3), OTHER, now) == now
    assert gathering.take_all() == [batch("a", item(1), item(2)), batch("a", item(3), codec=OTHER)]
    assert gathering.take("a", item(5), OTHER, now) > now


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from([ONE, OTHER]),
            st.sampled_from([0.0, SOON, GAP, 1.0]),
            st.booleans(),
            st.booleans(),
            st.sampled_from([NO_EXTRA, HEADERS]),
        )
    )
)
def test_order_is_kept(steps: list[tuple[str, int, float, bool, bool, Extra]]) -> None:
    """What leaves is what came, in order, with its name, codec and headers, and none is lost."""
    gathering, now = Gathering(), 0.0
    left: list[tuple[str, int, int, Extra]] = []

    def leave() -> None:
        for draft in gathering.take_all():
            count = len(draft.items)
            names = draft.names if isinstance(draft, MixedDraft) else [draft.name] * count
            extras = draft.extras if isinstance(draft, MixedDraft) else [draft.extra] * count
            for name, extra, (created, _) in zip(names, extras, draft.items, strict=True):
                left.append((name, draft.codec, int(created), extra))

    for number, (name, codec, pause, is_large, leaves, extra) in enumerate(steps):
        now += pause
        deadline = gathering.take(name, item(number, MAX_PAYLOAD + 1 if is_large else 8), codec, now, extra)
        if deadline <= now or leaves:
            leave()
    leave()
    assert left == [(name, codec, number, extra) for number, (name, codec, _, _, _, extra) in enumerate(steps)]
