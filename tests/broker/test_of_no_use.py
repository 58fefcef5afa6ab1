"""What expires, makes room or is dead is sent to nobody any more; a pause is kept whoever comes and goes."""

from dataclasses import replace

from mezzenger.protocol.commands import Deliver
from tests.broker.broker_driver import POLICY, A, B, C, Driver, joined


def test_what_makes_room_while_it_waits() -> None:
    """What waits for a subscriber's credit is not sent after it was dropped."""
    driver = Driver(rules=[("a", replace(POLICY, overflow="drop_oldest", max_pending=2))], credit=1)
    driver.join(C)
    driver.join(A, "a")
    driver.stored(C, 1, 2)
    assert driver.delivered(A) == [1]
    driver.stored(C, 3)
    driver.stored(C, 4)
    driver.ack(A, 1)
    assert driver.attempts(A) == [(3, 1)]


def test_what_expires_while_it_waits() -> None:
    """What waits for credit is not sent after its time, whether the store was looked through or not."""
    driver = Driver(credit=1)
    driver.join(C)
    driver.join(A, "a")
    driver.stored(C, 1)
    driver.publish(C, 2, ttl=0.5)
    driver.publish(C, 3)
    driver.commit()
    assert driver.delivered(A) == [1]
    driver.now += 0.6
    driver.ack(A, 1)
    assert driver.delivered(A) == [3]


def test_what_has_expired_is_not_offered() -> None:
    """Who subscribes between the moment at which something expires and the sweep is not sent it."""
    driver = joined(A)
    driver.join(C)
    driver.publish(C, 1, ttl=0.5)
    driver.commit()
    assert driver.delivered(A) == [1]
    driver.now += 0.6
    driver.join(B, "a")
    assert driver.delivered(B) == []


def test_who_failed_comes_back_during_the_pause() -> None:
    """A subscriber that could not handle something and connects again waits for the end of the pause."""
    driver = joined(A, B)
    driver.stored(B, 1)
    driver.ack(B)
    driver.nack(A, 1, 0)
    driver.nack(B, 1, 0)
    driver.all_sent()
    driver.sink(A)
    driver.join(A, "a")
    assert driver.delivered(A) == []
    driver.wait(1.0)
    assert driver.attempts(A) == [(1, 2)]


def test_another_goes_during_the_pause() -> None:
    """When a third one goes that was sent it during the pause, who could not handle it still waits."""
    driver = joined(A)
    driver.stored(A, 1)
    driver.nack(A, 1, 0)
    driver.all_sent()
    driver.join(B, "a")
    assert driver.delivered(B) == [1]
    driver.sink(B)
    assert driver.delivered(A) == []
    driver.wait(1.0)
    assert driver.attempts(A) == [(1, 2)]


def test_a_clock_that_was_set_back() -> None:
    """After a restart with an earlier clock a redelivery waits no longer than its pause, and a nack counts anew."""
    driver = joined(A)
    driver.stored(A, 1)
    driver.nack(A, 1, 0)
    driver.now -= 3600
    driver.restart()
    driver.join(A, "a")
    assert driver.delivered(A) == []
    driver.join(B, "a")
    assert driver.delivered(B) == []
    driver.wait(1.5)
    assert driver.sent(A) == [Deliver(1, 2, None, None)]
    driver.nack(A, 1, 0)
    driver.nack(B, 1, 0)
    driver.wait(1.4)
    assert driver.delivered(A) == []


def test_a_stop_keeps_the_pause() -> None:
    """What a subscriber could not handle is not sent again earlier because the server was stopped and started."""
    driver = joined(A)
    driver.stored(A, 1)
    driver.nack(A, 1, 0)
    driver.broker.farewell(driver.now)
    driver.look()
    driver.restart()
    driver.join(A, "a")
    assert driver.delivered(A) == []
    driver.wait(1.0)
    assert driver.attempts(A) == [(1, 2)]
