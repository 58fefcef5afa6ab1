"""As what a client joins a group, and what it cannot join as."""

import math
import re
from typing import Any

import pytest

from mezzenger.client.memberships import DEFAULT_PREFETCH, membership
from mezzenger.errors import InvalidMembership, InvalidName
from mezzenger.protocol.commands import MAX_PREFETCH
from mezzenger.protocol.subscriptions import Membership


def member(**options: Any) -> Membership | None:
    """Return the membership of what ``subscribe`` is given, otherwise at its defaults."""
    given: dict[str, Any] = {
        "group": "g",
        "prefetch": DEFAULT_PREFETCH,
        "max_runtime": None,
        "order_by": None,
    } | options
    return membership(**given)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Membership("g", 64, None, None)),
        ({"prefetch": 1}, Membership("g", 1, None, None)),
        ({"prefetch": MAX_PREFETCH}, Membership("g", MAX_PREFETCH, None, None)),
        ({"max_runtime": 3}, Membership("g", 64, 3, None)),
        ({"max_runtime": 0.5, "order_by": "customer"}, Membership("g", 64, 0.5, "customer")),
        ({"group": None}, None),
    ],
    ids=repr,
)
def test_what_can_be(options: dict[str, Any], expected: Membership | None) -> None:
    """A member is what was asked for; without a group there is none."""
    assert member(**options) == expected


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prefetch": 0}, "prefetch must be a number from 1 to 65536, not 0"),
        ({"prefetch": -1}, "prefetch must be a number from 1 to 65536, not -1"),
        ({"prefetch": 65_537}, "prefetch must be a number from 1 to 65536, not 65537"),
        ({"prefetch": 1.5}, "not 1.5"),
        ({"prefetch": "8"}, "not '8'"),
        ({"prefetch": None}, "not None"),
        ({"prefetch": True}, "not True"),
        ({"max_runtime": 0}, "max_runtime must be a number of seconds above 0, or None, not 0"),
        ({"max_runtime": -1.5}, "not -1.5"),
        ({"max_runtime": math.inf}, "not inf"),
        ({"max_runtime": math.nan}, "not nan"),
        ({"max_runtime": "8"}, "not '8'"),
        ({"max_runtime": True}, "not True"),
        ({"order_by": ""}, "order_by must be the name of a header, or None, not ''"),
        ({"order_by": 7}, "not 7"),
        ({"group": None, "prefetch": 1}, "are for members of a group; give group=, too"),
        ({"group": None, "max_runtime": 1}, "are for members of a group; give group=, too"),
        ({"group": None, "order_by": "customer"}, "are for members of a group; give group=, too"),
    ],
    ids=repr,
)
def test_what_cannot_be(options: dict[str, Any], text: str) -> None:
    """The error says what was wrong, and with which value."""
    with pytest.raises(InvalidMembership, match=re.escape(text)):
        member(**options)


@pytest.mark.parametrize("group", ["", "a|b", "a\nb", "x" * 256, 7], ids=repr)
def test_what_no_group_is_called(group: object) -> None:
    """A group is called as a message may be."""
    with pytest.raises(InvalidName, match="group's name"):
        member(group=group)
