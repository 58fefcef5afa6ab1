"""What is stored in one queue, and the window of it that the broker holds in memory.

The store has all of it, in order of its numbers; the window has the oldest part, as far as it is in somebody's hands or
next to be. Without a subscriber there is no window.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from mezzenger.broker.effects import Load
from mezzenger.broker.entry import Entry
from mezzenger.broker.restored import Stored

WINDOW_FRAMES: Final = 16_384
WINDOW_SIZE: Final = 32 * 2**20
WINDOW_ENTRIES: Final = 65_536
"""Those included that are in the window while their frames are away."""
LOAD_FRAMES: Final = 4096
LOAD_SIZE: Final = 8 * 2**20
FETCH_FRAMES: Final = 64
FETCH_SIZE: Final = 2**20

_NUMBER: Final = attrgetter("number")


@dataclass(slots=True, eq=False)
class Backlog:
    """The stored frames of one name; sizes in bytes."""

    name: str
    frames: int = 0
    messages: int = 0
    size: int = 0
    window: dict[int, Entry] = field(default_factory=dict)
    """In order of the numbers."""
    window_size: int = 0
    """Of the frames that are not away."""
    away: int = 0
    """How many in the window are."""
    fetch: Load | None = None
    """What is being read of these."""
    last: int = 0
    """Up to this number the window has all frames."""
    kept: dict[int, Entry] = field(default_factory=dict)
    """What left the window when the last subscriber went, and may still be acknowledged by who had it in hand."""
    load: Load | None = None
    """What is being read from the store."""
    settled: set[int] = field(default_factory=set)
    """What was settled since then, and may be among what is read all the same."""
    promised: dict[int, int] = field(default_factory=dict)
    """The sizes of what is being stored and goes into the window as soon as it is, by number."""
    promised_size: int = 0
    others: int = 0
    """How many other frames are being stored."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be known of the name."""
        return not self.frames and not self.promised and not self.others

    def promise(self, number: int, size: int, *, is_wanted: bool) -> bool:
        """Take note of a frame that is handed to the store; return whether it goes into the window once it is stored.

        It does if somebody wants it, and the window has all that is before it, and room for it.
        """
        is_whole = self.frames == len(self.window) and self.load is None and not self.others
        has_room = self.has_room and len(self.window) + len(self.promised) < WINDOW_ENTRIES
        if not (is_wanted and is_whole and has_room):
            self.others += 1
            return False
        self.promised[number] = size
        self.promised_size += size
        return True

    def answered(self, number: int) -> bool:
        """Take note that the store has answered; return whether the frame was to go into the window, and still is."""
        size = self.promised.pop(number, None)
        if size is None:
            self.others -= 1
            return False
        self.promised_size -= size
        return True

    def next_load(self, frames: int | None = None) -> Load | None:
        """Return what is to be read now, if there is something and half of the window is free for it.

        Args:
            frames: How many are needed; None for as many as are read at a time.
        """
        if not (self._is_ahead and self._is_free):
            return None
        frames = LOAD_FRAMES if frames is None else min(frames, LOAD_FRAMES)
        self.load = Load(self.name, self.last, frames, LOAD_SIZE)
        return self.load

    @property
    def is_stuck(self) -> bool:
        """Whether there is something to be read, and would be if there were less in the window that is not away."""
        return self._is_ahead and not self._is_free

    def put_away(self, numbers: Iterable[int]) -> None:
        """Let frames of the window be in the store alone, but for those about which somebody has a say, or had."""
        for number in numbers:
            entry = self.window[number]
            if entry.frame and not entry.was_given and entry.due is None:
                self.window_size -= entry.size
                self.away += 1
                entry.put_away()

    def next_fetch(self, number: int) -> Load | None:
        """Return what is to be read of what is away, if nothing of it is being read, and there is room."""
        if self.fetch is not None or not self.has_room:
            return None
        self.fetch = Load(self.name, number - 1, FETCH_FRAMES, FETCH_SIZE)
        return self.fetch

    def fetched(self, load: Load, rows: Iterable[Stored]) -> list[int]:
        """Take in what was read of what is away: the first of it, and more as far as there is room; return what."""
        self.fetch = None
        numbers = []
        for row in rows:
            entry = self.window.get(row.number)
            has_room = row.number == load.after + 1 or (self.load is None and self.has_room)
            if has_room and entry is not None and not entry.frame:
                entry.bring_back(row.frame)
                self.window_size += entry.size
                self.away -= 1
                numbers.append(row.number)
        return numbers

    def take(self, row: Stored) -> Entry:
        """Return the entry of what was read; it may be one that is kept."""
        kept = self.kept.pop(row.number, None)
        return kept or Entry(*row)

    def add(self, entry: Entry) -> None:
        """Take a stored frame into the window."""
        self.window[entry.number] = entry
        self.window_size += len(entry.frame)
        if self.frames == len(self.window):
            # What was adopted while this was being stored is older, and is not there yet.
            self.last = max(self.last, entry.number)

    def lacks(self, number: int) -> bool:
        """Whether what was read is not in memory yet, and was not settled meanwhile."""
        return number not in self.settled and number not in self.window

    @property
    def newest(self) -> int:
        """The last number in the window, 0 if it is empty."""
        return next(reversed(self.window), 0)

    def sort(self) -> None:
        """Put the window in order: what was read is older than what was there, as what was adopted may be."""
        self.window = dict(sorted(self.window.items()))

    def adopt(self, former: "Backlog") -> None:
        """Take in all of another one that has no window; it must be read."""
        self.frames += former.frames
        self.messages += former.messages
        self.size += former.size
        self.others += former.others
        for entry in former.kept.values():
            entry.queue = self.name
        self.kept.update(former.kept)
        # It may be older than what is here, and than what is being read.
        self.last = 0
        self.load = None

    def oldest_first(self) -> Iterator[Entry]:
        """Yield the oldest frames, as far as they are in memory; what was not read may be older than what is there."""
        is_whole = self.frames == len(self.window) + len(self.kept)
        kept = sorted(self.kept.values(), key=_NUMBER)
        for entry in heapq.merge(self.window.values(), kept, key=_NUMBER):
            if not is_whole and entry.number > self.last:
                return
            yield entry

    def settle(self, entry: Entry) -> None:
        """Take a frame out of memory and the store."""
        self.frames -= 1
        self.messages -= entry.messages
        self.size -= entry.size
        if self.kept.pop(entry.number, None) is None:
            del self.window[entry.number]
            self.window_size -= len(entry.frame)
            self.away -= not entry.frame
        if self.load is not None:
            self.settled.add(entry.number)

    def offered(self) -> int | None:
        """Return the highest number that may have been delivered, if the store takes it to be higher than it is."""
        numbers = [*self.window, *self.promised]
        if not numbers:
            return None
        # What the window does not reach has been delivered before if the last it has was, and else has not.
        attempted = [entry.number for entry in self.window.values() if entry.attempts]
        highest = attempted[-1] if attempted else numbers[0] - 1
        return highest if highest < numbers[-1] else None

    def evict(self) -> Sequence[Entry]:
        """Empty the window; return what nobody may acknowledge any more. All of it stays in the store."""
        entries = [*self.kept.values(), *self.window.values()]
        self.kept = {entry.number: entry for entry in entries if entry.late}
        self.window.clear()
        self.window_size = self.away = 0
        self.last = 0
        self.load = self.fetch = None
        self.settled.clear()
        self.others += len(self.promised)
        self.promised.clear()
        self.promised_size = 0
        return [entry for entry in entries if entry.number not in self.kept]

    @property
    def has_room(self) -> bool:
        """Whether one more frame may be in the window that is not away."""
        frames = len(self.window) - self.away + len(self.promised)
        return frames < WINDOW_FRAMES and self.window_size + self.promised_size < WINDOW_SIZE

    @property
    def _is_ahead(self) -> bool:
        """Whether the store has more than the window, and nothing is being read, and more may be."""
        return self.load is None and len(self.window) < min(self.frames, WINDOW_ENTRIES)

    @property
    def _is_free(self) -> bool:
        return len(self.window) - self.away <= WINDOW_FRAMES // 2 and self.window_size <= WINDOW_SIZE // 2
