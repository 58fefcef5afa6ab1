"""What a file does with a message that expires, that is kept apart for a while, or that is not delivered any more."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mezzenger.broker.effects import Bury, Find, Origin, Requeue, Store, Sweep
from mezzenger.broker.restored import Dead, Swept
from mezzenger.protocol.commands import ListDead
from mezzenger.storage.sqlite import SqliteStorage
from tests.storage.driver import Driver, know, sqlite, store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a file that is not there yet."""
    return tmp_path / "store.db"


def bury(stored: Store) -> Bury:
    size = len(stored.frame)
    return Bury(stored.number, stored.name, stored.messages, size, 3, None, 7.0, "max_attempts", "no")


def dead(driver: Driver) -> list[Dead]:
    assert isinstance(driver.storage, SqliteStorage)
    return list(driver._runner.run(driver.storage.find(Find(b"A", ListDead(1, None, 0)))))


def sweep(driver: Driver, now: float) -> Swept:
    return driver._runner.run(driver.storage.sweep(Sweep(now, 100)))


def test_a_dead_letter_is_kept(file: Path) -> None:
    """With its frame, over a restart, and not among what is delivered."""
    frame = store(1)
    with sqlite(file) as driver:
        driver.commit(know(), frame, store(2))
        driver.commit(bury(frame))
    with sqlite(file) as driver:
        size = len(frame.frame)
        assert dead(driver) == [Dead(1, "a", 1, size, 3, None, 7.0, "max_attempts", "no", frame.frame)]
        assert driver.numbers() == [2]


def test_a_dead_letter_that_is_resent_is_none_any_more(file: Path) -> None:
    """It is in one place only, which is among what is delivered, behind all that was there."""
    frame = store(1)
    with sqlite(file) as driver:
        driver.commit(know(), frame, store(2))
        driver.commit(bury(frame))
        driver.commit(Requeue(Origin.DEAD, 1, 3, "a", 1, len(frame.frame)))
        assert dead(driver) == []
        assert driver.numbers() == [2, 3]


def test_a_delayed_message_waits(file: Path) -> None:
    """Until it is due nobody reads it, also after a restart, which knows when that will be."""
    with sqlite(file) as driver:
        driver.commit(know(), replace(store(1), due=50.0), store(2))
        assert driver.numbers() == [2]
    with sqlite(file) as driver:
        assert driver.numbers() == [2]
        assert sweep(driver, 49.0) == Swept([], [], 50.0)
        assert [waiting.number for waiting in sweep(driver, 50.0).due] == [1]
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT number FROM message").fetchall() == [(2,)]


def test_what_expires_is_known_after_a_restart(file: Path) -> None:
    """When it will, and that it has."""
    with sqlite(file) as driver:
        driver.commit(know(), replace(store(1), expires=50.0), store(2))
    with Driver(SqliteStorage(file)) as driver:
        assert driver.open().next_moment == 50.0
        assert [row.expires for row in driver.read()] == [50.0, None]
        assert [waiting.number for waiting in sweep(driver, 50.0).expired] == [1]
