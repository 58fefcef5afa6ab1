"""Names, found by the patterns that match them: the other way round than ``PatternTable``."""

from collections.abc import Collection, Iterator
from typing import Final

from mezzenger.patterns import ONE, REST, is_wild, matches

DEPTH: Final = 8
"""Tokens of a name by which it is found; so a name takes up no more than so many nodes, however many tokens it has."""
SPARE: Final = 1024


class _Node:
    """What is known of the names that begin with the same tokens."""

    __slots__ = ("names", "next")

    def __init__(self) -> None:
        self.names: list[str] = []
        """Those that have no more tokens, or none by which they are found."""
        self.next: dict[str, _Node] = {}


class NameIndex:
    """Finds which names of a table a pattern matches.

    That takes steps for the names to which the tokens of the pattern lead, not for each name in the table. Until a
    pattern is looked up for the first time nothing is kept.

    Args:
        names: The table. ``added`` is to be called for what is put into it, and nothing for what is taken out: that is
            passed over, and forgotten when there is more of it than of the rest.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._root: _Node | None = None
        self._known: set[str] = set()

    def added(self, name: str) -> None:
        """Take note of a name that is in the table now, if it was not before."""
        if self._root is None or name in self._known:
            return
        if self._is_stale():
            self._forget()
        else:
            self._add(self._root, name)

    def matching(self, pattern: str) -> list[str]:
        """Return the names in the table that a pattern matches."""
        if not is_wild(pattern):
            return [pattern] if pattern in self._names else []
        if self._root is None or self._is_stale():
            self._forget()
            self._root = _Node()
            for name in self._names:
                self._add(self._root, name)
        return [name for name in _candidates(self._root, pattern) if name in self._names and matches(pattern, name)]

    def _is_stale(self) -> bool:
        return len(self._known) > 2 * len(self._names) + SPARE

    def _forget(self) -> None:
        self._root = None
        self._known.clear()

    def _add(self, node: _Node, name: str) -> None:
        self._known.add(name)
        for token in name.split(".")[:DEPTH]:
            child = node.next.get(token)
            if child is None:
                child = node.next[token] = _Node()
            node = child
        node.names.append(name)


def _candidates(root: _Node, pattern: str) -> Iterator[str]:
    """Yield the names that a pattern matches as far as the first tokens tell."""
    tokens = pattern.split(".")
    has_rest = tokens[-1] == REST
    if has_rest:
        tokens.pop()
    nodes = [root]
    for token in tokens[:DEPTH]:
        if token == ONE:
            nodes = [child for node in nodes for child in node.next.values()]
        else:
            nodes = [child for node in nodes if (child := node.next.get(token)) is not None]
    while nodes:
        for node in nodes:
            yield from node.names
        nodes = [child for node in nodes for child in node.next.values()] if has_rest else []
