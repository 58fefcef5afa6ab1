"""Where a group keeps order, what waits behind others makes room in memory for what need not."""

from typing import Any

import pytest

from mezzenger.broker import backlog, groups
from mezzenger.protocol.commands import Deliver
from tests.broker.broker_driver import A, B, C, Driver
from tests.broker.test_groups import D, value_of

FRAMES = 7
ENTRIES = 30
QUEUE = "a|g"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "WINDOW_FRAMES", FRAMES)
    monkeypatch.setattr(backlog, "WINDOW_ENTRIES", ENTRIES)
    monkeypatch.setattr(backlog, "LOAD_FRAMES", 3)
    monkeypatch.setattr(backlog, "FETCH_FRAMES", 2)


def ordered(*members: bytes, prefetch: int = 3, **options: Any) -> Driver:
    """Return a driver with members of a group that keeps order, and a publisher."""
    driver = Driver(**options)
    for peer in members:
        driver.member(peer, prefetch=prefetch, order_by="k")
    driver.join(C)
    return driver


def put(driver: Driver, value: str, count: int = 1, *, ttl: float | None = None, size: int = 1) -> list[int]:
    """Have so many messages with a value stored, one after the other; return their numbers."""
    numbers = []
    for _ in range(count):
        last = driver.broker._intake.last_number
        driver.publish(C, last + 1, headers={"k": value}, ttl=ttl, payloads=[b"x" * size])
        numbers += [store.number for store in driver.commit()]
    driver.sent(C)
    return numbers


def here(driver: Driver) -> int:
    """Return of how many frames the bytes are in memory, having checked that this is within the limit."""
    entries = list(driver.broker._deliveries.pending.named(QUEUE))
    frames = [entry for entry in entries if entry.frame]
    assert len(frames) <= FRAMES
    assert len(entries) <= ENTRIES + backlog.LOAD_FRAMES
    return len(frames)


def handle_all(driver: Driver, *peers: bytes) -> list[tuple[int, int]]:
    """Let peers acknowledge all they are sent; return numbers and attempts."""
    handled = []
    sent = [(peer, command) for peer in peers for command in driver.sent(peer)]
    while sent:
        for peer, command in sent:
            assert isinstance(command, Deliver)
            handled.append((command.delivery, command.attempt))
            driver.ack(peer, command.delivery)
            here(driver)
        sent = [(peer, command) for peer in peers for command in driver.sent(peer)]
    return handled


def begin_to_read(driver: Driver, numbers: list[int]) -> None:
    """Put away what is blocked, let its turn come, and hold back what is read then."""
    put(driver, "bob")
    driver.sent(A)
    driver.wait(1.1)
    driver.delivered(A)
    driver.holds_loads = True
    driver.ack(A, numbers[0])
    driver.look()


@pytest.fixture
def blocked() -> tuple[Driver, list[int]]:
    """A driver in which a message could not be handled, more of its value wait than go into the window; and these."""
    driver = ordered(A)
    numbers = put(driver, "ann", 20)
    assert driver.delivered(A) == numbers[:1]
    driver.nack(A, numbers[0], 0)
    driver.look()
    return driver, numbers


class TestOthersGoOn:
    def test_while_one_is_tried_again(self, blocked: tuple[Driver, list[int]]) -> None:
        """What has another value is given out at once, however much waits behind the one."""
        driver, numbers = blocked
        for _ in range(3):
            (other,) = put(driver, "bob")
            assert driver.delivered(A) == [other]
            driver.ack(A, other)
        assert here(driver) < FRAMES
        driver.wait(1.1)
        assert handle_all(driver, A) == [(numbers[0], 2), *((number, 1) for number in numbers[1:])]
        assert driver.broker.stats().pending == 0
        assert driver.settled[-20:] == numbers

    def test_while_a_callback_is_slow(self) -> None:
        """Likewise."""
        driver = ordered(A)
        numbers = put(driver, "ann", 20)
        (other,) = put(driver, "bob")
        assert driver.delivered(A) == [numbers[0], other]
        driver.ack(A, other)
        driver.ack(A, numbers[0])
        assert [number for number, _ in handle_all(driver, A)] == numbers[1:]

    def test_in_what_was_stored_before(self) -> None:
        """A member that comes later gets to them too."""
        driver = ordered(A)
        driver.leave_group(A)
        first, *_ = put(driver, "ann", 20)
        others = put(driver, "bob", 2)
        driver.member(A, prefetch=3, order_by="k")
        assert driver.delivered(A) == [first, others[0]]

    def test_while_a_member_is_busy(self) -> None:
        """Also if what waits has many values, which are all those of one member."""
        driver = ordered(A, B, prefetch=1)
        group = driver.broker._routing.group(QUEUE)
        values = [str(value) for value in range(200)]
        of_a = [value for value in values if group.owner(value).peer.id == A]
        of_b = next(value for value in values if group.owner(value).peer.id == B)
        numbers = [number for value in of_a[:20] for number in put(driver, value)]
        other = put(driver, of_b)
        assert driver.delivered(B) == other
        assert driver.delivered(A) == numbers[:1]
        driver.ack(A, numbers[0])
        assert [number for number, _ in handle_all(driver, A)] == numbers[1:]

    def test_the_limit_of_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Large messages wait in the store as well as many do."""
        monkeypatch.setattr(backlog, "WINDOW_FRAMES", 1000)
        monkeypatch.setattr(backlog, "WINDOW_SIZE", 4000)
        driver = ordered(A)
        numbers = put(driver, "ann", 10, size=1000)
        other = put(driver, "bob")
        assert driver.delivered(A) == [numbers[0], *other]
        one = driver.broker._deliveries.pending._backlogs[QUEUE]
        assert one.window_size == sum(len(entry.frame) for entry in one.window.values()) < 5000
        assert one.size == sum(entry.size for entry in one.window.values()) > 10_000

    def test_up_to_a_number(self) -> None:
        """If more than that waits, the others wait until it is less."""
        driver = ordered(A)
        numbers = put(driver, "ann", ENTRIES + 5)
        (other,) = put(driver, "bob")
        assert driver.delivered(A) == numbers[:1]
        given = numbers[:1]
        for number in numbers[:9]:
            driver.ack(A, number)
            given += driver.delivered(A)
            here(driver)
        assert 1 < given.index(other) < 9
        assert [number for number in given if number != other] == numbers[:10]


class TestNothingNeeded:
    def test_everybody_is_busy(self) -> None:
        """What waits stays in memory if nobody has credit for anything else."""
        driver = ordered(A, prefetch=1)
        put(driver, "ann", 20)
        assert driver.delivered(A)
        assert here(driver) == FRAMES

    def test_nothing_else_waits(self) -> None:
        """Likewise if there is nothing that could take its place."""
        driver = ordered(A)
        put(driver, "ann", FRAMES)
        assert here(driver) == FRAMES


class TestWhileAway:
    def test_several_come_back_at_once(self, blocked: tuple[Driver, list[int]]) -> None:
        """What is read is what is next, and some of what follows; and nothing of it twice."""
        driver, numbers = blocked
        (other,) = put(driver, "bob")
        driver.ack(A, other)
        driver.wait(1.1)
        assert driver.delivered(A) == [other, numbers[0]]
        driver.holds_loads = True
        driver.ack(A, numbers[0])
        driver.look()
        (load,) = driver.loads
        assert (load.after, load.frames) == (numbers[0], 2)
        (third,) = put(driver, "cat")
        assert driver.delivered(A) == [third]
        driver.ack(A, third)
        assert driver.loads == [load]
        driver.load()
        assert driver.delivered(A) == [numbers[1]]
        driver.ack(A, numbers[1])
        assert driver.delivered(A) == [numbers[2]]
        assert driver.loads == []

    def test_expired(self) -> None:
        """It is dropped and counted, and what is behind it goes on."""
        driver = ordered(A)
        (first,) = put(driver, "ann")
        put(driver, "ann", 10, ttl=5.0)
        (last,) = put(driver, "ann")
        put(driver, "bob")
        driver.sent(A)
        assert here(driver) < 13
        driver.wait(6.0)
        driver.look()
        assert driver.dropped == {"expired": 10}
        driver.ack(A, first)
        assert driver.delivered(A) == [last]

    def test_expired_while_it_is_read(self) -> None:
        """Likewise."""
        driver = ordered(A)
        (first,) = put(driver, "ann")
        put(driver, "ann", 10, ttl=5.0)
        (last,) = put(driver, "ann")
        put(driver, "bob")
        driver.sent(A)
        driver.holds_loads = True
        driver.ack(A, first)
        driver.look()
        driver.wait(6.0)
        driver.look()
        driver.holds_loads = False
        driver.look()
        assert driver.delivered(A) == [last]

    def test_it_cannot_be_read(self, blocked: tuple[Driver, list[int]]) -> None:
        """What is damaged is passed over."""
        driver, numbers = blocked
        begin_to_read(driver, numbers)
        (load,) = driver.loads
        driver.loads.clear()
        driver.holds_loads = False
        driver.broker.loaded(load, [], driver.now)
        assert driver.delivered(A) == [numbers[2]]
        assert numbers[1] not in driver.settled

    def test_the_last_member_leaves(self, blocked: tuple[Driver, list[int]]) -> None:
        """Whoever comes next gets all in order, and what nobody had is no redelivery; what was being read is not."""
        driver, numbers = blocked
        begin_to_read(driver, numbers)
        driver.leave_group(A)
        driver.holds_loads = False
        driver.look()
        assert here(driver) == 0
        driver.member(B, prefetch=1, order_by="k")
        assert [number for number, _ in handle_all(driver, B)] == [*numbers[1:], numbers[-1] + 1]

    def test_a_restart(self, blocked: tuple[Driver, list[int]]) -> None:
        """Nothing is lost."""
        driver, numbers = blocked
        (other,) = put(driver, "bob")
        driver.restart()
        driver.member(A, prefetch=3, order_by="k")
        assert driver.delivered(A) == [other]
        driver.ack(A, other)
        driver.wait(1.1)
        assert [number for number, _ in handle_all(driver, A)] == numbers

    def test_what_somebody_had_stays(self) -> None:
        """Who left may still acknowledge it, or say that it failed, and then more must be known of it."""
        driver = ordered(A, B, D, prefetch=1)
        of_b, of_d = (value_of(driver, peer) for peer in (B, D))
        group = driver.broker._routing.group(QUEUE)
        without_a = [member for peer, member in group.members.items() if peer != A]
        moving = next(
            str(value)
            for value in range(500)
            if group.owner(str(value)).peer.id == A and groups._owner(without_a, str(value)).peer.id == B
        )
        (first,) = put(driver, moving)
        (second,) = put(driver, of_b)
        assert (driver.delivered(A), driver.delivered(B)) == ([first], [second])
        driver.leave_group(A)
        put(driver, of_b, 20)
        other = put(driver, of_d)
        assert driver.delivered(D) == other
        one = driver.broker._deliveries.pending._backlogs[QUEUE]
        assert one.away
        assert one.window[first].frame
        driver.nack(A, first, 0)
        driver.ack(B, second)
        assert first in driver.delivered(B)

    def test_there_is_room_for_what_is_next(self, blocked: tuple[Driver, list[int]]) -> None:
        """However much that need not be in memory has come there since."""
        driver, numbers = blocked
        (other,) = put(driver, "bob")
        driver.ack(A, other)
        put(driver, "ann", 5)
        assert here(driver) == FRAMES
        driver.wait(1.1)
        assert driver.delivered(A) == [other, numbers[0]]
        driver.holds_loads = True
        driver.ack(A, numbers[0])
        put(driver, "ann")
        driver.load()
        driver.holds_loads = False
        assert driver.delivered(A) == [numbers[1]]
        driver.ack(A, numbers[1])
        assert driver.delivered(A) == [numbers[2]]
        assert here(driver) < FRAMES

    def test_nothing_fails_for_lack_of_room(self) -> None:
        """Where all that is in memory was given to somebody, what is next waits until some of it is settled."""
        driver = ordered(A, prefetch=20)
        numbers = [put(driver, str(value))[0] for value in range(FRAMES)]
        first = put(driver, "0", 2)
        driver.sent(A)
        for number in numbers[1:]:
            driver.nack(A, number, 0)
        driver.look()
        assert here(driver) == FRAMES
        driver.ack(A, numbers[0])
        driver.wait(1.1)
        handled = [number for number, _ in handle_all(driver, A)]
        assert sorted(handled) == sorted([*numbers[1:], *first])

    @pytest.mark.parametrize("overflow", ["drop_oldest", "dead_letter"])
    def test_it_makes_room(self, overflow: str) -> None:
        """What is away is dropped, or becomes a dead letter, as anything else."""
        driver = ordered(A, max_pending=20, overflow=overflow)
        put(driver, "ann", 20)
        driver.sent(A)
        put(driver, "bob", 3)
        driver.look()
        stats = driver.broker.stats()
        assert (stats.pending, stats.buried + driver.dropped.get("overflow", 0)) == (20, 3)
        one = driver.broker._deliveries.pending._backlogs[QUEUE]
        assert stats.pending_size == one.size
        assert one.away == len(one.window) - here(driver)
