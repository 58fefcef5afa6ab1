"""What every store does with the queues of groups: they come, are dropped, and inherit what waited for somebody."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mezzenger.broker.effects import AddGroup, Adopt, Attempt, Change, DropGroup, Offered, Origin, Store
from mezzenger.broker.restored import Total
from mezzenger.storage.check import check
from mezzenger.storage.repair import repair
from tests.storage.driver import Driver, bury, discard, know, memory, reopened, requeue, settle, sqlite, store

GROUP = "a|billing"
OTHER = "*|audit"


@pytest.fixture(params=["memory", "sqlite"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    """An open store of either kind."""
    with memory() if request.param == "memory" else sqlite(tmp_path / "store.db") as driver:
        yield driver


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a file that is not there yet."""
    return tmp_path / "store.db"


def copy(number: int, queue: str, *, due: float | None = None, expires: float | None = None) -> Store:
    """Return the change that stores a message named "a" in a queue."""
    return replace(store(number, "a", due=due, expires=expires), name=queue)


def totals_after(file: Path, *commits: tuple[Change, ...]) -> dict[str, Total]:
    """Make changes in a store of its own; return what the next start finds in it, which must be in order."""
    with sqlite(file) as driver:
        for changes in commits:
            driver.commit(*changes)
    assert check(file).findings == []
    return {total.name: total for total in reopened(file).totals}


def size_of(*stores: Store) -> int:
    return sum(len(one.frame) for one in stores)


class TestAdding:
    def test_one_message_in_several_queues(self, driver: Driver) -> None:
        """Each has a row of its own, and is settled alone."""
        one, other = copy(1, GROUP), copy(2, OTHER)
        driver.commit(know(), AddGroup(GROUP), AddGroup(OTHER), one, other, copy(3, "a"))
        driver.commit(settle(other))
        assert driver.numbers(GROUP) == [1]
        assert driver.numbers(OTHER) == []
        assert driver.numbers("a") == [3]
        assert [(row.name, row.frame) for row in driver.read(GROUP)] == [(GROUP, one.frame)]

    def test_a_group_is_there_without_a_message(self, file: Path) -> None:
        """It outlives any number of restarts; a name does not."""
        named = store(1)
        totals_after(file, (know(), AddGroup(GROUP), named), (settle(named),))
        reopened(file)
        assert reopened(file).totals == [Total(GROUP, True, 0, 0, 0)]

    def test_the_mark_comes_with_what_is_counted(self, file: Path) -> None:
        """What waits, is delayed and is dead is told of a group as of a name."""
        one, late, dead = copy(1, GROUP), copy(2, GROUP, due=9e9), copy(3, GROUP)
        totals = totals_after(file, (AddGroup(GROUP), know(), one, late, dead, store(4)), (bury(dead),))
        sizes = (size_of(one), 1, size_of(late), 1, size_of(dead))
        assert totals[GROUP] == Total(GROUP, True, 1, 1, *sizes)
        assert not totals["a"].is_group

    def test_twice_is_once(self, file: Path) -> None:
        """A group that is there already keeps what it has."""
        totals = totals_after(file, (know(), AddGroup(GROUP), copy(1, GROUP)), (AddGroup(GROUP),))
        assert (totals[GROUP].is_group, totals[GROUP].frames) == (True, 1)

    def test_of_a_queue_that_has_something(self, file: Path) -> None:
        """Dead letters of a group that was dropped are there when it comes back."""
        dead = copy(1, GROUP)
        totals_after(file, (know(), AddGroup(GROUP), dead), (bury(dead),), (DropGroup(GROUP),))
        totals = totals_after(file, (AddGroup(GROUP),))
        assert (totals[GROUP].is_group, totals[GROUP].dead) == (True, 1)


class TestDropping:
    def test_forgets_what_waits_and_what_is_delayed(self, driver: Driver) -> None:
        """Nothing of it is read, is due or expires any more; the copies in other queues stay."""
        copies = (copy(1, GROUP, expires=5.0), copy(2, GROUP, due=4.0), copy(3, "a", expires=5.0), copy(4, OTHER))
        driver.commit(know(), AddGroup(GROUP), AddGroup(OTHER), *copies)
        driver.commit(DropGroup(GROUP))
        assert driver.numbers(GROUP) == []
        assert (driver.numbers("a"), driver.numbers(OTHER)) == ([3], [4])
        swept = driver.sweep(10.0)
        assert ([waiting.number for waiting in swept.expired], swept.due) == ([3], [])

    def test_keeps_dead_letters(self, driver: Driver) -> None:
        """They can be listed, and put back into the queue of the group."""
        dead = copy(1, GROUP)
        driver.commit(know(), AddGroup(GROUP), dead)
        driver.commit(bury(dead))
        driver.commit(DropGroup(GROUP))
        assert driver.listed() == driver.listed("a") == [1]
        driver.commit(AddGroup(GROUP), requeue(dead, 2))
        assert driver.numbers(GROUP) == [2]

    def test_the_mark_goes(self, file: Path) -> None:
        """After a restart it is no group; without dead letters nothing of it is left."""
        dead = copy(2, OTHER)
        totals = totals_after(
            file,
            (know(), AddGroup(GROUP), AddGroup(OTHER), copy(1, GROUP), dead, copy(3, OTHER, due=9e9)),
            (bury(dead),),
            (DropGroup(GROUP), DropGroup(OTHER)),
        )
        assert totals == {OTHER: Total(OTHER, False, 0, 0, 0, 0, 0, 1, size_of(dead))}

    def test_stores_before_and_after_in_one_commit(self, driver: Driver) -> None:
        """What came before is forgotten, and what came after the group was there again is not."""
        driver.commit(
            know(), AddGroup(GROUP), copy(1, GROUP), DropGroup(GROUP), AddGroup(GROUP), copy(2, GROUP), copy(3, "a")
        )
        assert driver.numbers(GROUP) == [2]
        assert driver.numbers("a") == [3]

    def test_stores_before_and_after_are_counted(self, file: Path) -> None:
        """The counters fit what is there."""
        after = copy(2, GROUP)
        changes = (know(), AddGroup(GROUP), copy(1, GROUP), DropGroup(GROUP), AddGroup(GROUP), after)
        assert totals_after(file, changes) == {GROUP: Total(GROUP, True, 1, 1, size_of(after))}


class TestAdopting:
    def test_into_an_empty_heir(self, driver: Driver) -> None:
        """All is read from the heir, in order and as often delivered as it was; nothing from the former queue."""
        driver.commit(know(), *(store(number) for number in range(1, 4)))
        driver.read(frames=1)
        driver.commit(AddGroup(GROUP), Adopt("a", GROUP))
        rows = driver.read(GROUP)
        assert [(row.number, row.name, row.attempts) for row in rows] == [(1, GROUP, 1), (2, GROUP, 0), (3, GROUP, 0)]
        assert driver.numbers("a") == []

    def test_into_an_heir_that_has_something(self, driver: Driver) -> None:
        """Both are read in the order of their numbers."""
        driver.commit(know(), AddGroup(GROUP), store(1), copy(2, GROUP), store(3), copy(4, GROUP))
        driver.commit(Attempt(3, 4, None, error="no"))
        driver.commit(Adopt("a", GROUP))
        assert [(row.number, row.attempts, row.error) for row in driver.read(GROUP)] == [
            (1, 0, ""),
            (2, 0, ""),
            (3, 4, "no"),
            (4, 0, ""),
        ]
        assert driver.numbers("a") == []

    def test_what_was_never_delivered_says_so(self, driver: Driver) -> None:
        """Though the heir had delivered later ones: with one attempt only, it would never be delivered."""
        driver.commit(know(), AddGroup(GROUP), store(1), replace(copy(2, GROUP), is_offered=True), store(3))
        driver.commit(Adopt("a", GROUP))
        assert [(row.number, row.attempts) for row in driver.read(GROUP)] == [(1, 0), (2, 1), (3, 0)]

    def test_what_was_delivered_says_so(self, driver: Driver) -> None:
        """Though the heir had delivered none of its own, which do not say so."""
        driver.commit(know(), AddGroup(GROUP), copy(1, GROUP), replace(store(2), is_offered=True), store(3))
        driver.commit(Adopt("a", GROUP))
        assert [(row.number, row.attempts) for row in driver.read(GROUP)] == [(1, 0), (2, 1), (3, 0)]

    def test_what_expires_is_of_the_heir(self, driver: Driver) -> None:
        """It is found under the name that it has now."""
        driver.commit(know(), AddGroup(GROUP), store(1, expires=5.0), Adopt("a", GROUP))
        assert [(one.number, one.name) for one in driver.sweep(6.0).expired] == [(1, GROUP)]

    @pytest.mark.parametrize("is_used", [False, True])
    def test_delayed_and_dead_ones_stay(self, driver: Driver, *, is_used: bool) -> None:
        """They are due, and resent, where they were."""
        late, dead = store(1, due=5.0), store(2)
        driver.commit(know(), late, dead, store(3), AddGroup(GROUP), *([copy(4, GROUP)] if is_used else []))
        driver.commit(bury(dead))
        driver.commit(Adopt("a", GROUP))
        assert driver.numbers(GROUP) == [3, 4][: 1 + is_used]
        assert [(one.number, one.name) for one in driver.sweep(6.0).due] == [(1, "a")]
        assert [letter.name for letter in driver.find_all()] == ["a"]
        driver.commit(requeue(late, 5, Origin.DELAYED), requeue(dead, 6))
        assert driver.numbers("a") == [5, 6]
        driver.commit(Adopt("a", GROUP))
        assert driver.numbers(GROUP) == [*[3, 4][: 1 + is_used], 5, 6]

    @pytest.mark.parametrize("is_used", [False, True])
    def test_stores_before_and_after_in_one_commit(self, driver: Driver, *, is_used: bool) -> None:
        """What is stored afterwards goes where it says, and what was adopted is settled under its new name."""
        before = store(1)
        driver.commit(know(), AddGroup(GROUP), *([copy(2, GROUP)] if is_used else []))
        driver.commit(
            before, Adopt("a", GROUP), store(3), copy(4, GROUP), settle(replace(before, name=GROUP)), Offered("a", 0)
        )
        assert driver.numbers("a") == [3]
        assert driver.numbers(GROUP) == [2, 4][1 - is_used :]

    def test_several_in_one_commit(self, driver: Driver) -> None:
        """One heir after the other, and several queues into one, with stores between."""
        driver.commit(know(), store(1, "a"), store(2, "b"), AddGroup(GROUP), AddGroup(OTHER))
        driver.commit(Adopt("a", OTHER), store(3, "a"), Adopt("b", OTHER), Adopt("a", GROUP), store(4, "b"))
        assert driver.numbers(OTHER) == [1, 2]
        assert driver.numbers(GROUP) == [3]
        assert (driver.numbers("a"), driver.numbers("b")) == ([], [4])

    def test_of_nothing(self, driver: Driver) -> None:
        """A queue of which nothing is known leaves the heir as it is."""
        driver.commit(know(), AddGroup(GROUP), copy(1, GROUP))
        driver.commit(Adopt("a", GROUP), Adopt("never", OTHER))
        assert driver.numbers(GROUP) == [1]
        assert driver.numbers(OTHER) == []

    @pytest.mark.parametrize("is_used", [False, True])
    def test_outlasts_a_restart(self, file: Path, *, is_used: bool) -> None:
        """The mark is where the group is, and all is counted where it is."""
        one, dead, late = store(1), store(2), store(3, due=9e9)
        there = [copy(4, GROUP)] if is_used else []
        totals = totals_after(
            file, (know(), AddGroup(GROUP), one, dead, late, *there), (bury(dead),), (Adopt("a", GROUP),)
        )
        assert totals == {
            GROUP: Total(GROUP, True, 1 + is_used, 1 + is_used, size_of(one, *there)),
            "a": Total("a", False, 0, 0, 0, 1, size_of(late), 1, size_of(dead)),
        }
        with sqlite(file) as driver:
            assert driver.numbers(GROUP) == [1, 4][: 1 + is_used]

    def test_of_all_there_is_outlasts_a_restart(self, file: Path) -> None:
        """Where two queues change their names, the mark does not go along."""
        one = store(1)
        totals = totals_after(file, (know(), AddGroup(GROUP), one), (Adopt("a", GROUP), store(2, "a")))
        assert totals[GROUP] == Total(GROUP, True, 1, 1, size_of(one))
        assert not totals["a"].is_group
        with sqlite(file) as driver:
            assert (driver.numbers(GROUP), driver.numbers("a")) == ([1], [2])

    def test_when_a_group_was_made_outlasts_a_restart(self, file: Path) -> None:
        """Whether two queues change their names or not; and no number up to then is given again."""
        made = (know(), store(1), store(2, "b"), AddGroup(GROUP, 7), Adopt("a", GROUP), AddGroup(OTHER, 9))
        totals = totals_after(file, made, (copy(10, OTHER),), (Adopt("b", OTHER),))
        assert {name: total.since for name, total in totals.items() if total.is_group} == {GROUP: 7, OTHER: 9}
        with sqlite(file) as driver:
            driver.commit(AddGroup("b|late", 30), DropGroup(OTHER))
        assert reopened(file).last_number == 30
        assert OTHER not in {total.name for total in reopened(file).totals}

    def test_what_was_kept_apart_goes_to_its_heir(self, driver: Driver) -> None:
        """What is due, and a dead letter that is resent, though all else of that queue stays there."""
        late, dead = store(1, due=5.0), store(2)
        driver.commit(know(), late, dead, store(3), AddGroup(GROUP, 3))
        driver.commit(bury(dead, indexes=(0,)))
        assert [(one.number, one.name) for one in driver.sweep(6.0).due] == [(1, "a")]
        moved = [replace(requeue(late, 5, Origin.DELAYED), heir=GROUP), replace(requeue(dead, 6), heir=GROUP)]
        driver.commit(*moved)
        assert driver.numbers("a") == [3]
        assert driver.numbers(GROUP) == [5, 6]
        assert [row.indexes for row in driver.read(GROUP)] == [None, (0,)]

    def test_what_went_to_its_heir_is_counted_there(self, file: Path) -> None:
        """And is not where it was any more."""
        late, dead = store(1, due=9e9), store(2)
        moved = (
            replace(requeue(late, 5, Origin.DELAYED), heir=GROUP),
            replace(requeue(dead, 6), heir=GROUP),
        )
        totals = totals_after(file, (know(), late, dead, AddGroup(GROUP, 2)), (bury(dead),), moved)
        assert totals == {GROUP: Total(GROUP, True, 2, 2, size_of(late, dead), since=2)}

    def test_what_is_discarded_is_counted(self, file: Path) -> None:
        """A dead letter that stayed behind is forgotten there."""
        one, dead = store(1), store(2)
        totals = totals_after(
            file, (know(), AddGroup(GROUP), one, dead), (bury(dead), Adopt("a", GROUP)), (discard(dead),)
        )
        assert totals == {GROUP: Total(GROUP, True, 1, 1, size_of(one))}


class TestRepairing:
    @pytest.fixture
    def sound(self, file: Path) -> Path:
        """A store with a message in three queues, and a group without any."""
        changes = (know(), AddGroup(GROUP), AddGroup(OTHER), AddGroup("b|empty"))
        totals_after(file, changes, (copy(1, "a"), copy(2, GROUP), copy(3, OTHER)))
        return file

    def queues(self, file: Path) -> dict[str, list[int]]:
        groups = [total.name for total in reopened(file).totals if total.is_group]
        with sqlite(file) as driver:
            return {queue: driver.numbers(queue) for queue in ["a", *groups]}

    def test_all_is_in_its_queue(self, sound: Path) -> None:
        """The same bytes are rescued once for each queue, and a group without a message is there."""
        before = self.queues(sound)
        assert before == {"a": [1], GROUP: [2], OTHER: [3], "b|empty": []}
        content = bytearray(sound.read_bytes())
        content[-1] ^= 1
        sound.write_bytes(bytes(content))
        assert repair(sound).kept_as is not None
        assert self.queues(sound) == before

    def test_a_damaged_name_is_known_from_its_index(self, sound: Path) -> None:
        """Where the row of a group is damaged, or its entry in the index."""
        before = self.queues(sound)
        for find in (bytes.index, bytes.rindex):
            content = sound.read_bytes()
            at = find(content, b"a|billing")
            sound.write_bytes(content[:at] + b"a|milling" + content[at + 9 :])
            assert repair(sound).kept_as is not None
            assert self.queues(sound) == before

    def test_what_is_of_no_known_queue_goes_to_the_subscribers(self, sound: Path) -> None:
        """If all that told the name of the queue is lost, the message is not."""
        content = sound.read_bytes()
        sound.write_bytes(content.replace(b"a|billing", b"c|billing"))
        assert repair(sound).kept_as is not None
        assert check(sound).is_sound
        with sqlite(sound) as driver:
            assert sorted(driver.numbers("a")) == [1, 2]
            assert driver.numbers(OTHER) == [3]

    @pytest.mark.parametrize(("name", "mark"), [("a", 1), (GROUP, 4), (GROUP, -1)])
    def test_a_mark_that_cannot_be_is_found(self, sound: Path, name: str, mark: int) -> None:
        """A name that is no group's is not believed to be one, nor one to be of the future, whatever the row says."""
        with sqlite(sound) as driver:
            driver.storage._database.execute(  # type: ignore[attr-defined]
                "UPDATE name SET since = ? WHERE name = ?", (mark, name)
            )
        before = self.marks(sound)
        assert [finding.what for finding in check(sound).findings] == [f"the mark of {name!r}"]
        repair(sound)
        assert self.marks(sound) != before
        assert self.marks(sound) == {"a": None, GROUP: 0, OTHER: 0, "b|empty": 0}

    def test_when_a_group_was_made_is_rescued(self, file: Path) -> None:
        """So it inherits what it would have, and nothing else."""
        made = AddGroup(GROUP, 2)
        totals_after(file, (know(), store(1), store(2)), (made, AddGroup(OTHER, 2), Adopt("a", GROUP), copy(3, OTHER)))
        before = self.marks(file)
        assert before == {GROUP: 2, OTHER: 2}
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
        assert repair(file).kept_as is not None
        assert self.marks(file) == before

    def marks(self, file: Path) -> dict[str, int | None]:
        with sqlite(file) as driver:
            rows = driver.storage._database.execute("SELECT name, since FROM name")  # type: ignore[attr-defined]
            return dict(rows.fetchall())
