"""What is pending, brought to those for whom it is pending.

A round offers an entry to the subscribers of its name, or to the members of its group. As long as some subscriber has
the entry in hand, or could not handle it, the next round is a pause away that grows with each; else there is none: it
will be offered when a subscriber comes, when credit comes, or at once if the one who had it went away. Of an entry
that was offered as often as its policy allows, and that nobody has in hand, the next round makes a dead letter.

Of each queue that somebody is served from the oldest frames are in memory; as they are settled, the next are loaded.
"""

from collections.abc import Callable, Iterable, Sequence

from mezzenger.broker.effects import Attempt, Effect, Load, Offered, Requeue, Settle, Store
from mezzenger.broker.entry import Entry
from mezzenger.broker.fates import DeliveryOptions, Fates, has_expired
from mezzenger.broker.groups import Group
from mezzenger.broker.members import Members
from mezzenger.broker.peers import Member, Peer
from mezzenger.broker.restored import Stored, Waiting
from mezzenger.broker.routing import Routing
from mezzenger.broker.stats import Counters
from mezzenger.broker.subscribers import Subscribers
from mezzenger.errors import ProtocolError
from mezzenger.protocol.commands import Nack
from mezzenger.queues import is_group


class Deliveries:
    """Brings what is pending to subscribers and members.

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
        self._routing = routing
        self._counters = counters
        self._effects = effects
        self.fates = Fates(options, random, counters, effects)
        self.pending = self.fates.pending
        self._subscribers = Subscribers(options, routing, self.fates, counters)
        self._members = Members(routing, self.fates, effects)
        self.is_ending = False
        """Whether the server says goodbye to all peers: they leave, but will be back."""

    # What the store has.

    def storing(self, queue: str, number: int, size: int) -> bool:
        """Take note of a frame that is handed to the store; return whether it is to be delivered once it is stored."""
        return self.pending.storing(queue, number, size, is_wanted=self._routing.is_served(queue))

    def stored(self, store: Store, now: float) -> None:
        """Deliver a frame that the store has, unless others must be loaded before it."""
        queue = self.pending.queue_of(store.name, store.number)
        entry = Entry(store.number, queue, store.messages, store.frame, expires=store.expires)
        if self.pending.stored(entry):
            self._round(entry, now)
        else:
            self._load(queue)

    def not_stored(self, queue: str, number: int) -> None:
        """Take note that the store does not have a frame."""
        self.pending.not_stored(queue, number)

    def requeuing(self, queue: str, number: int, size: int) -> None:
        """Take note of a frame that is being put among those to be delivered; it will be loaded when it is its turn."""
        self.pending.storing(queue, number, size, is_wanted=False)

    def requeued(self, requeue: Requeue) -> None:
        """Deliver a frame that the store has put among those to be delivered, when it is its turn."""
        self._load(self.pending.requeued(requeue))

    def loaded(self, load: Load, rows: Sequence[Stored], now: float) -> None:
        """Deliver what was read from the store."""
        if self.pending.is_fetch(load):
            self._members.fetched(load, rows, now)
            return
        entries = self.pending.loaded(load, rows)
        for entry in entries:
            if entry.due is not None and entry.due > now:
                # No longer than any pause, should the clock have been set back since it was stored.
                longest = self.fates.longest_pause(entry)
                entry.failed, entry.paused = None, min(entry.due, now + longest)
                self._hold(entry)
            else:
                self._round(entry, now)
        self._load(load.name)

    def expired(self, waiting: Waiting, now: float) -> None:
        """Take out what has expired."""
        entry = self.pending.get(waiting.number)
        if entry is not None:
            self._drop(entry, "expired", now)
            return
        self.pending.settle_unseen(waiting)
        self._counters.dropped["expired"] += waiting.left
        self._effects.append(Settle(waiting.number, waiting.name, waiting.messages, waiting.size))

    def evict(self, queue: str) -> None:
        """Forget what is in memory of a queue that somebody has left, if nobody is served from it any more."""
        if self._routing.is_served(queue):
            return
        for entry in self.pending.named(queue):
            if entry.due is not None and not self.is_ending:
                # The next subscriber need not wait for the end of the pause; who is sent away by a server that ends,
                # and comes back to the next one, must.
                self._effects.append(Attempt(entry.number, entry.attempts, entry.indexes, error=entry.error))
        self._evict(queue)

    def evict_of(self, name: str) -> None:
        """Forget what was read of a name, for its subscribers and groups, where nobody is served."""
        for queue in self._routing.queues(name):
            if not self._routing.is_served(queue):
                self._evict(queue)

    def read_oldest(self, queue: str, frames: int) -> bool:
        """Have so many more of a queue's frames read, if they are not in memory; return whether some are being read."""
        self.fates.load(queue, frames)
        return self.pending.reads(queue)

    def give_up(self, entry: Entry, now: float, error: str | None) -> None:
        """Take out a frame, to make room: with an error it becomes a dead letter, else it is dropped, and counted."""
        if error is None:
            self._drop(entry, "overflow", now)
        else:
            self._bury(entry, now, "overflow", error)

    # Who comes and goes.

    def subscribe(self, peer: Peer, pattern: str, now: float) -> None:
        """Subscribe a peer to a name or pattern, and deliver all that is pending of what it did not get so far."""
        queues = [queue for queue in self._subscribers.queues(pattern) if not self._is_served(peer, queue)]
        self._routing.add(pattern, peer)
        self.pending.awaited.rerouted()
        for queue in queues:
            for entry in list(self.pending.named(queue)):
                if entry.due is None:
                    self._round(entry, now)
                elif not entry.is_paused(peer.client, now):
                    self._subscribers.offer_to(peer, entry, now)
            self._load(queue)

    def unsubscribe(self, peer: Peer, pattern: str, now: float) -> None:
        """Unsubscribe a peer, and take back what it has of what it gets no more."""
        self._routing.remove(pattern, peer)
        self.pending.awaited.rerouted()
        queues = [queue for queue in self._subscribers.queues(pattern) if not self._is_served(peer, queue)]
        self._subscribers.unsubscribed(peer, lambda entry: self._release(peer, entry, now))
        self._subscribers.use_credit(peer, now)
        for queue in queues:
            self.evict(queue)

    def join(self, group: Group, member: Member, now: float) -> None:
        """Let a member join its group, and give it what waits."""
        self.pending.awaited.rerouted()
        self._members.joined(group, member, now)

    def leave(self, member: Member, now: float) -> None:
        """Let a member leave its group; what it has in hand goes to another one at once, but may be acknowledged."""
        peer = member.peer

        def release(entry: Entry) -> None:
            peer.late.add(entry.number)
            entry.late |= {peer.id}
            self._release(peer, entry, now)

        self._members.left(member, now, release)
        self.evict(member.queue)

    def lost(self, peer: Peer, now: float) -> None:
        """Take back what a peer had that is gone."""
        patterns = self._routing.forget(peer)
        self.pending.awaited.rerouted()
        queues = [queue for pattern in patterns for queue in self._subscribers.queues(pattern)]
        self._subscribers.lost(peer, lambda entry: self._release(peer, entry, now))
        members = list(peer.members.values())
        for member in members:
            self._members.left(member, now, lambda entry: self._release(peer, entry, now))
        late = [kept for number in sorted(peer.late) if (kept := self.pending.get(number)) is not None]
        for kept in late:
            kept.late -= {peer.id}
        queues += [member.queue for member in members]
        for queue in dict.fromkeys([*queues, *(kept.queue for kept in late)]):
            self.evict(queue)

    def forget_all(self, peers: Iterable[Peer]) -> list[str]:
        """Let nobody be served any more, so that what one has in hand goes to no other; return the queues."""
        queues = []
        for peer in peers:
            queues += [queue for pattern in self._routing.forget(peer) for queue in self._subscribers.queues(pattern)]
            queues += peer.members
            for member in peer.members.values():
                self._routing.group(member.queue).members.clear()
            peer.members.clear()
        return queues

    # What peers answer.

    def broadcast(self, group: Group, frame: bytes, messages: int) -> bool:
        """Give an ``ack=0`` frame to one member of a group; return False if there is none."""
        return self._members.broadcast(group, frame, messages)

    def acked(self, peer: Peer, numbers: list[int], now: float) -> None:
        """Settle what a peer has handled."""
        members: dict[str, Member] = {}
        for number in numbers:
            self._note_member(peer, number, members)
            entry = self._taken_from(peer, number)
            if entry is not None:
                self._acknowledge(entry, now)
        self._use_credit(peer, members, now)

    def nacked(self, peer: Peer, nack: Nack, now: float) -> None:
        """Settle what a peer has handled, and send again, after the pause, what it could not.

        Raises:
            ProtocolError: The nack names a message that is not in the frame.
        """
        failed = {failure.index for failure in nack.failures}
        entry = self.pending.get(nack.delivery)
        if entry is not None and max(failed) >= entry.messages:
            raise ProtocolError("nack", f"a nack of message {max(failed)} in a frame of {entry.messages}")
        members: dict[str, Member] = {}
        self._note_member(peer, nack.delivery, members)
        entry = self._taken_from(peer, nack.delivery)
        if entry is not None:
            entry.holders -= {peer.id}
            # A subscriber's word counts as long as an attempt is under way; a member's if it is the one of its members
            # whose attempt that is, or was while nobody else was given it.
            counts = bool(members) and not entry.holders if is_group(entry.queue) else entry.due is not None
            self._counters.nacked += 1
            entry.error = nack.failures[0].error
            if entry.failed is not None:
                entry.failed |= {peer.client}
            self._narrow(entry, failed, now, counts=counts)
            self.evict(entry.queue)
        self._use_credit(peer, members, now)

    def tick(self, now: float) -> None:
        """Begin the rounds that are due."""
        for entry in self.pending.take_due(now):
            if is_group(entry.queue) and entry.holders:
                self._members.overdue(entry)
            self._round(entry, now)

    # Inside.

    def _round(self, entry: Entry, now: float) -> None:
        entry.due = None
        if has_expired(entry, now):
            self._drop(entry, "expired", now)
        elif self.fates.is_exhausted(entry):
            self._give_up(entry, now)
        elif is_group(entry.queue):
            self._members.offer(entry, now)
        else:
            self._subscribers.offer(entry, now)

    def _hold(self, entry: Entry) -> None:
        """Have an entry sent again when its pause is over."""
        self.pending.schedule(entry, entry.paused)
        if is_group(entry.queue):
            self._members.hold(entry)

    def _evict(self, queue: str) -> None:
        if (number := self.pending.evict(queue)) is not None:
            self._effects.append(Offered(queue, number))
        group = self._routing.find_group(queue)
        if group is not None:
            group.clear()

    def _is_served(self, peer: Peer, queue: str) -> bool:
        return peer in self._routing.subscribers(queue)

    @staticmethod
    def _note_member(peer: Peer, number: int, members: dict[str, Member]) -> None:
        member = peer.lent.get(number)
        if member is not None:
            members[member.queue] = member

    def _use_credit(self, peer: Peer, members: dict[str, Member], now: float) -> None:
        self._subscribers.use_credit(peer, now)
        for member in members.values():
            self._members.use_credit(member, now)

    def _taken_from(self, peer: Peer, number: int) -> Entry | None:
        """Take an entry out of a peer's hands; None if it is settled, or was never there."""
        member = peer.lent.pop(number, None)
        if member is not None:
            member.in_hand.remove(number)
        was_sent = member is not None or number in peer.in_flight or number in peer.late
        peer.in_flight.pop(number, None)
        peer.late.discard(number)
        entry = self.pending.get(number) if was_sent else None
        if entry is not None:
            entry.late -= {peer.id}
        return entry

    def _release(self, peer: Peer, entry: Entry, now: float) -> None:
        """Begin a round at once if nobody has the entry in hand but a peer that is to be counted on no more.

        Another peer may have failed on it, and would be sent it too; then it is for the end of the pause.
        """
        entry.holders -= {peer.id}
        if entry.holders:
            return
        if entry.paused > now:
            self._hold(entry)
        else:
            self._round(entry, now)

    def _narrow(self, entry: Entry, failed: set[int], now: float, *, counts: bool) -> None:
        """Keep of an entry what has failed; send it again after the pause, or never, if nobody else has it in hand."""
        if not self.fates.narrow(entry, failed):
            self._acknowledge(entry, now)
            return
        if counts and self.fates.is_exhausted(entry) and self._give_up(entry, now):
            return
        if counts and not entry.holders:
            entry.paused = now + self.fates.pause(entry)
            self._hold(entry)
        self.fates.note(entry, None if entry.holders else entry.due)

    def _acknowledge(self, entry: Entry, now: float) -> None:
        if not is_group(entry.queue):
            self._subscribers.acknowledged(entry)
        self.fates.acknowledged(entry)
        if is_group(entry.queue):
            self._members.withdraw(entry, now)
        self._load(entry.queue)

    def _give_up(self, entry: Entry, now: float) -> bool:
        """Bury an entry that is exhausted, unless a member is busy with it that has had it for too long."""
        if is_group(entry.queue) and self._members.have(entry):
            return False
        self._bury(entry, now, "max_attempts", entry.error or "no subscriber has acknowledged it")
        return True

    def _drop(self, entry: Entry, reason: str, now: float) -> None:
        self.fates.dropped(entry, reason)
        self._withdraw(entry, now)

    def _bury(self, entry: Entry, now: float, reason: str, error: str) -> None:
        self.fates.bury(entry, now, reason, error)
        self._withdraw(entry, now)

    def _withdraw(self, entry: Entry, now: float) -> None:
        """Send to nobody any more what is taken out, and let the next one in."""
        if is_group(entry.queue):
            self._members.withdraw(entry, now)
        else:
            self._subscribers.withdraw(entry)
        self._load(entry.queue)

    def _load(self, queue: str) -> None:
        if not self._routing.is_served(queue):
            return
        if is_group(queue):
            self._members.load(self._routing.group(queue))
        else:
            self.fates.load(queue)
