"""The pending table: what is stored and not yet acknowledged, and when it is due to be sent again."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mezzenger.broker.awaited import Awaited
from mezzenger.broker.backlog import Backlog
from mezzenger.broker.effects import Adopt, Load, Requeue
from mezzenger.broker.entry import Entry
from mezzenger.broker.name_index import NameIndex
from mezzenger.broker.restored import Stored, Total, Waiting
from mezzenger.queues import is_group

_SPARE: Final = 1024


@dataclass(slots=True)
class Kept:
    """Frames that are in the store, but not among those to be delivered."""

    frames: int = 0
    size: int = 0
    """In bytes."""

    def add(self, frames: int, size: int) -> None:
        """Count so many more."""
        self.frames += frames
        self.size += size


class Pending:
    """What is stored, by name; of what is in memory, the entries by number and by the time they are due."""

    def __init__(self) -> None:
        self.frames = 0
        self.messages = 0
        self.size = 0
        """In bytes."""
        self.delayed = Kept()
        self.dead = Kept()
        self.last: dict[str, int] = {}
        """By name, the number of the last message that is kept for new subscribers, if that is pending for them."""
        self.awaited = Awaited()
        """Is told what changes."""
        self._sweep_settled: set[int] | None = None
        self._entries: dict[int, Entry] = {}
        self._backlogs: dict[str, Backlog] = {}
        self._names = NameIndex(self._backlogs)
        self._heirs: dict[str, tuple[str, int]] = {}
        """By queue, until the store has done it: who inherits it, and up to which number."""
        self._due: list[tuple[float, int]] = []

    def __contains__(self, entry: Entry) -> bool:
        return entry.number in self._entries

    def restore(self, total: Total) -> None:
        """Take note of what the last run left."""
        if total.frames:
            self._count(total.name, total.frames, total.messages, total.size)
        self.delayed.add(total.delayed, total.delayed_size)
        self.dead.add(total.dead, total.dead_size)

    @property
    def whole_size(self) -> int:
        """Bytes of all that is in the store."""
        return self.size + self.delayed.size + self.dead.size

    def of(self, name: str) -> tuple[int, int]:
        """Return how many messages of a name are to be acknowledged, and the bytes of their frames."""
        backlog = self._backlogs.get(name)
        return (0, 0) if backlog is None else (backlog.messages, backlog.size)

    def oldest_first(self, name: str) -> Iterator[Entry]:
        """Return the oldest entries of a name, as far as they are in memory."""
        backlog = self._backlogs.get(name)
        return iter(()) if backlog is None else backlog.oldest_first()

    def reads(self, name: str) -> bool:
        """Whether frames of a name are being read."""
        backlog = self._backlogs.get(name)
        return backlog is not None and backlog.load is not None

    def storing(self, name: str, number: int, size: int, *, is_wanted: bool) -> bool:
        """Take note of a frame that is handed to the store; return whether it will be in memory once it is stored."""
        return self._backlog(name).promise(number, size, is_wanted=is_wanted)

    def stored(self, entry: Entry) -> bool:
        """Take note that the store has a frame; return whether it is in memory now."""
        backlog = self._count(entry.queue, 1, entry.messages, len(entry.frame))
        in_memory = backlog.answered(entry.number)
        if in_memory:
            self._entries[entry.number] = entry
            backlog.add(entry)
        return in_memory

    def requeued(self, requeue: Requeue) -> str:
        """Take note that the store has put a frame among those to be delivered; return its queue.

        It is not in memory yet.
        """
        queue = self.queue_of(requeue.queue, requeue.number)
        self._count(queue, 1, requeue.messages, requeue.size).answered(requeue.number)
        return queue

    def not_stored(self, name: str, number: int) -> None:
        """Take note that the store does not have a frame."""
        backlog = self._backlogs[self.queue_of(name, number)]
        backlog.answered(number)
        self._forget_if_empty(backlog)

    def get(self, number: int) -> Entry | None:
        """Return the entry with this number, if it is in memory."""
        return self._entries.get(number)

    def settle(self, entry: Entry) -> None:
        """Take out an entry for good."""
        del self._entries[entry.number]
        self._settled(entry.queue, entry.number)
        self.awaited.changed(entry.queue)
        entry.due = None
        backlog = self._backlogs[entry.queue]
        backlog.settle(entry)
        self.frames -= 1
        self.messages -= entry.messages
        self.size -= entry.size
        if self._sweep_settled is not None:
            self._sweep_settled.add(entry.number)
        self._forget_if_empty(backlog)

    def settle_unseen(self, waiting: Waiting) -> None:
        """Take out for good what is not in memory."""
        self._settled(waiting.name, waiting.number)
        self.awaited.changed(waiting.name)
        backlog = self._count(waiting.name, -1, -waiting.messages, -waiting.size)
        if backlog.load is not None:
            backlog.settled.add(waiting.number)
        self._forget_if_empty(backlog)

    def sweeping(self) -> None:
        """Begin to note what is settled while the store is looked through for what has expired."""
        self._sweep_settled = set()

    def swept(self) -> set[int]:
        """Return what was settled meanwhile, and may be among what was found all the same."""
        settled, self._sweep_settled = self._sweep_settled or set(), None
        return settled

    def named(self, name: str) -> Iterable[Entry]:
        """Return the entries of a name that are in memory for its subscribers, oldest first."""
        backlog = self._backlogs.get(name)
        return () if backlog is None else backlog.window.values()

    def matching(self, pattern: str) -> list[str]:
        """Return the names that a pattern matches of which something is, or will be, in the queue of subscribers."""
        return [name for name in self._names.matching(pattern) if not is_group(name)]

    def next_load(self, name: str, frames: int | None = None) -> Load | None:
        """Return what is to be read of a name now, if it is needed and there is room for it; see ``Backlog``."""
        backlog = self._backlogs.get(name)
        return None if backlog is None else backlog.next_load(frames)

    def is_stuck(self, queue: str) -> bool:
        """Whether there is something to be read of a queue, and there is no room for it."""
        backlog = self._backlogs.get(queue)
        return backlog is not None and backlog.is_stuck

    def put_away(self, queue: str, numbers: Iterable[int]) -> None:
        """Let frames of a queue be in the store alone until it is their turn; they are still entries."""
        self._backlogs[queue].put_away(numbers)

    def has_room(self, queue: str) -> bool:
        """Whether one more frame of a queue may be in memory."""
        return self._backlogs[queue].has_room

    def next_fetch(self, queue: str, number: int) -> Load | None:
        """Return what is to be read since it is the turn of a frame that is away; None if that cannot be now."""
        return self._backlogs[queue].next_fetch(number)

    def is_fetch(self, load: Load) -> bool:
        """Whether something is read since it was away."""
        backlog = self._backlogs.get(load.name)
        return backlog is not None and backlog.fetch is load

    def fetched(self, load: Load, rows: Sequence[Stored]) -> list[int]:
        """Take in what was read; return the numbers of what is not away any more.

        What cannot be read is no entry any more, as if it had not been read at first.
        """
        numbers = self._backlogs[load.name].fetched(load, rows)
        first = self._entries.get(load.after + 1)
        if first is not None and not first.frame:
            self.settle(first)
        return numbers

    def loaded(self, load: Load, rows: Sequence[Stored]) -> list[Entry]:
        """Take in what was read; return what is new to the present subscribers, in order.

        Nothing is taken in if it was read for subscribers that have gone meanwhile.
        """
        backlog = self._backlogs.get(load.name)
        if backlog is None or backlog.load is not load:
            return []
        newest = backlog.newest
        entries = [backlog.take(row) for row in rows if backlog.lacks(row.number)]
        if not rows:
            entries += backlog.kept.values()
            backlog.kept.clear()
        for entry in entries:
            self._entries[entry.number] = entry
            backlog.add(entry)
        if entries and entries[0].number < newest:
            backlog.sort()
        backlog.load = None
        backlog.settled.clear()
        self.awaited.changed(load.name)
        if rows:
            backlog.last = max(backlog.last, rows[-1].number)
        else:
            self._believe(backlog)
        return entries

    def drop(self, queue: str) -> int:
        """Forget a queue of which nothing is in memory; return how many messages were in it."""
        self.awaited.rerouted()
        backlog = self._backlogs.pop(queue, None)
        if backlog is None:
            return 0
        self.frames -= backlog.frames
        self.messages -= backlog.messages
        self.size -= backlog.size
        return backlog.messages

    def evict(self, name: str) -> int | None:
        """Forget the entries of a name that has no subscriber any more, but for what may be acknowledged late.

        Returns:
            The highest number of a frame of this name that may have been delivered; None if the store knows it.
        """
        backlog = self._backlogs.get(name)
        if backlog is None:
            return None
        offered = backlog.offered()
        # Nothing is read any more for who waits for that.
        self.awaited.changed(name)
        for entry in backlog.evict():
            del self._entries[entry.number]
            entry.due = None
        for entry in backlog.kept.values():
            entry.due, entry.paused = None, 0.0
        return offered

    def forget_late(self, queue: str) -> None:
        """Forget what is in memory of a queue only because it may be acknowledged late."""
        backlog = self._backlogs.get(queue)
        if backlog is not None:
            for number in backlog.kept:
                del self._entries[number]
            backlog.kept.clear()

    def adopt(self, queue: str, heir: str, number: int) -> None:
        """Put all of a queue that nobody is served from into another one, with what the store has not answered yet.

        Args:
            queue: In which all of it was so far.
            heir: The other one; of what it inherits nothing is in memory yet.
            number: The highest that was given so far.
        """
        self._heirs[queue] = heir, number
        former = self._backlogs.pop(queue)
        self.last.pop(queue, None)
        backlog = self._backlog(heir)
        backlog.adopt(former)
        self.awaited.changed(queue)
        self.awaited.changed(heir)

    def adopted(self, adopt: Adopt) -> None:
        """Take note that the store has done that too: what it says from now on is of the other queue."""
        self._heirs.pop(adopt.name, None)

    def queue_of(self, queue: str, number: int) -> str:
        """Return in which queue something is that the store was told, or says, to be in one."""
        heir, last = self._heirs.get(queue, (queue, 0))
        return heir if number <= last else queue

    def schedule(self, entry: Entry, due: float) -> None:
        """Have the entry returned by ``take_due`` at that time, and at no other."""
        entry.due = due
        heapq.heappush(self._due, (due, entry.number))
        # Times that count no more stay in the heap until they come up; not more of them than there are entries.
        if len(self._due) > 2 * len(self._entries) + _SPARE:
            self._due = [(e.due, e.number) for e in self._entries.values() if e.due is not None]
            heapq.heapify(self._due)

    def take_due(self, now: float) -> list[Entry]:
        """Return the entries that are due; each is scheduled no more."""
        taken = []
        while self._due and self._due[0][0] <= now:
            due, number = heapq.heappop(self._due)
            entry = self._entries.get(number)
            if entry is not None and entry.due == due:
                entry.due = None
                taken.append(entry)
        return taken

    def next_deadline(self) -> float | None:
        """Return when the next entry is due."""
        while self._due:
            due, number = self._due[0]
            entry = self._entries.get(number)
            if entry is not None and entry.due == due:
                return due
            heapq.heappop(self._due)
        return None

    def _settled(self, queue: str, number: int) -> None:
        if self.last and self.last.get(queue) == number:
            del self.last[queue]

    def _backlog(self, name: str) -> Backlog:
        backlog = self._backlogs.get(name)
        if backlog is None:
            backlog = self._backlogs[name] = Backlog(name)
            self._names.added(name)
        return backlog

    def _count(self, name: str, frames: int, messages: int, size: int) -> Backlog:
        self.frames += frames
        self.messages += messages
        self.size += size
        backlog = self._backlog(name)
        backlog.frames += frames
        backlog.messages += messages
        backlog.size += size
        return backlog

    def _believe(self, backlog: Backlog) -> None:
        """Believe the store, should it have less than was counted: nothing must be asked for over and over."""
        frames, messages = len(backlog.window), sum(entry.messages for entry in backlog.window.values())
        size = sum(entry.size for entry in backlog.window.values())
        counts = (frames - backlog.frames, messages - backlog.messages, size - backlog.size)
        self._count(backlog.name, *counts)
        self._forget_if_empty(backlog)

    def _forget_if_empty(self, backlog: Backlog) -> None:
        if backlog.is_empty:
            del self._backlogs[backlog.name]
