"""What happens beyond a limit: rejected, held until there is room, or the oldest make way."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mezzenger.broker import overflow
from mezzenger.broker.effects import Bury, Discard, Refusal, Requeue, Settle
from mezzenger.policy import Overflow
from mezzenger.protocol.commands import Command, Confirm, DropDead, Letters, ListDead, Refuse, ResendDead
from tests.broker.broker_driver import POLICY, A, B, C, Driver, held, joined

SIZE = 43
"""Of a frame with the payload ``x``, in bytes."""


def limited(how: Overflow, **limits: Any) -> Driver:
    """Return a driver whose name ``a`` has these limits, with a publisher A that is subscribed to nothing."""
    options = {key: limits.pop(key) for key in ("max_dead_letters", "credit") if key in limits}
    driver = Driver(rules=[("a", replace(POLICY, overflow=how, **limits))], **options)
    driver.join(A)
    return driver


def confirmed(commands: Sequence[Command]) -> list[int]:
    """Return the sequences that were confirmed, and that nothing else was said."""
    assert all(isinstance(command, Confirm) for command in commands), commands
    return [sequence for command in commands if isinstance(command, Confirm) for sequence in command.sequences]


def refused(driver: Driver, peer: bytes = A) -> list[tuple[int, str]]:
    """Return sequence and reason of what was refused, and that nothing else was said."""
    sent = driver.sent(peer)
    assert all(isinstance(command, Refuse) for command in sent), sent
    return [(command.sequence, command.reason) for command in sent if isinstance(command, Refuse)]


def waiting(driver: Driver, name: str = "a") -> list[int]:
    """Return the numbers of all frames of a name that the store has for delivery."""
    driver.look()
    return [number for number, row in driver.storage.rows().items() if row.name == name]


class TestReject:
    @pytest.mark.parametrize(
        ("limits", "text"),
        [
            (
                {"max_pending": 2},
                (
                    "2 messages of 'a' wait to be acknowledged, and 1 more would be above the limit of 2 "
                    "(its setting max_pending in channels)"
                ),
            ),
            (
                {"max_pending_size": 3 * SIZE - 1},
                (
                    f"{2 * SIZE} bytes of 'a' wait to be acknowledged, and {SIZE} more would be above the limit of "
                    f"{3 * SIZE - 1} (its setting max_pending_size in channels)"
                ),
            ),
        ],
        ids=["messages", "bytes"],
    )
    def test_of_a_name(self, limits: dict[str, int], text: str) -> None:
        """The refusal names the limit, its value and the setting; what is being stored counts; others have room."""
        driver = limited("reject", **limits)
        driver.stored(A, 1)
        driver.publish(A, 2)
        driver.publish(A, 3)
        driver.publish(A, 4, "b")
        assert driver.sent(A) == [Refuse(3, "limit", text)]
        driver.commit()
        assert confirmed(driver.sent(A)) == [2, 4]

    def test_in_all(self) -> None:
        """Messages of all names together, batches message by message."""
        driver = joined(A, names=(), max_pending=4)
        driver.stored(A, 1, payloads=[b"1", b"2", b"3"])
        driver.publish(A, 4, "b", payloads=[b"1", b"2"])
        assert driver.sent(A) == [
            Refuse(
                4,
                "limit",
                "3 messages wait to be acknowledged, and 2 more in one batch of 2 would be above the limit of 4 "
                "(its setting server.max_pending)",
            )
        ]
        driver.stored(A, 6, name="b")
        driver.join(B, "a")
        assert driver.delivered(B) == [1]
        driver.ack(B, 1)
        assert len(driver.stored(A, 7, 8, 9)) == 3


class TestBatch:
    """A batch that never finds room is refused at once, whatever the policy; the text says what to do instead."""

    REMEDY = "; a batch is stored as a whole or not at all: send fewer at once, or one by one with send_message"

    @pytest.mark.parametrize("how", ["reject", "block", "drop_oldest", "dead_letter"])
    @pytest.mark.parametrize(
        ("limits", "text"),
        [
            (
                {"max_pending": 2},
                (
                    "0 messages of 'a' wait to be acknowledged, and 3 more in one batch of 3 would be above "
                    "the limit of 2 (its setting max_pending in channels)"
                ),
            ),
            (
                {"max_pending_size": 64},
                (
                    "0 bytes of 'a' wait to be acknowledged, and 69 more in one batch of 3 would be above "
                    "the limit of 64 (its setting max_pending_size in channels)"
                ),
            ),
        ],
        ids=["messages", "bytes"],
    )
    def test_of_a_name(self, how: Overflow, limits: dict[str, int], text: str) -> None:
        """Above the limit of its name alone."""
        driver = limited(how, **limits)
        driver.publish(A, 1, payloads=[b"1", b"2", b"3"])
        assert driver.sent(A) == [Refuse(1, "limit", text + self.REMEDY)]
        driver.stored(A, 4)

    @pytest.mark.parametrize(("limit", "setting"), [("max_pending", "2"), ("max_pending_size", "64")])
    def test_in_all(self, limit: str, setting: str) -> None:
        """Above that of the whole server."""
        driver = joined(A, names=(), **{limit: int(setting)})
        driver.publish(A, 1, payloads=[b"1", b"2", b"3"])
        [(_, reason)] = refused(driver)
        assert reason == "limit"
        driver.publish(A, 4, payloads=[b"1", b"2", b"3"])
        [command] = driver.sent(A)
        assert isinstance(command, Refuse)
        assert " more in one batch of 3 would be above" in command.text
        assert command.text.endswith(f"limit of {setting} (its setting server.{limit}){self.REMEDY}")


class TestBlock:
    def test_until_there_is_room(self) -> None:
        """It is neither confirmed nor refused before others were acknowledged, and goes in order of arrival."""
        driver = limited("block", max_pending=2)
        driver.join(B, "a")
        driver.stored(A, 1, 2)
        driver.publish(A, 3)
        driver.publish(A, 4)
        assert driver.sent(A) == []
        assert driver.storing == []
        driver.ack(B, 1)
        driver.commit()
        assert confirmed(driver.sent(A)) == [3]
        driver.ack(B, 2)
        driver.commit()
        assert confirmed(driver.sent(A)) == [4]
        assert driver.delivered(B) == [1, 2, 3, 4]

    def test_other_names_go_on(self) -> None:
        """Who waits for one name may publish to another."""
        driver = limited("block", max_pending=1)
        driver.stored(A, 1)
        driver.publish(A, 2)
        driver.stored(A, 3, name="b")
        assert waiting(driver, "b") == [2]

    def test_a_smaller_one_does_not_overtake(self) -> None:
        """Order of a name is kept, though there were room for what came later."""
        driver = limited("block", max_pending_size=3 * SIZE)
        driver.stored(A, 1, 2)
        driver.publish(A, 3, payloads=[b"x" * 40])
        driver.publish(A, 4)
        driver.look()
        assert driver.storing == []

    def test_what_never_fits(self) -> None:
        """A batch above the limit would wait for ever: it is refused."""
        driver = limited("block", max_pending=2)
        driver.publish(A, 1, payloads=[b"1", b"2", b"3"])
        assert refused(driver) == [(1, "limit")]

    def test_sent_again_while_it_waits(self) -> None:
        """What waits is not taken for stored, though later ones are, and is stored once when there is room."""
        driver = limited("block", max_pending=1)
        driver.stored(A, 1)
        driver.publish(A, 2)
        driver.stored(A, 3, name="b")
        assert Refusal(65, 2) in driver.changes
        driver.join(A)
        assert driver.sent(A) == []
        driver.publish(A, 2)
        assert driver.sent(A) == []
        driver.join(B, "a")
        driver.ack(B, 1)
        driver.commit()
        assert confirmed(driver.sent(A)) == [2]
        assert Refusal(65, 2, is_lifted=True) in driver.changes
        assert driver.delivered(B) == [1, 3]

    def test_twice_on_one_connection(self) -> None:
        """A client that publishes the same frame twice while it waits gets it stored once."""
        driver = limited("block", max_pending=1)
        driver.join(B, "a")
        driver.stored(A, 1)
        driver.publish(A, 2)
        driver.publish(A, 2)
        driver.ack(B, 1)
        driver.commit()
        driver.ack(B, 2)
        driver.commit()
        assert waiting(driver) == []
        assert driver.delivered(B) == [1, 2]

    def test_after_a_restart(self) -> None:
        """What waited when the server ended was not confirmed, and is taken when it comes again."""
        driver = limited("block", max_pending=1)
        driver.stored(A, 1)
        driver.publish(A, 2)
        driver.stored(A, 3, name="b")
        driver.restart()
        driver.join(A)
        driver.join(B, "a")
        driver.ack(B, 1)
        driver.publish(A, 2)
        driver.commit()
        assert confirmed(driver.sent(A)) == [2]

    def test_a_publisher_that_is_gone(self) -> None:
        """What it waited for is forgotten, and the next one has its place."""
        driver = limited("block", max_pending=1)
        driver.join(C)
        driver.join(B, "a")
        driver.stored(A, 1)
        driver.publish(A, 2)
        driver.publish(C, 1)
        driver.sink(A)
        driver.ack(B, 1)
        driver.commit()
        assert confirmed(driver.sent(C)) == [1]

    def test_what_waits_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond so many bytes that wait, further ones are refused; what leaves makes place."""
        monkeypatch.setattr(overflow, "MAX_HELD_SIZE", 2 * SIZE)
        driver = limited("block", max_pending=1)
        driver.join(B, "a")
        driver.stored(A, 1)
        for sequence in (2, 3, 4):
            driver.publish(A, sequence)
        assert driver.sent(A) == [Refuse(4, "limit", f"{2 * SIZE} bytes of messages wait for room already")]
        driver.ack(B, 1)
        driver.commit()
        driver.publish(A, 5)
        assert confirmed(driver.sent(A)) == [2]
        driver.sink(A)
        driver.join(A)
        for sequence in (3, 5, 6):
            driver.publish(A, sequence)
        assert refused(driver) == [(6, "limit")]

    def test_room_by_expiry(self) -> None:
        """What expires makes room without any subscriber."""
        driver = limited("block", max_pending=1, ttl=5.0)
        driver.stored(A, 1)
        driver.publish(A, 2)
        driver.wait(5)
        driver.look()
        driver.commit()
        assert confirmed(driver.sent(A)) == [2]


class TestDropOldest:
    def test_the_oldest_leave(self) -> None:
        """Without a subscriber, whose frames are not in memory: as many as needed, oldest first, and counted."""
        driver = limited("drop_oldest", max_pending=3)
        driver.stored(A, 1, 2, 3)
        assert held(driver) == []
        assert len(driver.stored(A, 4)) == 1
        assert waiting(driver) == [2, 3, 4]
        driver.stored(A, 5, payloads=[b"1", b"2"])
        assert waiting(driver) == [4, 5]
        assert driver.dropped == {"overflow": 3}
        assert held(driver) == []
        stats = driver.broker.stats()
        assert (stats.pending, stats.pending_size) == (2, sum(len(row.frame) for row in driver.storage.rows().values()))

    def test_a_later_subscriber(self) -> None:
        """It is sent what is left, as a first delivery, though it was read to find the oldest."""
        driver = limited("drop_oldest", max_pending=2)
        driver.stored(A, 1, 2)
        driver.stored(A, 3)
        driver.join(B, "a")
        assert driver.attempts(B) == [(2, 1), (3, 1)]

    def test_in_the_hands_of_a_subscriber(self) -> None:
        """Its late ack is ignored."""
        driver = limited("drop_oldest", max_pending=2)
        driver.join(B, "a")
        driver.stored(A, 1, 2)
        driver.stored(A, 3)
        assert driver.delivered(B) == [1, 2, 3]
        assert waiting(driver) == [2, 3]
        driver.ack(B, 1, 2, 3)
        driver.look()
        assert driver.broker.stats().acked == 2
        assert driver.broker.stats().pending == 0

    def test_while_all_is_being_stored(self) -> None:
        """A burst in one commit waits for it; in the end the last ones are there, and all were confirmed."""
        driver = limited("drop_oldest", max_pending=2)
        for sequence in range(1, 7):
            driver.publish(A, sequence)
        done: list[int] = []
        while driver.commit():
            done += confirmed(driver.sent(A))
        assert done == [1, 2, 3, 4, 5, 6]
        assert waiting(driver) == [5, 6]
        assert driver.dropped == {"overflow": 4}

    def test_a_batch_that_is_in_part_handled(self) -> None:
        """Only what was left of it counts as dropped."""
        driver = limited("drop_oldest", max_pending=3)
        driver.join(B, "a")
        driver.stored(A, 1, payloads=[b"1", b"2", b"3"])
        driver.nack(B, 1, 2)
        driver.stored(A, 4)
        assert driver.dropped == {"overflow": 1}

    def test_what_never_fits(self) -> None:
        """It is refused, and nothing is dropped for it."""
        driver = limited("drop_oldest", max_pending=2)
        driver.stored(A, 1, 2)
        driver.publish(A, 3, payloads=[b"1", b"2", b"3"])
        assert refused(driver) == [(3, "limit")]
        assert driver.dropped == {}

    def test_others_take_all_the_room(self) -> None:
        """Nothing of other names is dropped: with none of its own it is refused."""
        driver = joined(A, names=(), overflow="drop_oldest", max_pending=2)
        driver.stored(A, 1, 2, name="b")
        driver.publish(A, 3)
        assert refused(driver) == [(3, "limit")]
        assert waiting(driver, "b") == [1, 2]
        driver.stored(A, 4, name="b")
        assert waiting(driver, "b") == [2, 3]


class TestDeadLetter:
    def test_the_oldest_become_dead_letters(self) -> None:
        """With the reason, and the limit as their error; they are not delivered, and can be resent."""
        driver = limited("dead_letter", max_pending=2)
        driver.stored(A, 1, 2)
        driver.stored(A, 3)
        assert waiting(driver) == [2, 3]
        (bury,) = [change for change in driver.changes if isinstance(change, Bury)]
        assert (bury.number, bury.reason, bury.attempts) == (1, "overflow", 0)
        assert bury.error.startswith("2 messages of 'a' wait to be acknowledged, and 1 more would be above the limit")
        driver.say(A, ListDead(1, None, 0))
        (letters,) = driver.sent(A)
        assert isinstance(letters, Letters)
        assert [letter.number for letter in letters.letters] == [1]
        stats = driver.broker.stats()
        assert (stats.pending, stats.dead, stats.dead_size, stats.buried) == (2, 1, SIZE, 1)
        driver.say(A, ResendDead(2, [1]))
        driver.look()
        assert any(isinstance(change, Requeue) for change in driver.changes)
        assert waiting(driver) == [2, 3, 4]

    def test_bytes_in_all(self) -> None:
        """A dead letter takes as many bytes of the store: it would be no help, and the publish is refused."""
        driver = joined(A, names=(), overflow="dead_letter", max_pending_size=2 * SIZE)
        driver.stored(A, 1, 2)
        driver.publish(A, 3)
        assert refused(driver) == [(3, "limit")]
        assert driver.broker.stats().dead == 0

    def test_too_many_dead_letters(self) -> None:
        """Beyond max_dead_letters the publish is refused; when some were dropped, it goes on."""
        driver = limited("dead_letter", max_pending=1, max_dead_letters=1)
        driver.stored(A, 1)
        driver.stored(A, 2)
        driver.publish(A, 3)
        driver.look()
        assert refused(driver) == [(3, "limit")]
        driver.say(A, DropDead(1, [1]))
        driver.look()
        assert any(isinstance(change, Discard) for change in driver.changes)
        driver.sent(A)
        driver.stored(A, 4)
        assert waiting(driver) == [3]


def test_settled_while_it_is_read() -> None:
    """What is acknowledged while the oldest are being read to make room is not dropped a second time."""
    driver = limited("drop_oldest", max_pending=2)
    driver.stored(A, 1, 2)
    driver.holds_loads = True
    driver.publish(A, 3)
    driver.look()
    driver.join(B, "a")
    driver.load()
    driver.commit()
    driver.look()
    assert waiting(driver) == [2, 3]
    assert [change.number for change in driver.changes if isinstance(change, Settle)] == [1]
