"""Who is sent which stored frame, and when.

A round offers an entry to every subscriber of its name. A subscriber with credit is sent it; for one without, it waits
until there is credit, and if too much waits already it is left out until that is less. As long as some subscriber has
the entry in hand, or could not handle it, the next round is a pause away that grows with each; else there is none: it
will be offered when a subscriber comes, when credit comes, or at once if the one who had it went away. Of an entry
that was offered as often as its policy allows, and that nobody has in hand, the next round makes a dead letter.

Of each name that has a subscriber the oldest frames are in memory; as they are settled, the next are loaded.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mezzenger.broker.effects import Attempt, Bury, Effect, Load, Offered, Requeue, Send, Settle, Store
from mezzenger.broker.entry import Entry
from mezzenger.broker.peers import Peer
from mezzenger.broker.pending import Pending
from mezzenger.broker.restored import Stored, Waiting
from mezzenger.broker.routing import Routing
from mezzenger.broker.stats import Counters
from mezzenger.errors import ProtocolError
from mezzenger.policy import Policies
from mezzenger.protocol import wire
from mezzenger.protocol.commands import Deliver, Nack


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """What deliveries need to know of the settings."""

    credit: int
    send_queue: int
    max_dead_letters: int
    """Frames; what would be one more is delivered on and on instead."""
    policies: Policies


class Deliveries:
    """Brings what is pending to the subscribers.

    Args:
        options: Limits.
        random: Returns a random number between 0 and 1 at each call.
        routing: Who subscribed to what.
        counters: What is counted here is counted there.
        effects: What is to be done is appended there.
    """

    def __init__(
        self,
        options: DeliveryOptions,
        random: Callable[[], float],
        routing: Routing,
        counters: Counters,
        effects: list[Effect],
    ) -> None:
        self._options = options
        self._random = random
        self._routing = routing
        self._counters = counters
        self._effects = effects
        self.pending = Pending()
        self.is_ending = False
        """Whether the server says goodbye to all peers: they leave, but will be back."""
        self._behind: set[Peer] = set()
        """Peers for which entries were left out because too much waited for them already."""

    def storing(self, name: str, number: int, size: int) -> bool:
        """Take note of a frame that is handed to the store; return whether it is to be delivered once it is stored."""
        return self.pending.storing(name, number, size, is_wanted=name in self._routing)

    def stored(self, store: Store, now: float) -> None:
        """Deliver a frame that the store has, unless others must be loaded before it."""
        entry = Entry(store.number, store.name, store.messages, store.frame, expires=store.expires)
        if self.pending.stored(entry):
            self._round(entry, now)
        else:
            self._load(store.name)

    def not_stored(self, name: str, number: int) -> None:
        """Take note that the store does not have a frame."""
        self.pending.not_stored(name, number)

    def requeuing(self, name: str, number: int, size: int) -> None:
        """Take note of a frame that is being put among those to be delivered; it will be loaded when it is its turn."""
        self.pending.storing(name, number, size, is_wanted=False)

    def requeued(self, requeue: Requeue) -> None:
        """Deliver a frame that the store has put among those to be delivered, when it is its turn."""
        self.pending.requeued(requeue)
        self._load(requeue.name)

    def loaded(self, load: Load, rows: Sequence[Stored], now: float) -> None:
        """Deliver what was read from the store."""
        for entry in self.pending.loaded(load, rows):
            if entry.due is not None and entry.due > now:
                # No longer than any pause, should the clock have been set back since it was stored.
                longest = self._options.policies.of(entry.name).pause(entry.attempts, 1.0)
                entry.failed, entry.paused = None, min(entry.due, now + longest)
                self.pending.schedule(entry, entry.paused)
            else:
                self._round(entry, now)
        self._load(load.name)

    def expired(self, waiting: Waiting) -> None:
        """Take out what has expired."""
        entry = self.pending.get(waiting.number)
        if entry is not None:
            self._expire(entry)
            return
        self.pending.settle_unseen(waiting)
        self._counters.dropped["expired"] += waiting.left
        self._effects.append(Settle(waiting.number, waiting.name, waiting.messages, waiting.size))

    def subscribed(self, peer: Peer, name: str, now: float) -> None:
        """Deliver all that is pending of a name to a peer that has just subscribed to it."""
        for entry in list(self.pending.named(name)):
            if entry.due is None:
                self._round(entry, now)
            elif not entry.is_paused(peer.client, now):
                self._offer(peer, entry, now)
        self._load(name)

    def unsubscribed(self, peer: Peer, name: str, now: float) -> None:
        """Take back what a peer has of a name from which it has just unsubscribed.

        What it has in hand it may still acknowledge, but nobody waits for that.
        """
        peer.waiting = OrderedDict((number, entry) for number, entry in peer.waiting.items() if entry.name != name)
        peer.late = {number for number in peer.late if self.pending.get(number) is not None}
        in_hand = sorted(number for number, entry in peer.in_flight.items() if entry.name == name)
        for number in in_hand:
            entry = peer.in_flight.pop(number)
            if entry in self.pending:
                peer.late.add(number)
                entry.late.add(peer.id)
                self._release(peer, entry, now)
        self._use_credit(peer, now)
        self.evict(name)

    def lost(self, peer: Peer, names: Iterable[str], now: float) -> None:
        """Take back what a peer had that is gone; it must be out of the routing already.

        Args:
            peer: Who is gone.
            names: What it had subscribed to.
            now: The time.
        """
        self._behind.discard(peer)
        for number in sorted(peer.in_flight):
            entry = peer.in_flight[number]
            if entry in self.pending:
                self._release(peer, entry, now)
        late = [kept for number in sorted(peer.late) if (kept := self.pending.get(number)) is not None]
        for kept in late:
            kept.late.discard(peer.id)
        for name in dict.fromkeys([*names, *(kept.name for kept in late)]):
            self.evict(name)

    def evict(self, name: str) -> None:
        """Forget what is in memory of a name, if it has no subscriber any more."""
        if name in self._routing:
            return
        for entry in self.pending.named(name):
            if entry.due is not None and not self.is_ending:
                # The next subscriber need not wait for the end of the pause; who is sent away by a server that ends,
                # and comes back to the next one, must.
                self._effects.append(Attempt(entry.number, entry.attempts, entry.indexes, error=entry.error))
        if (number := self.pending.evict(name)) is not None:
            self._effects.append(Offered(name, number))

    def give_up_oldest(self, name: str, now: float, error: str | None) -> bool:
        """Take out the oldest frame of a name, to make room; have it read if it is not in memory.

        Args:
            name: Of the frame.
            now: The time.
            error: It becomes a dead letter with this error; without one it is dropped, and counted.

        Returns:
            Whether something was taken out.
        """
        entry = self.pending.oldest(name)
        if entry is None:
            self._load_unasked(name)
            return False
        if error is None:
            self._counters.dropped["overflow"] += entry.left
            self._take_back(entry)
            self._settle(entry)
            return True
        if self.pending.dead.frames >= self._options.max_dead_letters:
            return False
        self._bury(entry, now, "overflow", error)
        return True

    def reads(self, name: str) -> bool:
        """Whether frames of a name are being read from the store."""
        return self.pending.reads(name)

    def acked(self, peer: Peer, numbers: list[int], now: float) -> None:
        """Settle what a peer has handled."""
        for number in numbers:
            entry = self._taken_from(peer, number)
            if entry is not None:
                self._acknowledge(entry)
        self._use_credit(peer, now)

    def nacked(self, peer: Peer, nack: Nack, now: float) -> None:
        """Settle what a peer has handled, and send again, after the pause, what it could not.

        Raises:
            ProtocolError: The nack names a message that is not in the frame.
        """
        failed = {failure.index for failure in nack.failures}
        entry = self.pending.get(nack.delivery)
        if entry is not None and max(failed) >= entry.messages:
            raise ProtocolError("nack", f"a nack of message {max(failed)} in a frame of {entry.messages}")
        entry = self._taken_from(peer, nack.delivery)
        if entry is not None:
            entry.holders.discard(peer.id)
            self._counters.nacked += 1
            entry.error = nack.failures[0].error
            if entry.failed is not None:
                entry.failed.add(peer.client)
            self._narrow(entry, failed, now)
            self.evict(entry.name)
        self._use_credit(peer, now)

    def tick(self, now: float) -> None:
        """Begin the rounds that are due."""
        for entry in self.pending.take_due(now):
            self._round(entry, now)

    def _round(self, entry: Entry, now: float) -> None:
        """Offer an entry to all subscribers, also to those who have it in hand: they may have lost it."""
        entry.due = None
        if _has_expired(entry, now):
            self._expire(entry)
            return
        if self._is_exhausted(entry):
            self._bury(entry, now, "max_attempts", entry.error or "no subscriber has acknowledged it")
            return
        for peer in self._routing.subscribers(entry.name):
            self._offer(peer, entry, now)

    def _offer(self, peer: Peer, entry: Entry, now: float) -> None:
        if _has_expired(entry, now):
            return  # the sweeper will take it out
        if entry.number in peer.in_flight:
            self._send(peer, entry, entry.indexes, now)
        elif entry.number in peer.waiting or peer in self._behind:
            return  # what was left out goes first
        elif not peer.waiting and len(peer.in_flight) < self._options.credit:
            self._send(peer, entry, entry.indexes, now)
        elif len(peer.waiting) < self._options.send_queue:
            peer.waiting[entry.number] = entry
        else:
            self._behind.add(peer)

    def _use_credit(self, peer: Peer, now: float) -> None:
        while peer.waiting and len(peer.in_flight) < self._options.credit:
            _, entry = peer.waiting.popitem(last=False)
            if _has_expired(entry, now):
                continue
            # All of it: what others have handled meanwhile, this subscriber has not seen.
            self._send(peer, entry, None, now)
        if peer in self._behind and len(peer.waiting) <= self._options.send_queue // 2:
            self._behind.remove(peer)
            self._catch_up(peer, now)

    def _catch_up(self, peer: Peer, now: float) -> None:
        for name in sorted(peer.names):
            for entry in self.pending.named(name):
                if entry.due is None:
                    self._offer(peer, entry, now)
                if peer in self._behind:
                    return

    def _send(self, peer: Peer, entry: Entry, indexes: tuple[int, ...] | None, now: float) -> None:
        if entry.due is None and entry in self.pending:
            self._begin_attempt(entry, now)
        entry.holders.add(peer.id)
        peer.in_flight[entry.number] = entry
        self._counters.delivered += 1
        self._counters.redelivered += entry.attempts > 1
        command = Deliver(entry.number, entry.attempts, None if indexes is None else list(indexes))
        self._effects.append(Send(peer.id, (wire.encode_command(command), entry.frame)))

    def _begin_attempt(self, entry: Entry, now: float) -> None:
        entry.attempts += 1
        if entry.attempts > 1:
            self._effects.append(Attempt(entry.number, entry.attempts, entry.indexes, error=entry.error))
        self.pending.schedule(entry, now + self._pause(entry))

    def _pause(self, entry: Entry) -> float:
        return self._options.policies.of(entry.name).pause(entry.attempts, self._random())

    def _is_exhausted(self, entry: Entry) -> bool:
        """Whether an entry is not to be delivered any more; it is, as long as somebody is busy with it."""
        is_last = entry.attempts >= self._options.policies.of(entry.name).max_attempts
        return is_last and not entry.holders and self.pending.dead.frames < self._options.max_dead_letters

    def _taken_from(self, peer: Peer, number: int) -> Entry | None:
        """Take an entry out of a peer's hands; None if it is settled, or was never there."""
        was_sent = number in peer.in_flight or number in peer.late
        peer.in_flight.pop(number, None)
        peer.late.discard(number)
        entry = self.pending.get(number) if was_sent else None
        if entry is not None:
            entry.late.discard(peer.id)
        return entry

    def _release(self, peer: Peer, entry: Entry, now: float) -> None:
        """Begin a round at once if nobody has the entry in hand but a peer that is to be counted on no more.

        Another peer may have failed on it, and would be sent it too; then it is for the end of the pause.
        """
        entry.holders.remove(peer.id)
        if entry.holders:
            return
        if entry.paused > now:
            self.pending.schedule(entry, entry.paused)
        else:
            self._round(entry, now)

    def _narrow(self, entry: Entry, failed: set[int], now: float) -> None:
        """Keep of an entry what has failed; send it again after the pause, or never, if nobody else has it in hand."""
        left = range(entry.messages) if entry.indexes is None else entry.indexes
        still = tuple(index for index in left if index in failed)
        if not still:
            self._acknowledge(entry)
            return
        self._counters.acked += len(left) - len(still)
        if len(still) < len(left):
            entry.indexes = still
        if entry.due is not None and self._is_exhausted(entry):
            self._bury(entry, now, "max_attempts", entry.error or "no subscriber has acknowledged it")
            return
        if entry.due is not None and not entry.holders:
            entry.paused = now + self._pause(entry)
            self.pending.schedule(entry, entry.paused)
        due = None if entry.holders else entry.due
        self._effects.append(Attempt(entry.number, entry.attempts, entry.indexes, due, entry.error))

    def _acknowledge(self, entry: Entry) -> None:
        self._counters.acked += entry.left
        for peer in self._behind:
            if entry.name in peer.names and peer.id not in entry.holders and entry.number not in peer.waiting:
                self._counters.dropped["send_queue"] += entry.messages
        self._settle(entry)

    def _expire(self, entry: Entry) -> None:
        self._counters.dropped["expired"] += entry.left
        self._take_back(entry)
        self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        self._effects.append(Settle(entry.number, entry.name, entry.messages, len(entry.frame)))
        self._remove(entry)

    def _bury(self, entry: Entry, now: float, reason: str, error: str) -> None:
        """Make an entry a dead letter."""
        size = len(entry.frame)
        what = (entry.number, entry.name, entry.messages, size)
        self._effects.append(Bury(*what, entry.attempts, entry.indexes, now, reason, error))
        self._counters.buried += entry.left
        self.pending.dead.add(1, size)
        self._take_back(entry)
        self._remove(entry)

    def _take_back(self, entry: Entry) -> None:
        """Send an entry to nobody any more; what others have acknowledged is still sent to those it waits for."""
        for peer in self._routing.subscribers(entry.name):
            peer.waiting.pop(entry.number, None)

    def _remove(self, entry: Entry) -> None:
        """Take an entry out of memory for good, and let the next one in."""
        self.pending.settle(entry)
        self._load(entry.name)

    def _load(self, name: str) -> None:
        if name in self._routing:
            self._load_unasked(name)

    def _load_unasked(self, name: str) -> None:
        """Have frames read even if nobody subscribes to them."""
        load = self.pending.next_load(name)
        if load is not None:
            self._effects.append(load)


def _has_expired(entry: Entry, now: float) -> bool:
    return entry.expires is not None and entry.expires <= now
