"""When the server is asked, given up, and tried again."""

import pytest

from mezzenger.protocol.liveness import Liveness
from tests.protocol.session_driver import OPTIONS


def test_a_server_is_alive_until_it_was_silent_for_long() -> None:
    """It counts as alive up to heartbeat_timeout after it was heard, and again as soon as it is heard."""
    liveness = Liveness(OPTIONS, lambda: 1.0)
    liveness.connecting(100.0)
    assert liveness.is_alive(100 + OPTIONS.heartbeat_timeout)
    assert not liveness.is_alive(100.125 + OPTIONS.heartbeat_timeout)
    liveness.heard(110.0)
    assert liveness.is_alive(110.0)


def test_the_first_ping_without_an_answer_counts() -> None:
    """Further pings do not put off the moment when the connection is given up; an answer does."""
    liveness = Liveness(OPTIONS, lambda: 1.0)
    liveness.connecting(100.0)
    assert not liveness.is_asking
    assert liveness.ask_or_give_up() == 100 + OPTIONS.heartbeat_interval
    liveness.asked(101.0)
    liveness.asked(103.0)
    assert liveness.is_asking
    assert liveness.ask_or_give_up() == 101 + OPTIONS.heartbeat_timeout
    liveness.heard(104.0)
    assert not liveness.is_asking
    assert liveness.ask_or_give_up() == 104 + OPTIONS.heartbeat_interval


def test_an_attempt_has_a_deadline_of_its_own() -> None:
    """What is heard does not put off the end of an attempt to connect."""
    liveness = Liveness(OPTIONS, lambda: 1.0)
    liveness.connecting(100.0)
    liveness.heard(101.0)
    assert liveness.deadline == 100 + OPTIONS.attempt_timeout


@pytest.mark.parametrize("jitter", [0.0, 0.25, 1.0])
def test_a_pause_never_exceeds_its_limits(jitter: float) -> None:
    """However often an attempt fails, the pause is at least half of the shortest and at most the longest."""
    liveness = Liveness(OPTIONS, lambda: jitter)
    pauses = []
    for _ in range(2000):
        liveness.lost(0.0)
        pauses.append(liveness.deadline)
    assert pauses == sorted(pauses)
    assert pauses[0] == OPTIONS.reconnect_min * (0.5 + jitter / 2)
    assert pauses[-1] == OPTIONS.reconnect_max * (0.5 + jitter / 2)
    liveness.linked()
    liveness.lost(0.0)
    assert liveness.deadline == pauses[0]
