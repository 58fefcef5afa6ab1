"""What applies to the messages of a name: when they are sent again, how long they live, how many may wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Overflow = Literal["reject", "drop_oldest", "dead_letter", "block"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What applies to the messages of a name; durations in seconds, sizes in bytes; None means without limit."""

    resend_initial: float
    resend_multiplier: float
    resend_max: float
    resend_jitter: float
    max_attempts: int
    ttl: float | None = None
    delay: float = 0.0
    max_pending: int | None = None
    max_pending_size: int | None = None
    overflow: Overflow = "reject"

    def pause(self, attempts: int, random: float) -> float:
        """Return the seconds between the attempt with this number and the next."""
        pause = self.resend_initial
        for _ in range(min(attempts - 1, 1000)):
            pause = min(pause * self.resend_multiplier, self.resend_max)
        return pause * (1 + self.resend_jitter * (2 * random - 1))


class Policies:
    """Which policy applies to which name."""

    def __init__(self, default: Policy, rules: Sequence[tuple[str, Policy]] = ()) -> None:
        self._default = default

    def of(self, name: str) -> Policy:
        """Return the policy of a name."""
        return self._default
