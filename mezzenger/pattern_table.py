"""What belongs to patterns, found by the names that they match."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from mezzenger.patterns import ONE, REST, is_wild

T = TypeVar("T")

_REMEMBERED_NAMES: Final = 65536
"""Names come from publishers, who may make up any number of them."""


@dataclass(slots=True)
class _Node(Generic[T]):
    """A token of patterns with wildcards, and what comes after it."""

    next: "dict[str, _Node[T]]" = field(default_factory=dict)
    here: dict[Hashable, T] = field(default_factory=dict)
    """What belongs to the pattern that ends here."""


class PatternTable(Generic[T]):
    """Values by pattern and key; a pattern without wildcards is a name that matches itself alone.

    Looking up a name that was looked up since the last change costs one look into a dict, whatever the patterns.
    Otherwise it takes steps for each token of the name, not for each pattern.
    """

    def __init__(self) -> None:
        self._exact: dict[str, dict[Hashable, T]] = {}
        self._wild: dict[str, dict[Hashable, T]] = {}
        self._root: _Node[T] = _Node()
        self._found: dict[str, tuple[T, ...]] = {}

    def __len__(self) -> int:
        """How many patterns there are."""
        return len(self._exact) + len(self._wild)

    def add(self, pattern: str, key: Hashable, value: T) -> None:
        """Let a value belong to a pattern, instead of what did so with the same key."""
        if not is_wild(pattern):
            self._exact.setdefault(pattern, {})[key] = value
            self._found.pop(pattern, None)
            return
        if pattern not in self._wild:
            node = self._root
            for token in pattern.split("."):
                node = node.next.setdefault(token, _Node())
            self._wild[pattern] = node.here
        self._wild[pattern][key] = value
        self._found.clear()

    def remove(self, pattern: str, key: Hashable) -> None:
        """Take out what was added with this pattern and key."""
        table = self._wild if is_wild(pattern) else self._exact
        values = table[pattern]
        del values[key]
        if not values:
            del table[pattern]
        if table is self._exact:
            self._found.pop(pattern, None)
            return
        self._found.clear()
        if not values:
            self._cut(self._root, pattern.split("."))

    def discard(self, pattern: str, key: Hashable) -> None:
        """Take out what was added with this pattern and key, if it is there."""
        if key in (self._wild if is_wild(pattern) else self._exact).get(pattern, ()):
            self.remove(pattern, key)

    def match(self, name: str) -> tuple[T, ...]:
        """Return what belongs to the name itself, then what belongs to patterns that match it; each key only once."""
        found = self._found.get(name)
        if found is None:
            if len(self._found) >= _REMEMBERED_NAMES:
                self._found.clear()
            found = self._found[name] = self._find(name)
        return found

    def found(self, name: str) -> tuple[T, ...] | None:
        """Return what ``match`` has returned for a name since the last change, else None; any thread may ask."""
        return self._found.get(name)

    def match_each(self, names: Sequence[str]) -> list[tuple[T, ...]]:
        """Return what ``match`` does for each of many names, in less time."""
        try:
            return list(map(self._found.__getitem__, names))
        except KeyError:
            return list(map(self.match, names))

    def _find(self, name: str) -> tuple[T, ...]:
        values = dict(self._exact.get(name, {}))
        if self._wild:
            for here in _walk(self._root, name.split("."), 0):
                for key, value in here.items():
                    values.setdefault(key, value)
        return tuple(values.values())

    def _cut(self, node: _Node[T], tokens: list[str]) -> None:
        """Cut off the branch of a pattern to which nothing belongs any more."""
        path = [node]
        for token in tokens:
            path.append(path[-1].next[token])
        for parent, token, child in reversed(list(zip(path, tokens, path[1:], strict=False))):
            if child.next or child.here:
                return
            del parent.next[token]


def _walk(node: _Node[T], tokens: list[str], at: int) -> Iterator[dict[Hashable, T]]:
    """Yield what belongs to each pattern that matches the tokens from one on."""
    if at == len(tokens):
        yield node.here
        return
    rest = node.next.get(REST)
    if rest is not None:
        yield rest.here
    for token in (tokens[at], ONE):
        child = node.next.get(token)
        if child is not None:
            yield from _walk(child, tokens, at + 1)
