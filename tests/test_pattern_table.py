"""``PatternTable``: what belongs to patterns is found by names."""

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mezzenger import pattern_table
from mezzenger.pattern_table import PatternTable
from mezzenger.patterns import is_wild, matches, prefix_of

TOKENS = st.sampled_from(["a", "b", "", "a*", ">>"])
NAMES = st.lists(TOKENS, min_size=1, max_size=4).map(".".join).filter(bool)
PATTERNS = st.lists(TOKENS | st.sampled_from("*>"), min_size=1, max_size=4).map(".".join).filter(bool)


@given(st.lists(st.tuples(PATTERNS, st.integers(0, 3))), st.lists(st.tuples(PATTERNS, st.integers(0, 3))), NAMES)
def test_finds_what_matches(added: list[tuple[str, int]], removed: list[tuple[str, int]], name: str) -> None:
    """Whatever is added and removed, a name finds the keys of the patterns that match it, each once."""
    table: PatternTable[int] = PatternTable()
    there: dict[tuple[str, int], None] = {}
    for pattern, key in added:
        table.add(pattern, key, key)
        there[pattern, key] = None
        table.match(name)
    for pattern, key in removed:
        if (pattern, key) in there:
            table.remove(pattern, key)
            del there[pattern, key]
            table.match(name)
    assert table.found(name) in {None, table.match(name)}
    assert table.match_each([name, name]) == [table.match(name)] * 2 == table.match_each([name, name])
    assert table.found(name) == table.match(name)
    assert sorted(table.match(name)) == sorted({key for pattern, key in there if matches(pattern, name)})
    assert len(table) == len({pattern for pattern, _ in there})


def test_the_name_itself_comes_first() -> None:
    """Then the patterns; a key that belongs to both comes with what it has for the name."""
    table: PatternTable[str] = PatternTable()
    table.add("a.*", 1, "one of a.*")
    table.add("a.*", 2, "two of a.*")
    table.add("a.b", 2, "two of a.b")
    assert table.match("a.b") == ("two of a.b", "one of a.*")


def test_a_value_is_replaced() -> None:
    """What is added with the same pattern and key takes the place of what was there."""
    table: PatternTable[str] = PatternTable()
    for pattern in ("a", "*"):
        table.add(pattern, 1, "old")
        assert table.match("a") == ("old",)
        table.add(pattern, 1, "new")
        assert table.match("a") == ("new",)
        table.remove(pattern, 1)
        assert table.match("a") == ()


def test_nothing_is_left_behind() -> None:
    """Of patterns that were removed, no branch remains."""
    table: PatternTable[int] = PatternTable()
    patterns = ("a.*", "a.b.>", "*.b.c", ">", "a.*.c")
    for pattern in patterns:
        table.add(pattern, 1, 1)
    for pattern in patterns:
        table.remove(pattern, 1)
    assert not table._root.next


def test_names_are_not_remembered_without_limit() -> None:
    """Names come from publishers; what is remembered of them is bounded, and found again."""
    table: PatternTable[int] = PatternTable()
    table.add("a.*", 1, 1)
    with patch.object(pattern_table, "_REMEMBERED_NAMES", 3):
        for number in range(10):
            assert table.match(f"a.{number}") == (1,)
            assert len(table._found) <= 3


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("a", "a"),
        ("a.b", "a.b"),
        ("*", ""),
        (">", ""),
        ("a.*", "a."),
        ("a.>", "a."),
        ("a.*.b.>", "a."),
        ("a*.b", "a*.b"),
    ],
)
def test_the_prefix_of_a_pattern(pattern: str, prefix: str) -> None:
    """What names begin with that a pattern matches."""
    assert prefix_of(pattern) == prefix
    assert is_wild(pattern) == (prefix != pattern)


def test_what_is_not_there_can_be_discarded() -> None:
    """Nothing happens; what is there is taken out."""
    table: PatternTable[int] = PatternTable()
    table.add("a", 1, 1)
    table.discard("a", 2)
    table.discard("b.*", 1)
    assert table.match("a") == (1,)
    table.discard("a", 1)
    assert table.match("a") == ()
