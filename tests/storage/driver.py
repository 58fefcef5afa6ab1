"""Drives a store in tests, without the test having to wait for anything."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from mezzenger.broker.effects import Bury, Change, Discard, Find, Know, Load, Origin, Requeue, Settle, Store, Sweep
from mezzenger.broker.restored import Dead, Restored, Stored, Swept
from mezzenger.protocol.commands import ListDead, Question
from mezzenger.protocol.wire import encode_data
from mezzenger.storage.base import Storage
from mezzenger.storage.memory import MemoryStorage
from mezzenger.storage.sqlite import SqliteStorage

CLIENT = 99


class Driver:
    """A store, and the loop that it runs in."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._runner = asyncio.Runner()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, unless that is done already."""
        if not self._is_closed:
            self._is_closed = True
            self._runner.run(self.storage.close())
            self._runner.close()

    def open(self) -> Restored:
        return self._runner.run(self.storage.open())

    def commit(self, *changes: Change) -> None:
        self._runner.run(self.storage.commit(changes))

    def read(self, name: str = "a", after: int = 0, frames: int = 1000, size: int = 2**20) -> Sequence[Stored]:
        return self._runner.run(self.storage.read(Load(name, after, frames, size)))

    def sweep(self, now: float, frames: int = 1000) -> Swept:
        return self._runner.run(self.storage.sweep(Sweep(now, frames)))

    def find(self, question: Question) -> Sequence[Dead]:
        return self._runner.run(self.storage.find(Find(b"peer", question)))

    def find_all(self) -> Sequence[Dead]:
        return self.find(ListDead(1, None, 0))

    def listed(self, name: str | None = None, after: int = 0) -> list[int]:
        return [dead.number for dead in self.find(ListDead(1, name, after))]

    def numbers(self, name: str = "a", after: int = 0, frames: int = 1000, size: int = 2**20) -> list[int]:
        return [row.number for row in self.read(name, after, frames, size)]


def memory() -> Driver:
    """Return a store in memory, open."""
    driver = Driver(MemoryStorage())
    assert driver.open() == Restored()
    return driver


def sqlite(file: Path) -> Driver:
    """Return a store in a file, open, and tell which it is if that fails."""
    driver = Driver(SqliteStorage(file))
    try:
        driver.open()
    except BaseException:
        driver.close()
        raise
    return driver


def reopened(file: Path) -> Restored:
    """Return what a store finds in a file, and let go of the file again."""
    with Driver(SqliteStorage(file)) as driver:
        return driver.open()


def store(
    number: int,
    name: str = "a",
    payloads: Sequence[bytes] = (b"x",),
    *,
    client: int = CLIENT,
    sequence: int | None = None,
    is_offered: bool = False,
    due: float | None = None,
    expires: float | None = None,
) -> Store:
    """Return the change that stores a frame; its sequence is its number unless a test says otherwise."""
    sequence = number if sequence is None else sequence
    items = [(1.5, payload) for payload in payloads]
    frame = encode_data(name, items, ack=1, codec=1, client=client, sequence=sequence)
    return Store(number, client, sequence, name, len(payloads), frame, is_offered, due, expires)


def settle(stored: Store) -> Settle:
    """Return the change that takes a stored frame out."""
    return Settle(stored.number, stored.name, stored.messages, len(stored.frame))


def bury(stored: Store, *, attempts: int = 3, indexes: tuple[int, ...] | None = None, error: str = "no") -> Bury:
    """Return the change that makes a dead letter of a stored frame."""
    size = len(stored.frame)
    return Bury(stored.number, stored.name, stored.messages, size, attempts, indexes, 7.5, "max_attempts", error)


def requeue(stored: Store, number: int, origin: Origin = Origin.DEAD) -> Requeue:
    """Return the change that puts a frame that was kept apart among those to be delivered."""
    return Requeue(origin, stored.number, number, stored.name, stored.messages, len(stored.frame))


def discard(stored: Store) -> Discard:
    """Return the change that forgets a dead letter."""
    return Discard(stored.number, stored.name, len(stored.frame))


def key_of(client: int) -> bytes:
    """Return the key of a client."""
    return client.to_bytes(16)


def know(client: int = CLIENT) -> Know:
    """Return the change that makes a client known."""
    return Know(client, key_of(client))
