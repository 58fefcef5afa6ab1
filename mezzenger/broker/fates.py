"""How attempts and lives of stored frames begin and end, whoever gets them."""

from collections.abc import Callable
from dataclasses import dataclass

from mezzenger.broker.effects import Attempt, Bury, Effect, Send, Settle
from mezzenger.broker.entry import Entry
from mezzenger.broker.peers import Peer
from mezzenger.broker.pending import Pending
from mezzenger.broker.stats import Counters
from mezzenger.policy import Policies
from mezzenger.protocol import wire
from mezzenger.protocol.commands import Deliver
from mezzenger.queues import is_group


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """What deliveries need to know of the settings."""

    credit: int
    send_queue: int
    max_dead_letters: int
    """Frames; what would be one more is delivered on and on instead."""
    policies: Policies


class Fates:
    """What becomes of an entry.

    Args:
        options: Limits.
        random: Returns a random number between 0 and 1 at each call.
        counters: What is counted here is counted there.
        effects: What is to be done is appended there.
    """

    def __init__(
        self, options: DeliveryOptions, random: Callable[[], float], counters: Counters, effects: list[Effect]
    ) -> None:
        self._options = options
        self._random = random
        self.counters = counters
        self.effects = effects
        self.pending = Pending()

    def attempt(self, entry: Entry) -> None:
        """Count an attempt; whether it is marked as a redelivery outlasts a crash."""
        entry.attempts += 1
        if entry.attempts > 1:
            self.effects.append(Attempt(entry.number, entry.attempts, entry.indexes, error=entry.error))

    def deliver(self, peer: Peer, entry: Entry, indexes: tuple[int, ...] | None) -> None:
        """Send an entry to a peer."""
        entry.holders |= {peer.id}
        self.counters.delivered += 1
        self.counters.redelivered += entry.attempts > 1
        group = entry.queue if is_group(entry.queue) else None
        command = Deliver(entry.number, entry.attempts, None if indexes is None else list(indexes), group)
        self.effects.append(Send(peer.id, (wire.encode_command(command), entry.frame)))

    def pause(self, entry: Entry) -> float:
        """Return the seconds until an entry is sent again that was just sent, or could not be handled."""
        return self._options.policies.of(entry.name).pause(entry.attempts, self._random())

    def longest_pause(self, entry: Entry) -> float:
        """Return what ``pause`` returns at most."""
        return self._options.policies.of(entry.name).pause(entry.attempts, 1.0)

    def is_exhausted(self, entry: Entry) -> bool:
        """Whether an entry is not to be delivered any more; it is, as long as somebody is busy with it."""
        is_last = entry.attempts >= self._options.policies.of(entry.name).max_attempts
        return is_last and not entry.holders and self.room_for_dead() > 0

    def narrow(self, entry: Entry, failed: set[int]) -> bool:
        """Keep of an entry what has failed; return False if nothing of what was left did."""
        left = range(entry.messages) if entry.indexes is None else entry.indexes
        still = tuple(index for index in left if index in failed)
        if not still:
            return False
        self.counters.acked += len(left) - len(still)
        if len(still) < len(left):
            entry.indexes = still
        return True

    def note(self, entry: Entry, due: float | None) -> None:
        """Have the store know what an attempt has come to, and when the next one is due."""
        self.effects.append(Attempt(entry.number, entry.attempts, entry.indexes, due, entry.error))

    def acknowledged(self, entry: Entry) -> None:
        """Take out what was handled."""
        self.counters.acked += entry.left
        self._settle(entry)

    def dropped(self, entry: Entry, reason: str) -> None:
        """Take out what will not be delivered any more."""
        self.counters.dropped[reason] += entry.left
        self._settle(entry)

    def bury(self, entry: Entry, now: float, reason: str, error: str) -> None:
        """Make an entry a dead letter."""
        size = entry.size
        what = (entry.number, entry.queue, entry.messages, size)
        self.effects.append(Bury(*what, entry.attempts, entry.indexes, now, reason, error))
        self.counters.buried += entry.left
        self.pending.dead.add(1, size)
        self.pending.settle(entry)

    def room_for_dead(self) -> int:
        """Return how many more frames may become dead letters; below 0 if the limit was higher before a restart."""
        return self._options.max_dead_letters - self.pending.dead.frames

    def load(self, queue: str, frames: int | None = None) -> None:
        """Have the next frames of a queue read, if there are some that are not in memory, and room for them."""
        load = self.pending.next_load(queue, frames)
        if load is not None:
            self.effects.append(load)

    def _settle(self, entry: Entry) -> None:
        self.effects.append(Settle(entry.number, entry.queue, entry.messages, entry.size))
        self.pending.settle(entry)


def has_expired(entry: Entry, now: float) -> bool:
    """Whether an entry is of no use any more."""
    return entry.expires is not None and entry.expires <= now
