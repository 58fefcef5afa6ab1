"""What it costs to make room, and to wait for it: steps are counted, not time."""

from dataclasses import replace

from mezzenger.broker import backlog
from mezzenger.broker.effects import Load
from mezzenger.policy import Overflow
from mezzenger.protocol.commands import Ping
from tests.broker.broker_driver import POLICY, A, B, C, Driver
from tests.broker.steps import steps_of
from tests.broker.test_overflow import SIZE, waiting


def full(how: Overflow, length: int, **limits: int) -> Driver:
    """Return a driver that has so many frames of ``a``, for nobody, with these limits."""
    policy = replace(POLICY, overflow=how, max_pending=limits.get("max_pending"))
    driver = Driver(rules=[("a", replace(policy, max_pending_size=limits.get("max_pending_size")))])
    driver.join(A)
    driver.stored(A, *range(1, length + 1))
    return driver


class TestWhatNobodyIsServedFrom:
    """Its oldest frames must be read before they can make way."""

    def test_one_publish(self) -> None:
        """What it costs to store one more does not depend on how many wait."""

        def steps(length: int) -> int:
            driver = full("drop_oldest", length, max_pending=length)
            driver.stored(A, length + 1)
            return steps_of(lambda: driver.stored(A, length + 2))

        assert steps(2000) < 1.1 * steps(200)

    def test_as_many_are_read_as_are_wanted(self) -> None:
        """One for one; for all that waits together, as many; and nothing is left in memory."""
        driver = full("drop_oldest", 20, max_pending=20)
        driver.holds_loads = True
        driver.publish(A, 21)
        driver.look()
        assert driver.loads == [Load("a", 0, 1, backlog.LOAD_SIZE)]
        for sequence in range(22, 26):
            driver.publish(A, sequence)
        driver.publish(A, 26, payloads=[b"1", b"2", b"3"])
        driver.load()
        assert driver.loads == [Load("a", 1, 7, backlog.LOAD_SIZE)]
        driver.load()
        assert driver.loads == []
        driver.commit()
        assert waiting(driver) == [*range(9, 21), *range(21, 27)]
        assert list(driver.broker._deliveries.pending.named("a")) == []

    def test_many_small_ones_for_a_large_one(self) -> None:
        """What is read grows with what was not enough: it takes few reads to find many."""
        driver = full("drop_oldest", 100, max_pending_size=100 * SIZE)
        driver.holds_loads = True
        driver.publish(A, 101, payloads=[b"x" * (90 * SIZE)])
        driver.look()
        reads = 0
        while driver.loads:
            driver.load()
            reads += 1
        assert reads < 9
        driver.commit()
        assert len(waiting(driver)) == 10


class TestWhatIsHeld:
    """What waits for room is tried again when something has changed that it waits for."""

    def test_another_clients_command(self) -> None:
        """It costs nothing more, however many names wait for room in the whole server."""

        def steps(names: int) -> int:
            driver = Driver(max_pending=1, overflow="block")
            driver.join(A)
            driver.join(C)
            driver.stored(A, 1, name="full")
            for number in range(names):
                driver.publish(A, 2 + number, f"name.{number}")
            return steps_of(lambda: driver.say(C, Ping(1)))

        assert steps(500) == steps(1)

    def test_room_for_one(self) -> None:
        """When there is room for one, one is tried."""

        def steps(names: int) -> int:
            driver = Driver(max_pending=2, overflow="block")
            driver.join(A)
            driver.join(B, "full")
            driver.stored(A, 1, 2, name="full")
            for number in range(names):
                driver.publish(A, 3 + number, f"name.{number}")
            spent = steps_of(lambda: driver.ack(B, 1))
            driver.commit()
            assert waiting(driver, "name.0") == [3]
            return spent

        assert steps(500) == steps(2)

    def test_room_elsewhere(self) -> None:
        """What leaves another queue does not concern what waits for room in its own."""

        def steps(names: int) -> int:
            driver = Driver(rules=[("name.*", replace(POLICY, overflow="block", max_pending=1))])
            driver.join(A)
            driver.join(B, "a")
            for number in range(names):
                driver.stored(A, 2 * number + 1, name=f"name.{number}")
                driver.publish(A, 2 * number + 2, f"name.{number}")
            driver.stored(A, 5000)
            return steps_of(lambda: driver.ack(B, names + 1))

        assert steps(200) == steps(1)

    def test_a_batch_for_a_group(self) -> None:
        """It is not divided into its messages before it is known that there is room for it."""

        def steps(messages: int) -> int:
            driver = Driver(rules=[("a", replace(POLICY, overflow="block", max_pending=1000))])
            driver.member(B, "a")
            driver.join(A)
            driver.publish(A, 1, payloads=[b"x"] * 1000)
            driver.commit()
            first, *_ = driver.delivered(B)
            driver.publish(A, 2000, payloads=[b"x"] * messages)
            return steps_of(lambda: driver.ack(B, first))

        assert steps(500) == steps(5)
