"""That what is kept apart takes room in the store as well."""

from mezzenger.protocol.commands import Refuse
from tests.broker.broker_driver import A, B, Driver, joined


def size_of_frame() -> int:
    """Return the bytes of a frame as the tests here publish it."""
    return len(joined(A, names=()).publish(A, 1))


def refused(driver: Driver) -> list[int]:
    return [command.sequence for command in driver.sent(A) if isinstance(command, Refuse)]


def test_a_dead_letter_takes_room() -> None:
    """Beside it there is room for one frame less, until it is dropped."""
    driver = joined(A, names=(), max_attempts=1, max_pending_size=2 * size_of_frame())
    driver.join(B, "a")
    driver.stored(A, 1)
    driver.nack(B, 1, 0)
    driver.look()
    assert driver.broker.stats().dead == 1
    driver.stored(A, 2)
    driver.publish(A, 3)
    assert refused(driver) == [3]
