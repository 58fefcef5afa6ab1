"""The real store on a disk that takes its time, fails, and is full; and the end of a server while it is used."""

from collections.abc import Callable, Generator, Sequence
from typing import Final

from mezzenger.broker.core import Broker, BrokerOptions
from mezzenger.broker.effects import Change, Find, Load, Store, Sweep
from mezzenger.broker.restored import Dead, Restored, Stored, Swept
from mezzenger.errors import StorageFull
from mezzenger.storage import rows
from mezzenger.storage.sqlite import SqliteStorage
from tests.simulation.clock import Clock
from tests.simulation.disk import Disk, close
from tests.simulation.ledger import Ledger

COMMIT: Final = 0.003
FULL: Final = "the disk is full"
FULL_SECONDS: Final = 0.4
"""On the average, until it has space again: often enough it has none yet when it is tried again."""


class Pause:
    """What a coroutine awaits to go on after so many seconds; after None it never does."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def __await__(self) -> Generator[float | None, None, None]:
        yield self._seconds


class AccountedBroker(Broker):
    """A broker of whose commits an account is kept: what the store raises is its failure, and no error of a test.

    Args:
        options: Of the broker.
        clock: Decides what the broker leaves to chance.
        ledger: The account.
    """

    def __init__(self, options: BrokerOptions, clock: Clock, ledger: Ledger) -> None:
        super().__init__(options, clock.random.random)
        self._ledger = ledger

    def committed(self, changes: Sequence[Change], now: float) -> None:
        """Take note of changes that were made."""
        self._ledger.committed(changes)
        super().committed(changes, now)

    def commit_failed(self, changes: Sequence[Change], reason: str, text: str) -> None:
        """Take note of changes that were not made: for lack of space, or none any more."""
        assert "its log says why" not in text, "the store raises what is no error of a store"
        if text == FULL:
            self._ledger.refused([change for change in changes if isinstance(change, Store)])
        else:
            self._ledger.failed(changes)
        super().commit_failed(changes, reason, text)


class FaultyStorage:
    """What ``Storing`` uses in a history.

    Args:
        clock: Decides what goes wrong.
        disk: Where the files are.
        crash: Ends the server, having its store ended as it is told.
        fail: Called when the disk has failed.
    """

    survives_restart = True

    def __init__(
        self,
        clock: Clock,
        disk: Disk,
        *,
        crash: Callable[[Callable[[SqliteStorage], None]], None],
        fail: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._disk = disk
        self._crash = crash
        self._fail = fail
        self.file = SqliteStorage(disk.file)
        self.full_until = 0.0
        """By the steady clock: until then the disk is, or was, full."""
        self.made_at_last: Sequence[Change] = ()
        """What was committed when the server crashed, before anybody was told."""
        self.is_over = False
        """Whether the server has crashed."""
        self.is_perfect = False
        """Whether nothing goes wrong any more, and nothing takes time."""
        self._has_begun = False

    def next_round(self) -> None:
        """Take note that what is done next takes its time anew."""
        self._has_begun = False

    async def open(self) -> Restored:
        """Return what the last run left."""
        return self.file._open()

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make changes, unless something happens."""
        await self._begin()
        if self.file._failure is None and not self.is_perfect:
            if self._clock.now < self.full_until:
                raise StorageFull(FULL)
            await self._have_bad_luck(changes)
        self.file._commit(changes)

    async def read(self, load: Load) -> Sequence[Stored]:
        """Return the next frames of a queue."""
        await self._begin()
        found = self.file._read(self.file._rows.read_waiting, load)
        self._clock.tell("load", load.name)
        return found

    async def sweep(self, sweep: Sweep) -> Swept:
        """Return what has expired, and what is due."""
        await self._begin()
        found = self.file._read(self.file._rows.sweep, sweep)
        self._clock.tell("sweep")
        return found

    async def find(self, find: Find) -> Sequence[Dead]:
        """Return the dead letters that a question is about."""
        await self._begin()
        return self.file._read(rows.find, find)

    async def close(self) -> None:
        """Let go of the file."""
        close(self.file)

    async def _begin(self) -> None:
        """Take the time that a round of work takes, once."""
        if self.is_over:
            await Pause(None)
        if self._has_begun or self.is_perfect:
            return
        self._has_begun = True
        seconds = self._clock.random.expovariate(1 / COMMIT)
        if self._clock.breaks(0.01, "slow disk"):
            seconds += 0.3
        await Pause(seconds)
        if self._clock.breaks(0.002, "crash before a commit"):
            self._crash(self._disk.crash)
            await Pause(None)

    async def _have_bad_luck(self, changes: Sequence[Change]) -> None:
        if self._clock.breaks(0.001, "disk fails"):
            # It refuses all, as after a failed sync, until somebody starts the server again.
            self.file._failure = "the disk has failed"
            self._fail()
        elif self._clock.breaks(0.002, "crash in a commit"):
            self._crash(lambda storage: self._disk.crash_in_commit(storage, changes))
            await Pause(None)
        elif self._clock.breaks(0.003, "crash after a commit"):
            self._crash(lambda storage: self._disk.crash_after_commit(storage, changes))
            self.made_at_last = changes
            await Pause(None)
        elif self._clock.breaks(0.005, "disk full"):
            self.full_until = self._clock.now + self._clock.random.expovariate(1 / FULL_SECONDS)
            raise StorageFull(FULL)
