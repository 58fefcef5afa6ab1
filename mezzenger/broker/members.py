"""Which member of a group is given which stored frame, and when.

What is pending of a group is given out in order, each frame to one member: the one with the most credit, or, if the
group keeps order by a header, the one that gets all with this value. A member keeps what it has in hand for as long as
its connection lives, or until ``max_runtime`` has passed; no timer takes it back, however long a callback takes.
"""

from collections.abc import Callable, Sequence

from mezzenger.broker.effects import Effect, Load, Send
from mezzenger.broker.entry import Entry
from mezzenger.broker.fates import Fates, has_expired
from mezzenger.broker.groups import Group
from mezzenger.broker.peers import Member
from mezzenger.broker.restored import Stored
from mezzenger.broker.routing import Routing
from mezzenger.protocol import wire
from mezzenger.protocol.commands import Deliver


class Members:
    """Gives entries to members.

    Args:
        routing: Knows the groups.
        fates: What becomes of an entry.
        effects: What is to be done is appended there.
    """

    def __init__(self, routing: Routing, fates: Fates, effects: list[Effect]) -> None:
        self._routing = routing
        self._fates = fates
        self._pending = fates.pending
        self._effects = effects

    def joined(self, group: Group, member: Member, now: float) -> None:
        """Give a new member what waits."""
        group.add(member)
        member.peer.members[group.queue] = member
        self._give_out(group, now)
        self.load(group)

    def left(self, member: Member, now: float, release: Callable[[Entry], None]) -> None:
        """Take back what a member had that is not one any more: ``release`` is called with it."""
        group = self._routing.group(member.queue)
        group.remove(member)
        del member.peer.members[group.queue]
        for number in sorted(member.in_hand):
            del member.peer.lent[number]
            entry = self._pending.get(number)
            if entry is not None:
                release(entry)
        self._give_out(group, now)

    def offer(self, entry: Entry, now: float) -> None:
        """Have an entry given to a member, when it is its turn."""
        group = self._routing.group(entry.queue)
        group.ready.put(entry.number, self._key(group, entry.frame))
        self._give_out(group, now)

    def hold(self, entry: Entry) -> None:
        """Let an entry that will be offered later take its place before those that come after it."""
        group = self._routing.group(entry.queue)
        group.ready.hold(entry.number, self._key(group, entry.frame))

    def use_credit(self, member: Member, now: float) -> None:
        """Give out what waits for the credit that a member has got back."""
        group = self._routing.group(member.queue)
        group.free(member)
        self._give_out(group, now)

    @staticmethod
    def overdue(entry: Entry) -> None:
        """Take an entry from who has had it for too long, so that another member may have it, if there is one.

        The first one is busy until it answers, so its credit it gets back then; and if it acknowledges, that is fine.
        """
        entry.holders = frozenset()

    def have(self, entry: Entry) -> bool:
        """Whether some member has an entry in hand, be it for too long."""
        members = self._routing.group(entry.queue).members.values()
        return any(entry.number in member.in_hand for member in members)

    def withdraw(self, entry: Entry, now: float) -> None:
        """Give an entry to nobody any more, and what waits behind it to the next."""
        group = self._routing.group(entry.queue)
        group.done(entry.number)
        self._give_out(group, now)

    def broadcast(self, group: Group, frame: bytes, messages: int) -> bool:
        """Give an ``ack=0`` frame to one member; return False if there is none."""
        if not group.members:
            return False
        key = self._key(group, frame)
        member = group.least_given() if key is None else group.owner(key)
        member.given += messages
        self._effects.append(Send(member.peer.id, (wire.encode_command(Deliver(0, 1, None, group.queue)), frame)))
        return True

    def load(self, group: Group) -> None:
        """Have the next frames read, if there is room for them.

        If a member has credit, what waits behind others makes room for what need not.
        """
        queue = group.queue
        if group.ready.waiting and self._pending.is_stuck(queue) and group.next_member() is not None:
            self._pending.put_away(queue, group.ready.take_waiting())
        self._fates.load(queue)

    def fetched(self, load: Load, rows: Sequence[Stored], now: float) -> None:
        """Give out what was read since it was its turn; more of what was away may have come with it."""
        group = self._routing.group(load.name)
        for number in self._pending.fetched(load, rows):
            group.came_back(number)
        first = load.after + 1
        if self._pending.get(first) is None:
            group.done(first)
        self._give_out(group, now)
        self.load(group)

    def _give_out(self, group: Group, now: float) -> None:
        while (group.ready or group.refill()) and (best := group.next_member()) is not None:
            number = group.ready.pop()
            entry = self._pending.get(number)
            if entry is None or entry.holders or entry.due is not None or has_expired(entry, now):
                continue  # settled, given out or paused meanwhile; or the sweeper will take it out
            key = group.ready.key(number)
            member = group.taker(best, number, key)
            if member is None or member.credit <= 0:
                group.stall(None if key is None else member, number)
            elif entry.frame:
                self._give(member, entry, now)
            else:
                group.away.add(number)
        if group.away:
            self._fetch(group)
        if group.ready.waiting:
            self.load(group)

    def _fetch(self, group: Group) -> None:
        """Have the oldest frame read whose turn it is, and which is away; what waits makes room for it."""
        if not self._pending.has_room(group.queue):
            self._pending.put_away(group.queue, group.ready.take_waiting())
        fetch = self._pending.next_fetch(group.queue, min(group.away))
        if fetch is not None:
            self._effects.append(fetch)

    def _give(self, member: Member, entry: Entry, now: float) -> None:
        self._fates.attempt(entry)
        entry.was_given = True
        member.in_hand.add(entry.number)
        member.peer.lent[entry.number] = member
        member.given += entry.left
        if member.max_runtime is not None:
            self._pending.schedule(entry, now + member.max_runtime)
        self._fates.deliver(member.peer, entry, entry.indexes)

    @staticmethod
    def _key(group: Group, frame: bytes) -> str | None:
        """Return the value by which a group keeps order, if it does and the frame has one."""
        if group.order_by is None:
            return None
        return wire.read_extra(frame, wire.read_header(frame)).headers.get(group.order_by)
