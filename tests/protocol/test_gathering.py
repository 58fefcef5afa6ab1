"""Which messages wait for each other, and for how long, and as what they leave."""

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mezzenger.message import MAX_NAME_BYTES
from mezzenger.protocol.gathering import (
    GAP,
    LONGEST,
    MAX_FRAME,
    MAX_PAYLOAD,
    MIN_FRAME,
    Gathering,
    Item,
    Outlet,
)
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.wire import FRAME_OVERHEAD, MAX_BATCH, NO_EXTRA, Extra

SOON = GAP / 2
ONE, OTHER = 1, 2
"""Numbers of codecs."""
HEADERS = Extra(headers={"a": "b"})
LONG_NAME = "n" * MAX_NAME_BYTES
A, B, WITH_HEADERS = Outlet("a", ONE), Outlet("b", ONE), Outlet("a", ONE, HEADERS)


def item(number: int, size: int = 8) -> Item:
    """Return a message that can be told from others."""
    return (float(number), number.to_bytes(8) + bytes(size - 8))


def batch(name: str, *items: Item, codec: int = ONE, extra: Extra = NO_EXTRA) -> Draft:
    """Return what leaves of one name."""
    return Draft(name, items, 0, codec, extra)


def mixed(*some: tuple[str, Item, Extra]) -> MixedDraft:
    """Return what leaves as a bundle."""
    names, items, extras = zip(*some, strict=True)
    return MixedDraft(list(names), items, list(extras), ONE)


def leaving(*waiting: tuple[Outlet, Item], limit: int = MAX_FRAME) -> Sequence[Draft | MixedDraft]:
    """Return as what these leave that have waited together."""
    gathering = Gathering()
    for one in waiting:
        gathering.put(one)
    assert len(gathering) == len(waiting)
    drafts = gathering.take_all(limit)
    assert gathering.take_all(limit) == ()
    return drafts


@pytest.mark.parametrize("pause", [2 * GAP, 1.0])
def test_a_lone_message_leaves_at_once(pause: float) -> None:
    """Neither the first of all waits, nor one that comes some time after the last."""
    gathering = Gathering()
    for number in range(5):
        now = 5.0 + number * pause
        gathering.put((A, (now, b"")))
        assert gathering.deadline < now
        assert not gathering.is_burst(now)
        assert gathering.take_all(MAX_FRAME) == (batch("a", (now, b"")),)


def test_a_burst_waits() -> None:
    """What follows closely waits, for a millisecond from the first that does, whatever comes meanwhile."""
    gathering = Gathering()
    gathering.put((A, (1.0, b"")))
    gathering.take_all(MAX_FRAME)
    first = 1.0 + SOON
    assert gathering.is_burst(first)
    assert gathering.deadline == first + LONGEST
    for now in (first, first + SOON, first + LONGEST - SOON):
        gathering.put((A, (now, b"")))
        assert gathering.is_burst(now)
        assert gathering.deadline == first + LONGEST
    assert not gathering.is_burst(first + LONGEST)


def test_the_end_of_a_burst() -> None:
    """The first that comes after a pause leaves at once, if nothing waits that it could wait with."""
    gathering = Gathering()
    gathering.put((A, (1.0, b"")))
    gathering.take_all(MAX_FRAME)
    assert gathering.is_burst(1.0 + SOON)
    gathering.put((A, (1.0 + SOON, b"")))
    gathering.take_all(MAX_FRAME)
    assert gathering.deadline < 0
    assert not gathering.is_burst(1.0 + SOON + GAP)


def test_a_call_that_sends_is_no_pause() -> None:
    """However long it took to send what has waited: the burst goes on after it."""
    gathering = Gathering()
    gathering.put((A, (1.0, b"")))
    gathering.take_all(MAX_FRAME)
    gathering.sent(6.0)
    assert gathering.is_burst(6.0 + SOON)


def come_at(step: int, gathering: Gathering) -> tuple[Sequence[Draft | MixedDraft], bool | None]:
    """Have all leave, and another thread put something at some step of that; return what left, and what it was told.

    That is whether it must see to it itself that all leave; None if there is no such step.
    """
    steps, is_told = 0, None

    def trace(frame: FrameType, event: str, _argument: object) -> Callable[..., Any] | None:
        nonlocal steps, is_told
        if frame.f_code is not Gathering.take_all.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if steps == step:
                gathering.put((A, item(2)))
                is_told = gathering.deadline < 1.0
            steps += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        drafts = gathering.take_all(MAX_FRAME)
    finally:
        sys.settrace(before)
    return drafts, is_told


def test_who_comes_while_others_leave_is_told() -> None:
    """At whatever step of that: what is put leaves, too, or who puts it is told to see to it."""
    step = 0
    while True:
        gathering = Gathering()
        gathering.sent(1.0)
        assert gathering.is_burst(1.0)
        gathering.put((A, item(1)))
        drafts, is_told = come_at(step, gathering)
        if is_told is None:
            break
        if drafts != (batch("a", item(1), item(2)),):
            assert is_told
            assert drafts == (batch("a", item(1)),)
            assert gathering.take_all(MAX_FRAME) == (batch("a", item(2)),)
        step += 1
    assert step > 20


def test_a_batch_and_a_bundle() -> None:
    """Messages of one name leave as a batch, those of several as a bundle."""
    assert leaving((A, item(1)), (A, item(2))) == (batch("a", item(1), item(2)),)
    some = [("a", item(1), NO_EXTRA), ("b", item(2), NO_EXTRA), ("a", item(3), NO_EXTRA)]
    assert leaving((A, item(1)), (B, item(2)), (A, item(3))) == [mixed(*some)]


def test_headers_do_not_keep_messages_apart() -> None:
    """Messages with headers go into a bundle, each with its own; one alone is no bundle."""
    assert leaving((WITH_HEADERS, item(1))) == (batch("a", item(1), extra=HEADERS),)
    some = [("a", item(2), HEADERS), ("a", item(3), NO_EXTRA)]
    assert leaving((WITH_HEADERS, item(2)), (A, item(3))) == [mixed(*some)]
    some = [("a", item(4), NO_EXTRA), ("a", item(5), NO_EXTRA), ("a", item(6), HEADERS)]
    assert leaving((A, item(4)), (A, item(5)), (WITH_HEADERS, item(6))) == [mixed(*some)]


def test_a_name_is_its_text() -> None:
    """Another outlet with the same name is no other name: no bundle is made for it."""
    outlets = [Outlet(str(b"name", "ascii"), ONE) for _ in range(3)]
    waiting = [(outlet, item(number)) for number, outlet in enumerate(outlets)]
    assert leaving(*waiting) == [batch("name", item(0), item(1), item(2))]


def test_codecs_are_not_mixed() -> None:
    """What is written with another codec begins another frame."""
    other = Outlet("a", OTHER)
    assert leaving((A, item(1)), (A, item(2)), (other, item(3)), (A, item(4))) == [
        batch("a", item(1), item(2)),
        batch("a", item(3), codec=OTHER),
        batch("a", item(4)),
    ]


@pytest.mark.parametrize("outlets", [(A,), (A, B)])
def test_more_than_a_batch(outlets: tuple[Outlet, ...]) -> None:
    """A frame has no more messages than any server takes; the next have another one."""
    waiting = [(outlets[number % len(outlets)], (0.0, b"")) for number in range(2 * MAX_BATCH + 1)]
    assert [len(draft.items) for draft in leaving(*waiting)] == [MAX_BATCH, MAX_BATCH, 1]


@pytest.mark.parametrize("limit", [MIN_FRAME, 100_000, MAX_FRAME, 2**30])
@pytest.mark.parametrize("size", [0, 200, MAX_PAYLOAD - 10_000, MAX_PAYLOAD])
@pytest.mark.parametrize("names", [("a",), (LONG_NAME,), ("a", "b"), (LONG_NAME, "ä" * 127)])
@pytest.mark.parametrize("extra", [NO_EXTRA, HEADERS, Extra(headers={"a": "ä" * 4000})])
def test_frames_are_full_and_not_too_large(names: tuple[str, ...], size: int, limit: int, extra: Extra) -> None:
    """The server takes each, and it would take no two of them as one."""
    outlets = [Outlet(name, ONE, extra) for name in names]
    most = min(limit, MAX_FRAME)
    count = min(3 * most // (outlets[0].size + size), 2 * MAX_BATCH)
    waiting = [(outlets[number % len(outlets)], (0.0, bytes(size))) for number in range(count)]
    drafts = leaving(*waiting, limit=limit)
    assert all(len(draft.encode(1, 1)) <= most for draft in drafts)
    end = 0
    for draft in drafts[:-1]:
        start, end = end, end + len(draft.items)
        with_next = sum(outlet.size + len(payload) for outlet, (_, payload) in waiting[start : end + 1])
        assert len(draft.items) == MAX_BATCH or with_next > most - FRAME_OVERHEAD
    assert end + len(drafts[-1].items) == count > len(drafts) > 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from([ONE, OTHER]), st.booleans(), st.sampled_from([NO_EXTRA, HEADERS])
        )
    ),
    st.sampled_from([MIN_FRAME, MAX_FRAME]),
)
def test_order_is_kept(steps: list[tuple[str, int, bool, Extra]], limit: int) -> None:
    """What leaves is what came, in order, with its name, codec and headers, and none is lost."""
    outlets: dict[tuple[str, int, bool], Outlet] = {}
    waiting = []
    for number, (name, codec, is_large, extra) in enumerate(steps):
        outlet = outlets.setdefault((name, codec, extra is HEADERS), Outlet(name, codec, extra))
        waiting.append((outlet, item(number, MAX_PAYLOAD if is_large else 8)))
    left: list[tuple[str, int, int, Extra]] = []
    for draft in leaving(*waiting, limit=limit):
        count = len(draft.items)
        names = draft.names if isinstance(draft, MixedDraft) else [draft.name] * count
        extras = draft.extras if isinstance(draft, MixedDraft) else [draft.extra] * count
        for name, extra, (created, _) in zip(names, extras, draft.items, strict=True):
            left.append((name, draft.codec, int(created), extra))
    assert left == [(name, codec, number, extra) for number, (name, codec, _, extra) in enumerate(steps)]


def test_what_is_taken_back_does_not_leave() -> None:
    """It is found by its very time, though another message has an equal one; what has left is not."""
    gathering = Gathering()
    first, second = item(1), (float("1"), b"second")
    for one in (first, second):
        gathering.put((A, one))
    gathering.take_back(second[0])
    gathering.take_back(second[0])
    assert gathering.take_all(MAX_FRAME) == (batch("a", first),)
    gathering.take_back(first[0])
