"""The store without a ``persist_file``: all is kept in memory, and ends with the process."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mezzenger.broker.effects import Attempt, Change, Load, Offered, Settle, Store
from mezzenger.broker.restored import Restored, Stored


@dataclass(slots=True)
class _Name:
    frames: dict[int, Stored] = field(default_factory=dict)
    """In order of their numbers."""
    offered: int = 0
    """No frame above this number was delivered."""


class MemoryStorage:
    """Keeps nothing beyond the process."""

    survives_restart = False

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._name_of: dict[int, str] = {}

    async def open(self) -> Restored:
        """Return nothing: there was no last run."""
        return Restored()

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make the changes that concern frames; what is known of publishers need not outlive the broker."""
        for change in changes:
            match change:
                case Store():
                    self._store(change)
                case Settle():
                    self._settle(change.number)
                case Attempt():
                    frames = self._names[self._name_of[change.number]].frames
                    row = frames[change.number]
                    frames[change.number] = row._replace(attempts=change.attempts, indexes=change.indexes)
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
            rows.append(row if row.number > name.offered else row._replace(attempts=max(row.attempts, 1)))
        if rows:
            name.offered = max(name.offered, rows[-1].number)
        return rows

    async def close(self) -> None:
        """Do nothing."""

    def _store(self, store: Store) -> None:
        name = self._names.setdefault(store.name, _Name())
        name.frames[store.number] = Stored(store.number, store.name, store.messages, store.frame, 0, None)
        self._name_of[store.number] = store.name
        if store.is_offered:
            name.offered = store.number

    def _settle(self, number: int) -> None:
        name = self._name_of.pop(number)
        del self._names[name].frames[number]
        if not self._names[name].frames:
            del self._names[name]
