"""The pending table: what is stored and not yet acknowledged, and when it is due to be sent again."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

_SPARE: Final = 1024


@dataclass(slots=True, eq=False)
class Entry:
    """One stored frame."""

    number: int
    name: str
    messages: int
    frame: bytes
    indexes: tuple[int, ...] | None = None
    """Which messages of a batch are still to be handled; None means all."""
    attempts: int = 0
    pause: float = 0.0
    """Seconds between the last attempt and the next."""
    due: float | None = None
    """When it is sent again; None while no subscriber has it in hand."""
    holders: set[bytes] = field(default_factory=set)
    """The peers that have it in hand."""


class Pending:
    """All entries, by number, by name and by the time they are due."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._by_name: dict[str, dict[int, Entry]] = {}
        self._due: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        return entry.number in self._entries

    def add(self, entry: Entry) -> None:
        """Take in an entry."""
        self._entries[entry.number] = entry
        self._by_name.setdefault(entry.name, {})[entry.number] = entry

    def get(self, number: int) -> Entry | None:
        """Return the entry with this number."""
        return self._entries.get(number)

    def remove(self, entry: Entry) -> None:
        """Take out an entry."""
        del self._entries[entry.number]
        entry.due = None
        same_name = self._by_name[entry.name]
        del same_name[entry.number]
        if not same_name:
            del self._by_name[entry.name]

    def named(self, name: str) -> Iterable[Entry]:
        """Return the entries of a name, oldest first."""
        return self._by_name.get(name, {}).values()

    def schedule(self, entry: Entry, due: float) -> None:
        """Have the entry returned by ``take_due`` at that time, and at no other."""
        entry.due = due
        heapq.heappush(self._due, (due, entry.number))
        # Times that count no more stay in the heap until they come up; not more of them than there are entries.
        if len(self._due) > 2 * len(self._entries) + _SPARE:
            self._due = [(e.due, e.number) for e in self._entries.values() if e.due is not None]
            heapq.heapify(self._due)

    def take_due(self, now: float) -> Iterator[Entry]:
        """Yield the entries that are due; each is scheduled no more."""
        while self._due and self._due[0][0] <= now:
            due, number = heapq.heappop(self._due)
            entry = self._entries.get(number)
            if entry is not None and entry.due == due:
                entry.due = None
                yield entry

    def next_deadline(self) -> float | None:
        """Return when the next entry is due."""
        while self._due:
            due, number = self._due[0]
            entry = self._entries.get(number)
            if entry is not None and entry.due == due:
                return due
            heapq.heappop(self._due)
        return None
