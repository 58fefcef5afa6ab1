"""``max_pending_size``: how much may wait to be acknowledged."""

from mezzenger.protocol.commands import Confirm, Refuse
from mezzenger.protocol.wire import encode_data
from tests.broker.broker_driver import A, B, Driver, joined
from tests.broker.test_publishers import refusals

SIZE = len(encode_data("a", [(1.5, b"x")], ack=1, codec=1, client=65, sequence=1))


def limited(frames: int, spare: int = 0) -> Driver:
    """Return a driver that takes some frames of this size and no more."""
    return joined(A, names=(), max_pending_size=frames * SIZE + spare)


def test_above_the_limit() -> None:
    """What does not fit is refused with all the numbers and the setting; what just fits is stored."""
    driver = limited(3, spare=SIZE - 1)
    driver.stored(A, 1, 2)
    driver.publish(A, 3)
    driver.publish(A, 4)
    assert driver.sent(A) == [
        Refuse(
            4,
            "limit",
            f"2 frames of {2 * SIZE} bytes wait to be acknowledged, 0 of 0 bytes are delayed, 0 of 0 bytes are dead "
            f"letters, {SIZE} bytes are being stored, and {SIZE} bytes more would be above the limit of {4 * SIZE - 1} "
            "(its setting server.max_pending_size)",
        )
    ]
    driver.commit()
    assert driver.sent(A) == [Confirm([3])]
    assert driver.broker.stats().pending_size == 3 * SIZE


def test_what_is_being_stored_counts() -> None:
    """What the store has not answered yet counts; once it is refused, it does not."""
    driver = limited(2)
    for sequence in (1, 2, 3):
        driver.publish(A, sequence)
    assert refusals(driver) == [(3, "limit")]
    driver.fail()
    assert refusals(driver) == [(1, "storage"), (2, "storage")]
    for sequence in (1, 2, 3):
        driver.publish(A, sequence)
    assert refusals(driver) == [(3, "limit")]
    driver.commit()
    assert driver.sent(A) == [Confirm([1, 2])]
    driver.publish(A, 3)
    assert refusals(driver) == [(3, "limit")]


def test_room_again() -> None:
    """What was refused is stored when it comes again after an ack, and confirmed then."""
    driver = limited(1)
    driver.stored(A, 1)
    driver.publish(A, 2)
    assert refusals(driver) == [(2, "limit")]
    driver.join(B, "a")
    driver.ack(B, 1)
    driver.publish(A, 2)
    driver.commit()
    assert driver.sent(A) == [Confirm([2])]


def test_what_was_stored_before_is_confirmed() -> None:
    """A publish that is sent again and was stored is confirmed, whatever the limit."""
    driver = limited(1)
    driver.stored(A, 1)
    driver.publish(A, 1)
    assert driver.sent(A) == [Confirm([1])]


def test_after_a_restart() -> None:
    """What the last run left counts."""
    driver = limited(1)
    driver.stored(A, 1)
    driver.restart()
    driver.join(A)
    driver.publish(A, 2)
    assert refusals(driver) == [(2, "limit")]


def test_may_be_lost() -> None:
    """What need not be stored is not limited."""
    driver = limited(0)
    driver.join(B, "a")
    frame = driver.publish(A, 1, ack=0)
    driver.look()
    assert driver.published == [frame]
