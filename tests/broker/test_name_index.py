"""``NameIndex``: names are found by the patterns that match them."""

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from mezzenger.broker import name_index
from mezzenger.broker.name_index import DEPTH, SPARE, NameIndex
from mezzenger.patterns import matches
from tests.test_pattern_table import NAMES, PATTERNS

CHANGES = st.lists(st.tuples(st.booleans(), NAMES, PATTERNS), max_size=30)


@given(CHANGES, st.sampled_from([1, 2, DEPTH]), st.sampled_from([0, 3, SPARE]))
def test_finds_what_matches(changes: list[tuple[bool, str, str]], depth: int, spare: int) -> None:
    """Whatever comes and goes, a pattern finds the names that it matches, each once."""
    table: dict[str, None] = {}
    index = NameIndex(table)
    with patch.object(name_index, "DEPTH", depth), patch.object(name_index, "SPARE", spare):
        for is_added, name, pattern in changes:
            if is_added and name not in table:
                table[name] = None
                index.added(name)
            elif not is_added:
                table.pop(name, None)
            assert sorted(index.matching(pattern)) == sorted(name for name in table if matches(pattern, name))


def test_nothing_is_kept_until_somebody_asks() -> None:
    """Who uses no patterns pays for none."""
    table = {"a": None}
    index = NameIndex(table)
    index.added("a")
    assert index.matching("a") == ["a"]
    assert index.matching("b") == []
    assert index._root is None
    assert index._known == set()


def test_what_has_gone_is_forgotten() -> None:
    """Names that come and go by the thousand leave no more behind than a bound."""
    table: dict[str, None] = {}
    index = NameIndex(table)
    assert index.matching(">") == []
    for number in range(3 * SPARE):
        name = f"reply.{number}"
        table[name] = None
        index.added(name)
        del table[name]
        assert len(index._known) <= SPARE + 3
    names = [f"a.{number}" for number in range(SPARE + 1)]
    for name in names:
        table[name] = None
        index.added(name)
    assert index.matching("*.*") == names
    table.clear()
    assert index.matching("*.*") == []
    assert index._known == set()


def test_a_long_name_takes_up_no_more_than_others() -> None:
    """So nobody makes the index large with names of many parts."""
    name = ".".join("x" * 100)
    index = NameIndex({name: None})
    assert index.matching(f"{name}.>") == []
    assert index.matching("*.>") == [name]
    nodes, node = 0, index._root
    while node is not None:
        nodes, node = nodes + 1, next(iter(node.next.values()), None)
    assert nodes == DEPTH + 1
