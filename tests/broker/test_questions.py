"""What clients ask about dead letters, and what they are told."""

import pytest

from mezzenger.broker.effects import Discard, Requeue, Store
from mezzenger.protocol.commands import (
    Completed,
    Deliver,
    DropDead,
    Failed,
    Letter,
    Letters,
    ServerCommand,
)
from mezzenger.storage import memory
from tests.broker.broker_driver import START, A, B, C, Driver, in_flight, joined
from tests.broker.test_max_attempts import buried


def letters(driver: Driver, peer: bytes = C) -> list[int]:
    """Return the numbers in the one answer that a peer got."""
    (answer,) = driver.sent(peer)
    assert isinstance(answer, Letters)
    return [letter.number for letter in answer.letters]


def requeued(driver: Driver) -> list[tuple[int, int]]:
    """Return the former and the new number of all that was put among what is to be delivered."""
    return [(change.former, change.number) for change in driver.changes if isinstance(change, Requeue)]


def leave(driver: Driver, *answers: ServerCommand, peer: bytes = C) -> None:
    """Assert that a peer was told this and no more."""
    assert driver.sent(peer) == list(answers)


class TestLooking:
    def test_a_list(self) -> None:
        """Each letter is told with all that is known of it, but for its frame."""
        driver = buried(b"0", b"1")
        (bury,) = (change for change in driver.changes if not isinstance(change, Store) and "Bury" in str(change))
        assert driver.storage._dead[1].frame
        driver.list_dead(C, request=7)
        size = driver.broker.stats().dead_size
        letter = Letter(1, "a", 67, 1, 1.5, 2, size, 1, START, "max_attempts", "no", None, None, None)
        leave(driver, Letters(7, [letter]))
        assert bury in driver.changes

    def test_what_was_handled_is_not_in_it(self) -> None:
        """Of a batch, only the messages that were not handled are counted and named."""
        driver = buried(b"0", b"1", b"2", sequences=1)
        driver.join(A, "a")
        (number,) = driver.stored(C, 4, payloads=[b"0", b"1", b"2"])
        driver.nack(A, number, 0, 2)
        driver.show(C, number)
        (answer,) = driver.sent(C)
        assert isinstance(answer, Letters)
        assert (answer.letters[0].messages, answer.letters[0].indexes) == (2, [0, 2])
        assert answer.letters[0].frame == driver.frames[number]

    def test_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The list goes on behind the last number, and is empty at its end; there may be none at all."""
        monkeypatch.setattr(memory, "_FIND_FRAMES", 2)
        driver = buried(sequences=3)
        driver.list_dead(C)
        assert letters(driver) == [1, 2]
        driver.list_dead(C, after=2)
        assert letters(driver) == [3]
        driver.list_dead(C, after=3)
        assert letters(driver) == []

    def test_of_one_name(self) -> None:
        """Others are left out."""
        driver = buried()
        driver.list_dead(C, "b")
        assert letters(driver) == []
        driver.list_dead(C, "a")
        assert letters(driver) == [1]

    def test_an_unknown_number(self) -> None:
        """What is no dead letter, such as a message that waits, is not shown."""
        driver = buried()
        driver.stored(C, 2)
        for number in (0, 2, 99, 2**64 - 1):
            driver.show(C, number)
            assert letters(driver) == []

    def test_what_is_about_to_leave(self) -> None:
        """Until it is resent or dropped for certain, a letter is one, and a page of the list does not end early."""
        driver = buried(sequences=2)
        driver.holds_changes = True
        driver.drop(C, 1)
        driver.resend(C, 2)
        driver.list_dead(C)
        assert letters(driver) == [1, 2]


class TestResending:
    def test_anew(self) -> None:
        """It is delivered at once as if it were sent now: behind all others, the attempts from the beginning."""
        driver = buried()
        driver.stored(C, 2)
        driver.join(A, "a")
        driver.resend(C, 1, request=9)
        leave(driver, Completed(9, 1))
        assert driver.attempts(A) == [(2, 1), (3, 1)]
        assert requeued(driver) == [(1, 3)]
        stats = driver.broker.stats()
        assert (stats.pending, stats.dead, stats.dead_size, stats.resent) == (2, 0, 0, 1)
        driver.ack(A, 2, 3)
        driver.look()
        assert driver.storage.rows() == {}

    def test_only_what_was_not_handled(self) -> None:
        """Of a batch, the messages that were handled are not delivered again, also not after a restart."""
        driver = buried(b"0", b"1")
        driver.join(A, "a")
        (number,) = driver.stored(C, 2, payloads=[b"0", b"1", b"2"])
        driver.nack(A, number, 1)
        driver.sink(A)
        driver.resend(C, number)
        driver.look()
        driver.restart()
        driver.join(B, "a")
        assert driver.sent(B) == [Deliver(number + 1, 1, [1], None)]
        driver.ack(B, number + 1)
        assert driver.broker.stats().acked == 1

    def test_without_a_subscriber(self) -> None:
        """It waits like any other, and is dead again when it fails as often."""
        driver = buried()
        driver.resend(C, 1)
        leave(driver, Completed(1, 1))
        driver.join(A, "a")
        assert driver.attempts(A) == [(2, 1)]
        driver.nack(A, 2, 0)
        driver.list_dead(C)
        assert letters(driver) == [2]

    def test_after_a_restart(self) -> None:
        """What the last run has buried can be resent by this one, under a new number."""
        driver = buried(sequences=2)
        driver.restart()
        driver.join(C)
        driver.join(A, "a")
        driver.resend(C, 1, 2)
        leave(driver, Completed(1, 2))
        assert driver.attempts(A) == [(3, 1), (4, 1)]
        assert driver.broker.stats().dead == 0

    def test_amid_stores(self) -> None:
        """Resent while others are being stored, each is delivered once, in the order of the numbers."""
        driver = buried(sequences=2)
        driver.join(A, "a", "b")
        driver.holds_changes = True
        driver.resend(C, 1)
        driver.look()
        driver.publish(C, 10)
        driver.look()
        driver.holds_changes = False
        driver.commit()
        driver.stored(C, 11)
        assert driver.attempts(A) == [(3, 1), (4, 1), (5, 1)]


class TestDropping:
    def test_forgotten(self) -> None:
        """It is gone for good, and is no pending message either."""
        driver = buried(sequences=2)
        driver.drop(C, 1, request=5)
        leave(driver, Completed(5, 1))
        driver.list_dead(C)
        assert letters(driver) == [2]
        stats = driver.broker.stats()
        assert (stats.pending, stats.dead, stats.discarded, stats.resent) == (0, 1, 1, 0)
        driver.restart()
        assert driver.broker.stats().dead == 1

    def test_unknown_numbers(self) -> None:
        """They are not counted, and harm nothing."""
        driver = buried()
        driver.resend(C, 0, 2, 2**64 - 1)
        driver.drop(C, 99)
        driver.drop(C)
        leave(driver, Completed(1, 0), Completed(1, 0), Completed(1, 0))
        assert driver.broker.stats().dead == 1


class TestOnce:
    def test_answered_after_the_commit(self) -> None:
        """Nothing is said to be done before it is."""
        driver = buried(sequences=2)
        driver.holds_changes = True
        driver.resend(C, 1)
        driver.drop(C, 2)
        leave(driver)
        assert driver.broker.stats().dead == 2
        driver.holds_changes = False
        leave(driver, Completed(1, 1), Completed(1, 1))
        assert driver.broker.stats().dead == 0

    def test_asked_by_two(self) -> None:
        """At the same time: what the first asks for is done, the second is told that there was nothing."""
        driver = buried()
        driver.join(B)
        driver.holds_changes = True
        driver.resend(C, 1)
        driver.drop(B, 1)
        driver.holds_changes = False
        leave(driver, Completed(1, 1))
        leave(driver, Completed(1, 0), peer=B)
        stats = driver.broker.stats()
        assert (stats.pending, stats.dead, stats.resent, stats.discarded) == (1, 0, 1, 0)

    def test_named_twice(self) -> None:
        """A number that stands twice in one question counts once."""
        driver = buried()
        driver.resend(C, 1, 1)
        leave(driver, Completed(1, 1))
        stats = driver.broker.stats()
        assert (stats.pending, stats.dead, stats.resent) == (1, 0, 1)

    def test_in_one_commit_with_others(self) -> None:
        """Resent and dropped with other letters in one commit, each question has its own answer."""
        driver = buried(sequences=3)
        driver.holds_changes = True
        driver.resend(C, 1, 2, request=1)
        driver.drop(C, 2, 3, request=2)
        driver.holds_changes = False
        leave(driver, Completed(1, 2), Completed(2, 1))


class TestTrouble:
    def test_the_commit_failed(self) -> None:
        """Who asked is told why, nothing has changed, and it may be asked again."""
        driver = buried(sequences=2)
        driver.holds_changes = True
        driver.resend(C, 1, request=1)
        driver.drop(C, 2, request=2)
        driver.fail_all("x" * 5000)
        leave(driver, Failed(1, "storage", "x" * 4000), Failed(2, "storage", "x" * 4000))
        stats = driver.broker.stats()
        assert (stats.pending, stats.dead, stats.resent, stats.discarded) == (0, 2, 0, 0)
        driver.holds_changes = False
        driver.resend(C, 1)
        driver.drop(C, 2)
        leave(driver, Completed(1, 1), Completed(1, 1))
        driver.join(A, "a")
        assert len(driver.attempts(A)) == 1

    def test_the_read_failed(self) -> None:
        """Who asked is told why."""
        driver = buried()
        driver.list_dead(C, request=4)
        (find,) = driver.broker.take_effects()
        driver.broker.not_found(find, "storage", "y" * 5000)  # type: ignore[arg-type]
        leave(driver, Failed(4, "storage", "y" * 4000))

    def test_who_asked_is_gone(self) -> None:
        """What it asked for is done all the same; nobody is told."""
        driver = buried(sequences=3)
        driver.join(B)
        driver.holds_changes = True
        driver.resend(B, 1)
        driver.drop(B, 2)
        driver.sent(B)
        driver.list_dead(B)
        driver.sink(B)
        driver.holds_changes = False
        assert driver.sent(B) == []
        stats = driver.broker.stats()
        assert (stats.pending, stats.dead) == (1, 1)

    def test_the_subscribers_are_gone(self) -> None:
        """Resent while the last subscriber leaves, it waits for the next."""
        driver = buried()
        driver.join(A, "a")
        driver.holds_changes = True
        driver.resend(C, 1)
        driver.look()
        driver.sink(A)
        driver.holds_changes = False
        driver.look()
        assert in_flight(driver) == 0
        driver.join(A, "a")
        assert driver.attempts(A) == [(2, 1)]


def test_discards_name_their_size() -> None:
    """The store's counters go by what the broker tells it."""
    driver = buried()
    size = driver.broker.stats().dead_size
    driver.drop(C, 1)
    assert driver.changes[-2] == Discard(1, "a", size)


def test_a_damaged_one_is_dropped() -> None:
    """Its frame cannot be read, so nobody knows how many messages are in it; it goes all the same."""
    driver = joined(A, max_attempts=1)
    driver.stored(A, 1)
    driver.nack(A, 1, 0)
    driver.look()
    driver.storage._dead[1] = driver.storage._dead[1]._replace(messages=0)
    driver.say(A, DropDead(1, [1]))
    assert Completed(1, 1) in driver.sent(A)
    assert (driver.broker.stats().dead, driver.broker.stats().discarded) == (0, 0)
