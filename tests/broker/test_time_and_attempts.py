"""How long a message lives, when it comes first, and how often it comes."""

from mezzenger.broker.effects import Bury
from tests.broker.broker_driver import A, B, Driver, joined


def buried(driver: Driver) -> list[int]:
    """Return the numbers of what became a dead letter."""
    driver.look()
    return [change.number for change in driver.changes if isinstance(change, Bury)]


def fail(driver: Driver, attempt: int) -> None:
    """Let B report that it could not handle the attempt that it has just been sent."""
    assert driver.attempts(B) == [(1, attempt)]
    driver.nack(B, 1, 0)
    driver.look()


def test_the_last_attempt_is_the_last() -> None:
    """With ``max_attempts`` 2 the second failure makes a dead letter, and the first does not."""
    driver = joined(A, names=(), max_attempts=2)
    driver.join(B, "a")
    driver.stored(A, 1)
    fail(driver, 1)
    assert buried(driver) == []
    driver.wait(10)
    fail(driver, 2)
    assert buried(driver) == [1]
    driver.wait(1000)
    assert driver.sent(B) == []


def test_the_last_attempt_may_take_its_time() -> None:
    """As long as a subscriber has it in hand it is no dead letter, and its ack settles it."""
    driver = joined(A, names=(), max_attempts=1)
    driver.join(B, "a")
    driver.stored(A, 1)
    for _ in range(5):
        driver.wait(10)
    assert buried(driver) == []
    driver.ack(B, 1)
    driver.look()
    assert driver.settled == [1]


def test_a_delay() -> None:
    """It is delivered when it is due, and not before."""
    driver = joined(A, names=())
    driver.join(B, "a")
    driver.publish(A, 1, delay=5.0)
    driver.commit()
    driver.wait(4.9)
    assert driver.sent(B) == []
    driver.wait(0.2)
    assert len(driver.delivered(B)) == 1


def test_a_ttl() -> None:
    """What nobody wanted in time is dropped, and counted."""
    driver = joined(A, names=())
    driver.publish(A, 1, ttl=5.0)
    driver.commit()
    driver.wait(5.1)
    driver.look()
    assert (driver.settled, driver.dropped) == ([1], {"expired": 1})
    driver.join(B, "a")
    assert driver.sent(B) == []


def test_a_restart_stops_no_clock() -> None:
    """What waits in the store expires, or comes, when its time is there, though the server is another one."""
    driver = joined(A, names=())
    driver.publish(A, 1, ttl=5.0)
    driver.publish(A, 2, "b", delay=5.0)
    driver.commit()
    driver.restart()
    driver.join(B, "a", "b")
    driver.sent(B)
    driver.wait(5.1)
    driver.look()
    assert driver.dropped == {"expired": 1}
    assert [driver.frames[number] for number in driver.delivered(B)]
