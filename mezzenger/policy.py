"""Policies: what applies to the messages of a name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from mezzenger.patterns import matches

Overflow = Literal["reject", "drop_oldest", "dead_letter", "block"]
"""What happens to a publish that is beyond a limit."""
Retain = Literal["last"]
"""Which messages of a name are kept for subscribers to come."""

_REMEMBERED_NAMES: Final = 65536


@dataclass(frozen=True, slots=True)
class Policy:
    """What applies to the messages of a name; durations in seconds, sizes in bytes; None means without limit."""

    resend_initial: float
    resend_multiplier: float
    resend_max: float
    resend_jitter: float
    """The part by which a pause may be longer or shorter, from 0 to 1."""
    max_attempts: int
    ttl: float | None
    """How long an ``ack=1`` message lives, if its publisher said nothing."""
    delay: float
    """How long it waits before it is first delivered, likewise; 0 for not at all."""
    max_pending: int | None
    """Messages of one name that are stored and not yet acknowledged."""
    max_pending_size: int | None
    """Their bytes."""
    overflow: Overflow
    """What happens to a publish beyond these two."""
    retain: Retain | None = None
    """What is kept for subscribers to come, if anything."""

    def pause(self, attempts: int, random: float) -> float:
        """Return the seconds between one attempt and the next, at most ``resend_max * (1 + resend_jitter)``.

        Args:
            attempts: The number of the attempt that was made last; 1 is the first, and any number is fine.
            random: From 0, which gives the shortest pause, to 1, which gives the longest; 0.5 leaves it as it is.
        """
        try:
            pause = self.resend_initial * self.resend_multiplier ** (attempts - 1)
        except OverflowError:
            pause = self.resend_max
        return min(pause, self.resend_max) * (1 + self.resend_jitter * (2 * random - 1))


class Policies:
    """Which policy applies to which name: that of the first pattern that matches, else the default.

    Args:
        default: For names that no pattern matches.
        rules: Patterns, as ``check_pattern`` takes them, and what applies to the names that they match.
    """

    def __init__(self, default: Policy, rules: Sequence[tuple[str, Policy]] = ()) -> None:
        self._default = default
        self._rules = tuple(rules)
        # Names come from publishers, who may make up any number of them.
        self._remembered = lru_cache(maxsize=_REMEMBERED_NAMES)(self._find)
        self.retain_any = any(policy.retain for policy in (default, *(policy for _, policy in self._rules)))
        """Whether anything is kept of any name for subscribers to come."""

    def of(self, name: str) -> Policy:
        """Return what applies to the messages of a name."""
        return self._remembered(name) if self._rules else self._default

    def _find(self, name: str) -> Policy:
        return next((policy for pattern, policy in self._rules if matches(pattern, name)), self._default)
