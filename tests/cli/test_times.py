"""Times as people read them."""

from datetime import datetime

import pytest

from mezzenger.cli.times import local_time


def test_a_time_says_its_offset() -> None:
    """So it is the same moment wherever it is read."""
    assert datetime.fromisoformat(local_time(1_700_000_000)).timestamp() == 1_700_000_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.64e12, "8640000000000"), (1e300, f"{1e300:.0f}"), (float("nan"), "nan"), (float("inf"), "inf")],
)
def test_a_time_beyond_all_calendars(seconds: float, text: str) -> None:
    """What is too far away for a date is shown as seconds: a list must not end because of it."""
    assert local_time(seconds) == text
