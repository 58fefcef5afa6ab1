"""A store in memory that outlives the broker, so that one can be started again."""

from collections.abc import Sequence

from mezzenger.broker.effects import (
    AddGroup,
    Change,
    DropGroup,
    Forget,
    Know,
    Refusal,
    Requeue,
    Retain,
    Store,
    Unretain,
)
from mezzenger.broker.restored import Kept, KnownPublisher, Restored, Stored, Total
from mezzenger.protocol.last_message import last_message
from mezzenger.storage.memory import MemoryStorage


class DurableStorage(MemoryStorage):
    """Remembers what else a broker must know after a restart."""

    survives_restart = True

    def __init__(self) -> None:
        super().__init__()
        self.last_number = 0
        self.publishers: dict[int, KnownPublisher] = {}
        self.retained: dict[str, Kept] = {}
        self.groups: dict[str, int] = {}
        """By queue, which number was the highest when the group was made."""

    async def open(self) -> Restored:
        # A sweep of the last run may have taken moments out, and not been heard of.
        rows = self.rows().values()
        self._expiring = sorted((row.expires, row.number) for row in rows if row.expires is not None)
        self._due = sorted((row.due, row.number) for row in self._delayed.values() if row.due is not None)
        names = self.groups.keys() | {
            row.name for rows in (self.rows(), self._delayed, self._dead) for row in rows.values()
        }
        moments = [heap[0][0] for heap in (self._expiring, self._due) if heap]
        return Restored(
            self.last_number,
            [self._total(name) for name in sorted(names)],
            list(self.publishers.values()),
            min(moments, default=None),
            [
                (name, kept._replace(is_pending=self._name_of.get(kept.number) == name))
                for name, kept in self.retained.items()
            ],
        )

    def _total(self, name: str) -> Total:
        rows = [row for row in self.rows().values() if row.name == name]
        counts = [len(rows), sum(row.messages for row in rows), sum(len(row.frame) for row in rows)]
        for kept in (self._delayed, self._dead):
            frames = [row.frame for row in kept.values() if row.name == name]
            counts += [len(frames), sum(map(len, frames))]
        return Total(name, name in self.groups, *counts)._replace(since=self.groups.get(name, 0))

    async def commit(self, changes: Sequence[Change]) -> None:
        await super().commit(changes)
        for change in changes:
            match change:
                case Store():
                    assert change.number > self.last_number
                    self.last_number = change.number
                    known = self.publishers.pop(change.client)
                    self.publishers[change.client] = known._replace(stored=max(known.stored, change.sequence))
                case Requeue():
                    assert change.number > self.last_number
                    self.last_number = change.number
                case Retain() | Unretain() | AddGroup() | DropGroup():
                    self._change_names(change)
                case Know():
                    known = self.publishers.pop(change.client, KnownPublisher(change.client, b"", 0, frozenset()))
                    self.publishers[change.client] = known._replace(key=change.key)
                case Refusal():
                    self._refuse(change)
                case Forget(before=None):
                    del self.publishers[change.client]
                case Forget() if change.client in self.publishers:
                    known = self.publishers[change.client]
                    refused = {sequence for sequence in known.refused if sequence >= (change.before or 0)}
                    self.publishers[change.client] = known._replace(refused=frozenset(refused))

    def _change_names(self, change: Retain | Unretain | AddGroup | DropGroup) -> None:
        match change:
            case AddGroup():
                self.groups[change.name] = change.since
                self.last_number = max(self.last_number, change.since)
            case DropGroup():
                del self.groups[change.name]
            case _:
                self._change_last(change)

    def _change_last(self, change: Retain | Unretain) -> None:
        number = self.retained[change.name].number if change.name in self.retained else 0
        if isinstance(change, Unretain):
            if number <= change.number:
                self.retained.pop(change.name, None)
        elif number < change.number:
            self.retained[change.name] = Kept(change.number, last_message(change.frame), change.expires)
            self.last_number = max(self.last_number, change.number)

    def _refuse(self, refusal: Refusal) -> None:
        known = self.publishers[refusal.client]
        if refusal.is_lifted:
            assert refusal.sequence in known.refused
            refused = known.refused - {refusal.sequence}
        else:
            refused = known.refused | {refusal.sequence}
        self.publishers[refusal.client] = known._replace(refused=refused)

    # What tests look at.

    def rows(self) -> dict[int, Stored]:
        """Return all that waits, by number."""
        return {number: row for one in self._names.values() for number, row in one.frames.items()}

    def offered(self, name: str = "a") -> int:
        """Return the number up to which frames of a name count as delivered."""
        return self._names[name].offered
