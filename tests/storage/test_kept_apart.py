"""What every store does with what is not to be delivered, or not yet: dead letters, delayed and expired messages."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mezzenger.broker.effects import Attempt, Change, Origin, Reply
from mezzenger.broker.restored import Dead, Stored, Swept, Total, Waiting
from mezzenger.errors import StorageError
from mezzenger.protocol.commands import DropDead, ListDead, ResendDead, ShowDead
from mezzenger.storage import rows
from mezzenger.storage.files import Files
from mezzenger.storage.seal import make_seal
from tests.storage.driver import Driver, bury, discard, know, memory, reopened, requeue, settle, sqlite, store

PAGE = 100
"""Letters that one question for a list is answered with at most."""
LARGEST = 2**64 - 1


@pytest.fixture(params=["memory", "sqlite"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    """An open store of either kind."""
    with memory() if request.param == "memory" else sqlite(tmp_path / "store.db") as driver:
        yield driver


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a file that is not there yet."""
    return tmp_path / "store.db"


def commit(file: Path, *changes: Change) -> None:
    """Make changes in a store of its own, and close it."""
    with sqlite(file) as driver:
        driver.commit(*changes)


class TestAttempts:
    def test_when_it_is_due_again(self, driver: Driver) -> None:
        """A failure is kept with its error and the time of the next attempt; the last one counts."""
        frame = store(1)
        driver.commit(know(), frame)
        driver.commit(Attempt(1, 2, None, 9.5, "no"))
        assert driver.read() == [Stored(1, "a", 1, frame.frame, 2, None, 9.5, None, "no")]
        driver.commit(Attempt(1, 3, (0,), None, "never"))
        assert driver.read() == [Stored(1, "a", 1, frame.frame, 3, (0,), None, None, "never")]

    def test_when_it_expires(self, driver: Driver) -> None:
        """The end of a message is told when it is read, and outlives attempts."""
        driver.commit(know(), store(1, expires=9.5), store(2))
        driver.commit(Attempt(1, 2, None, 3.5, "no"))
        assert [(row.due, row.expires) for row in driver.read()] == [(3.5, 9.5), (None, None)]


class TestDeadLetters:
    def test_not_read_any_more(self, driver: Driver) -> None:
        """It is among the dead letters as it was buried, and not among what waits."""
        frames = [store(1), store(2, payloads=[b"x", b"y", b"z"]), store(3)]
        driver.commit(know(), *frames)
        driver.commit(bury(frames[1], attempts=20, indexes=(0, 2), error="ValueError: \xe9"))
        assert driver.numbers() == [1, 3]
        size = len(frames[1].frame)
        letter = Dead(2, "a", 3, size, 20, (0, 2), 7.5, "max_attempts", "ValueError: \xe9", frames[1].frame)
        assert driver.find(ListDead(1, None, 0)) == [letter]
        assert driver.find(ShowDead(1, 2)) == [letter]

    def test_to_be_resent_or_dropped(self, driver: Driver) -> None:
        """An order may concern many large ones: their frames are not returned."""
        frames = [store(number, payloads=[b"x", b"y"]) for number in range(1, 4)]
        driver.commit(know(), *frames, *(bury(frame, indexes=(1,)) for frame in frames[1:]))
        size = len(frames[0].frame)
        letters = [Dead(number, "a", 2, size, 3, (1,), 7.5, "max_attempts", "no") for number in (2, 3)]
        assert driver.find(ResendDead(1, [2, 3])) == driver.find(DropDead(1, [2, 3])) == letters
        assert [letter.left for letter in letters] == [1, 1]

    def test_buried_with_its_last_attempt(self, driver: Driver) -> None:
        """Attempts and burials of one commit are made in that order."""
        frame = store(1)
        driver.commit(know(), frame)
        driver.commit(Attempt(1, 2, None), bury(frame))
        assert driver.numbers() == []
        assert driver.listed() == [1]

    def test_listed_in_pages(self, driver: Driver) -> None:
        """In order of the numbers, whatever the order of the burials; each page goes on behind the last number."""
        frames = [store(number, "ab"[number % 2]) for number in range(1, 2 * PAGE + 4)]
        driver.commit(know(), *frames)
        driver.commit(*(bury(frame) for frame in reversed(frames)))
        assert driver.listed() == list(range(1, PAGE + 1))
        assert driver.listed(after=PAGE) == list(range(PAGE + 1, 2 * PAGE + 1))
        assert driver.listed(after=2 * PAGE) == [2 * PAGE + 1, 2 * PAGE + 2, 2 * PAGE + 3]
        assert driver.listed(after=2 * PAGE + 3) == driver.listed(after=LARGEST) == []
        assert driver.listed("a") == list(range(2, 2 * PAGE + 1, 2))
        assert driver.listed("b", after=PAGE) == list(range(PAGE + 1, 2 * PAGE + 4, 2))
        assert driver.listed("c") == []

    @pytest.mark.parametrize("number", [0, 1, 3, LARGEST])
    def test_unknown_numbers(self, driver: Driver, number: int) -> None:
        """Neither what waits nor what never was is found, however large the number."""
        frames = [store(1), store(2)]
        driver.commit(know(), *frames)
        driver.commit(bury(frames[1]))
        for question in (ShowDead(1, number), ResendDead(1, [number]), DropDead(1, [number])):
            assert driver.find(question) == []

    def test_put_back(self, driver: Driver) -> None:
        """It waits under its new number, behind all others, as if it were new but for what of it was handled."""
        frames = [store(1, payloads=[b"x", b"y"], expires=5.0), store(2)]
        driver.commit(know(), *frames)
        driver.read()
        driver.commit(bury(frames[0], indexes=(1,)))
        driver.commit(store(3), requeue(frames[0], 4), Reply(b"peer", 1, 1))
        assert driver.listed() == []
        assert driver.find(ShowDead(1, 4)) == []
        assert driver.numbers(after=1) == [2, 3, 4]
        assert driver.read(after=3)[0][:6] == (4, "a", 2, frames[0].frame, 1, (1,))
        assert driver.sweep(100.0) == Swept([], [], None)
        driver.commit(bury(store(4)))
        assert driver.listed() == [4]

    def test_it_was_not_delivered(self, driver: Driver) -> None:
        """Put back, it counts as never delivered until it is."""
        frame = store(1)
        driver.commit(know(), frame)
        driver.read()
        driver.commit(bury(frame))
        driver.commit(requeue(frame, 2))
        assert [(row.number, row.attempts, row.error) for row in driver.read()] == [(2, 0, "")]

    def test_forgotten(self, driver: Driver) -> None:
        """It is gone, the others stay."""
        frames = [store(number) for number in range(1, 4)]
        driver.commit(know(), *frames)
        driver.commit(*(bury(frame) for frame in frames))
        driver.commit(discard(frames[1]))
        assert driver.listed() == [1, 3]
        assert driver.numbers() == []


class TestSweeping:
    def test_what_has_expired(self, driver: Driver) -> None:
        """Up to this moment, in order of the moments, with what of it is left; then when there will be more."""
        batch = store(1, payloads=[b"x", b"y", b"z"], expires=3.0)
        other = store(2, "b", expires=2.0)
        driver.commit(know(), batch, other, store(3, expires=3.5), store(4))
        driver.commit(Attempt(1, 1, (0, 2)))
        swept = driver.sweep(3.0)
        assert swept.expired == [
            Waiting(2, "b", 1, 1, len(other.frame)),
            Waiting(1, "a", 3, 2, len(batch.frame)),
        ]
        assert (swept.due, swept.next) == ([], 3.5)

    def test_what_was_settled(self, driver: Driver) -> None:
        """Neither what was acknowledged nor what is dead expires."""
        frames = [store(1, expires=3.0), store(2, expires=3.0)]
        driver.commit(know(), *frames)
        driver.commit(settle(frames[0]), bury(frames[1]))
        assert driver.sweep(3.0) == Swept([], [], None)

    def test_what_is_due(self, driver: Driver) -> None:
        """What is delayed is not read before, and found in order of its time, then of its number."""
        frames = [store(number, due=due) for number, due in enumerate((3.0, 1.0, 2.0, 1.0, 4.0), 1)]
        driver.commit(know(), *frames)
        assert driver.numbers() == []
        swept = driver.sweep(3.0)
        assert [waiting.number for waiting in swept.due] == [2, 4, 3, 1]
        assert swept.due[0] == Waiting(2, "a", 1, 1, len(frames[1].frame), frames[1].frame)
        assert (swept.expired, swept.next) == ([], 4.0)

    def test_put_among_the_others(self, driver: Driver) -> None:
        """What was delayed is read under its new number, with the time of its end."""
        frame = store(1, due=1.0, expires=2.0)
        driver.commit(know(), frame, store(2))
        assert driver.sweep(1.0).next == 2.0
        driver.commit(requeue(frame, 3, Origin.DELAYED))
        assert driver.read(after=2) == [Stored(3, "a", 1, frame.frame, 0, None, None, 2.0)]
        swept = driver.sweep(2.0)
        assert [waiting.number for waiting in swept.expired] == [3]
        assert swept.due == []

    def test_in_slices(self, driver: Driver) -> None:
        """So many of each at most, and at once when there is more; then all was found once."""
        delayed = [store(number, due=number / 8) for number in range(1, 8)]
        driver.commit(know(), *delayed, *(store(number, expires=1.0) for number in range(8, 13)))
        due: list[int] = []
        expired: list[int] = []
        next_sweep: float | None = 1.0
        while next_sweep is not None and next_sweep <= 1.0:
            swept = driver.sweep(1.0, frames=3)
            assert max(len(swept.due), len(swept.expired)) <= 3
            due += [waiting.number for waiting in swept.due]
            expired += [waiting.number for waiting in swept.expired]
            of_number = {frame.number: frame for frame in delayed}
            driver.commit(
                *(requeue(of_number[one.number], 100 + one.number, Origin.DELAYED) for one in swept.due),
                *(settle(store(one.number)) for one in swept.expired),
            )
            next_sweep = swept.next
        assert due == list(range(1, 8))
        assert expired == list(range(8, 13))
        assert driver.numbers() == list(range(101, 108))

    def test_a_publish_is_not_parted(self, driver: Driver) -> None:
        """What one publish has become, in several queues, is found together, whatever the limit."""
        first = [store(1, due=1.0), *(replace(store(number, due=1.0), name=f"a|{number}") for number in range(2, 6))]
        driver.commit(know(), *first, store(6, due=2.0))
        swept = driver.sweep(2.0, frames=2)
        assert [waiting.number for waiting in swept.due] == [1, 2, 3, 4, 5]
        assert swept.next is not None
        driver.commit(*(requeue(one, 100 + one.number, Origin.DELAYED) for one in first))
        assert [waiting.number for waiting in driver.sweep(swept.next).due] == [6]

    def test_many_that_were_settled(self, driver: Driver) -> None:
        """The moments of thousands that came and went are not found, and those of the others are."""
        driver.commit(know())
        for number in range(1, 4001):
            frame = store(number, expires=float(number))
            driver.commit(frame) if number % 400 == 0 else driver.commit(frame, settle(frame))
        assert [one.number for one in driver.sweep(1e9).expired] == list(range(400, 4001, 400))


class TestReopening:
    def test_totals(self, file: Path) -> None:
        """Each name's frames are counted where they are: waiting, delayed, dead, put back or gone."""
        frames = [store(number) for number in range(1, 6)]
        delayed = [store(number, due=5.0, payloads=[b"long" * number]) for number in (6, 7)]
        size = len(frames[0].frame)
        commit(file, know(), *frames, *delayed)
        large = [len(frame.frame) for frame in delayed]
        assert reopened(file).totals == [Total("a", False, 5, 5, 5 * size, 2, sum(large), 0, 0)]
        commit(file, bury(frames[0]), bury(frames[1]), bury(frames[2]), settle(frames[3]))
        assert reopened(file).totals == [Total("a", False, 1, 1, size, 2, sum(large), 3, 3 * size)]
        commit(file, requeue(frames[0], 8), discard(frames[1]), requeue(delayed[0], 9, Origin.DELAYED))
        assert reopened(file).totals == [Total("a", False, 3, 3, 2 * size + large[0], 1, large[1], 1, size)]
        assert reopened(file).last_number == 9

    def test_a_name_with_nothing_that_waits(self, file: Path) -> None:
        """It is kept as long as it has dead letters or delayed messages, and forgotten with them."""
        dead, delayed = store(1, "dead"), store(2, "delayed", due=5.0)
        commit(file, know(), dead, delayed)
        commit(file, bury(dead))
        assert {total.name for total in reopened(file).totals} == {"dead", "delayed"}
        commit(file, discard(dead), requeue(delayed, 3, Origin.DELAYED))
        commit(file, settle(store(3, "delayed")))
        assert reopened(file).totals == []

    def test_the_next_moment(self, file: Path) -> None:
        """The first at which something expires or is due, be it past; what is delayed does not expire before."""
        commit(file, know(), store(1), store(2, due=5.0, expires=6.0))
        assert reopened(file).next_moment == 5.0
        commit(file, store(3, expires=4.0))
        assert reopened(file).next_moment == 4.0
        commit(file, settle(store(3)), requeue(store(2), 4, Origin.DELAYED))
        assert reopened(file).next_moment == 6.0

    def test_all_is_as_it_was(self, file: Path) -> None:
        """Dead letters, pauses and delays are found again by the next server."""
        frames = [store(1, payloads=[b"x", b"y"]), store(2, expires=9.0), store(3, due=5.0)]
        commit(file, know(), *frames)
        commit(file, bury(frames[0], indexes=(1,)), Attempt(2, 4, None, 6.5, "no"))
        with sqlite(file) as driver:
            size = len(frames[0].frame)
            letter = Dead(1, "a", 2, size, 3, (1,), 7.5, "max_attempts", "no", frames[0].frame)
            assert driver.find(ShowDead(1, 1)) == [letter]
            assert driver.read() == [Stored(2, "a", 1, frames[1].frame, 4, None, 6.5, 9.0, "no")]
            assert [one.number for one in driver.sweep(5.0).due] == [3]


class TestLimits:
    def test_so_many_bytes(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A list ends at so many bytes of frames, but not before its first letter."""
        frames = [store(number, payloads=[bytes(1000)]) for number in range(1, 5)]
        monkeypatch.setattr(rows, "FIND_SIZE", 2 * len(frames[0].frame))
        with sqlite(file) as driver:
            driver.commit(know(), *frames)
            driver.commit(*(bury(frame) for frame in frames))
            assert driver.listed() == [1, 2]
            monkeypatch.setattr(rows, "FIND_SIZE", 1)
            assert driver.listed(after=2) == [3]


class TestDamage:
    @pytest.mark.parametrize("what", ["frame = zeroblob(40)", "frame = x'00'", "indexes = x'c1'"])
    def test_a_dead_letter(self, file: Path, what: str) -> None:
        """Who asks for it is told which it is; it can be dropped, and the others be listed then."""
        frames = [store(1), store(2)]
        commit(file, know(), *frames)
        commit(file, *(bury(frame) for frame in frames))
        with closing(sqlite3.connect(file)) as database:
            database.execute(f"UPDATE dead SET {what} WHERE number = 1")
            database.commit()
        make_seal(Files.of(file))
        with sqlite(file) as driver:
            for question in (ListDead(1, None, 0), ShowDead(1, 1), ResendDead(1, [1])):
                with pytest.raises(StorageError, match=r"store\.db: message 1 of 'a' is damaged"):
                    driver.find(question)
            assert driver.find(ResendDead(1, [2]))
            (letter,) = driver.find(DropDead(1, [1]))
            driver.commit(discard(frames[0]))
            assert letter.number == 1
            assert driver.listed() == [2]
