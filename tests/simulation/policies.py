"""The names and groups of the simulation, and what applies to each."""

from dataclasses import replace
from functools import cache
from typing import Final

from mezzenger import patterns
from mezzenger.broker.room import RoomOptions
from mezzenger.policy import Policies, Policy
from mezzenger.protocol.subscriptions import Membership
from mezzenger.queues import queue_of

PLAIN: Final = Policy(
    resend_initial=0.6,
    resend_multiplier=2.0,
    resend_max=2.0,
    resend_jitter=0.1,
    max_attempts=1000,
    ttl=None,
    delay=0.0,
    max_pending=None,
    max_pending_size=None,
    overflow="reject",
)
HASTY: Final = replace(PLAIN, resend_initial=0.05, resend_max=0.4)
RULES: Final = {
    "plain": PLAIN,
    "few_attempts": replace(PLAIN, resend_initial=0.3, max_attempts=3),
    "one_attempt": replace(HASTY, max_attempts=1),
    "ttl": replace(PLAIN, ttl=0.7),
    "delay": replace(PLAIN, delay=0.3, ttl=2.0),
    "reject": replace(PLAIN, max_pending=9),
    "drop_oldest": replace(PLAIN, max_pending=12, overflow="drop_oldest"),
    "dead_letter": replace(HASTY, max_pending=12, max_attempts=3, overflow="dead_letter"),
    "block": replace(PLAIN, max_pending_size=500, overflow="block"),
    "retain": replace(PLAIN, retain="last"),
    "retain_ttl": replace(PLAIN, retain="last", ttl=0.7),
    "orders.eu": HASTY,
    "orders.us": replace(HASTY, ttl=1.0),
}
RETAINING: Final = ("retain", "retain_ttl")
NAMES: Final = (*RULES, "block")
"""Where a publish may have to wait for room is twice as likely as the others."""
POLICIES: Final = Policies(PLAIN, list(RULES.items()))
MAX_DEAD_LETTERS: Final = 20
"""So few that in many histories there is no room for another one."""
AMPLE: Final = RoomOptions(max_pending=None, max_pending_size=2**20, policies=POLICIES)
TIGHT: Final = RoomOptions(max_pending=30, max_pending_size=4000, policies=POLICIES)
"""So that names take the room from each other, and dead letters from all."""
TIGHT_EACH: Final = 7
"""In every so many histories the server has so little room."""
FEW_ATTEMPTS: Final = 10
"""Below so many attempts a message that no callback can handle becomes a dead letter within a history."""


PATTERNS: Final = ("orders.*", "orders.>")
KEYS: Final = ("a", "b", None)
"""What messages have in the header by which some groups keep order."""
GROUPS: Final = {
    queue_of(pattern, membership.group): (pattern, membership)
    for pattern, membership in (
        ("plain", Membership("shared", 2)),
        ("few_attempts", Membership("shared", 1)),
        ("one_attempt", Membership("shared", 3)),
        ("delay", Membership("shared", 2)),
        ("drop_oldest", Membership("shared", 1)),
        ("dead_letter", Membership("ordered", 2, order_by="key")),
        ("block", Membership("shared", 3)),
        ("retain", Membership("shared", 2)),
        ("retain_ttl", Membership("shared", 1)),
        ("retain_ttl", Membership("slow", 2)),
        ("orders.*", Membership("ordered", 3, order_by="key")),
        ("orders.>", Membership("hasty", 2, max_runtime=0.3)),
        ("orders.us", Membership("ordered", 1, max_runtime=0.5, order_by="key")),
    )
}
"""By queue, the pattern and how clients join."""
ORDERED: Final = frozenset(queue for queue, (_, membership) in GROUPS.items() if membership.order_by)
MAX_RUNTIME: Final = max(membership.max_runtime or 0.0 for _, membership in GROUPS.values())


@cache
def matches(pattern: str, name: str) -> bool:
    """Whether a name is one of those that a pattern is for."""
    return patterns.matches(pattern, name)


def is_poison(name: str, number: int) -> bool:
    """Whether every callback raises for the message with this number."""
    return RULES[name].max_attempts < FEW_ATTEMPTS and number % 7 == 0


def longest_pause(name: str) -> float:
    """Return the longest time from one attempt to the next."""
    return RULES[name].resend_max * (1 + RULES[name].resend_jitter)
