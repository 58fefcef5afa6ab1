"""The store without a ``persist_file``: all is kept in memory, and ends with the process."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from mezzenger.broker.effects import (
    Adopt,
    Attempt,
    Bury,
    Change,
    Discard,
    DropGroup,
    Find,
    Load,
    Offered,
    Origin,
    Requeue,
    Settle,
    Store,
    Sweep,
)
from mezzenger.broker.restored import Dead, Restored, Stored, Swept, Waiting
from mezzenger.protocol.commands import DropDead, ListDead, ResendDead, ShowDead
from mezzenger.protocol.wire import name_of, read_header

_FIND_FRAMES: Final = 100
_SPARE: Final = 1024


@dataclass(slots=True)
class _Name:
    frames: dict[int, Stored] = field(default_factory=dict)
    """In order of their numbers."""
    offered: int = 0
    """No frame above this number was delivered."""

    def marked(self, row: Stored) -> Stored:
        """Return a row that tells whether it was delivered."""
        return row if row.number > self.offered else row._replace(attempts=max(row.attempts, 1))


class MemoryStorage:
    """Keeps nothing beyond the process."""

    survives_restart = False

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._name_of: dict[int, str] = {}
        self._expiring: list[tuple[float, int]] = []
        self._delayed: dict[int, Stored] = {}
        """``due`` is when they are to be delivered first."""
        self._due: list[tuple[float, int]] = []
        self._dead: dict[int, Dead] = {}

    async def open(self) -> Restored:
        """Return nothing: there was no last run."""
        return Restored()

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make the changes that concern frames; what is known of publishers need not outlive the broker."""
        for change in changes:
            match change:
                case DropGroup():
                    self._drop(change.name)
                case Adopt():
                    self._adopt(change)
                case _:
                    self._change(change)

    def _change(self, change: Change) -> None:
        match change:
            case Store():
                self._store(change)
            case Settle():
                self._take(change.number)
            case Attempt(number, attempts, indexes, due, error):
                frames = self._names[self._name_of[number]].frames
                frames[number] = frames[number]._replace(attempts=attempts, indexes=indexes, due=due, error=error)
            case Bury():
                self._bury(change)
            case Requeue():
                self._requeue(change)
            case Discard():
                del self._dead[change.number]
            case Offered() if change.name in self._names:
                self._names[change.name].offered = change.number

    async def read(self, load: Load) -> Sequence[Stored]:
        """Return the next frames of a name."""
        rows: list[Stored] = []
        size = 0
        name = self._names.get(load.name, _Name())
        for row in name.frames.values():
            if row.number <= load.after:
                continue
            size += len(row.frame)
            if len(rows) == load.frames or (rows and size > load.size):
                break
            rows.append(name.marked(row))
        if rows:
            name.offered = max(name.offered, rows[-1].number)
        return rows

    async def sweep(self, sweep: Sweep) -> Swept:
        """Return what has expired, and what is due."""
        expired = list(islice(self._ended(self._expiring, sweep.now), sweep.frames))
        due = self._take_due(sweep)
        moments = [heap[0][0] for heap in (self._expiring, self._due) if heap]
        # What is due now waits to expire from now on.
        moments += [row.expires for row in due if row.expires is not None]
        due_rows = [_waiting(row)._replace(frame=row.frame, expires=row.expires) for row in due]
        return Swept([_waiting(row) for row in expired], due_rows, min(moments, default=None))

    async def find(self, find: Find) -> Sequence[Dead]:
        """Return the dead letters that a question is about; of a list, its beginning."""
        match find.question:
            case ListDead(name=name, after=after):
                numbers = (number for number in sorted(self._dead) if number > after)
                letters = (self._dead[number] for number in numbers)
                return list(islice((one for one in letters if name in {None, name_of(one.frame)}), _FIND_FRAMES))
            case ShowDead(number=number):
                return [self._dead[number]] if number in self._dead else []
            case ResendDead(numbers=numbers) | DropDead(numbers=numbers):
                return [self._dead[number]._replace(frame=b"") for number in numbers if number in self._dead]
            case _:
                return []

    async def close(self) -> None:
        """Do nothing."""

    def _store(self, store: Store) -> None:
        row = Stored(store.number, store.name, store.messages, store.frame, due=store.due, expires=store.expires)
        if store.due is None:
            self._add(row)
        else:
            self._delayed[store.number] = row
            heapq.heappush(self._due, (store.due, store.number))
        if store.is_offered:
            self._names[store.name].offered = store.number

    def _add(self, row: Stored) -> None:
        self._names.setdefault(row.name, _Name()).frames[row.number] = row
        self._name_of[row.number] = row.name
        if row.expires is not None:
            heapq.heappush(self._expiring, (row.expires, row.number))
            # Moments of what has been settled stay until they come up; not more of them than there are frames.
            if len(self._expiring) > 2 * len(self._name_of) + _SPARE:
                self._expiring = [moment for moment in self._expiring if moment[1] in self._name_of]
                heapq.heapify(self._expiring)

    def _take(self, number: int) -> Stored:
        name = self._name_of.pop(number)
        row = self._names[name].frames.pop(number)
        if not self._names[name].frames:
            del self._names[name]
        return row

    def _bury(self, bury: Bury) -> None:
        frame = self._take(bury.number).frame
        what = (bury.number, bury.name, bury.messages, bury.size, bury.attempts, bury.indexes)
        self._dead[bury.number] = Dead(*what, bury.buried, bury.reason, bury.error, frame)

    def _requeue(self, requeue: Requeue) -> None:
        if requeue.origin is Origin.DELAYED:
            row = self._delayed.pop(requeue.former)
            self._add(row._replace(number=requeue.number, name=requeue.queue, due=None))
        else:
            dead = self._dead.pop(requeue.former)
            self._add(Stored(requeue.number, requeue.queue, requeue.messages, dead.frame, indexes=dead.indexes))

    def _drop(self, queue: str) -> None:
        for number in self._names.pop(queue, _Name()).frames:
            del self._name_of[number]
        self._delayed = {number: row for number, row in self._delayed.items() if row.name != queue}

    def _adopt(self, adopt: Adopt) -> None:
        former = self._names.pop(adopt.name, _Name())
        heir = self._names.setdefault(adopt.heir, _Name())
        # How far each was delivered does not hold for the other, so it is noted where it is known.
        rows = [
            queue.marked(row)._replace(name=adopt.heir) for queue in (former, heir) for row in queue.frames.values()
        ]
        heir.frames = {row.number: row for row in sorted(rows)}
        heir.offered = 0
        self._name_of.update(dict.fromkeys(former.frames, adopt.heir))

    def _ended(self, heap: list[tuple[float, int]], now: float) -> Iterator[Stored]:
        """Yield, and forget the moments of, the rows whose moment has come and that are still there."""
        while heap and heap[0][0] <= now:
            _, number = heapq.heappop(heap)
            row = self._delayed.get(number) if heap is self._due else self._row(number)
            if row is not None:
                yield row

    def _take_due(self, sweep: Sweep) -> list[Stored]:
        """Return what is due, and forget when; what one publish has become is returned together."""
        rows: list[Stored] = []
        for row in self._ended(self._due, sweep.now):
            if len(rows) >= sweep.frames and _publish_of(row) != _publish_of(rows[-1]):
                heapq.heappush(self._due, (row.due or 0.0, row.number))
                break
            rows.append(row)
        return rows

    def _row(self, number: int) -> Stored | None:
        name = self._name_of.get(number)
        return None if name is None else self._names[name].frames[number]


def _publish_of(row: Stored) -> tuple[float | None, int]:
    """Return what all that one publish has become has in common, and hardly anything else."""
    return row.due, read_header(row.frame).client


def _waiting(row: Stored) -> Waiting:
    left = row.messages if row.indexes is None else len(row.indexes)
    return Waiting(row.number, row.name, row.messages, left, len(row.frame))
