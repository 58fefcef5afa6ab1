"""Who of the subscribers of a name is sent which stored frame, and when; groups are another matter.

An entry is offered to every subscriber of its name. A subscriber with credit is sent it; for one without, it waits
until there is credit, and if too much waits already it is left out until that is less.
"""

from collections import OrderedDict
from collections.abc import Callable

from mezzenger.broker.entry import Entry
from mezzenger.broker.fates import DeliveryOptions, Fates, has_expired
from mezzenger.broker.peers import Peer
from mezzenger.broker.routing import Routing
from mezzenger.broker.stats import Counters
from mezzenger.patterns import is_wild


class Subscribers:
    """Offers entries to all who subscribed.

    Args:
        options: Limits.
        routing: Who subscribed to what.
        fates: What becomes of an entry.
        counters: What is counted here is counted there.
    """

    def __init__(self, options: DeliveryOptions, routing: Routing, fates: Fates, counters: Counters) -> None:
        self._options = options
        self._routing = routing
        self._fates = fates
        self._pending = fates.pending
        self._counters = counters
        self._behind: set[Peer] = set()
        """Peers for which entries were left out because too much waited for them already."""

    def queues(self, pattern: str) -> list[str]:
        """Return the queues from which a subscriber of a name or pattern gets something."""
        return self._pending.matching(pattern) if is_wild(pattern) else [pattern]

    def offer(self, entry: Entry, now: float) -> None:
        """Offer an entry to all subscribers, also to those who have it in hand: they may have lost it."""
        for peer in self._routing.subscribers(entry.queue):
            self.offer_to(peer, entry, now)

    def offer_to(self, peer: Peer, entry: Entry, now: float) -> None:
        """Offer an entry to one subscriber."""
        if has_expired(entry, now):
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

    def use_credit(self, peer: Peer, now: float) -> None:
        """Send a subscriber what waits for it, as far as it has credit."""
        while peer.waiting and len(peer.in_flight) < self._options.credit:
            _, entry = peer.waiting.popitem(last=False)
            if has_expired(entry, now):
                continue
            # All of it: what others have handled meanwhile, this subscriber has not seen.
            self._send(peer, entry, None, now)
        if peer in self._behind and len(peer.waiting) <= self._options.send_queue // 2:
            self._behind.remove(peer)
            self._catch_up(peer, now)

    def unsubscribed(self, peer: Peer, release: Callable[[Entry], None]) -> None:
        """Take back what a peer has of queues from which it gets nothing any more; some may be empty by now.

        What it has in hand it may still acknowledge, but nobody waits for that: ``release`` is called with it.
        """
        queues = {entry.queue for entry in (*peer.waiting.values(), *peer.in_flight.values())}
        gone = {queue for queue in queues if peer not in self._routing.subscribers(queue)}
        peer.waiting = OrderedDict((number, entry) for number, entry in peer.waiting.items() if entry.queue not in gone)
        peer.late = {number for number in peer.late if self._pending.get(number) is not None}
        in_hand = sorted(number for number, entry in peer.in_flight.items() if entry.queue in gone)
        for number in in_hand:
            entry = peer.in_flight.pop(number)
            if entry in self._pending:
                peer.late.add(number)
                entry.late |= {peer.id}
                release(entry)

    def lost(self, peer: Peer, release: Callable[[Entry], None]) -> None:
        """Take back what a peer had that is gone; it must be out of the routing already."""
        self._behind.discard(peer)
        for number in sorted(peer.in_flight):
            entry = peer.in_flight[number]
            if entry in self._pending:
                release(entry)

    def acknowledged(self, entry: Entry) -> None:
        """Take note of who will not see an entry that is being acknowledged."""
        for peer in self._behind:
            is_sent = peer.id in entry.holders or entry.number in peer.waiting
            if not is_sent and peer in self._routing.subscribers(entry.queue):
                self._counters.dropped["send_queue"] += entry.messages

    def withdraw(self, entry: Entry) -> None:
        """Send an entry to nobody any more; what others have acknowledged is still sent to those it waits for."""
        for peer in self._routing.subscribers(entry.queue):
            peer.waiting.pop(entry.number, None)

    def _catch_up(self, peer: Peer, now: float) -> None:
        queues = [queue for pattern in sorted(peer.names) for queue in self.queues(pattern)]
        for queue in dict.fromkeys(queues):
            for entry in self._pending.named(queue):
                if entry.due is None:
                    self.offer_to(peer, entry, now)
                if peer in self._behind:
                    return

    def _send(self, peer: Peer, entry: Entry, indexes: tuple[int, ...] | None, now: float) -> None:
        if entry.due is None and entry in self._pending:
            self._fates.attempt(entry)
            self._pending.schedule(entry, now + self._fates.pause(entry))
        peer.in_flight[entry.number] = entry
        self._fates.deliver(peer, entry, indexes)
