"""What is committed when, and with what: nobody waits for what is settled."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from mezzenger.broker.core import Broker
from mezzenger.broker.effects import Change, Know, Load, Settle
from mezzenger.broker.restored import Stored
from mezzenger.server.storing import Storing
from mezzenger.storage.memory import MemoryStorage
from tests.broker.broker_driver import Driver

SETTLE: Final = Settle(1, "a", 1, 10)
OTHER: Final = Know(1, b"key")
LOAD: Final = Load("a", 0, 1, 1)


class NotedStorage(MemoryStorage):
    """Notes what is committed and read together, and keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.survives_restart = True
        self.done: list[Sequence[Change] | Load] = []

    async def commit(self, changes: Sequence[Change]) -> None:
        self.done.append(changes)

    async def read(self, load: Load) -> Sequence[Stored]:
        self.done.append(load)
        return []


class Harness:
    """A broker whose store is used when the test says so."""

    def __init__(self) -> None:
        self.storage = NotedStorage()
        self.timers: list[Callable[[], None]] = []
        self.storing = Storing(
            Broker(Driver().options, lambda: 0.5),
            self.storage,
            now=lambda: 0.0,
            perform=lambda: None,
            later=lambda _seconds, act: self.timers.append(act),
        )

    def work(self) -> None:
        """Do what there is to be done now."""
        if self.storing.has_work:
            asyncio.run(self.storing.work())


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_one_commit_for_what_is_settled_and_what_comes_next(harness: Harness) -> None:
    """What is settled waits, so that a message sent, confirmed and acknowledged costs one sync, not two."""
    harness.storing.add(SETTLE)
    harness.work()
    assert harness.storage.done == []
    assert harness.storing.is_busy
    harness.storing.add(OTHER)
    harness.work()
    assert harness.storage.done == [[SETTLE, OTHER]]
    assert not harness.storing.is_busy


def test_settled_soon_though_nothing_is_stored(harness: Harness) -> None:
    """It waits for one short time, however much is settled."""
    harness.storing.add(SETTLE)
    harness.storing.add(SETTLE)
    (timer,) = harness.timers
    timer()
    harness.work()
    assert harness.storage.done == [[SETTLE, SETTLE]]
    harness.storing.add(SETTLE)
    assert len(harness.timers) == 2


def test_nothing_left_to_wait_for(harness: Harness) -> None:
    """If all was committed with something else, there is nothing to do when the time is over."""
    harness.storing.add(SETTLE)
    harness.storing.add(OTHER)
    harness.work()
    harness.timers.pop()()
    assert not harness.storing.has_work


def test_settled_before_what_is_read(harness: Harness) -> None:
    """What is read does not have what was settled before."""
    harness.storing.add(SETTLE)
    harness.storing.add(LOAD)
    harness.work()
    assert harness.storage.done == [[SETTLE], LOAD]


def test_at_once_without_a_file(harness: Harness) -> None:
    """Where a commit costs nothing, nothing waits."""
    harness.storage.survives_restart = False
    harness.storing.add(SETTLE)
    harness.work()
    assert harness.storage.done == [[SETTLE]]
