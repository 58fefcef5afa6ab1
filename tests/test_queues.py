"""Queues: what they are called, and what a group may be called."""

from typing import Any

import pytest

from mezzenger.errors import InvalidName
from mezzenger.queues import check_group, is_group, queue_of, split_queue


@pytest.mark.parametrize(("pattern", "group", "queue"), [("a.*", None, "a.*"), ("a.*", "g", "a.*|g")])
def test_a_queue_tells_whose_it_is(pattern: str, group: str | None, queue: str) -> None:
    """Its name has the pattern, and the group if it is one's."""
    assert queue_of(pattern, group) == queue
    assert split_queue(queue) == (pattern, group)
    assert is_group(queue) == (group is not None)


@pytest.mark.parametrize("group", ["", "a|b", "x" * 256, "a\x00", None, 7])
def test_what_no_group_may_be_called(group: Any) -> None:
    """It is refused with what is wrong."""
    with pytest.raises(InvalidName, match="group's name"):
        check_group(group)


def test_any_other_text_will_do() -> None:
    """What is fine comes back."""
    assert check_group("käfer *") == "käfer *"
