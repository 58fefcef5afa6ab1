"""The pending table: by number, by name, and by the time when it is due."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from mezzenger.broker import pending
from mezzenger.broker.effects import Adopt, Origin, Requeue
from mezzenger.broker.entry import Entry
from mezzenger.broker.pending import Pending
from mezzenger.broker.restored import Stored, Total

NUMBERS: Final = st.integers(1, 5)
TIMES: Final = st.integers(0, 20)


def entry_of(number: int, name: str = "a") -> Entry:
    return Entry(number, name, 1, b"frame")


def table(*entries: Entry) -> Pending:
    filled = Pending()
    for entry in entries:
        assert filled.storing(entry.name, entry.number, len(entry.frame), is_wanted=True)
        assert filled.stored(entry)
    return filled


def due(filled: Pending, now: float) -> list[int]:
    return [entry.number for entry in filled.take_due(now)]


def test_by_number_and_name() -> None:
    """An entry is found by its number and, oldest first, by its name, until it is taken out."""
    first, second, third = entry_of(1), entry_of(2, "b"), entry_of(3)
    filled = table(first, second, third)
    assert (filled.frames, filled.get(2), filled.get(4)) == (3, second, None)
    assert list(filled.named("a")) == [first, third]
    filled.settle(first)
    assert (first in filled, third in filled, filled.get(1)) == (False, True, None)
    assert list(filled.named("a")) == [third]
    filled.settle(third)
    assert list(filled.named("a")) == []
    assert list(filled.named("b")) == [second]
    assert filled._backlogs.keys() == {"b"}
    assert (filled.frames, filled.size) == (1, 5)


def test_in_order_of_time() -> None:
    """What is due is yielded in order of time, then of number, once, and at its time, not after it."""
    entries = [entry_of(number) for number in range(5)]
    filled = table(*entries)
    for entry, time in zip(entries, [3.0, 1.0, 2.0, 1.0, 9.0], strict=True):
        filled.schedule(entry, time)
    assert filled.next_deadline() == 1.0
    assert due(filled, 0.99) == []
    assert due(filled, 3.0) == [1, 3, 2, 0]
    assert [entry.due for entry in entries] == [None, None, None, None, 9.0]
    assert due(filled, 3.0) == []
    assert filled.next_deadline() == 9.0


def test_scheduled_anew() -> None:
    """The last time that was set counts, be it earlier or later than the one before."""
    earlier, later = entry_of(1), entry_of(2)
    filled = table(earlier, later)
    for entry, time in ((earlier, 5.0), (later, 1.0), (earlier, 2.0), (later, 6.0)):
        filled.schedule(entry, time)
    assert filled.next_deadline() == 2.0
    assert due(filled, 5.0) == [1]
    assert filled.next_deadline() == 6.0
    assert due(filled, 6.0) == [2]
    assert filled.next_deadline() is None


def test_what_is_taken_out_is_never_due() -> None:
    """A time whose entry was taken out or parked never comes up, also if the entry comes back for another time."""
    removed, parked = entry_of(1), entry_of(2)
    filled = table(removed, parked)
    filled.schedule(removed, 1.0)
    filled.schedule(parked, 2.0)
    filled.settle(removed)
    parked.due = None
    assert removed.due is None
    filled.schedule(parked, 3.0)
    assert due(filled, 2.5) == []
    parked.due = None
    assert filled.next_deadline() is None
    assert due(filled, 100.0) == []
    assert len(filled._due) == 0


def test_scheduled_while_walking() -> None:
    """Who takes what is due may schedule it again; it is not due a second time before it is asked for anew."""
    entry = entry_of(1)
    filled = table(entry)
    filled.schedule(entry, 1.0)
    for found in filled.take_due(3.5):
        assert found.due is None
        filled.schedule(found, 2.0)
    assert filled.next_deadline() == 2.0
    assert due(filled, 3.5) == [1]


def test_times_that_count_no_more_are_few() -> None:
    """However often entries are scheduled anew or taken out, no more such times are kept than entries, and some."""
    entries = [entry_of(number) for number in range(10)]
    filled = table(*entries)
    for time in range(1000):
        for entry in entries:
            filled.schedule(entry, 10_000.0 - time + entry.number)
        assert len(filled._due) <= 2 * filled.frames + pending._SPARE
    parked, removed = entries[:2]
    parked.due = None
    filled.settle(removed)
    for time in range(2000):
        filled.schedule(entries[2], 20_000.0 + time)
    assert len(filled._due) <= 2 * filled.frames + pending._SPARE
    assert due(filled, 30_000.0) == [3, 4, 5, 6, 7, 8, 9, 2]


@given(
    st.lists(
        st.tuples(st.just("schedule"), NUMBERS, TIMES)
        | st.tuples(st.just("remove"), NUMBERS, TIMES)
        | st.tuples(st.just("take"), NUMBERS, TIMES)
    )
)
def test_any_use(steps: list[tuple[str, int, int]]) -> None:
    """The table does what a plain mapping from entry to time would do."""
    plain: dict[int, int] = {}
    entries = {number: entry_of(number) for number in range(1, 6)}
    filled = table(*entries.values())
    for step, number, time in steps:
        if step == "schedule" and number in entries:
            filled.schedule(entries[number], time)
            plain[number] = time
        elif step == "remove" and number in entries:
            filled.settle(entries.pop(number))
            plain.pop(number, None)
        elif step == "take":
            expected = sorted((when, n) for n, when in plain.items() if when <= time)
            assert due(filled, time) == [n for _, n in expected]
            plain = {n: when for n, when in plain.items() if when > time}
        assert filled.next_deadline() == min(plain.values(), default=None)
        assert filled.frames == len(entries)


def test_what_is_adopted_while_the_heir_is_read() -> None:
    """What is read then does not have it, and is read again from the beginning: it may be older."""
    filled = Pending()
    filled.restore(Total("a", False, 1, 1, 1))
    filled.restore(Total("a|g", True, 1, 1, 1))
    former = filled.next_load("a|g")
    assert former is not None
    filled.adopt("a", "a|g", 5)
    load = filled.next_load("a|g")
    assert load is not None
    assert load.after == 0
    assert filled.loaded(former, [Stored(5, "a|g", 1, b"x")]) == []
    rows = [Stored(1, "a|g", 1, b"x"), Stored(5, "a|g", 1, b"x")]
    assert [entry.number for entry in filled.loaded(load, rows)] == [1, 5]
    assert filled.of("a|g") == (2, 2)


def test_what_is_adopted_while_something_of_the_heir_is_being_stored() -> None:
    """All that is older is read, though what was being stored goes into memory before."""
    filled = Pending()
    filled.restore(Total("a", False, 3, 3, 3))
    assert filled.storing("a|g", 9, 1, is_wanted=True)
    filled.adopt("a", "a|g", 5)
    assert filled.stored(Entry(9, "a|g", 1, b"x"))
    first = filled.next_load("a|g")
    assert first is not None
    rows = [Stored(number, "a|g", 1, b"x") for number in (1, 2, 3, 9)]
    assert [entry.number for entry in filled.loaded(first, rows[:2])] == [1, 2]
    second = filled.next_load("a|g")
    assert second is not None
    assert second.after == 2
    assert [entry.number for entry in filled.loaded(second, rows[2:])] == [3]
    assert [entry.number for entry in filled.named("a|g")] == [1, 2, 3, 9]
    assert filled.next_load("a|g") is None


def test_what_is_adopted_and_not_read_yet_is_older() -> None:
    """The oldest is not known before it is read, though something newer is in memory."""
    filled = Pending()
    filled.restore(Total("a", False, 3, 3, 3))
    newest = Entry(9, "a|g", 1, b"x")
    assert filled.storing("a|g", 9, 1, is_wanted=True)
    assert filled.stored(newest)
    filled.adopt("a", "a|g", 5)
    assert list(filled.oldest_first("a|g")) == []
    load = filled.next_load("a|g")
    assert load is not None
    (first,) = filled.loaded(load, [Stored(1, "a|g", 1, b"x")])
    assert list(filled.oldest_first("a|g")) == [first]
    filled.settle(first)
    assert list(filled.oldest_first("a|g")) == []
    load = filled.next_load("a|g")
    assert load is not None
    for entry in filled.loaded(load, [Stored(number, "a|g", 1, b"x") for number in (2, 3, 9)]):
        filled.settle(entry)
    assert list(filled.oldest_first("a|g")) == [newest]


def test_what_the_store_has_not_answered_is_adopted_too() -> None:
    """What it was given, or had found, before it was told of the heir is in the heir's queue all the same."""
    filled = Pending()
    filled.restore(Total("a", False, 1, 1, 1))
    for number in (2, 3, 4):
        assert not filled.storing("a", number, 1, is_wanted=False)
    filled.adopt("a", "a|g", 4)
    assert not filled.storing("a", 5, 1, is_wanted=False)
    assert filled.queue_of("a", 2) == "a|g"
    assert not filled.stored(Entry(2, filled.queue_of("a", 2), 1, b"x"))
    filled.not_stored("a", 3)
    assert filled.requeued(Requeue(Origin.DEAD, 1, 4, "a", 1, 1)) == "a|g"
    assert (filled.of("a"), filled.of("a|g")) == ((0, 0), (3, 3))
    assert not filled.storing("a|g", 6, 1, is_wanted=True)  # for what is older must be read before
    assert filled.queue_of("a", 5) == "a"
    filled.adopted(Adopt("a", "a|g"))
    assert filled.queue_of("a", 2) == "a"
    filled.not_stored("a", 5)
    filled.not_stored("a|g", 6)
    assert filled.matching("a") == []
